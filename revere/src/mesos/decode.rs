//! Mesos operator API JSON to the model: one record of a `SUBSCRIBE` stream in, one event out.
//!
//! What is malformed loses only itself and is told in [`Decoded::rejects`]: a bad port costs that port, a bad task that
//! task. Unknown fields and explicit `null` count as absent, as in Mesos.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Network, StateSnapshot, Task, TaskEvent, TaskId, TaskState,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::encode;
use super::protobuf::{self, WireError};

mod call;
mod maintenance;
mod order;
mod quota;
mod reserved;
mod task;

pub use call::{SchedulerCall, is_role, scheduler_call};
pub use maintenance::{machines, windows};
pub use quota::{quota_configs, quota_request};
pub use reserved::holding_change;

use task::{decode_status, decode_task};

/// Attribute under which Revere's master tells an agent's overlay block.
pub const SUBNET_ATTRIBUTE: &str = "overlay_subnet";

/// Attribute that names the overlay networks beside the default one, as [`Network::join`] writes them.
pub const NETWORKS_ATTRIBUTE: &str = "overlay_networks";

/// Mesos' own interval, for a master that does not tell one.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

/// Characters of a malformed thing that a sentence about it repeats: a forged record must not fill the logs.
const MAX_TOLD: usize = 200;

/// How the records of a stream are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Mesos's JSON.
    #[default]
    Json,
    /// Its protobuf messages.
    Protobuf,
}

impl Encoding {
    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => protobuf::CONTENT_TYPE,
        }
    }

    /// The encoding of a content type, whatever parameters follow it.
    pub fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| kind.eq_ignore_ascii_case(encoding.content_type()))
    }
}

/// What kind of thing was malformed; one counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectKind {
    /// A whole task: an id is missing.
    Task,
    /// A whole status update.
    Status,
    /// A state name that Mesos does not have; the task counts as `TASK_UNKNOWN`.
    State,
    /// One port of a task.
    Port,
    /// One label of a task or port.
    Label,
    /// One address of a task.
    Address,
    /// One port mapping.
    Mapping,
    /// One resource.
    Resource,
    /// A whole agent: its id or host name is missing.
    Agent,
    /// One attribute of an agent.
    Attribute,
    /// A whole framework.
    Framework,
    /// A protobuf field whose bytes are malformed.
    Field,
    /// A record of a type that this reader does not know.
    Event,
}

impl RejectKind {
    /// All kinds, for counters that start at zero.
    pub const ALL: [Self; 13] = [
        Self::Task,
        Self::Status,
        Self::State,
        Self::Port,
        Self::Label,
        Self::Address,
        Self::Mapping,
        Self::Resource,
        Self::Agent,
        Self::Attribute,
        Self::Framework,
        Self::Field,
        Self::Event,
    ];

    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Status => "status",
            Self::State => "state",
            Self::Port => "port",
            Self::Label => "label",
            Self::Address => "address",
            Self::Mapping => "mapping",
            Self::Resource => "resource",
            Self::Agent => "agent",
            Self::Attribute => "attribute",
            Self::Framework => "framework",
            Self::Field => "field",
            Self::Event => "event",
        }
    }
}

/// One malformed thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its kind.
    pub kind: RejectKind,
    /// A sentence for people.
    pub what: String,
}

/// Collects rejects while a record is decoded.
#[derive(Debug, Default)]
struct Rejects(Vec<Reject>);

impl Rejects {
    fn add(&mut self, kind: RejectKind, what: impl Into<String>) {
        let mut what = what.into();
        what.truncate(short(&what).len());
        self.0.push(Reject { kind, what });
    }
}

/// Why a record as a whole could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("a record of the task stream is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No protobuf, or cut short where lists are.
    #[error("a record of the task stream is no protobuf message: {0}")]
    Protobuf(#[from] WireError),
    /// No `type`, or its body is absent.
    #[error("a record of the task stream has no `{0}`")]
    Missing(&'static str),
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The stream begins; heartbeats follow at this interval.
    Subscribed(StateSnapshot, Duration),
    /// A change.
    Event(TaskEvent),
    /// The stream goes on where its reader was; heartbeats follow at this interval.
    Resumed(Duration),
    /// All up to here was told: what the reader may come back with.
    Position(String),
    /// The master lives.
    Heartbeat,
    /// An event this reader has no use for.
    Other(String),
}

/// A record and what of it was malformed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What it says.
    pub message: Message,
    /// What was left out.
    pub rejects: Vec<Reject>,
}

