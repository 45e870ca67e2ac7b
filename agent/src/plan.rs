//! What the daemon writes for a task's runner, and what the runner writes back.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::logs::LogsPlan;

/// Version of these files; another version's are set aside.
pub(crate) const VERSION: u32 = 1;

/// All that the runner does, decided beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunPlan {
    pub(crate) version: u32,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) user: Option<String>,
    pub(crate) sandbox: PathBuf,
    /// The cgroup of the runner itself, outside the task's and the daemon's.
    pub(crate) runner_cgroup: PathBuf,
    /// Every cgroup to be made and joined, the v2 one included.
    pub(crate) cgroups: Vec<CgroupPlan>,
    pub(crate) network: Option<NetworkPlan>,
    /// Absent in the plans of earlier builds.
    #[serde(default)]
    pub(crate) container: Option<ContainerPlan>,
    /// What a task without an image sees in its sandbox.
    #[serde(default)]
    pub(crate) volumes: Vec<BindPlan>,
    /// How much of its output is kept.
    #[serde(default)]
    pub(crate) logs: LogsPlan,
    /// Directories given to the task's user.
    #[serde(default)]
    pub(crate) owned: Vec<PathBuf>,
}

/// A root directory of its own, and what is taken from a process that lives in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerPlan {
    pub(crate) layers_dir: PathBuf,
    /// Names of the image's layers there, lowest first.
    pub(crate) layers: Vec<String>,
    /// The container's own directory: what it writes, and where its root is mounted.
    pub(crate) scratch: PathBuf,
    pub(crate) root_read_only: bool,
    pub(crate) identity: IdentityPlan,
    pub(crate) workdir: String,
    /// None: the node's.
    pub(crate) hostname: Option<String>,
    /// Files of /etc.
    pub(crate) etc: Vec<BindPlan>,
    pub(crate) volumes: Vec<BindPlan>,
    pub(crate) privileged: bool,
    /// As bits.
    pub(crate) capabilities: u64,
    /// Whether the system call filter is set.
    pub(crate) seccomp: bool,
    pub(crate) own_ipc: bool,
    pub(crate) shm_mb: u64,
    /// Whether an init stands above the task's own process.
    pub(crate) init: bool,
}

/// Something of the node, seen by a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BindPlan {
    pub(crate) source: PathBuf,
    /// As the container sees it.
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// Who a container's process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityPlan {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// One cgroup and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupPlan {
    pub(crate) dir: PathBuf,
    /// File names and what is written to them, in order.
    pub(crate) limits: Vec<(String, String)>,
    /// File whose `oom_kill N` line counts the processes killed for lack of memory.
    pub(crate) oom: Option<String>,
}

/// An own network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkPlan {
    /// Where the namespace is bind-mounted.
    pub(crate) netns: PathBuf,
    /// Name of the host side.
    pub(crate) link: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mtu: u32,
    /// Whether its end polls, so that programs may send frames to it past the node's stack.
    #[serde(default)]
    pub(crate) polls: bool,
    /// A file to be seen as /etc/resolv.conf.
    pub(crate) resolv_conf: Option<PathBuf>,
    /// Directory of the pod's instance whose tasks share it; the daemon then removes it with the last of them.
    #[serde(default)]
    pub(crate) pod: Option<PathBuf>,
}

/// How it ended; the runner's last word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) version: u32,
    pub(crate) end: End,
    /// Whether the kernel killed any of its processes for lack of memory.
    pub(crate) out_of_memory: bool,
}

/// The end of the task's own process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
    /// It was never started: what was tried and why that failed.
    NotStarted(String),
}
