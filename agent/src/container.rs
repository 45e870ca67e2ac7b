//! A task in an image: its root directory, its mounts, who it is and what it may do.
//!
//! All is decided in the daemon ([`plan`]) and carried out by the task's own process between fork and exec ([`enter`]),
//! so that mounts and namespaces end with the process, whatever becomes of daemon and runner.

mod attribute;
mod capability;
mod confine;
mod enter;
mod identity;
mod init;
mod root;
mod seccomp;

use std::path::{Path, PathBuf};

use model::{Command, ContainerKind, Ipc, LaunchSpec, Parameter, Privilege, Root, Seccomp, TaskNetwork, VolumeMode};

use crate::image::{Ready, RunConfig};
use crate::plan::{BindPlan, ContainerPlan, IdentityPlan};

pub(crate) use confine::{confine, filters};
pub(crate) use enter::{enter, mount_volumes};
pub(crate) use init::{Reported, become_init};
pub(crate) use root::directory_in;

/// Where a container sees its sandbox, as under Mesos.
pub(crate) const SANDBOX: &str = "/mnt/mesos/sandbox";
/// PATH of an image that sets none, as Docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// MiB of /dev/shm unless told, as Docker's.
const SHM_MB: u64 = 64;

/// What the daemon gives for a container's plan.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) spec: &'a LaunchSpec,
    pub(crate) image: &'a Ready,
    /// The container's own directory, for what it writes.
    pub(crate) scratch: PathBuf,
    /// The files to be seen as /etc/hostname, /etc/hosts, /etc/resolv.conf.
    pub(crate) etc: Vec<BindPlan>,
    /// Its persistent volumes.
    pub(crate) persistent: &'a [BindPlan],
}

/// The command line of a container by Docker's rules: a shell command replaces the entrypoint, arguments follow it and
/// replace the image's own.
pub(crate) fn argv(command: &Command, run: &RunConfig, parameters: &[Parameter]) -> Result<Vec<String>, String> {
    let given = parameters.iter().rev().find_map(|parameter| match parameter {
        Parameter::Entrypoint(program) => Some(program),
        _ => None,
    });
    let mut argv = match (command, given) {
        (Command::Shell(text), _) => return Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]),
        (Command::Argv(_), Some(program)) if program.is_empty() => Vec::new(),
        (Command::Argv(_), Some(program)) => vec![program.clone()],
        (Command::Argv(_), None) => run.entrypoint.clone().unwrap_or_default(),
    };
    match command {
        Command::Argv(arguments) if !arguments.is_empty() => argv.extend(arguments.iter().cloned()),
        // An entrypoint of the user's goes without the image's arguments.
        _ if given.is_none() => argv.extend(run.cmd.clone().unwrap_or_default()),
        _ => {}
    }
    match argv.first() {
        None => Err("the image says nothing of what to run: give cmd or args".to_owned()),
        Some(program) if program.is_empty() => Err("the program to run has an empty name".to_owned()),
        Some(_) => Ok(argv),
    }
}

/// Environment of the image, without what the task sets itself; PATH and HOME are always there.
pub(crate) fn environment(run: &RunConfig, identity: &IdentityPlan, own: &mut Vec<(String, std::ffi::OsString)>) {
    let image = run.env.iter().flatten().filter_map(|line| line.split_once('='));
    let defaults = [("PATH", PATH), ("HOME", identity.home.as_str())];
    for (name, value) in image.chain(defaults) {
        if !name.is_empty() && !own.iter().any(|(known, _)| known == name) {
            own.push((name.to_owned(), value.into()));
        }
    }
}

/// Who it is: the task's user, else the image's, else root.
pub(crate) fn identity(spec: &LaunchSpec, image: &Ready) -> Result<IdentityPlan, String> {
    let of_image = image.run.user.as_deref().filter(|user| !user.is_empty());
    let wanted = spec.user.as_deref().or(of_image).unwrap_or("0");
    let file = |path: &str| root::read(image, path).unwrap_or_default();
    identity::resolve(wanted, &file("etc/passwd"), &file("etc/group"))
}

/// The name of the machine that a container sees; none means the node's.
pub(crate) fn hostname(spec: &LaunchSpec) -> Option<String> {
    let given = spec
        .container
        .parameters
        .iter()
        .rev()
        .find_map(|parameter| match parameter {
            Parameter::Hostname(name) => Some(name.clone()),
            _ => None,
        });
    given.or_else(|| match spec.network {
        TaskNetwork::Host => None,
        TaskNetwork::Container { .. } => Some(crate::address::link_name(crate::pod::network_name(spec))),
    })
}

