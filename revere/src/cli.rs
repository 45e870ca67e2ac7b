//! The command line: what can be asked of `revere`.

pub mod app;
pub mod backup;
mod client;
mod deploy;
pub mod event;
pub mod exec;
pub mod flows;
pub mod group;
pub mod list;
pub mod log;
pub mod master;
pub mod network;
pub mod node;
pub mod pod;
pub mod secret;
pub mod state;
mod table;
pub mod task;

pub use client::ClientError;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::tape::record::RecordArgs;
use crate::tape::replay::ReplayArgs;

/// Scheduler, L4 load balancer, DNS and overlay network for a cluster of Linux machines, in one program.
#[derive(Debug, Parser)]
#[command(
    name = "revere",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a master (scheduler, Marathon API, Mesos operator API), list masters, or let another one lead.
    Master(MasterArgs),
    /// Run a node (agent, load balancer, DNS, overlay), or list nodes.
    Node(NodeArgs),
    /// Run master and node in one process, for one machine.
    Up(ConfigArgs),
    /// Add, list, show, scale and remove apps.
    #[command(subcommand)]
    App(AppCommand),
    /// Groups of apps, changed as a whole.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Pods: several containers that live together.
    #[command(subcommand)]
    Pod(pod::PodCommand),
    /// Changes that are being carried out.
    #[command(subcommand)]
    Deployment(group::DeploymentCommand),
    /// List and end tasks, and tell why one is where it is.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Secrets that apps name and only their tasks get.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Networks of tasks: make, list, show and remove them.
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Follow what happens in the cluster.
    Event(event::EventArgs),
    /// Write the master's memory into a file.
    Backup(backup::BackupArgs),
    /// Make a master's memory from such a file.
    Restore(backup::RestoreArgs),
    /// Move a master's memory between its own file and etcd.
    #[command(subcommand)]
    State(state::StateCommand),
    /// Virtual addresses.
    #[command(subcommand)]
    Vip(VipCommand),
    /// Tell what would become of a connection to a virtual address, decision by decision.
    Explain(node::ExplainArgs),
    /// List the flows that a node's load balancer knows.
    Flows(flows::FlowsArgs),
    /// Watch the virtual addresses of a node.
    Top(node::TopArgs),
    /// The cluster at a glance.
    Status(ClientArgs),
    /// Write a master's task stream into a file.
    Record(RecordArgs),
    /// Tell what a recorded task stream means, or serve it to nodes as a master would.
    Replay(ReplayArgs),
    /// Print the configuration in effect.
    Config(ConfigArgs),
    /// Print the completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// Where to.
        dir: PathBuf,
    },
    /// Runs one task; started by the node.
    #[command(hide = true)]
    TaskRunner(RunnerArgs),
    /// Answers names when the node's daemon is gone; started by the node.
    #[command(hide = true)]
    NamesStandby,
    /// The small HTTP server of the demo.
    #[command(hide = true)]
    DemoServer(crate::demo::server::ServerArgs),
    /// The load generator of the demo.
    #[command(hide = true)]
    DemoLoad(crate::demo::load::LoadArgs),
    /// Thousands of agents that run nothing, for figures.
    #[command(hide = true)]
    DemoCluster(crate::demo::cluster::ClusterArgs),
    /// Thousands of nodes with their task streams, for figures.
    #[command(hide = true)]
    DemoNodes(crate::demo::nodes::NodesArgs),
    /// Watches a service's name, for figures.
    #[command(hide = true)]
    DemoNames(crate::demo::names::NamesArgs),
    /// Addresses for a million tasks, for figures.
    #[command(hide = true)]
    DemoPlan,
}

/// Where the configuration comes from. Precedence: flags, environment, file, defaults.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML); the default one may be missing.
    #[arg(long, env = "REVERE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, for example `--set master.listen=0.0.0.0:5050`.
    #[arg(long = "set", value_name = "PART.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `revere master`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MasterArgs {
    /// Something else than run.
    #[command(subcommand)]
    pub command: Option<master::MasterCommand>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Address of the API that nodes and people use.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Second address with the same API, Marathon's port; empty for none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub marathon_listen: Option<String>,
    /// Directory of the store.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// `file` (in the state directory), `memory` (forgets everything at the end), or etcd://host:port,host:port/prefix.
    #[arg(long, value_name = "KIND")]
    pub store: Option<String>,
}

/// `revere node`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    /// List instead of run.
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The master's address.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Log every packet decision of the data plane.
    #[arg(long)]
    pub trace_packets: bool,
}

/// `revere node list`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the cluster's nodes.
    List(ClientArgs),
}

/// `revere app ...`.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Create an app from its JSON definition.
    Add {
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Create an app, or give the one that is there another definition.
    Deploy {
        /// The whole definition; `-` reads standard input.
        file: PathBuf,
        /// Tell each step, and why it goes no further, until the change is done or given up.
        #[arg(long)]
        watch: bool,
        /// Take the place of a change that is still being carried out.
        #[arg(long)]
        force: bool,
        /// With `--watch`: seconds to wait at most.
        #[arg(long, default_value_t = 3_600)]
        timeout: u64,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List all apps.
    List(ClientArgs),
    /// Show one app and its tasks.
    Show {
        /// For example `/my-service`.
        id: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Change the number of instances.
    Scale {
        /// For example `/my-service`.
        id: String,
        /// Wanted instances.
        instances: u32,
        /// Take the place of a change that is still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Replace an app's definition; its instances go over to it as its upgrade strategy says.
    Update {
        /// For example `/my-service`.
        id: String,
        /// JSON with the fields that are to change; `-` reads standard input.
        file: PathBuf,
        /// Take the place of a change that is still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Replace every instance by a new one of the same definition.
    Restart {
        /// For example `/my-service`.
        id: String,
        /// Take the place of a change that is still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the versions that are kept of an app, newest first.
    Versions {
        /// For example `/my-service`.
        id: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Return to an earlier version of an app.
    Rollback {
        /// For example `/my-service`.
        id: String,
        /// One of those that `versions` lists; without it, the one before the present.
        #[arg(value_name = "VERSION")]
        to: Option<String>,
        /// Take the place of a change that is still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// End all instances and forget the app.
    Remove {
        /// For example `/my-service`.
        id: String,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// `revere vip ...`.
#[derive(Debug, Subcommand)]
pub enum VipCommand {
    /// List virtual addresses and their backends.
    List(ClientArgs),
    /// Show what one has seen on a node, backend by backend.
    Show {
        /// A name or an address, with or without port.
        name: String,
        /// Connection.
        #[command(flatten)]
        client: node::NodeClientArgs,
    },
}

/// How to reach the master and how to answer.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// The master's address.
    #[arg(
        long,
        env = "REVERE_MASTER",
        default_value = "http://127.0.0.1:5050",
        value_name = "URL"
    )]
    pub master: String,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Whether to wait for a change to be carried out.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Return as soon as the master has taken the change.
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
}

/// `revere task-runner`.
#[derive(Debug, Args)]
pub struct RunnerArgs {
    /// The task's directory.
    pub args: Vec<std::ffi::OsString>,
}
