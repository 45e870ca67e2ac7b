//! Writes Marathon's shapes. Clients know a closed set of names, so nothing of our own is ever added.

pub(crate) mod change;
mod container;
pub(crate) mod group;
mod health;
pub(crate) mod pod;
pub(crate) mod pod_status;
pub(crate) mod task;

use model::{Command, Container, Resources, TaskState};
use scheduler::{App, AppPort, Constraint, NetworkMode, Operator, Scheduler, Timestamp};
use serde_json::{Map, Value, json};

/// The Marathon release whose API this is.
pub(crate) const MARATHON_VERSION: &str = "1.11.24";

/// The definition of a checked app, defaults included.
pub(crate) fn definition(app: &App) -> Value {
    let cpus = milli(app.resources.cpus_milli);
    let Resources { mem_mb, disk_mb, .. } = app.resources;
    let mut out = json!({
        "id": app.id.as_str(),
        "cpus": cpus, "mem": mem_mb, "disk": disk_mb, "gpus": 0,
        "instances": app.instances,
        "env": environment(app), "labels": app.labels,
        "constraints": app.constraints.iter().map(constraint).collect::<Vec<_>>(),
        "requirePorts": app.require_ports,
        "backoffSeconds": seconds(app.backoff.initial),
        "backoffFactor": app.backoff.factor,
        "maxLaunchDelaySeconds": seconds(app.backoff.max),
        "killSelection": if app.kill_youngest_first { "YOUNGEST_FIRST" } else { "OLDEST_FIRST" },
        "upgradeStrategy": {
            "minimumHealthCapacity": app.upgrade_strategy.minimum_health_capacity,
            "maximumOverCapacity": app.upgrade_strategy.maximum_over_capacity,
        },
        "dependencies": app.dependencies, "fetch": container::fetch(app), "secrets": secrets(app), "executor": "",
        "version": app.version.to_string(),
        "versionInfo": {
            "lastScalingAt": app.version.to_string(),
            "lastConfigChangeAt": app.last_config_change.to_string(),
        },
    });
    match &app.command {
        Command::Shell(text) => out["cmd"] = json!(text),
        // None beside an image means the image's own; Marathon prints neither field then.
        Command::Argv(words) if words.is_empty() => {}
        Command::Argv(words) => out["args"] = json!(words),
    }
    if app.accepted_roles != ["*"] {
        out["acceptedResourceRoles"] = json!(app.accepted_roles);
    }
    if let Some(user) = &app.user {
        out["user"] = json!(user);
    }
    if let Some(residency) = app.residency {
        out["residency"] = json!({
            "relaunchEscalationTimeoutSeconds": residency.escalation_seconds,
            "taskLostBehavior": "WAIT_FOREVER",
        });
    }
    if let Some(grace) = app.kill_grace {
        out["taskKillGracePeriodSeconds"] = seconds(grace);
    }
    network(app, &mut out);
    health::definition(app, &mut out);
    out
}

/// Values, and names of secrets in their place.
fn environment(app: &App) -> Map<String, Value> {
    let plain = app.env.iter().map(|(key, value)| (key.clone(), json!(value)));
    let secret = app.container.secrets.env.iter();
    plain
        .chain(secret.map(|(key, name)| (key.clone(), json!({"secret": name}))))
        .collect()
}

fn secrets(app: &App) -> Map<String, Value> {
    let sources = app.container.secrets.sources.iter();
    sources
        .map(|(name, source)| (name.clone(), json!({"source": source})))
        .collect()
}

fn networks(network: &NetworkMode) -> Value {
    match network {
        NetworkMode::Host => json!([{"mode": "host"}]),
        NetworkMode::Bridge => json!([{"mode": "container/bridge"}]),
        NetworkMode::Container(name) => json!([{"mode": "container", "name": name}]),
    }
}

fn network(app: &App, out: &mut Value) {
    out["networks"] = networks(&app.network);
    if app.network == NetworkMode::Host {
        out["portDefinitions"] = app
            .ports
            .iter()
            .map(|port| common(port, json!({"port": port.port})))
            .collect();
    } else {
        let mapping = |port: &AppPort| {
            let mut mapping = json!({"containerPort": port.port, "servicePort": port.service_port});
            if let Some(host) = port.host_port {
                mapping["hostPort"] = json!(host);
            }
            common(port, mapping)
        };
        let mappings: Vec<Value> = app.ports.iter().map(mapping).collect();
        out["container"] = container::definition(app, Some(mappings));
    }
    if app.network == NetworkMode::Host && app.container != Container::default() {
        out["container"] = container::definition(app, None);
    }
}

