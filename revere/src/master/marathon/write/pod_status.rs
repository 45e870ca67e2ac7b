//! What became of pods: of each instance and of each container in it.

use model::{TaskState, TaskStatus};
use scheduler::{App, AppPort, InstanceRecord, Member, NetworkMode, Pod, PodContainer, Scheduler, Timestamp};
use serde_json::{Value, json};

use super::pod::{definition, resources};

/// `::status` of a pod. `going` tells that it is removed and its instances are ending.
pub(crate) fn status(scheduler: &Scheduler, app: &App, pod: &Pod, going: bool, now: Timestamp) -> Value {
    let instances: Vec<Value> = scheduler
        .instances_of(&app.id)
        .map(|one| instance(scheduler, app, one, now))
        .collect();
    let newest = scheduler.instances_of(&app.id).map(since).max();
    let stable = instances.iter().filter(|one| one["status"] == "STABLE").count();
    let state = if going {
        "TERMINAL"
    } else if u64::try_from(stable).unwrap_or(0) >= u64::from(app.instances) {
        "STABLE"
    } else {
        "DEGRADED"
    };
    let changed = newest.unwrap_or(app.version).max(app.version);
    let mut out = json!({
        "id": app.id.as_str(),
        "spec": definition(app, pod),
        "status": state,
        "statusSince": changed.to_string(),
        "instances": instances,
        "terminationHistory": history(scheduler, app),
        "lastUpdated": now.to_string(),
        "lastChanged": changed.to_string(),
    });
    if let Some(waiting) = scheduler.queue().find(|item| item.app.id == app.id) {
        out["message"] = json!(format!("{} instances wait; GET /v2/queue tells why", waiting.count));
    }
    out
}

/// The newest end of an instance that was none as wanted; a master that restarts forgets it.
fn history(scheduler: &Scheduler, app: &App) -> Vec<Value> {
    let one = scheduler.last_failure(&app.id).map(|failure| {
        json!({
            "instanceID": failure.facts.instance.0,
            "startedAt": failure.facts.version.to_string(),
            "terminatedAt": failure.at.to_string(),
            "message": failure.message,
        })
    });
    one.into_iter().collect()
}

fn since(instance: &InstanceRecord) -> Timestamp {
    let members = instance.members.iter().map(|member| member.since);
    members.max().unwrap_or(instance.staged_at)
}

/// Marathon's word for what an instance's containers come to.
fn state(instance: &InstanceRecord) -> &'static str {
    match instance.status.state {
        _ if instance.unwanted => "TERMINAL",
        TaskState::Staging => "PENDING",
        TaskState::Starting => "STAGING",
        TaskState::Running if instance.spec.serves(&instance.status) => "STABLE",
        TaskState::Running | TaskState::Unreachable | TaskState::Unknown => "DEGRADED",
        _ => "TERMINAL",
    }
}

/// One instance.
pub(crate) fn instance(scheduler: &Scheduler, app: &App, instance: &InstanceRecord, now: Timestamp) -> Value {
    let version = scheduler.version(&app.id, instance.version).unwrap_or(app);
    let containers = version.pod.iter().flat_map(|pod| &pod.containers);
    let containers = containers.filter_map(|container| {
        let task = instance.id.member(&container.name);
        let member = instance.members.iter().find(|member| member.spec.task == task)?;
        Some(self::container(container, &version.network, member, now))
    });
    let changed = since(instance).to_string();
    let mut out = json!({
        "id": instance.id.0,
        "status": state(instance),
        "statusSince": changed,
        "conditions": [],
        "agentId": instance.agent.as_str(),
        "resources": resources(&instance.spec.resources),
        "networks": networks(version, &instance.status),
        "containers": containers.collect::<Vec<_>>(),
        "specReference": format!("/v2/pods{}::versions/{}", app.id, instance.version),
        "localVolumes": [],
        "lastUpdated": now.to_string(),
        "lastChanged": changed,
    });
    if let Some(message) = &instance.status.message {
        out["message"] = json!(message);
    }
    if let Some(agent) = scheduler.agent(&instance.agent) {
        out["agentHostname"] = json!(agent.hostname);
        for (key, value) in [("agentRegion", &agent.domain.region), ("agentZone", &agent.domain.zone)] {
            if let Some(value) = value {
                out[key] = json!(value);
            }
        }
    }
    out
}

fn networks(app: &App, status: &TaskStatus) -> Value {
    if status.addresses.is_empty() {
        return json!([]);
    }
    let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
    match &app.network {
        NetworkMode::Host => json!([{"addresses": addresses}]),
        NetworkMode::Bridge => json!([{"name": "bridge", "addresses": addresses}]),
        NetworkMode::Container(name) => json!([{"name": name, "addresses": addresses}]),
    }
}

fn container(container: &PodContainer, network: &NetworkMode, member: &Member, now: Timestamp) -> Value {
    let changed = member.since.to_string();
    let checked = container.health_check.is_some();
    let healthy = member.status.healthy.filter(|_| checked);
    let conditions = healthy.map(|healthy| {
        json!({"name": "healthy", "value": healthy.to_string(), "lastChanged": changed, "lastUpdated": now.to_string()})
    });
    let mut host_ports = member.spec.host_ports.iter();
    let endpoint = |port: &AppPort| {
        let mut out = json!({"name": port.name});
        let has_host_port = port.host_port.is_some() || *network == NetworkMode::Host;
        if has_host_port && let Some(host_port) = host_ports.next() {
            out["allocatedHostPort"] = json!(host_port);
        }
        if let Some(healthy) = healthy {
            out["healthy"] = json!(healthy);
        }
        out
    };
    let endpoints: Vec<Value> = container.endpoints.iter().map(endpoint).collect();
    let mut out = json!({
        "name": container.name,
        "status": member.status.state.as_str(),
        "statusSince": changed,
        "conditions": conditions.into_iter().collect::<Vec<_>>(),
        "containerId": member.spec.task.as_str(),
        "endpoints": endpoints,
        "resources": resources(&container.resources),
        "lastUpdated": now.to_string(),
        "lastChanged": changed,
    });
    if let Some(message) = &member.status.message {
        out["message"] = json!(message);
    }
    if member.status.state.is_terminal() {
        out["termination"] = json!({"message": member.status.message.as_deref().unwrap_or_default()});
        if member.status.state == TaskState::Finished {
            out["termination"]["exitCode"] = json!(0);
        }
    }
    out
}
