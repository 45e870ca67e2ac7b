//! The answers of Mesos' read endpoints from before the operator API: `/state`, `/state-summary`, `/slaves`, `/frameworks`,
//! `/tasks`, `/roles`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Resources, Task, TaskState};
use scheduler::{AgentRecord, FrameworkRecord, Timestamp};
use serde_json::{Map, Value, json};

use super::encode::{self, VERSION, mega, milli};
use crate::master::picture::{AgentFacts, FrameworkFacts, Picture};

fn seconds(at: Timestamp) -> Value {
    json!(Duration::from_millis(at.0).as_secs_f64())
}

/// `[31000-31002, 31005-31005]`.
fn ranges(ranges: &[(u16, u16)]) -> String {
    let texts: Vec<String> = ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
    format!("[{}]", texts.join(", "))
}

/// Ports in order, neighbours joined.
fn joined(ports: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut out: Vec<(u16, u16)> = Vec::new();
    for port in ports.collect::<BTreeSet<u16>>() {
        match out.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(port) => *high = port,
            _ => out.push((port, port)),
        }
    }
    out
}

fn resources(scalars: &Resources, ports: &[(u16, u16)]) -> Value {
    let mut out = json!({
        "cpus": milli(scalars.cpus_milli),
        "disk": mega(scalars.disk_mb),
        "gpus": 0.0,
        "mem": mega(scalars.mem_mb),
    });
    if !ports.is_empty() {
        out["ports"] = json!(ranges(ports));
    }
    out
}

fn used(picture: &Picture, tasks: &[&Task]) -> Value {
    let sum = tasks
        .iter()
        .fold(Resources::default(), |sum, task| sum.plus(&picture.resources(task)));
    let ports = joined(tasks.iter().flat_map(|task| task.host_ports.iter().copied()));
    resources(&sum, &ports)
}