/// Decodes one record in either encoding.
pub fn decode_as(encoding: Encoding, record: &[u8]) -> Result<Decoded, DecodeError> {
    match encoding {
        Encoding::Json => decode(record),
        Encoding::Protobuf => decode_protobuf(record),
    }
}

/// Decodes one protobuf record; the rules are those of [`decode`].
pub fn decode_protobuf(record: &[u8]) -> Result<Decoded, DecodeError> {
    let mut rejects = Rejects::default();
    let value = protobuf::to_json(&protobuf::EVENT, record, &mut rejects.0)?;
    decode_value(&value, rejects)
}

/// Decodes one JSON record. An agent's `ip` is its host name if that is an address, else the address in its `pid`; host
/// names are resolved by the caller.
pub fn decode(record: &[u8]) -> Result<Decoded, DecodeError> {
    let value: Value = serde_json::from_slice(record)?;
    decode_value(&value, Rejects::default())
}

fn decode_value(value: &Value, mut rejects: Rejects) -> Result<Decoded, DecodeError> {
    let kind = text(value, "type").ok_or(DecodeError::Missing("type"))?;
    let message = match kind {
        "SUBSCRIBED" => subscribed(body(value, "subscribed")?, &mut rejects),
        "HEARTBEAT" => Message::Heartbeat,
        encode::RESUMED => Message::Resumed(heartbeat(value)),
        encode::POSITION => match value.get("position").and_then(Value::as_str) {
            Some(position) => Message::Position(position.to_owned()),
            None => return Err(DecodeError::Missing("position")),
        },
        "TASK_ADDED" => {
            let task = get(body(value, "task_added")?, "task").ok_or(DecodeError::Missing("task"))?;
            event(decode_task(task, &mut rejects).map(TaskEvent::TaskAdded), kind)
        }
        "TASK_UPDATED" => event(task_updated(body(value, "task_updated")?, &mut rejects), kind),
        "AGENT_ADDED" => {
            let agent = get(body(value, "agent_added")?, "agent").ok_or(DecodeError::Missing("agent"))?;
            event(decode_agent(agent, &mut rejects).map(TaskEvent::AgentAdded), kind)
        }
        "AGENT_REMOVED" => {
            let id = id(body(value, "agent_removed")?, "agent_id").ok_or(DecodeError::Missing("agent_id"))?;
            Message::Event(TaskEvent::AgentRemoved(AgentId::new(id)))
        }
        "FRAMEWORK_ADDED" | "FRAMEWORK_UPDATED" => {
            let key = if kind == "FRAMEWORK_ADDED" {
                "framework_added"
            } else {
                "framework_updated"
            };
            let framework = get(body(value, key)?, "framework").ok_or(DecodeError::Missing("framework"))?;
            event(
                decode_framework(framework, &mut rejects).map(TaskEvent::FrameworkAdded),
                kind,
            )
        }
        "FRAMEWORK_REMOVED" => {
            let info = get(body(value, "framework_removed")?, "framework_info");
            let id = info
                .and_then(|info| id(info, "id"))
                .ok_or(DecodeError::Missing("framework_info.id"))?;
            Message::Event(TaskEvent::FrameworkRemoved(FrameworkId::new(id)))
        }
        other => {
            rejects.add(
                RejectKind::Event,
                format!("a record of the unknown type `{}`", short(other)),
            );
            Message::Other(other.to_owned())
        }
    };
    Ok(Decoded {
        message,
        rejects: rejects.0,
    })
}