/// Everything that the task's process does before it is the task.
pub(crate) fn plan(parts: Parts<'_>, sandbox: &Path) -> Result<ContainerPlan, String> {
    let Parts {
        spec,
        image,
        scratch,
        etc,
        persistent,
    } = parts;
    let container = &spec.container;
    let find = |look: fn(&Parameter) -> Option<&String>| container.parameters.iter().rev().find_map(look).cloned();
    let workdir = find(|parameter| match parameter {
        Parameter::Workdir(path) => Some(path),
        _ => None,
    });
    let of_image = image.run.working_dir.clone().filter(|dir| !dir.is_empty());
    let default = match container.kind {
        ContainerKind::Mesos => SANDBOX,
        ContainerKind::Docker => "/",
    };
    let privileged = container.privilege == Privilege::Full;
    Ok(ContainerPlan {
        layers_dir: image.dir.clone(),
        layers: image.layers.clone(),
        scratch,
        root_read_only: container
            .parameters
            .iter()
            .rev()
            .find_map(|parameter| match parameter {
                Parameter::ReadOnly(root) => Some(*root == Root::ReadOnly),
                _ => None,
            })
            .unwrap_or_default(),
        identity: identity(spec, image)?,
        workdir: workdir.or(of_image).unwrap_or_else(|| default.to_owned()),
        hostname: hostname(spec),
        etc,
        volumes: volumes(spec, sandbox, persistent)?,
        privileged,
        capabilities: capability::set(&container.parameters, container.privilege)?,
        seccomp: !privileged && container.seccomp == Seccomp::Default,
        own_ipc: container.ipc == Ipc::Private,
        shm_mb: container.shm_mb.unwrap_or(SHM_MB),
        init: container.kind == ContainerKind::Mesos,
    })
}

/// The volumes with their places on the node, persistent ones first; those in the sandbox are made.
pub(crate) fn volumes(spec: &LaunchSpec, sandbox: &Path, persistent: &[BindPlan]) -> Result<Vec<BindPlan>, String> {
    let inside = |path: &str| {
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{SANDBOX}/{path}")
        }
    };
    let mut plans = persistent.to_vec();
    for volume in &spec.container.volumes {
        let source = if volume.host_path.starts_with('/') {
            PathBuf::from(&volume.host_path)
        } else if let Some((kept, rest)) = in_persistent(&volume.host_path, persistent) {
            directory_in(kept, rest)?
        } else {
            directory_in(sandbox, &volume.host_path)?
        };
        // Docker makes a directory that is not there; Mesos does not.
        if !source.exists() && spec.container.kind == ContainerKind::Docker {
            let made = std::fs::create_dir_all(&source);
            made.map_err(|error| format!("cannot create the volume's directory {}: {error}", source.display()))?;
        }
        if !source.exists() {
            return Err(format!(
                "the volume's directory {} is not on this node: create it, or hold the app to nodes that have it",
                source.display()
            ));
        }
        plans.push(BindPlan {
            source,
            target: inside(&volume.container_path),
            read_only: volume.mode == VolumeMode::ReadOnly,
        });
    }
    Ok(plans)
}

/// The persistent volume that a path of the sandbox leads into, and the way from there: programs that want their data
/// elsewhere see it a second time there, as Marathon's users write it.
fn in_persistent<'a>(path: &'a str, persistent: &'a [BindPlan]) -> Option<(&'a Path, &'a str)> {
    let path = path.trim_start_matches("./");
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let target = format!("{SANDBOX}/{first}");
    let kept = persistent.iter().find(|bind| bind.target == target)?;
    Some((&kept.source, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn run(entrypoint: &[&str], cmd: &[&str]) -> RunConfig {
        RunConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..RunConfig::default()
        }
    }

    #[test]
    fn dockers_rules_make_the_command_line() {
        let shell = Command::Shell("echo $A".to_owned());
        let args = Command::Argv(vec!["x".to_owned()]);
        let none = Command::Argv(Vec::new());
        let both = run(&["/entry", "-e"], &["cmd"]);
        let line = |command: &Command, run: &RunConfig| argv(command, run, &[]).expect("a line").join(" ");
        assert_eq!(line(&shell, &both), "/bin/sh -c echo $A");
        assert_eq!(line(&args, &both), "/entry -e x");
        assert_eq!(line(&none, &both), "/entry -e cmd");
        assert_eq!(line(&args, &run(&[], &["cmd"])), "x");
        assert_eq!(line(&none, &run(&[], &["cmd"])), "cmd");
        assert_eq!(line(&none, &run(&["/entry"], &[])), "/entry");
        let error = argv(&none, &run(&[], &[]), &[]).expect_err("nothing");
        assert!(error.contains("give cmd or args"), "{error}");
        let own = [Parameter::Entrypoint("/own".to_owned())];
        assert_eq!(argv(&none, &both, &own).expect("a line"), ["/own"]);
        assert_eq!(argv(&args, &both, &own).expect("a line"), ["/own", "x"]);
    }

    #[test]
    fn the_tasks_environment_wins_over_the_images() {
        let run = RunConfig {
            env: words(&["PATH=/image", "A=image", "B=b=c", "=x", "nothing"]),
            ..RunConfig::default()
        };
        let identity = identity::resolve("0", "", "").expect("root");
        let mut own = vec![("A".to_owned(), "task".into())];
        environment(&run, &identity, &mut own);
        let get = |name: &str| {
            own.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.to_str())
        };
        assert_eq!(get("PATH"), Some(Some("/image")));
        assert_eq!(get("A"), Some(Some("task")));
        assert_eq!(get("B"), Some(Some("b=c")));
        assert_eq!(get("HOME"), Some(Some("/")));
        assert_eq!(own.len(), 4);
    }
}
