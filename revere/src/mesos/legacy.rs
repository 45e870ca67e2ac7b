//! The answers of Mesos' read endpoints from before the operator API: `/state`, `/slaves`, `/frameworks`, `/tasks`, `/roles`,
//! and the parts of `/state-summary`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, FrameworkId, Resources, Task, TaskState};
use scheduler::{AgentRecord, FrameworkRecord, Timestamp};
use serde_json::{Value, json};

use super::encode::{self, VERSION, mega, milli};
use super::tally::{Tally, joined};
use crate::master::picture::{AgentFacts, FrameworkFacts, Picture};

fn seconds(at: Timestamp) -> Value {
    json!(Duration::from_millis(at.0).as_secs_f64())
}

/// `[31000-31002, 31005-31005]`.
fn ranges(ranges: &[(u16, u16)]) -> String {
    let texts: Vec<String> = ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
    format!("[{}]", texts.join(", "))
}

/// The same of ports in any order.
fn sorted(ports: &[u16]) -> Vec<(u16, u16)> {
    joined(ports.iter().copied().collect::<BTreeSet<u16>>().into_iter())
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

fn used<O: Ord>(tally: &Tally<O>) -> Value {
    resources(tally.resources(), &tally.port_ranges())
}

/// What a list of tasks comes to.
fn tally(picture: &Picture, tasks: &[&Task]) -> Tally<()> {
    Tally::of(tasks.iter().map(|task| (*task, picture.resources(task), ())))
}

/// An agent of `/slaves`; `registered` is the time at which this master began.
fn slave<O: Ord>(registered: Timestamp, agent: &AgentFacts, tally: &Tally<O>) -> Value {
    let record = &agent.record;
    let all = resources(&record.resources, &record.ports);
    let none = resources(&Resources::default(), &[]);
    let (reserved, free) = if !agent.holdings.is_empty() {
        let mut by_role: BTreeMap<&str, Resources> = BTreeMap::new();
        for held in &agent.holdings {
            let sum = by_role.entry(&held.by.role).or_default();
            *sum = sum.plus(&held.total());
        }
        let sum = by_role.values().fold(Resources::default(), |sum, part| sum.plus(part));
        let shown = by_role
            .iter()
            .map(|(role, part)| ((*role).to_owned(), resources(part, &[])));
        (
            Value::Object(shown.collect()),
            resources(&record.resources.minus(&sum), &record.ports),
        )
    } else if record.domain.role == "*" {
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
        "used_resources": used(tally),
        "offered_resources": resources(&agent.offered, &[]),
        "reserved_resources": reserved,
        "unreserved_resources": free,
        "active": !agent.deactivated,
        "deactivated": agent.deactivated,
        "version": VERSION,
        "capabilities": [],
        "registered_time": seconds(registered),
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
        "resources": resources(&picture.resources(task), &sorted(&task.host_ports)),
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
fn framework<O: Ord>(started: Timestamp, facts: &FrameworkFacts, tally: &Tally<O>) -> Value {
    let mut out = match &facts.record {
        Some(record) => of_record(record),
        // Marathon inside the master.
        None => json!({
            "user": "root", "failover_timeout": 604_800.0, "checkpoint": true, "hostname": "", "role": "*",
            "capabilities": ["TASK_KILLING_STATE", "PARTITION_AWARE"], "registered_time": seconds(started),
            "unregistered_time": 0.0, "principal": "", "labels": [],
        }),
    };
    let used = used(tally);
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
    let wanted = |agent: &&Arc<AgentFacts>| only.is_none_or(|id| agent.record.id.as_str() == id);
    let list: Vec<Value> = picture
        .agents
        .iter()
        .filter(wanted)
        .map(|agent| {
            let tasks = by_agent.get(&agent.record.id).map(Vec::as_slice).unwrap_or_default();
            slave(picture.started, agent, &tally(picture, tasks))
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
            let mut out = framework(picture.started, facts, &tally(picture, tasks));
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

/// Adds how many tasks are in each state, and whose they are.
fn counted<O: Ord + fmt::Display>(mut out: Value, key: &str, tally: &Tally<O>) -> Value {
    for state in TaskState::ALL {
        out[state.as_str()] = json!(tally.count(state));
    }
    out[key] = tally.others().map(|other| json!(other.to_string())).collect();
    out
}

/// An agent of `/state-summary`.
pub(crate) fn agent_summary(started: Timestamp, agent: &AgentFacts, tally: &Tally<FrameworkId>) -> Value {
    counted(slave(started, agent, tally), "framework_ids", tally)
}

/// A framework of `/state-summary`.
pub(crate) fn framework_summary(started: Timestamp, facts: &FrameworkFacts, tally: &Tally<AgentId>) -> Value {
    counted(framework(started, facts, tally), "slave_ids", tally)
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

/// `/roles`: those that somebody has, or that something was said of.
pub(crate) fn roles(picture: &Picture) -> Value {
    json!({"roles": picture.roles.iter().map(encode::legacy_role).collect::<Vec<_>>()})
}