/// What an agent says of itself (`GET_AGENT`) and of its tasks (`GET_STATE`), as if a master had told it.
pub fn agent_state(agent: &Value, state: &Value) -> Result<(StateSnapshot, Vec<Reject>), DecodeError> {
    let mut rejects = Rejects::default();
    let info = decode_agent(body(agent, "get_agent")?, &mut rejects).ok_or(DecodeError::Missing("agent_info"))?;
    let state = body(state, "get_state")?;
    let part = |name: &str| get(state, name).unwrap_or(&Value::Null);
    let (frameworks, tasks) = (part("get_frameworks"), part("get_tasks"));
    let snapshot = StateSnapshot {
        agents: vec![info],
        frameworks: list(frameworks, "frameworks")
            .filter_map(|framework| decode_framework(framework, &mut rejects))
            .collect(),
        tasks: list(tasks, "launched_tasks")
            .filter_map(|task| decode_task(task, &mut rejects))
            .collect(),
        ..StateSnapshot::default()
    };
    Ok((snapshot, rejects.0))
}

fn event(event: Option<TaskEvent>, kind: &str) -> Message {
    event.map_or_else(|| Message::Other(kind.to_owned()), Message::Event)
}

fn subscribed(body: &Value, rejects: &mut Rejects) -> Message {
    let state = get(body, "get_state").unwrap_or(&Value::Null);
    let part = |name: &str| get(state, name).unwrap_or(&Value::Null);
    let (agents, frameworks, tasks) = (part("get_agents"), part("get_frameworks"), part("get_tasks"));
    // Ended and unreachable ones first: where an id is told twice, the live task has the last word.
    let told = ["completed_tasks", "unreachable_tasks", "tasks"]
        .into_iter()
        .flat_map(|key| list(tasks, key));
    let tasks: Vec<Task> = told.filter_map(|task| decode_task(task, rejects)).collect();
    let snapshot = StateSnapshot {
        agents: list(agents, "agents")
            .filter_map(|agent| decode_agent(agent, rejects))
            .collect(),
        recovered_agents: list(agents, "recovered_agents")
            .filter_map(|info| id(info, "id"))
            .map(AgentId::new)
            .collect(),
        frameworks: list(frameworks, "frameworks")
            .filter_map(|framework| decode_framework(framework, rejects))
            .collect(),
        tasks,
    };
    Message::Subscribed(snapshot, heartbeat(body))
}

fn heartbeat(body: &Value) -> Duration {
    double(body, "heartbeat_interval_seconds")
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|interval| !interval.is_zero())
        .unwrap_or(DEFAULT_HEARTBEAT)
}

fn task_updated(body: &Value, rejects: &mut Rejects) -> Option<TaskEvent> {
    let status = get(body, "status").unwrap_or(&Value::Null);
    let (Some(task), Some(framework)) = (id(status, "task_id"), id(body, "framework_id")) else {
        rejects.add(RejectKind::Status, "a status update without task_id or framework_id");
        return None;
    };
    // The newest state known is the event's own, not the one of the update being delivered.
    let state = text(body, "state").or_else(|| text(status, "state"));
    Some(TaskEvent::TaskUpdated {
        framework: FrameworkId::new(framework),
        status: decode_status(Some(status), state, task, rejects),
        mappings: task::status_mappings(status, task, rejects),
        task: TaskId::new(task),
    })
}

fn decode_agent(agent: &Value, rejects: &mut Rejects) -> Option<AgentInfo> {
    let info = get(agent, "agent_info").unwrap_or(&Value::Null);
    let (Some(agent_id), Some(hostname)) = (id(info, "id"), text(info, "hostname")) else {
        rejects.add(RejectKind::Agent, "an agent without id or hostname");
        return None;
    };
    let mut attributes = BTreeMap::new();
    for attribute in list(info, "attributes") {
        match (text(attribute, "name"), attribute_text(attribute)) {
            (Some(name), Some(value)) => drop(attributes.insert(name.to_owned(), value)),
            _ => rejects.add(
                RejectKind::Attribute,
                format!("agent {agent_id}: an attribute without name or value"),
            ),
        }
    }
    let subnet = attributes.get(SUBNET_ATTRIBUTE).and_then(|value| match value.parse() {
        Ok(net) => Some(net),
        Err(error) => {
            rejects.add(
                RejectKind::Attribute,
                format!("agent {agent_id}: {SUBNET_ATTRIBUTE}: {error}"),
            );
            None
        }
    });
    let networks = attributes.get(NETWORKS_ATTRIBUTE).map(|value| Network::split(value));
    let networks = networks.transpose().unwrap_or_else(|error| {
        rejects.add(
            RejectKind::Attribute,
            format!("agent {agent_id}: {NETWORKS_ATTRIBUTE}: {error}"),
        );
        None
    });
    Some(AgentInfo {
        id: AgentId::new(agent_id),
        hostname: hostname.to_owned(),
        ip: hostname
            .parse()
            .ok()
            .or_else(|| text(agent, "pid").and_then(pid_address)),
        port: get(info, "port")
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok()),
        subnet,
        networks: networks.unwrap_or_default().into(),
        attributes,
    })
}

