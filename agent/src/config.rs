//! What the agent needs to know of its node, and why it may not start.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::fetch::FetchSettings;
use crate::image::ImageSettings;
use crate::logs::LogSettings;

/// The agent's part of the node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything about tasks is kept under here: `tasks/`, `sandboxes/`, `netns/`.
    pub state_dir: PathBuf,
    /// Argv prefix that executes this binary as the task runner; the task's directory is appended.
    pub runner: Vec<OsString>,
    /// Path of the node's cgroup under each hierarchy, for example `revere`.
    pub cgroup_name: String,
    /// The cgroup v2 mount, when it is not to be found by itself.
    pub cgroup_v2: Option<PathBuf>,
    /// The node's own address: that of tasks in the host network.
    pub ip: Ipv4Addr,
    /// The node's name, given to tasks as `HOST`.
    pub hostname: String,
    /// Text of the resolv.conf of container tasks; the node's own file is theirs without it.
    pub resolv_conf: Option<String>,
    /// MTU of a container's `eth0` and of its host side.
    pub container_mtu: u32,
    /// Whether a container's `eth0` polls (generic receive offload), so that programs may send frames to it past the node's stack.
    pub containers_poll: bool,
    /// How long a task waits for the network it names to be set up on the node.
    pub network_wait: Duration,
    /// How long a program that somebody wants to run in a task has until it is started.
    pub session_wait: Duration,
    /// Largest number of processes and threads of one task.
    pub pids_limit: u64,
    /// How images are got.
    pub images: ImageSettings,
    /// How much is fetched.
    pub fetch: FetchSettings,
    /// How much of what a task writes is kept.
    pub logs: LogSettings,
    /// How long the sandbox of an ended task is kept.
    pub sandbox_keep: Duration,
    /// How full the disk may be, in percent, before they and unused images are removed early.
    pub disk_percent: u8,
    /// How often there is a look for what can be removed.
    pub sweep: Duration,
}

impl Config {
    /// The defaults for a node of that name and address, keeping its state in `state_dir`.
    pub fn new(state_dir: PathBuf, runner: Vec<OsString>, hostname: String, ip: Ipv4Addr) -> Self {
        Self {
            state_dir,
            runner,
            cgroup_name: "revere".to_owned(),
            cgroup_v2: None,
            ip,
            hostname,
            resolv_conf: None,
            container_mtu: 1450,
            containers_poll: false,
            network_wait: Duration::from_secs(30),
            session_wait: Duration::from_secs(20),
            pids_limit: 4096,
            images: ImageSettings::default(),
            fetch: FetchSettings::default(),
            logs: LogSettings::default(),
            sandbox_keep: Duration::from_secs(24 * 3600),
            disk_percent: 90,
            sweep: Duration::from_secs(60),
        }
    }
}

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of its state is not usable.
    #[error("cannot use {path}: {source}; choose another state directory or run as root")]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cgroup is not usable.
    #[error("cannot create the cgroup {path}: {source}; the agent needs root and a writable cgroup mount")]
    Cgroup {
        /// The cgroup's directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No cgroup v2 mount.
    #[error("no cgroup v2 hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")]
    NoCgroup,
    /// An empty runner.
    #[error("the runner's command line is empty; it must name this binary and its `task-runner` command")]
    NoRunner,
}
