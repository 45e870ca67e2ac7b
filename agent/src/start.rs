//! Prepares a task's directory and starts its runner.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::{Command as TaskCommand, LaunchSpec, Parameter, SecretValues};

use crate::address::link_name;
use crate::cgroup::Hierarchies;
use crate::config::Config;
use crate::container::{self, Parts};
use crate::image::Ready;
use crate::logs;
use crate::plan::{BindPlan, NetworkPlan, RunPlan, VERSION};
use crate::pod;
use crate::secrets;
use crate::spec::SpecFile;
use crate::store::{LOG, PLAN, RESOLV_CONF, SPEC, TaskDir};
use crate::volumes;

/// PATH of a task that sets none; the directory of this program comes last.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a task's parts lie under the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) tasks: PathBuf,
    pub(crate) sandboxes: PathBuf,
    pub(crate) netns: PathBuf,
    /// Persistent volumes, one directory for each owner.
    pub(crate) volumes: PathBuf,
    pub(crate) damaged: PathBuf,
    pub(crate) images: PathBuf,
    /// What tasks fetched and the node keeps.
    pub(crate) fetched: PathBuf,
    /// What containers write outside of their sandboxes, until they end.
    pub(crate) containers: PathBuf,
    /// What the tasks of a pod's instance share, until the last of them ends.
    pub(crate) pods: PathBuf,
}

impl Layout {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            tasks: state_dir.join("tasks"),
            sandboxes: state_dir.join("sandboxes"),
            netns: state_dir.join("netns"),
            volumes: state_dir.join("volumes"),
            damaged: state_dir.join("damaged"),
            images: state_dir.join("images"),
            fetched: state_dir.join("fetched"),
            containers: state_dir.join("containers"),
            pods: state_dir.join("pods"),
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
    image: Option<&Ready>,
    secrets: &SecretValues,
) -> Result<Child, String> {
    let layout = Layout::new(&config.state_dir);
    let sandbox = layout.sandboxes.join(spec.task.as_str());
    let as_ordered = spec;
    let spec = &pod::with_volumes(&layout.pods, spec)?;
    for path in [dir.path(), &sandbox] {
        fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    }
    let mut plan = plan(config, hierarchies, dir, spec, address);
    let persistent = volumes::ensure(&Layout::new(&config.state_dir).volumes, spec)?;
    plan.owned = persistent.iter().map(|bind| bind.source.clone()).collect();
    match image {
        Some(image) => in_image(config, dir, spec, address, (image, &persistent), &mut plan)?,
        None => plan.volumes = container::volumes(spec, &sandbox, &persistent)?,
    }
    plan.logs = logs::plan(config.logs, &spec.env, &spec.labels)?;
    secrets::put(dir, spec, secrets, &mut plan)?;
    dir.write(SPEC, &SpecFile::from(as_ordered))
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
            netns: layout.netns.join(pod::network_name(spec)),
            link: link_name(pod::network_name(spec)),
            address,
            mtu: config.container_mtu,
            polls: config.containers_poll,
            resolv_conf: config.resolv_conf.as_ref().map(|_| dir.file(RESOLV_CONF)),
            pod: spec.pod.as_deref().map(|part| pod::directory(&layout.pods, part)),
        }),
        sandbox,
        container: None,
        volumes: Vec::new(),
        logs: logs::LogsPlan::default(),
        owned: Vec::new(),
    }
}

/// Makes the plan one of a container.
fn in_image(
    config: &Config,
    dir: &TaskDir,
    spec: &LaunchSpec,
    address: Option<Ipv4Addr>,
    (image, persistent): (&Ready, &[BindPlan]),
    plan: &mut RunPlan,
) -> Result<(), String> {
    let scratch = Layout::new(&config.state_dir).containers.join(spec.task.as_str());
    for name in ["root", "upper", "work"] {
        let path = scratch.join(name);
        fs::create_dir_all(&path)
            // The upper one is the container's own root directory, for all of its users.
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    }
    let etc = etc_files(config, dir, spec, address)?;
    let parts = Parts {
        spec,
        image,
        scratch,
        etc,
        persistent,
    };
    let container = container::plan(parts, &plan.sandbox)?;
    plan.argv = container::argv(&spec.command, &image.run, &spec.container.parameters)?;
    // The image's PATH counts, and the sandbox is where the container sees it.
    plan.env
        .retain(|(name, _)| name != "PATH" || spec.env.contains_key("PATH"));
    for (name, value) in &mut plan.env {
        if name == "MESOS_SANDBOX" {
            *value = container::SANDBOX.into();
        }
    }
    let hostname = container.hostname.as_ref().unwrap_or(&config.hostname);
    if !plan.env.iter().any(|(name, _)| name == "HOSTNAME") {
        plan.env.push(("HOSTNAME".to_owned(), hostname.into()));
    }
    container::environment(&image.run, &container.identity, &mut plan.env);
    plan.container = Some(container);
    Ok(())
}

/// Writes the files that a container sees in /etc.
fn etc_files(
    config: &Config,
    dir: &TaskDir,
    spec: &LaunchSpec,
    address: Option<Ipv4Addr>,
) -> Result<Vec<BindPlan>, String> {
    let hostname = container::hostname(spec).unwrap_or_else(|| config.hostname.clone());
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let own = address.unwrap_or(config.ip);
    hosts.push_str(&format!("{own}\t{hostname}\n"));
    for parameter in &spec.container.parameters {
        if let Parameter::AddHost(name, address) = parameter {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
    }
    let bind = |name: &str| BindPlan {
        source: dir.file(name),
        target: format!("/etc/{name}"),
        read_only: false,
    };
    let mut files = Vec::new();
    for (name, text) in [("hostname", format!("{hostname}\n")), ("hosts", hosts)] {
        dir.write_bytes(name, text.as_bytes())
            .map_err(|error| error.to_string())?;
        files.push(bind(name));
    }
    files.push(match (&config.resolv_conf, address) {
        // The file of a container network is written for all of its tasks.
        (Some(_), Some(_)) => bind(RESOLV_CONF),
        _ => {
            let text = fs::read("/etc/resolv.conf").unwrap_or_default();
            dir.write_bytes(RESOLV_CONF, &text).map_err(|error| error.to_string())?;
            bind(RESOLV_CONF)
        }
    });
    Ok(files)
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
