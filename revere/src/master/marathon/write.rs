//! Writes Marathon's shapes. Clients know a closed set of names, so nothing of our own is ever added.

mod container;
mod health;

use model::{Command, Container, Resources, TaskState};
use scheduler::{App, AppPort, Constraint, InstanceRecord, NetworkMode, Operator, Refusal, Scheduler, Timestamp};
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
        "env": app.env, "labels": app.labels,
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
        "dependencies": [], "fetch": container::fetch(app), "secrets": {}, "executor": "",
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
    if let Some(user) = &app.user {
        out["user"] = json!(user);
    }
    if let Some(grace) = app.kill_grace {
        out["taskKillGracePeriodSeconds"] = seconds(grace);
    }
    network(app, &mut out);
    health::definition(app, &mut out);
    out
}

fn network(app: &App, out: &mut Value) {
    out["networks"] = match &app.network {
        NetworkMode::Host => json!([{"mode": "host"}]),
        NetworkMode::Bridge => json!([{"mode": "container/bridge"}]),
        NetworkMode::Container(name) => json!([{"mode": "container", "name": name}]),
    };
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

/// An app as listed.
pub(crate) fn app(scheduler: &Scheduler, app: &App, with_tasks: bool) -> Value {
    let mut out = definition(app);
    let (mut staged, mut running) = (0, 0);
    for instance in scheduler.instances_of(&app.id) {
        match instance.status.state {
            TaskState::Staging | TaskState::Starting => staged += 1,
            TaskState::Running => running += 1,
            _ => {}
        }
    }
    let open = scheduler
        .deployments()
        .into_iter()
        .filter(|deployment| deployment.app == app.id && !deployment.finished);
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
    if with_tasks {
        out["tasks"] = Value::Array(tasks_of(scheduler, app));
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
pub(crate) fn created(app: &App, deployment: &str) -> Value {
    let mut out = definition(app);
    put_counts(&mut out, 0, 0, (0, 0));
    out["tasks"] = json!([]);
    out["deployments"] = json!([{"id": deployment}]);
    out
}

/// All tasks of an app.
pub(crate) fn tasks_of(scheduler: &Scheduler, app: &App) -> Vec<Value> {
    scheduler
        .instances_of(&app.id)
        .map(|instance| task(scheduler, instance))
        .collect()
}

fn task(scheduler: &Scheduler, instance: &InstanceRecord) -> Value {
    let host = scheduler
        .agent(&instance.agent)
        .map(|agent| agent.hostname.clone())
        .unwrap_or_default();
    let address = |addr: &std::net::IpAddr| json!({"ipAddress": addr.to_string(), "protocol": if addr.is_ipv4() { "IPv4" } else { "IPv6" }});
    let mut out = json!({
        "appId": instance.app.as_str(),
        "id": instance.spec.task.as_str(),
        "host": host,
        "slaveId": instance.agent.as_str(),
        "state": instance.status.state.as_str(),
        "ports": instance.spec.host_ports,
        "servicePorts": instance.service_ports,
        "ipAddresses": instance.status.addresses.iter().map(address).collect::<Vec<_>>(),
        "stagedAt": instance.staged_at.to_string(),
        "version": instance.version.to_string(),
        "healthCheckResults": health::results(instance),
        "localVolumes": [],
        "role": "*",
    });
    if let Some(started) = instance.started_at {
        out["startedAt"] = json!(started.to_string());
    }
    out
}

/// `GET /v2/deployments`: the changes still being carried out.
pub(crate) fn deployments(scheduler: &Scheduler) -> Value {
    let open = scheduler
        .deployments()
        .into_iter()
        .filter(|deployment| !deployment.finished);
    open.map(|deployment| {
        let id = deployment.app.as_str();
        let action = match scheduler.app(id) {
            None => "StopApplication",
            // The change made the definition anew, and there was one before.
            Some(app) if app.last_config_change == deployment.version && scheduler.versions(&app.id).len() > 1 => {
                "RestartApplication"
            }
            Some(_) => "ScaleApplication",
        };
        let readiness = scheduler
            .app(id)
            .map(|app| health::readiness(scheduler, app))
            .unwrap_or_default();
        json!({
            "id": deployment.id,
            "version": deployment.version.to_string(),
            "affectedApps": [id],
            "affectedPods": [],
            "steps": [{"actions": [{"action": action, "app": id}]}],
            "currentActions": [{"action": action, "app": id, "readinessCheckResults": readiness}],
            "currentStep": 1,
            "totalSteps": 1,
        })
    })
    .collect()
}

/// `GET /v2/queue`.
pub(crate) fn queue(scheduler: &Scheduler, now: Timestamp) -> Value {
    let item = |item: scheduler::QueueView<'_>| {
        let left = item.delay.as_secs() + u64::from(item.delay.subsec_nanos() > 0);
        let refused: u32 = item.refusals.by_rule.values().sum();
        json!({
            "app": definition(item.app),
            "count": item.count,
            "delay": {"timeLeftSeconds": left, "overdue": left == 0},
            "since": item.since.to_string(),
            "processedOffersSummary": {
                "processedOffersCount": item.refusals.processed,
                "unusedOffersCount": refused,
                "lastUnusedOfferAt": now.to_string(),
                "rejectSummaryLastOffers": reasons(item.refusals),
                "rejectSummaryLaunchAttempt": reasons(item.refusals),
            },
        })
    };
    json!({"queue": scheduler.queue().map(item).collect::<Vec<_>>()})
}

/// The funnel: each rule sees what the ones before let through.
fn reasons(refusals: &scheduler::Refusals) -> Vec<Value> {
    let mut processed = refusals.processed;
    let rules: [Refusal; 5] = [
        Refusal::Constraint,
        Refusal::Cpus,
        Refusal::Memory,
        Refusal::Disk,
        Refusal::Ports,
    ];
    rules
        .into_iter()
        .map(|rule| {
            let declined = refusals.by_rule.get(&rule).copied().unwrap_or(0);
            let mut reason = Map::new();
            reason.insert("reason".to_owned(), json!(rule.as_str()));
            reason.insert("declined".to_owned(), json!(declined));
            reason.insert("processed".to_owned(), json!(processed));
            processed = processed.saturating_sub(declined);
            Value::Object(reason)
        })
        .collect()
}
