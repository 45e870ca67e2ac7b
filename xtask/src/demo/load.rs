//! The load generator in every place a client can be.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lab::{Cluster, Daemon, NODES, Task};

/// The service by its VIP's name.
pub const URL: &str = "http://my-service.marathon.l4lb.thisdcos.directory:5555/";

/// An app with one idle container on each node, to send requests from.
#[must_use]
pub fn client_app() -> Value {
    json!({
        "id": "/client", "cmd": "exec sleep 100000", "cpus": 0.1, "mem": 32, "instances": NODES,
        "networks": [{"mode": "container", "name": "dcos"}],
        "constraints": [["hostname", "UNIQUE"]],
    })
}

/// Where a client is.
#[derive(Clone, Debug)]
pub enum At {
    /// A process on a node.
    Host(u8),
    /// In a container on a node.
    Container(Task),
    /// On the machine without a daemon.
    Outside,
}

impl At {
    /// Every place: host and container of each node, and outside.
    pub fn all(cluster: &Cluster) -> Result<Vec<Self>> {
        let containers = cluster.running("/client", usize::from(NODES))?;
        let hosts = (1..=NODES).map(Self::Host);
        Ok(hosts
            .chain(containers.into_iter().map(Self::Container))
            .chain([Self::Outside])
            .collect())
    }

    /// The node it is on.
    #[must_use]
    pub fn node(&self) -> Option<u8> {
        match self {
            Self::Host(node) => Some(*node),
            Self::Container(task) => Some(task.node),
            Self::Outside => None,
        }
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Host(node) => format!("process on node{node}"),
            Self::Container(task) => format!("container on node{}", task.node),
            Self::Outside => "outside client".to_owned(),
        }
    }
}

/// One failed request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// Start, Unix time in milliseconds.
    pub at_ms: f64,
    /// When it had failed.
    pub failed_ms: f64,
    /// How.
    pub kind: String,
    /// The instance behind the connection, when it had answered before.
    #[serde(default)]
    pub backend: Option<String>,
    /// The client's end of that connection.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// When that was opened.
    #[serde(default)]
    pub opened_ms: Option<f64>,
    /// In the system's words.
    pub detail: String,
}

/// What one load generator counted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// Requests.
    pub total: u64,
    /// Answered.
    pub ok: u64,
    /// Not answered.
    pub failed: u64,
    /// Answers per instance.
    pub by_instance: BTreeMap<String, u64>,
    /// Each failure.
    pub failures: Vec<Failure>,
    /// Last start of an answered request per instance, Unix milliseconds.
    pub last_seen: BTreeMap<String, f64>,
    /// Kept connections that broke.
    pub broken: u64,
    /// End of the run, seconds after its start.
    pub seconds: f64,
    /// Start, Unix milliseconds.
    pub started_ms: f64,
    /// The slowest answer, microseconds: a packet that was lost and sent again shows here.
    pub max_us: u64,
}

/// A load generator at work.
#[derive(Debug)]
pub struct Load {
    /// Where.
    pub at: At,
    daemon: Daemon,
}

impl Load {
    /// Starts one; `args` as of `revere demo-load`, without the URL.
    pub fn start(cluster: &Cluster, at: &At, url: &str, args: &[&str]) -> Result<Self> {
        let mut program = vec![cluster.revere(), "demo-load", "--json", "--url", url];
        program.extend(args);
        let (mut command, dir) = match at {
            At::Host(node) => (cluster.node(*node).command(&program), &cluster.node(*node).dir),
            At::Container(task) => (cluster.in_task(task, &program)?, &cluster.node(task.node).dir),
            At::Outside => (cluster.lab.outside.command(&program), &cluster.lab.outside.dir),
        };
        let name = format!("load-{}", at.name().replace(' ', "-"));
        let serial = std::time::UNIX_EPOCH
            .elapsed()
            .map(|time| time.as_micros())
            .unwrap_or_default();
        let out = dir.join(format!("{name}-{serial}.json"));
        let log = dir.join(format!("{name}-{serial}.err"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&log)?);
        Ok(Self {
            at: at.clone(),
            daemon: Daemon::start(command, out)?,
        })
    }

    /// Starts the same everywhere.
    pub fn everywhere(cluster: &Cluster, places: &[At], args: &[&str]) -> Result<Vec<Self>> {
        places.iter().map(|at| Self::start(cluster, at, URL, args)).collect()
    }

    /// Waits for its end and reads what it counted.
    pub fn finish(mut self) -> Result<Report> {
        let status = self.daemon.wait()?;
        let text = self.daemon.output();
        let errors = std::fs::read_to_string(self.daemon.log.with_extension("err")).unwrap_or_default();
        serde_json::from_str(&text).with_context(|| {
            format!(
                "the load generator ({}) ended with {status} and no report: {errors}{text}",
                self.at.name()
            )
        })
    }
}
