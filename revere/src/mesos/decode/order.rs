//! A framework's `TaskInfo` to the order for its agent. What cannot be carried out is an error, never left out in silence.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    AgentId, CheckAddress, Command, Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, FrameworkId,
    HealthCheck, Image, KillPolicy, LaunchSpec, Parameter, PortMapping, Privilege, Probe, Pull, ReadyRule, Resources,
    Scheme, TaskChecks, TaskId, TaskNetwork, Volume, VolumeMode,
};
use scheduler::TaskOrder;
use serde_json::{Value, json};

use super::reserved::{claims, scalar};
use super::task::{SCOPE_LABEL, decode_task};
use super::{Rejects, double, flag, get, id, list, number, text};

/// Time from SIGTERM to SIGKILL where a task says nothing (Mesos' own executors).
const DEFAULT_GRACE: Duration = Duration::from_secs(3);

/// Reads one.
pub(super) fn task_order(info: &Value) -> TaskOrder {
    let name = text(info, "name").unwrap_or_default();
    TaskOrder {
        task: TaskId::new(id(info, "task_id").unwrap_or_default()),
        name: name.to_owned(),
        has_discovery: get(info, "discovery").is_some_and(|discovery| text(discovery, "name").is_some()),
        agent: AgentId::new(id(info, "agent_id").unwrap_or_default()),
        from: claims(list(info, "resources")).unwrap_or_default(),
        spec: launch_spec(info).map(Box::new),
    }
}

/// `DurationInfo`.
pub(super) fn nanoseconds(value: &Value) -> Option<Duration> {
    number(value, "nanoseconds").map(Duration::from_nanos)
}

/// The parts of a `TaskInfo` that nothing is made of.
fn refuse_unknown(info: &Value) -> Result<(), String> {
    let parts = [
        ("executor", "an executor of its own; give the task a `command` instead"),
        ("check", "a `check`; a `health_check` is"),
        ("max_completion_time", "`max_completion_time`"),
        ("limits", "`limits`"),
    ];
    match parts.iter().find(|(key, _)| get(info, key).is_some()) {
        Some((_, what)) => Err(format!("{what}: this is not carried out by revere")),
        None => Ok(()),
    }
}

fn launch_spec(info: &Value) -> Result<LaunchSpec, String> {
    refuse_unknown(info)?;
    let command = get(info, "command").ok_or("Task should have a CommandInfo: `command` is missing")?;
    // The same reading of names, ports and labels as on the stream.
    let mut as_task = info.clone();
    as_task["framework_id"] = json!({"value": "-"});
    let mut rejects = Rejects::default();
    let read = decode_task(&as_task, &mut rejects).ok_or("`task_id` or `agent_id` is missing")?;
    let none = Value::Null;
    let container = get(info, "container").unwrap_or(&none);
    let (resources, host_ports) = (scalars(info)?, read.host_ports);
    let mappings: Vec<PortMapping> = read.mappings;
    let mut ports = read.ports;
    for port in &mut ports {
        // Told by the scope itself.
        port.labels.retain(|(key, _)| key != SCOPE_LABEL);
    }
    let grace = get(info, "kill_policy").and_then(|policy| nanoseconds(get(policy, "grace_period")?));
    let health = get(info, "health_check").map(health_check).transpose()?;
    Ok(LaunchSpec {
        pod: None,
        task: read.id,
        name: read.name,
        framework: FrameworkId::new("-"),
        user: text(command, "user").map(str::to_owned),
        container: container_of(container)?,
        fetch: list(command, "uris").map(fetch).collect::<Result<_, _>>()?,
        env: environment(command)?,
        command: program(command, get(container, "type").is_some())?,
        resources,
        network: network(container)?,
        ports,
        mappings,
        host_ports,
        labels: read.labels,
        ready: ReadyRule::AtStart,
        checks: TaskChecks {
            health: health.into_iter().collect(),
            readiness: Vec::new(),
        },
        kill: KillPolicy {
            drain: Duration::ZERO,
            grace: grace.unwrap_or(DEFAULT_GRACE),
        },
    })
}