fn common(port: &AppPort, mut out: Value) -> Value {
    let mut protocols: Vec<&str> = port.protocols.iter().map(|protocol| protocol.as_str()).collect();
    // Marathon's spelling of both is `udp,tcp`.
    protocols.sort_unstable_by(|a, b| b.cmp(a));
    out["protocol"] = json!(protocols.join(","));
    out["labels"] = json!(port.labels);
    if let Some(name) = &port.name {
        out["name"] = json!(name);
    }
    out
}

fn constraint(constraint: &Constraint) -> Vec<String> {
    let operator = match constraint.operator {
        Operator::Unique => "UNIQUE",
        Operator::Cluster => "CLUSTER",
        Operator::GroupBy => "GROUP_BY",
        Operator::MaxPer => "MAX_PER",
        Operator::Is => "IS",
        Operator::Like => "LIKE",
        Operator::Unlike => "UNLIKE",
    };
    let mut out = vec![constraint.field.clone(), operator.to_owned()];
    out.extend(constraint.value.clone());
    out
}

fn milli(thousandths: u64) -> f64 {
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0
}

/// Whole seconds as a whole number, as Marathon prints them.
fn seconds(duration: std::time::Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        json!(duration.as_secs())
    } else {
        json!(duration.as_secs_f64())
    }
}

/// What is shown of an app beside its definition and its counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Embeds {
    pub(crate) tasks: bool,
    pub(crate) last_failure: bool,
    pub(crate) stats: bool,
}

impl Embeds {
    /// Reads the values of `embed`, in the spellings of lists, of single apps and of groups.
    pub(crate) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut embeds = Self::default();
        for value in values {
            let value = value.strip_prefix("group.").unwrap_or(value);
            let value = value
                .strip_prefix("apps.")
                .or(value.strip_prefix("app."))
                .unwrap_or(value);
            match value {
                "tasks" => embeds.tasks = true,
                "lastTaskFailure" => embeds.last_failure = true,
                "failures" => {
                    embeds.tasks = true;
                    embeds.last_failure = true;
                }
                "taskStats" => embeds.stats = true,
                // Counts, deployments and readiness are always there.
                _ => {}
            }
        }
        embeds
    }
}

/// An app as listed.
pub(crate) fn app(scheduler: &Scheduler, app: &App, embeds: Embeds, now: Timestamp) -> Value {
    let mut out = definition(app);
    let (mut staged, mut running) = (0, 0);
    for instance in scheduler.instances_of(&app.id) {
        match instance.status.state {
            TaskState::Staging | TaskState::Starting => staged += 1,
            TaskState::Running => running += 1,
            _ => {}
        }
    }
    let open = scheduler.deployment_of(&app.id).into_iter();
    out["deployments"] = open.map(|deployment| json!({"id": deployment.id})).collect();
    put_counts(
        &mut out,
        staged,
        running,
        health::counts(scheduler.instances_of(&app.id)),
    );
    let readiness = health::readiness(scheduler, app);
    if !readiness.is_empty() {
        out["readinessCheckResults"] = Value::Array(readiness);
    }
    if embeds.tasks {
        out["tasks"] = Value::Array(task::tasks_of(scheduler, app));
    }
    if embeds.last_failure
        && let Some(failure) = scheduler.last_failure(&app.id)
    {
        out["lastTaskFailure"] = task::failure(failure);
    }
    if embeds.stats {
        out["taskStats"] = task::stats(scheduler, app, now);
    }
    out
}

fn put_counts(out: &mut Value, staged: u32, running: u32, (healthy, unhealthy): (u32, u32)) {
    out["tasksStaged"] = json!(staged);
    out["tasksRunning"] = json!(running);
    out["tasksHealthy"] = json!(healthy);
    out["tasksUnhealthy"] = json!(unhealthy);
}

/// The answer to a POST: nothing runs yet.
pub(crate) fn created(app: &App, deployment: Option<&str>) -> Value {
    let mut out = definition(app);
    put_counts(&mut out, 0, 0, (0, 0));
    out["tasks"] = json!([]);
    out["deployments"] = deployment.into_iter().map(|id| json!({"id": id})).collect();
    out
}