/// The address in `slave(1)@10.0.0.5:5051`.
fn pid_address(pid: &str) -> Option<Ipv4Addr> {
    pid.rsplit_once('@')?.1.rsplit_once(':')?.0.parse().ok()
}

fn attribute_text(attribute: &Value) -> Option<String> {
    if let Some(value) = get(attribute, "text").and_then(|wrapped| text(wrapped, "value")) {
        return Some(value.to_owned());
    }
    // Scalars, ranges and sets keep their JSON: they are shown, never computed with.
    ["scalar", "ranges", "set"]
        .into_iter()
        .find_map(|key| get(attribute, key))
        .map(|wrapped| get(wrapped, "value").unwrap_or(wrapped).to_string())
}

fn decode_framework(framework: &Value, rejects: &mut Rejects) -> Option<FrameworkInfo> {
    let info = get(framework, "framework_info").unwrap_or(&Value::Null);
    let (Some(id), Some(name)) = (id(info, "id"), text(info, "name")) else {
        rejects.add(RejectKind::Framework, "a framework without id or name");
        return None;
    };
    Some(FrameworkInfo {
        id: FrameworkId::new(id),
        name: name.to_owned(),
        // The operator API tells a scheduler's host; its port only the old state endpoint does.
        ip: text(info, "hostname").and_then(|host| host.parse().ok()),
        port: None,
    })
}

fn parse_state(text: Option<&str>, task: &str, rejects: &mut Rejects) -> TaskState {
    match text.map(|text| (text, TaskState::parse(text))) {
        Some((_, Some(state))) => state,
        Some((text, None)) => {
            rejects.add(RejectKind::State, format!("task {task}: unknown state `{text}`"));
            TaskState::Unknown
        }
        None => {
            rejects.add(RejectKind::State, format!("task {task}: no state"));
            TaskState::Unknown
        }
    }
}

fn body<'a>(value: &'a Value, key: &'static str) -> Result<&'a Value, DecodeError> {
    get(value, key).ok_or(DecodeError::Missing(key))
}

/// A field that is there and not null.
fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|field| !field.is_null())
}

/// A whole number, also as the text or the fraction-free double that some JSON writers make of one.
fn number(value: &Value, key: &str) -> Option<u64> {
    let field = get(value, key)?;
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..=9e15).contains(number);
    field
        .as_u64()
        .or_else(|| field.as_str()?.parse().ok())
        .or_else(|| format!("{:.0}", field.as_f64().filter(whole)?).parse().ok())
}

/// A finite double, also as text.
fn double(value: &Value, key: &str) -> Option<f64> {
    let field = get(value, key)?;
    let number = field.as_f64().or_else(|| field.as_str()?.parse().ok());
    number.filter(|number| number.is_finite())
}

/// A flag, also as text.
fn flag(value: &Value, key: &str) -> Option<bool> {
    let field = get(value, key)?;
    field.as_bool().or_else(|| field.as_str()?.parse().ok())
}

/// What of a foreign text is repeated in logs.
fn short(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_TOLD).map_or(text.len(), |(index, _)| index);
    &text[..end]
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    get(value, key)?.as_str()
}

/// The text in `{"value": "..."}` under `key`, unless it is empty.
fn id<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    text(get(value, key)?, "value").filter(|id| !id.is_empty())
}

/// The elements of an array field; none if it is absent or no array.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    get(value, key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