/// The wire name of the state whose counter a task is in.
fn counters(tasks: &[&Task]) -> Map<String, Value> {
    let mut counts: BTreeMap<&str, u64> = TaskState::ALL.into_iter().map(|state| (state.as_str(), 0)).collect();
    for task in tasks {
        *counts.entry(task.status.state.as_str()).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect()
}

fn slave(picture: &Picture, agent: &AgentFacts, tasks: &[&Task]) -> Value {
    let record = &agent.record;
    let all = resources(&record.resources, &record.ports);
    let none = resources(&Resources::default(), &[]);
    let (reserved, free) = if record.domain.role == "*" {
        (json!({}), all.clone())
    } else {
        (json!({record.domain.role.as_str(): all.clone()}), none.clone())
    };
    let mut out = json!({
        "id": record.id.as_str(),
        "hostname": record.hostname,
        "port": record.http_port,
        "attributes": record.attributes,
        "pid": pid(record),
        "resources": all,
        "used_resources": used(picture, tasks),
        "offered_resources": resources(&agent.offered, &[]),
        "reserved_resources": reserved,
        "unreserved_resources": free,
        "active": !agent.deactivated,
        "deactivated": agent.deactivated,
        "version": VERSION,
        "capabilities": [],
        "registered_time": seconds(picture.started),
    });
    if let (Some(region), Some(zone)) = (&record.domain.region, &record.domain.zone) {
        out["domain"] = json!({"fault_domain": {"region": {"name": region}, "zone": {"name": zone}}});
    }
    out
}

fn pid(record: &AgentRecord) -> String {
    format!("slave(1)@{}:{}", record.ip, record.http_port)
}

/// A task. A command task has no executor of its own.
fn task(picture: &Picture, task: &Task) -> Value {
    let full = encode::task(task, None);
    let mut out = json!({
        "id": task.id.as_str(),
        "name": task.name,
        "framework_id": task.framework.as_str(),
        "executor_id": "",
        "slave_id": task.agent.as_str(),
        "state": task.status.state.as_str(),
        "resources": resources(&picture.resources(task), &joined(task.host_ports.iter().copied())),
        "role": "*",
        "statuses": full["statuses"],
        "labels": full.pointer("/labels/labels").cloned().unwrap_or_else(|| json!([])),
    });
    for key in ["discovery", "container", "health_check"] {
        if let Some(part) = full.get(key) {
            out[key] = part.clone();
        }
    }
    out
}

/// What is always said of a framework.
fn framework(picture: &Picture, facts: &FrameworkFacts, tasks: &[&Task]) -> Value {
    let mut out = match &facts.record {
        Some(record) => of_record(record),
        // Marathon inside the master.
        None => json!({
            "user": "root", "failover_timeout": 604_800.0, "checkpoint": true, "hostname": "", "role": "*",
            "capabilities": ["TASK_KILLING_STATE", "PARTITION_AWARE"], "registered_time": seconds(picture.started),
            "unregistered_time": 0.0, "principal": "", "labels": [],
        }),
    };
    let used = used(picture, tasks);
    out["id"] = json!(facts.info.id.as_str());
    out["name"] = json!(facts.info.name);
    out["active"] = json!(facts.connected);
    out["connected"] = json!(facts.connected);
    out["recovered"] = json!(facts.recovered);
    out["resources"] = used.clone();
    out["used_resources"] = used;
    out["offered_resources"] = resources(&facts.offered, &[]);
    out
}

fn of_record(record: &FrameworkRecord) -> Value {
    let spec = &record.spec;
    let info = encode::framework_info(record);
    let capabilities: Vec<&str> = spec.capabilities.iter().map(|one| one.as_str()).collect();
    let mut out = json!({
        "id": record.id.as_str(),
        "name": spec.name,
        "user": spec.user,
        "failover_timeout": spec.failover_timeout.as_secs_f64(),
        "checkpoint": spec.checkpoint,
        "hostname": spec.hostname,
        "principal": spec.principal.clone().unwrap_or_default(),
        "capabilities": capabilities,
        "registered_time": seconds(record.registered_at),
        "unregistered_time": record.removed_at.map_or(json!(0.0), seconds),
        "labels": info.pointer("/labels/labels").cloned().unwrap_or_else(|| json!([])),
    });
    match (spec.has(scheduler::Capability::MultiRole), spec.roles.first()) {
        (true, _) => out["roles"] = json!(spec.roles),
        (false, role) => out["role"] = json!(role.map_or("*", String::as_str)),
    }
    if let Some(url) = &spec.webui_url {
        out["webui_url"] = json!(url);
    }
    if let Some(at) = record.reregistered_at {
        out["reregistered_time"] = seconds(at);
    }
    out
}

/// `/slaves`.
pub(crate) fn slaves(picture: &Picture, only: Option<&str>) -> Value {
    let by_agent = picture.by(|task| task.agent.clone());
    let wanted = |agent: &&AgentFacts| only.is_none_or(|id| agent.record.id.as_str() == id);
    let list: Vec<Value> = picture
        .agents
        .iter()
        .filter(wanted)
        .map(|agent| {
            let tasks = by_agent.get(&agent.record.id).map(Vec::as_slice).unwrap_or_default();
            slave(picture, agent, tasks)
        })
        .collect();
    let recovered: Vec<Value> = picture.recovered.iter().map(encode::agent_info).collect();
    json!({"slaves": list, "recovered_slaves": recovered})
}

/// `/frameworks`, and that part of `/state`.
pub(crate) fn frameworks(picture: &Picture) -> Value {
    let by_framework = picture.by(|task| task.framework.clone());
    let list: Vec<Value> = picture
        .frameworks
        .iter()
        .map(|facts| {
            let tasks = by_framework.get(&facts.info.id).map(Vec::as_slice).unwrap_or_default();
            let mut out = framework(picture, facts, tasks);
            let ended = picture
                .completed_tasks
                .iter()
                .filter(|one| one.framework == facts.info.id);
            out["tasks"] = tasks.iter().map(|one| task(picture, one)).collect();
            out["completed_tasks"] = ended.map(|one| task(picture, one)).collect();
            out["unreachable_tasks"] = json!([]);
            out["offers"] = json!([]);
            out["executors"] = json!([]);
            out
        })
        .collect();
    let completed: Vec<Value> = picture.completed.iter().map(of_record).collect();
    json!({"frameworks": list, "completed_frameworks": completed, "unregistered_frameworks": []})
}

/// `/state`.
pub(crate) fn state(picture: &Picture) -> Value {
    let leader = format!("master@{}", picture.address);
    let (host, port) = picture.address.rsplit_once(':').unwrap_or((&picture.address, "5050"));
    let port: u16 = port.parse().unwrap_or(0);
    let mut out = json!({
        "version": VERSION,
        "git_tag": env!("CARGO_PKG_VERSION"),
        "build_user": "revere",
        "start_time": seconds(picture.started),
        "elected_time": seconds(picture.started),
        "id": picture.address,
        "pid": leader,
        "hostname": host,
        "capabilities": [],
        "activated_slaves": picture.agents.iter().filter(|agent| !agent.deactivated).count(),
        "deactivated_slaves": picture.agents.iter().filter(|agent| agent.deactivated).count(),
        "unreachable_slaves": 0,
        "leader": leader,
        "leader_info": {"id": picture.address, "pid": leader, "port": port, "hostname": host},
        "cluster": picture.cluster,
        "flags": {},
        "orphan_tasks": [],
    });
    for part in [slaves(picture, None), frameworks(picture)] {
        for (key, value) in part.as_object().cloned().unwrap_or_default() {
            out[key] = value;
        }
    }
    out
}

/// `/state-summary`: no task lists, only counters.
pub(crate) fn summary(picture: &Picture) -> Value {
    let by_agent = picture.by(|task| task.agent.clone());
    let by_framework = picture.by(|task| task.framework.clone());
    let counted = |mut out: Value, tasks: &[&Task], key: &str, ids: BTreeSet<&str>| {
        for (name, count) in counters(tasks) {
            out[name] = count;
        }
        out[key] = json!(ids);
        out
    };
    let agents = picture.agents.iter().map(|agent| {
        let tasks = by_agent.get(&agent.record.id).map(Vec::as_slice).unwrap_or_default();
        let ids = tasks.iter().map(|task| task.framework.as_str()).collect();
        counted(slave(picture, agent, tasks), tasks, "framework_ids", ids)
    });
    let frameworks = picture.frameworks.iter().map(|facts| {
        let tasks = by_framework.get(&facts.info.id).map(Vec::as_slice).unwrap_or_default();
        let ids = tasks.iter().map(|task| task.agent.as_str()).collect();
        counted(framework(picture, facts, tasks), tasks, "slave_ids", ids)
    });
    let (host, _) = picture.address.rsplit_once(':').unwrap_or((&picture.address, ""));
    json!({
        "hostname": host,
        "cluster": picture.cluster,
        "slaves": agents.collect::<Vec<_>>(),
        "frameworks": frameworks.collect::<Vec<_>>(),
    })
}

/// What of all tasks `/tasks` shows.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) ascending: bool,
    pub(crate) framework: Option<&'a str>,
    pub(crate) task: Option<&'a str>,
}