/// Scalars: thousandths of a cpu, whole mebibytes, rounded up.
fn scalars(info: &Value) -> Result<Resources, String> {
    claims(list(info, "resources"))?;
    let mut sum = Resources::default();
    for resource in list(info, "resources") {
        let name = text(resource, "name").unwrap_or_default();
        if name != "ports" {
            sum = sum.plus(&scalar(resource)?);
        }
    }
    if sum.cpus_milli == 0 && sum.mem_mb == 0 {
        return Err("Task uses no resources".to_owned());
    }
    Ok(sum)
}

pub(super) fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or(u64::MAX)
}

fn program(command: &Value, contained: bool) -> Result<Command, String> {
    let arguments: Vec<String> = list(command, "arguments")
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let value = text(command, "value");
    if flag(command, "shell").unwrap_or(true) {
        let value = value.ok_or("Shell command: 'value' is missing in CommandInfo")?;
        return Ok(Command::Shell(value.to_owned()));
    }
    match value {
        // argv[0] is the first of the arguments; the program is found by its value all the same.
        Some(value) => Ok(Command::Argv(
            std::iter::once(value.to_owned())
                .chain(arguments.into_iter().skip(1))
                .collect(),
        )),
        None if contained => Ok(Command::Argv(arguments)),
        None => Err("CommandInfo has no 'value', and there is no image whose program could be run".to_owned()),
    }
}

fn environment(command: &Value) -> Result<BTreeMap<String, String>, String> {
    let none = Value::Null;
    let mut env = BTreeMap::new();
    for variable in list(get(command, "environment").unwrap_or(&none), "variables") {
        let name = text(variable, "name").ok_or("a variable of the environment has no name")?;
        if get(variable, "secret").is_some() {
            return Err(format!(
                "the variable {name} is a secret: this is not carried out by revere"
            ));
        }
        env.insert(name.to_owned(), text(variable, "value").unwrap_or_default().to_owned());
    }
    Ok(env)
}

fn fetch(uri: &Value) -> Result<Fetch, String> {
    let yes = |key: &str, absent: bool| flag(uri, key).unwrap_or(absent);
    Ok(Fetch {
        uri: text(uri, "value").ok_or("one of `uris` has no value")?.to_owned(),
        extract: if yes("extract", true) {
            Extract::Archives
        } else {
            Extract::Never
        },
        permission: if yes("executable", false) {
            FetchPermission::Executable
        } else {
            FetchPermission::Data
        },
        cache: if yes("cache", false) {
            FetchCache::Keep
        } else {
            FetchCache::None
        },
        dest: text(uri, "output_file").map(str::to_owned),
    })
}

fn network(container: &Value) -> Result<TaskNetwork, String> {
    let named = list(container, "network_infos").find_map(|info| text(info, "name"));
    let named = |absent: &str| TaskNetwork::Container {
        name: named.unwrap_or(absent).to_owned(),
    };
    let docker = get(container, "docker").and_then(|docker| text(docker, "network"));
    match (text(container, "type"), docker) {
        (Some("DOCKER"), Some("BRIDGE")) => Ok(named("bridge")),
        (Some("DOCKER"), Some("USER")) => Ok(named("dcos")),
        (Some("DOCKER"), Some("NONE")) => Err("a container without network is not carried out by revere".to_owned()),
        (Some("DOCKER"), _) => Ok(TaskNetwork::Host),
        _ if list(container, "network_infos").next().is_some() => Ok(named("dcos")),
        _ => Ok(TaskNetwork::Host),
    }
}

