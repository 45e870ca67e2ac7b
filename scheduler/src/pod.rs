//! Pods: [`PodSpec`] is what a user wrote of the containers, [`Pod`] is what was checked. What a pod has in common with
//! an app (id, instances, network, placement, how it changes) stands in [`AppSpec`] and [`crate::App`].

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Command, Container, Fetch, PodMount, Resources};

use crate::{AppPort, AppSpec, PortSpec};

/// What a pod's definition has and an app's has not, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// `containers`.
    pub containers: Vec<PodContainerSpec>,
    /// `volumes`.
    pub volumes: Vec<PodVolumeSpec>,
    /// `executorResources`: cpus, mem in MiB, disk in MiB.
    pub executor: (Option<f64>, Option<f64>, Option<f64>),
    /// `scaling.maxInstances`.
    pub max_instances: Option<i64>,
}

/// A container of a pod as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodContainerSpec {
    /// `name`.
    pub name: String,
    /// What it has in common with an app: command, resources, environment, labels, user, image, what is fetched, how long
    /// it may take to end, and what is not carried out.
    pub common: AppSpec,
    /// `exec.overrideEntrypoint`.
    pub override_entrypoint: Option<bool>,
    /// `endpoints`.
    pub endpoints: Vec<PortSpec>,
    /// `healthCheck`.
    pub health_check: Option<PodCheckSpec>,
    /// `volumeMounts`.
    pub mounts: Vec<PodMountSpec>,
}

/// A container's health check as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodCheckSpec {
    /// `http`: (endpoint, path, scheme).
    pub http: Option<(String, Option<String>, Option<String>)>,
    /// `tcp.endpoint`.
    pub tcp: Option<String>,
    /// `exec.command`.
    pub exec: Option<Command>,
    /// `gracePeriodSeconds`, default 300.
    pub grace_seconds: Option<f64>,
    /// `intervalSeconds`, default 60.
    pub interval_seconds: Option<i64>,
    /// `timeoutSeconds`, default 20.
    pub timeout_seconds: Option<i64>,
    /// `delaySeconds`, default 15.
    pub delay_seconds: Option<i64>,
    /// `maxConsecutiveFailures`, default 3.
    pub max_failures: Option<i64>,
}

/// A volume of a pod as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVolumeSpec {
    /// `name`.
    pub name: String,
    /// `host`: a path of the node; without it the volume is the instance's own, for as long as it runs.
    pub host: Option<String>,
}

/// A place where a container sees a volume, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMountSpec {
    /// `name` of the volume.
    pub volume: String,
    /// `mountPath`.
    pub path: String,
    /// `readOnly`.
    pub read_only: Option<bool>,
}

/// A checked pod: what an instance of it consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// At least one, in the order of the definition.
    pub containers: Vec<PodContainer>,
    /// What containers share, and what they see of the node.
    pub volumes: Vec<PodVolumeSpec>,
    /// Counted beside the containers' own.
    pub executor: Resources,
    /// Kept and shown: `scaling.instances` is never more.
    pub max_instances: Option<u32>,
}

/// A checked container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodContainer {
    /// Unique in the pod.
    pub name: String,
    /// What to run; without one its image says it.
    pub command: Option<Command>,
    /// Whether the command's first word takes the place of the image's entrypoint.
    pub override_entrypoint: Option<bool>,
    /// Its own share.
    pub resources: Resources,
    /// Environment, beside the pod's.
    pub env: BTreeMap<String, String>,
    /// Labels, beside the pod's.
    pub labels: BTreeMap<String, String>,
    /// Unix user, in the place of the pod's.
    pub user: Option<String>,
    /// Image and limits of what it may do; volumes are in `mounts`.
    pub container: Container,
    /// What is fetched before it starts.
    pub fetch: Vec<Fetch>,
    /// Endpoints in the order of the definition. The pod's ports are those of all its containers, one after the other.
    pub endpoints: Vec<AppPort>,
    /// At most one, as in Mesos.
    pub health_check: Option<PodCheck>,
    /// Volumes that it sees.
    pub mounts: Vec<PodMount>,
    /// `lifecycle.killGracePeriodSeconds`.
    pub kill_grace: Option<Duration>,
}

/// A checked health check of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct PodCheck {
    /// What is asked.
    pub target: PodCheckTarget,
    /// `gracePeriodSeconds`.
    pub grace: Duration,
    /// `intervalSeconds`.
    pub interval: Duration,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// `delaySeconds`.
    pub delay: Duration,
    /// `maxConsecutiveFailures`; 0 is never.
    pub max_failures: u32,
}

/// What a container's health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodCheckTarget {
    /// A GET to the loopback address in the pod's network.
    Http {
        /// Index of one of the container's endpoints.
        endpoint: u32,
        /// Path and query.
        path: String,
        /// In the clear or over TLS.
        scheme: model::Scheme,
    },
    /// A connection to the loopback address in the pod's network.
    Tcp {
        /// Index of one of the container's endpoints.
        endpoint: u32,
    },
    /// A command in the container.
    Exec(Command),
}

impl Pod {
    /// What an instance takes of a node: all containers and the executor.
    pub fn resources(&self) -> Resources {
        let containers = self.containers.iter().map(|container| container.resources);
        containers.fold(self.executor, |sum, one| sum.plus(&one))
    }
}
