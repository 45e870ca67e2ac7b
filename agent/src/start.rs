//! Prepares a task's directory and starts its runner.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::{Command as TaskCommand, LaunchSpec};

use crate::address::link_name;
use crate::cgroup::Hierarchies;
use crate::config::Config;
use crate::plan::{NetworkPlan, RunPlan, VERSION};
use crate::spec::SpecFile;
use crate::store::{LOG, PLAN, RESOLV_CONF, SPEC, TaskDir};

/// PATH of a task that sets none; the directory of this program comes last.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a task's parts lie under the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) tasks: PathBuf,
    pub(crate) sandboxes: PathBuf,
    pub(crate) netns: PathBuf,
    pub(crate) damaged: PathBuf,
}

impl Layout {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            tasks: state_dir.join("tasks"),
            sandboxes: state_dir.join("sandboxes"),
            netns: state_dir.join("netns"),
            damaged: state_dir.join("damaged"),
        }
    }
}

/// Writes the task's files and starts its runner; the text of a failure is for the task's status.
pub(crate) fn start(
    config: &Config,
    hierarchies: &Hierarchies,
    dir: &TaskDir,
    spec: &LaunchSpec,
    address: Option<Ipv4Addr>,
) -> Result<Child, String> {
    let plan = plan(config, hierarchies, dir, spec, address);
    for path in [dir.path(), &plan.sandbox] {
        fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    }
    dir.write(SPEC, &SpecFile::from(spec))
        .map_err(|error| error.to_string())?;
    if let Some(text) = &config.resolv_conf {
        dir.write_bytes(RESOLV_CONF, text.as_bytes())
            .map_err(|error| error.to_string())?;
    }
    dir.write(PLAN, &plan).map_err(|error| error.to_string())?;
    let log = fs::File::create(dir.file(LOG)).map_err(|error| format!("cannot create the runner's log: {error}"))?;
    let (program, arguments) = config.runner.split_first().ok_or("no runner is configured")?;
    Command::new(program)
        .args(arguments)
        .arg(dir.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start the task's runner {}: {error}", program.display()))
}

fn plan(
    config: &Config,
    hierarchies: &Hierarchies,
    dir: &TaskDir,
    spec: &LaunchSpec,
    address: Option<Ipv4Addr>,
) -> RunPlan {
    let layout = Layout::new(&config.state_dir);
    let id = spec.task.as_str();
    let sandbox = layout.sandboxes.join(id);
    RunPlan {
        version: VERSION,
        argv: match &spec.command {
            TaskCommand::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            TaskCommand::Argv(argv) => argv.clone(),
        },
        env: environment(config, spec, &sandbox),
        user: spec.user.clone(),
        runner_cgroup: hierarchies.runners.clone(),
        cgroups: hierarchies.plan(id, spec.resources, config.pids_limit),
        network: address.map(|address| NetworkPlan {
            netns: layout.netns.join(id),
            link: link_name(&spec.task),
            address,
            mtu: config.container_mtu,
            resolv_conf: config.resolv_conf.as_ref().map(|_| dir.file(RESOLV_CONF)),
        }),
        sandbox,
    }
}

fn environment(config: &Config, spec: &LaunchSpec, sandbox: &Path) -> Vec<(String, OsString)> {
    let mut path = OsString::from(PATH);
    let program = config
        .runner
        .first()
        .map(|program| fs::canonicalize(program).unwrap_or_else(|_| program.into()));
    if let Some(dir) = program.as_deref().and_then(Path::parent) {
        path.push(":");
        path.push(dir);
    }
    let mut env = vec![("PATH".to_owned(), path)];
    env.extend(
        spec.env
            .iter()
            .map(|(name, value)| (name.clone(), OsString::from(value))),
    );
    env.extend([
        ("HOST".to_owned(), OsString::from(&config.hostname)),
        ("MESOS_SANDBOX".to_owned(), sandbox.into()),
        ("MESOS_DIRECTORY".to_owned(), sandbox.into()),
        ("MESOS_TASK_ID".to_owned(), OsString::from(spec.task.as_str())),
    ]);
    env
}
