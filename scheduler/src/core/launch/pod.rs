//! From a pod and a place to the launch orders of its containers, as Marathon built its task group.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    CheckAddress, Command, Container, FrameworkId, HealthCheck, KillPolicy, LaunchSpec, Parameter, PodMount, PodPart,
    Probe, TaskChecks, TaskId, Volume,
};

use crate::{App, InstanceId, NetworkMode, Pod, PodCheck, PodCheckTarget, PodContainer};

use super::super::Config;
use super::{
    Assigned, MAX_ENV_LABEL, assign, decimal, discovery, env_name, has_vip_label, mappings, network, ready_rule,
    task_name,
};

/// What all containers of one instance are made from.
struct Group<'a> {
    app: &'a App,
    pod: &'a Pod,
    id: &'a InstanceId,
    members: Vec<TaskId>,
    env: BTreeMap<String, String>,
    framework: &'a FrameworkId,
    config: &'a Config,
}

/// The orders for one instance, in the order of its containers.
pub(in super::super) fn members(
    app: &App,
    pod: &Pod,
    id: &InstanceId,
    host_ports: &[u16],
    framework: &FrameworkId,
    config: &Config,
) -> Vec<LaunchSpec> {
    let all = assign(app, host_ports);
    let group = Group {
        app,
        pod,
        id,
        members: pod.containers.iter().map(|one| id.member(&one.name)).collect(),
        env: endpoints(app, &all),
        framework,
        config,
    };
    let mut rest = all.as_slice();
    let mut specs = Vec::with_capacity(pod.containers.len());
    for (container, task) in pod.containers.iter().zip(&group.members) {
        let (own, others) = rest.split_at(container.endpoints.len().min(rest.len()));
        specs.push(group.order(container, task, own));
        rest = others;
    }
    specs
}

/// The instance as a whole: what it takes of its node, and how it counts. Never sent to an agent.
pub(in super::super) fn whole(app: &App, id: &InstanceId, host_ports: &[u16], members: &[LaunchSpec]) -> LaunchSpec {
    let mut whole = members[0].clone();
    let longest = |one: fn(&KillPolicy) -> Duration| members.iter().map(|member| one(&member.kill)).max();
    whole.task = TaskId::new(id.0.clone());
    whole.resources = app.resources;
    whole.host_ports = host_ports.to_vec();
    whole.ports = members.iter().flat_map(|member| member.ports.clone()).collect();
    whole.mappings = members.iter().flat_map(|member| member.mappings.clone()).collect();
    whole.labels.clone_from(&app.labels);
    whole.kill = KillPolicy {
        drain: longest(|kill| kill.drain).unwrap_or_default(),
        grace: longest(|kill| kill.grace).unwrap_or_default(),
    };
    whole.checks = TaskChecks {
        health: members.iter().flat_map(|member| member.checks.health.clone()).collect(),
        readiness: Vec::new(),
    };
    whole
}

