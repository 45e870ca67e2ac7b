//! Tasks, their failures and their figures.

use std::time::Duration;

use model::{PersistentVolume, TaskState};
use scheduler::{App, InstanceRecord, Residence, Scheduler, TaskFailure, Timestamp};
use serde_json::{Map, Value, json};

/// All tasks of an app, and of instances that wait beside their volumes the last ones.
pub(crate) fn tasks_of(scheduler: &Scheduler, app: &App) -> Vec<Value> {
    scheduler
        .instances_of(&app.id)
        .map(|instance| task(scheduler, instance))
        .chain(scheduler.idle_residences(&app.id).map(|one| idle(scheduler, one)))
        .collect()
}

pub(crate) fn task(scheduler: &Scheduler, instance: &InstanceRecord) -> Value {
    let agent = scheduler.agent(&instance.agent);
    let host = agent.map(|agent| agent.hostname.clone()).unwrap_or_default();
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
        "healthCheckResults": super::health::results(instance),
        "localVolumes": scheduler.residence(&instance.id).map(volumes).unwrap_or_default(),
        "role": "*",
    });
    if let Some(agent) = agent {
        if let Some(region) = &agent.domain.region {
            out["region"] = json!(region);
        }
        if let Some(zone) = &agent.domain.zone {
            out["zone"] = json!(zone);
        }
        out["role"] = json!(agent.domain.role);
    }
    if let Some(started) = instance.started_at {
        out["startedAt"] = json!(started.to_string());
    }
    out
}

/// The last task of an instance that waits beside its volumes. Marathon tells neither ports nor times of one that is over.
pub(crate) fn idle(scheduler: &Scheduler, residence: &Residence) -> Value {
    let agent = scheduler.agent(&residence.agent);
    let mut out = json!({
        "appId": residence.app.as_str(),
        "id": residence.task().as_str(),
        "host": agent.map(|agent| agent.hostname.clone()).unwrap_or_default(),
        "slaveId": residence.agent.as_str(),
        "state": residence.ended.unwrap_or(TaskState::Lost).as_str(),
        "ports": [],
        "servicePorts": [],
        "ipAddresses": [],
        "version": residence.version.to_string(),
        "healthCheckResults": [],
        "localVolumes": volumes(residence),
        "role": agent.map_or("*", |agent| agent.domain.role.as_str()),
    });
    if let Some(region) = agent.and_then(|agent| agent.domain.region.as_ref()) {
        out["region"] = json!(region);
    }
    if let Some(zone) = agent.and_then(|agent| agent.domain.zone.as_ref()) {
        out["zone"] = json!(zone);
    }
    out
}

/// `localVolumes`.
fn volumes(residence: &Residence) -> Vec<Value> {
    let one = |volume: &PersistentVolume| {
        json!({
            "runSpecId": residence.app.as_str(),
            "containerPath": volume.container_path,
            "uuid": residence.uuid(),
            "persistenceId": residence.persistence_id(volume),
        })
    };
    residence.volumes.iter().map(one).collect()
}

/// The old table: app, service port, and where it is served.
pub(crate) fn table<'a>(scheduler: &Scheduler, apps: impl Iterator<Item = &'a App>) -> String {
    let mut out = String::new();
    for app in apps {
        let name = app.id.as_str().trim_start_matches('/').replace('/', "_");
        let running = || {
            let all = scheduler.instances_of(&app.id);
            all.filter(|one| one.status.state == TaskState::Running)
                .filter_map(|one| Some((scheduler.agent(&one.agent)?.hostname.as_str(), &one.spec.host_ports)))
        };
        if app.ports.is_empty() {
            let hosts: Vec<&str> = running().map(|(host, _)| host).collect();
            out.push_str(&format!("{name}\t \t{}\n", hosts.join("\t")));
        }
        for (index, port) in app.ports.iter().enumerate() {
            let places = running().filter_map(|(host, ports)| Some(format!("{host}:{}", ports.get(index)?)));
            let places: Vec<String> = places.collect();
            out.push_str(&format!("{name}\t{}\t{}\n", port.service_port, places.join("\t")));
        }
    }
    out
}

/// `lastTaskFailure`.
pub(crate) fn failure(failure: &TaskFailure) -> Value {
    let facts = &failure.facts;
    json!({
        "appId": facts.app.as_str(),
        "host": facts.host,
        "message": failure.message,
        "state": failure.state.as_str(),
        "taskId": facts.task.as_str(),
        "timestamp": failure.at.to_string(),
        "version": facts.version.to_string(),
        "slaveId": facts.agent.as_str(),
    })
}

/// `taskStats`: counts and ages by kind of instance; a kind without instances is left out.
pub(crate) fn stats(scheduler: &Scheduler, app: &App, now: Timestamp) -> Value {
    let newest = |one: &InstanceRecord| one.config == app.last_config_change;
    let all: Vec<&InstanceRecord> = scheduler.instances_of(&app.id).collect();
    let those = |keep: &dyn Fn(&InstanceRecord) -> bool| -> Vec<&InstanceRecord> {
        all.iter().copied().filter(|one| keep(one)).collect()
    };
    let kinds = [
        ("startedAfterLastScaling", those(&|one| one.version >= app.version)),
        ("withLatestConfig", those(&newest)),
        ("withOutdatedConfig", those(&|one| !newest(one))),
        ("totalSummary", all.clone()),
    ];
    let mut out = Map::new();
    for (name, instances) in kinds {
        if !instances.is_empty() {
            out.insert(name.to_owned(), json!({"stats": summary(&instances, now)}));
        }
    }
    Value::Object(out)
}

fn summary(instances: &[&InstanceRecord], now: Timestamp) -> Value {
    let count = |keep: fn(&InstanceRecord) -> bool| instances.iter().filter(|one| keep(one)).count();
    let mut ages: Vec<Duration> = instances
        .iter()
        .filter_map(|one| Some(now.since(one.started_at?)))
        .collect();
    ages.sort();
    let mut stats = json!({"counts": {
        "staged": count(|one| matches!(one.status.state, TaskState::Staging | TaskState::Starting)),
        "running": count(|one| one.status.state == TaskState::Running),
        "healthy": count(|one| one.status.healthy == Some(true)),
        "unhealthy": count(|one| one.status.healthy == Some(false)),
    }});
    if let (Some(median), Ok(number)) = (ages.get(ages.len() / 2), u32::try_from(ages.len())) {
        let sum: Duration = ages.iter().sum();
        stats["lifeTime"] = json!({
            "averageSeconds": (sum / number).as_secs_f64(),
            "medianSeconds": median.as_secs_f64(),
        });
    }
    stats
}
