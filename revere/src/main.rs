//! The `revere` binary: reads the command line and hands over.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use revere::cli::{self, Cli, ClientError, Command, ConfigArgs, MasterArgs, NodeArgs, NodeCommand, VipCommand};
use revere::{config, demo, master, node, process, tape};

/// With thousands of readers the C library's allocator made a master's changes two to four times as late (SPECIFICATION.md, S25). This one
/// has no threads of its own unless told to: the runner must be alone.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // Before any thread exists: the runner enters namespaces.
    let command = match cli.command {
        Command::TaskRunner(runner) => return agent::run_task(runner.args.into_iter()),
        command => command,
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough, as in `revere app list | head`.
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) if ended_with(&error).is_some() => ended_with(&error).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            // Nothing can be done if stderr is closed.
            let _ = writeln!(std::io::stderr(), "revere: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a program in a task, which has spoken for itself.
fn ended_with(error: &anyhow::Error) -> Option<u8> {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Ended(code)) => Some(*code),
        _ => None,
    }
}

fn reader_left(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<ClientError>();
    matches!(output, Some(ClientError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Master(MasterArgs {
            command: Some(command), ..
        }) => cli::master::run(&command).await?,
        Command::Master(args) => run_master(&args).await?,
        Command::Node(NodeArgs {
            command: Some(NodeCommand::List(client)),
            ..
        }) => cli::list::nodes(&client).await?,
        Command::Node(args) => run_node(&args).await?,
        Command::Up(args) => run_both(&args).await?,
        Command::App(command) => cli::app::run(command).await?,
        Command::Group(command) => cli::group::run(command).await?,
        Command::Network(command) => cli::network::run(command).await?,
        Command::Secret(command) => cli::secret::run(command).await?,
        Command::Pod(command) => cli::pod::run(command).await?,
        Command::Deployment(command) => cli::group::deployment(command).await?,
        Command::Task(command) => cli::task::run(command).await?,
        Command::Event(args) => cli::event::run(&args).await?,
        Command::Backup(args) => cli::backup::backup(&args).await?,
        Command::Restore(args) => cli::backup::restore(&args).await?,
        Command::State(command) => cli::state::run(command).await?,
        Command::Vip(VipCommand::List(client)) => cli::list::vips(&client).await?,
        Command::Vip(VipCommand::Show { name, client }) => cli::node::vip(&name, &client).await?,
        Command::Explain(args) => cli::node::explain(&args).await?,
        Command::Flows(args) => cli::flows::flows(&args).await?,
        Command::Top(args) => cli::node::top(&args).await?,
        Command::Status(client) => cli::list::status(&client).await?,
        Command::Record(args) => run_record(&args).await?,
        Command::Replay(args) => {
            process::start_logs();
            tape::replay::run(&args).await?;
        }
        Command::Config(args) => {
            let text = config::to_toml(&config::load(&args, &[])?)?;
            std::io::stdout()
                .lock()
                .write_all(text.as_bytes())
                .map_err(ClientError::Output)?;
        }
        Command::Completions { shell } => {
            // The generator panics when its output is closed; memory is not.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "revere", &mut script);
            std::io::stdout()
                .lock()
                .write_all(&script)
                .map_err(ClientError::Output)?;
        }
        Command::Man { dir } => man(&dir)?,
        Command::DemoServer(args) => demo::server::run(args).await?,
        Command::DemoLoad(args) => demo::load::run(args).await?,
        Command::DemoCluster(args) => demo::cluster::run(args).await?,
        Command::DemoNodes(args) => demo::nodes::run(args).await?,
        Command::DemoNames(args) => demo::names::run(args).await?,
        Command::DemoPlan => demo::plan::run()?,
        Command::NamesStandby => {
            process::start_logs();
            node::standby::serve().await?;
        }
        // Taken before the runtime was started.
        Command::TaskRunner(_) => {}
    }
    Ok(())
}

async fn run_master(args: &MasterArgs) -> anyhow::Result<()> {
    let dir = args.state_dir.as_ref().map(|dir| dir.display().to_string());
    let options = [
        ("master.listen", args.listen.clone()),
        ("master.marathon_listen", args.marathon_listen.clone()),
        ("master.state_dir", dir),
        ("master.store", args.store.clone()),
    ];
    let flags: Vec<(&str, String)> = options
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let config = config::load(&args.config, &flags)?;
    process::start_logs();
    let shutdown = process::shutdown_on_signal()?;
    let master = master::start(&config.master, shutdown).await?;
    process::tell_ready();
    Ok(master.wait().await?)
}

async fn run_record(args: &tape::record::RecordArgs) -> anyhow::Result<()> {
    let flags: Vec<(&str, String)> = args.master.iter().map(|url| ("node.master", url.clone())).collect();
    let config = config::load(&args.config, &flags)?;
    process::start_logs();
    let shutdown = process::shutdown_on_signal()?;
    Ok(tape::record::run(args, config.node, shutdown).await?)
}

fn man(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|error| anyhow::anyhow!("cannot write the man pages into {}: {error}", dir.display()))
}

async fn run_node(args: &NodeArgs) -> anyhow::Result<()> {
    let options = [
        ("node.master", args.master.clone()),
        ("node.trace_packets", args.trace_packets.then(|| "true".to_owned())),
    ];
    let flags: Vec<(&str, String)> = options
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let config = config::load(&args.config, &flags)?;
    process::start_logs();
    let shutdown = process::shutdown_on_signal()?;
    Ok(node::run(config.node, shutdown, process::tell_ready).await?)
}

async fn run_both(args: &ConfigArgs) -> anyhow::Result<()> {
    let mut config = config::load(args, &[])?;
    process::start_logs();
    let shutdown = process::shutdown_on_signal()?;
    let master = master::start(&config.master, shutdown.clone()).await?;
    if let Some(address) = master.addresses.first() {
        let ip = if address.ip().is_unspecified() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            address.ip()
        };
        config.node.master = vec![format!("http://{}", std::net::SocketAddr::new(ip, address.port()))];
    }
    // Somebody who tries it at a terminal wants nothing left behind.
    config.node.dns_standby_seconds = 0;
    let node = async {
        let result = node::run(config.node, shutdown.clone(), process::tell_ready).await;
        shutdown.cancel();
        result
    };
    // Whichever ends first ends the other.
    let (master, node) = tokio::join!(master.wait(), node);
    node?;
    Ok(master?)
}