impl Group<'_> {
    fn order(&self, container: &PodContainer, task: &TaskId, ports: &[Assigned<'_>]) -> LaunchSpec {
        let has_vip = ports.iter().any(|port| has_vip_label(port.app));
        let (command, image) = self.command(container);
        let host = self.app.network == NetworkMode::Host;
        LaunchSpec {
            task: task.clone(),
            name: task_name(self.app.id.as_str()),
            framework: self.framework.clone(),
            command,
            user: container.user.clone().or_else(|| self.app.user.clone()),
            container: image,
            fetch: container.fetch.clone(),
            env: self.environment(container, task),
            resources: container.resources,
            network: network(self.app),
            ports: ports.iter().flat_map(discovery).collect(),
            mappings: if host {
                Vec::new()
            } else {
                ports.iter().flat_map(mappings).collect()
            },
            host_ports: ports.iter().filter_map(|port| port.host).collect(),
            labels: container.labels.clone(),
            ready: ready_rule(ports, self.config.ready_within),
            checks: TaskChecks {
                health: container
                    .health_check
                    .iter()
                    .filter_map(|check| health(check, ports))
                    .collect(),
                readiness: Vec::new(),
            },
            kill: KillPolicy {
                drain: if has_vip { self.config.drain } else { Duration::ZERO },
                grace: container.kill_grace.unwrap_or(self.config.grace),
            },
            pod: Some(Box::new(PodPart {
                instance: self.id.0.clone(),
                members: self.members.clone(),
                mounts: self.mounts(container),
            })),
        }
    }

    /// What to run, and the image with the node's directories that it sees.
    fn command(&self, container: &PodContainer) -> (Command, Container) {
        let mut image = container.container.clone();
        image.volumes = self.host_volumes(container);
        let command = match &container.command {
            None => Command::Argv(Vec::new()),
            // The first word takes the entrypoint's place.
            Some(Command::Argv(argv)) if container.override_entrypoint == Some(true) && image.image.is_some() => {
                let (program, rest) = argv
                    .split_first()
                    .map_or((String::new(), &[][..]), |(one, rest)| (one.clone(), rest));
                image.parameters.push(Parameter::Entrypoint(program));
                Command::Argv(rest.to_vec())
            }
            Some(command) => command.clone(),
        };
        (command, image)
    }

    fn host_of(&self, mount: &PodMount) -> Option<&str> {
        let volume = self.pod.volumes.iter().find(|volume| volume.name == mount.volume);
        volume.and_then(|volume| volume.host.as_deref())
    }

    fn mounts(&self, container: &PodContainer) -> Vec<PodMount> {
        let shared = container.mounts.iter().filter(|mount| self.host_of(mount).is_none());
        shared.cloned().collect()
    }

    fn host_volumes(&self, container: &PodContainer) -> Vec<Volume> {
        let volume = |mount: &PodMount| {
            Some(Volume {
                container_path: mount.container_path.clone(),
                host_path: self.host_of(mount)?.to_owned(),
                mode: mount.mode,
            })
        };
        container.mounts.iter().filter_map(volume).collect()
    }

    /// Marathon's environment of a pod's container; what the user wrote of the pod and then of the container wins.
    fn environment(&self, container: &PodContainer, task: &TaskId) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        let mut set = |key: &str, value: String| {
            env.insert(key.to_owned(), value);
        };
        set("MESOS_TASK_ID", task.to_string());
        set("MESOS_EXECUTOR_ID", self.id.executor());
        set("MARATHON_APP_ID", self.app.id.to_string());
        set("MARATHON_APP_VERSION", self.app.version.to_string());
        set("MARATHON_CONTAINER_ID", container.name.clone());
        set(
            "MARATHON_CONTAINER_RESOURCE_CPUS",
            decimal(container.resources.cpus_milli),
        );
        set(
            "MARATHON_CONTAINER_RESOURCE_MEM",
            format!("{}.0", container.resources.mem_mb),
        );
        set(
            "MARATHON_CONTAINER_RESOURCE_DISK",
            format!("{}.0", container.resources.disk_mb),
        );
        set("MARATHON_CONTAINER_RESOURCE_GPUS", "0".to_owned());
        let mut labels = self.app.labels.clone();
        labels.extend(container.labels.clone());
        let short = |(key, value): &(&String, &String)| key.len() < MAX_ENV_LABEL && value.len() < MAX_ENV_LABEL;
        let mut names = Vec::new();
        for (key, value) in labels.iter().filter(short) {
            let name = env_name(key);
            set(&format!("MARATHON_APP_LABEL_{name}"), value.clone());
            names.push(name);
        }
        set("MARATHON_APP_LABELS", names.join(" "));
        env.extend(self.app.env.clone());
        env.extend(container.env.clone());
        env
    }
}

/// The numbers of all endpoints of the pod, for each of its containers.
fn endpoints(app: &App, ports: &[Assigned<'_>]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for port in ports {
        let name = env_name(port.app.name.as_deref().unwrap_or_default());
        // Where the network is the pod's own, processes bind what is inside.
        env.insert(format!("ENDPOINT_{name}"), port.inside.to_string());
        if let Some(host) = port.host {
            env.insert(format!("EP_HOST_{name}"), host.to_string());
        }
        if app.network != NetworkMode::Host {
            env.insert(format!("EP_CONTAINER_{name}"), port.inside.to_string());
        }
    }
    env
}

/// Mesos asked on the loopback address, which all containers of an instance share.
fn health(check: &PodCheck, ports: &[Assigned<'_>]) -> Option<HealthCheck> {
    let inside = |endpoint: &u32| Some(ports.get(usize::try_from(*endpoint).ok()?)?.inside);
    let at = CheckAddress::LoopbackV4;
    let probe = match &check.target {
        PodCheckTarget::Http { endpoint, path, scheme } => Probe::Http {
            scheme: *scheme,
            at,
            port: inside(endpoint)?,
            path: path.clone(),
            ignore_1xx: false,
        },
        PodCheckTarget::Tcp { endpoint } => Probe::Tcp {
            at,
            port: inside(endpoint)?,
        },
        PodCheckTarget::Exec(command) => Probe::Command(command.clone()),
    };
    Some(HealthCheck {
        probe,
        delay: check.delay,
        interval: check.interval,
        timeout: check.timeout,
        grace: check.grace,
        max_failures: check.max_failures,
    })
}

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;