/// `/tasks`, by the time of their newest status.
pub(crate) fn tasks(picture: &Picture, page: &Page<'_>) -> Value {
    let live = picture.snapshot.tasks.values().map(|task| task.as_ref());
    let mut list: Vec<&Task> = live
        .chain(&picture.completed_tasks)
        .filter(|task| page.framework.is_none_or(|id| task.framework.as_str() == id))
        .filter(|task| page.task.is_none_or(|id| task.id.as_str() == id))
        .collect();
    list.sort_by_key(|task| (task.status.timestamp_ms, task.id.clone()));
    if !page.ascending {
        list.reverse();
    }
    let shown = list.into_iter().skip(page.offset).take(page.limit);
    json!({"tasks": shown.map(|one| task(picture, one)).collect::<Vec<_>>()})
}

/// `/roles`: those that somebody has.
pub(crate) fn roles(picture: &Picture) -> Value {
    let mut roles: BTreeMap<String, (Vec<&str>, Resources)> = BTreeMap::new();
    let by_framework = picture.by(|task| task.framework.clone());
    for facts in &picture.frameworks {
        let any = vec!["*".to_owned()];
        let own = facts.record.as_ref().map_or(any, |record| record.spec.roles.clone());
        let tasks = by_framework.get(&facts.info.id).map(Vec::as_slice).unwrap_or_default();
        let sum = tasks
            .iter()
            .fold(Resources::default(), |sum, task| sum.plus(&picture.resources(task)));
        for (index, role) in own.into_iter().enumerate() {
            let entry = roles.entry(role).or_default();
            entry.0.push(facts.info.id.as_str());
            if index == 0 {
                entry.1 = entry.1.plus(&sum);
            }
        }
    }
    let list: Vec<Value> = roles
        .into_iter()
        .map(|(name, (frameworks, sum))| {
            let used = resources(&sum, &[]);
            json!({"name": name, "weight": 1.0, "frameworks": frameworks, "resources": used, "allocated": used})
        })
        .collect();
    json!({"roles": list})
}