fn container_of(container: &Value) -> Result<Container, String> {
    let none = Value::Null;
    for key in ["linux_info", "rlimit_info", "tty_info"] {
        if get(container, key).is_some() {
            return Err(format!("`container.{key}` is not carried out by revere"));
        }
    }
    let docker = get(container, "docker").unwrap_or(&none);
    let mesos = get(container, "mesos")
        .and_then(|mesos| get(mesos, "image"))
        .unwrap_or(&none);
    if text(mesos, "type") == Some("APPC") {
        return Err("images of type APPC are not carried out by revere; DOCKER is".to_owned());
    }
    let of_mesos = get(mesos, "docker").and_then(|image| text(image, "name"));
    let fresh = flag(docker, "force_pull_image").unwrap_or(false) || flag(mesos, "cached") == Some(false);
    let image = text(docker, "image").or(of_mesos).map(|name| Image {
        name: name.to_owned(),
        pull: if fresh { Pull::Always } else { Pull::IfMissing },
        credentials: None,
    });
    let mut parameters = Vec::new();
    for one in list(docker, "parameters") {
        let (key, value) = (
            text(one, "key").unwrap_or_default(),
            text(one, "value").unwrap_or_default(),
        );
        parameters.push(Parameter::parse(key, value).map_err(|error| error.to_string())?);
    }
    if let Some(hostname) = text(container, "hostname") {
        parameters.push(Parameter::parse("hostname", hostname).map_err(|error| error.to_string())?);
    }
    let full = flag(docker, "privileged").unwrap_or(false);
    if image.is_none() && (full || !parameters.is_empty()) {
        return Err("`privileged`, `parameters` and `hostname` are for containers with an image".to_owned());
    }
    Ok(Container {
        kind: if text(container, "type") == Some("DOCKER") {
            ContainerKind::Docker
        } else {
            ContainerKind::Mesos
        },
        image,
        privilege: if full { Privilege::Full } else { Privilege::Confined },
        parameters,
        volumes: list(container, "volumes").map(volume).collect::<Result<_, _>>()?,
        ..Container::default()
    })
}

fn volume(volume: &Value) -> Result<Volume, String> {
    let path = text(volume, "container_path").ok_or("a volume has no container_path")?;
    if get(volume, "source").is_some() || get(volume, "image").is_some() {
        return Err(format!(
            "the volume {path} has a source or an image: only `host_path` is carried out by revere"
        ));
    }
    Ok(Volume {
        container_path: path.to_owned(),
        host_path: text(volume, "host_path")
            .ok_or_else(|| format!("the volume {path} has no host_path"))?
            .to_owned(),
        mode: if text(volume, "mode") == Some("RO") {
            VolumeMode::ReadOnly
        } else {
            VolumeMode::ReadWrite
        },
    })
}

/// Run by the agent against the task's own loopback, as Mesos' executors do.
fn health_check(check: &Value) -> Result<HealthCheck, String> {
    let none = Value::Null;
    let seconds = |key: &str, absent: u64| {
        let given = double(check, key).and_then(|value| Duration::try_from_secs_f64(value).ok());
        given.unwrap_or(Duration::from_secs(absent))
    };
    let port = |kind: &Value| {
        u16::try_from(number(kind, "port").unwrap_or(0))
            .ok()
            .filter(|port| *port != 0)
    };
    let at = |kind: &Value| match text(kind, "protocol") {
        Some("IPv6") => CheckAddress::LoopbackV6,
        _ => CheckAddress::LoopbackV4,
    };
    let kind = text(check, "type").unwrap_or(if get(check, "http").is_some() {
        "HTTP"
    } else {
        "COMMAND"
    });
    let probe = match kind {
        "COMMAND" => Probe::Command(program(
            get(check, "command").ok_or("the health check has no command")?,
            false,
        )?),
        "HTTP" => {
            let http = get(check, "http").unwrap_or(&none);
            Probe::Http {
                scheme: if text(http, "scheme") == Some("https") {
                    Scheme::Https
                } else {
                    Scheme::Http
                },
                at: at(http),
                port: port(http).ok_or("the health check has no port")?,
                path: text(http, "path").unwrap_or("/").to_owned(),
                ignore_1xx: false,
            }
        }
        "TCP" => {
            let tcp = get(check, "tcp").unwrap_or(&none);
            Probe::Tcp {
                at: at(tcp),
                port: port(tcp).ok_or("the health check has no port")?,
            }
        }
        other => return Err(format!("`{other}` is no kind of health check")),
    };
    Ok(HealthCheck {
        probe,
        delay: seconds("delay_seconds", 15),
        interval: seconds("interval_seconds", 10),
        timeout: seconds("timeout_seconds", 20),
        grace: seconds("grace_period_seconds", 10),
        max_failures: u32::try_from(number(check, "consecutive_failures").unwrap_or(3)).unwrap_or(u32::MAX),
    })
}
