//! Runs the tasks of one node: processes, cgroups, network namespaces, sandboxes; they outlive the daemon.
//!
//! Every task has a small single-threaded parent of its own, the runner ([`run_task`]), so that neither the end nor the
//! restart of the daemon touches it. The daemon's half is [`Agent`]: one future that follows pidfds, timers and kills.

mod address;
mod agent;
mod cgroup;
mod check;
mod clock;
mod config;
mod container;
mod exec;
mod fetch;
mod files;
mod http;
mod image;
mod join;
mod kill;
mod logs;
mod netlink;
mod netns;
mod offload;
mod pidfd;
mod plan;
mod pod;
mod prepare;
mod process;
mod ready;
mod runner;
mod secrets;
mod session;
mod spec;
mod start;
mod store;
mod supervise;
mod sweep;
mod unpack;
mod volumes;

pub use address::lowest_free;
pub use agent::{Agent, AgentEvent, Known, open};
pub use config::{Config, OpenError};
pub use fetch::FetchSettings;
pub use files::{FileInfo, FilePart, FilesError};
pub use image::ImageSettings;
pub use logs::{LogSettings, MOST_OLDER};
pub use runner::run_task;
pub use session::{MOST_INPUT, Session, SessionError, SessionInput, SessionOutput, SessionSpec, WindowSize};
