//! Calls of the scheduler API: from their JSON form to what the core takes.

use std::collections::BTreeSet;
use std::time::Duration;

use data_encoding::BASE64;
use model::{AgentId, FrameworkId, TaskId};
use scheduler::{Capability, FrameworkCall, FrameworkSpec, OfferId, Operation, TaskOrder, UpdateId};
use serde_json::Value;

use super::order::{nanoseconds, task_order};
use super::reserved::holding_change;
use super::{double, flag, get, id, list, text};

/// Mesos' `Filters.refuse_seconds` where none is given.
const DEFAULT_REFUSAL: Duration = Duration::from_secs(5);
/// The longest refusal that Mesos takes.
const LONGEST_REFUSAL: Duration = Duration::from_secs(31_536_000);
/// Longer failover timeouts are as good as for ever.
const LONGEST_FAILOVER: Duration = Duration::from_secs(10 * 31_536_000);

/// What a framework's request says.
#[derive(Debug, PartialEq)]
pub enum SchedulerCall {
    /// `SUBSCRIBE`. A spec that is wrong is told on the stream.
    Subscribe {
        /// Its id, if it had one before.
        id: Option<FrameworkId>,
        /// What it says of itself.
        spec: Result<FrameworkSpec, String>,
        /// Roles it wants no offers for now.
        suppressed: Vec<String>,
    },
    /// Any other.
    Call(FrameworkId, FrameworkCall),
    /// One that is known and not carried out.
    NotCarriedOut(String),
}

fn expected(what: &str) -> String {
    format!("Failed to validate scheduler::Call: Expecting '{what}' to be present")
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    list(value, key).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Reads a call. An error is the text of a 400.
pub fn scheduler_call(call: &Value) -> Result<SchedulerCall, String> {
    let kind = text(call, "type").ok_or_else(|| expected("type"))?;
    let of = |name: &str| get(call, name).ok_or_else(|| expected(name));
    if kind == "SUBSCRIBE" {
        return subscribe(call, of("subscribe")?);
    }
    let framework = id(call, "framework_id").ok_or_else(|| expected("framework_id"))?;
    let made = match kind {
        "TEARDOWN" => FrameworkCall::Teardown,
        "ACCEPT" => accept(of("accept")?),
        "DECLINE" => {
            let decline = of("decline")?;
            FrameworkCall::Decline {
                offers: offers(decline),
                refuse: refusal(decline),
            }
        }
        "REVIVE" => FrameworkCall::Revive(get(call, "revive").map(|one| texts(one, "roles")).unwrap_or_default()),
        "SUPPRESS" => FrameworkCall::Suppress(get(call, "suppress").map(|one| texts(one, "roles")).unwrap_or_default()),
        "KILL" => kill(of("kill")?)?,
        "SHUTDOWN" => {
            let shutdown = of("shutdown")?;
            FrameworkCall::Shutdown {
                executor: id(shutdown, "executor_id")
                    .ok_or_else(|| expected("shutdown.executor_id"))?
                    .to_owned(),
                agent: AgentId::new(id(shutdown, "agent_id").ok_or_else(|| expected("shutdown.agent_id"))?),
            }
        }
        "ACKNOWLEDGE" => acknowledge(of("acknowledge")?)?,
        "RECONCILE" => {
            let asked = list(of("reconcile")?, "tasks");
            let one = |task: &Value| {
                Some((
                    TaskId::new(id(task, "task_id")?),
                    id(task, "agent_id").map(AgentId::new),
                ))
            };
            FrameworkCall::Reconcile(asked.filter_map(one).collect())
        }
        "UPDATE_FRAMEWORK" => {
            let update = of("update_framework")?;
            let info = get(update, "framework_info").ok_or_else(|| expected("update_framework.framework_info"))?;
            FrameworkCall::Update(Box::new(framework_spec(info)?), texts(update, "suppressed_roles"))
        }
        // There are no executors, no inverse offers and no operations that could be told of.
        "MESSAGE" | "REQUEST" | "ACCEPT_INVERSE_OFFERS" | "DECLINE_INVERSE_OFFERS" | "ACKNOWLEDGE_OPERATION_STATUS" => {
            FrameworkCall::Nothing
        }
        "RECONCILE_OPERATIONS" => return Ok(SchedulerCall::NotCarriedOut(kind.to_owned())),
        other => return Err(format!("Failed to validate scheduler::Call: `{other}` is no call")),
    };
    Ok(SchedulerCall::Call(FrameworkId::new(framework), made))
}

fn subscribe(call: &Value, subscribe: &Value) -> Result<SchedulerCall, String> {
    let info = get(subscribe, "framework_info").ok_or_else(|| expected("subscribe.framework_info"))?;
    let (outer, inner) = (id(call, "framework_id"), id(info, "id"));
    if outer.is_some() && outer != inner {
        return Err(
            "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'".to_owned(),
        );
    }
    Ok(SchedulerCall::Subscribe {
        id: inner.map(FrameworkId::new),
        spec: framework_spec(info),
        suppressed: texts(subscribe, "suppressed_roles"),
    })
}

fn framework_spec(info: &Value) -> Result<FrameworkSpec, String> {
    let word = |key: &str| text(info, key).map(str::to_owned);
    let capabilities: BTreeSet<Capability> = list(info, "capabilities")
        .filter_map(|one| text(one, "type"))
        .filter_map(Capability::parse)
        .collect();
    let failover = match get(info, "failover_timeout") {
        None => Duration::ZERO,
        Some(Value::String(text)) if text == "Infinity" => LONGEST_FAILOVER,
        Some(_) => {
            let seconds = double(info, "failover_timeout").unwrap_or(f64::NAN);
            let wrong = |_| format!("The framework failover_timeout ({seconds}) is invalid");
            Duration::try_from_secs_f64(seconds)
                .map_err(wrong)?
                .min(LONGEST_FAILOVER)
        }
    };
    let label = |one: &Value| {
        let value = text(one, "value").unwrap_or_default().to_owned();
        Some((text(one, "key")?.to_owned(), value))
    };
    Ok(FrameworkSpec {
        user: word("user").unwrap_or_default(),
        name: word("name").ok_or("FrameworkInfo.name is missing")?,
        failover_timeout: failover,
        checkpoint: flag(info, "checkpoint").unwrap_or(false),
        roles: roles(info, capabilities.contains(&Capability::MultiRole))?,
        hostname: word("hostname").unwrap_or_default(),
        principal: word("principal"),
        webui_url: word("webui_url"),
        capabilities,
        labels: get(info, "labels")
            .map(|labels| list(labels, "labels").filter_map(label).collect())
            .unwrap_or_default(),
    })
}

/// `role` only without MULTI_ROLE, `roles` only with it.
fn roles(info: &Value, several: bool) -> Result<Vec<String>, String> {
    let (one, many) = (text(info, "role"), texts(info, "roles"));
    let roles = match (several, one, many.is_empty()) {
        (true, Some(_), _) => {
            return Err("FrameworkInfo.role must not be set when the framework is MULTI_ROLE capable".to_owned());
        }
        (true, None, _) => many,
        (false, _, false) => {
            return Err("FrameworkInfo.roles must not be set when the framework is not MULTI_ROLE capable".to_owned());
        }
        (false, one, true) => vec![one.unwrap_or("*").to_owned()],
    };
    match roles.iter().find(|role| !is_role(role)) {
        Some(role) => Err(format!(
            "Role '{role}' is invalid: no blanks, no '-' in front, no empty, '.' or '..' part between slashes"
        )),
        None => Ok(roles),
    }
}

/// Mesos' rule for the names of roles.
pub fn is_role(role: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with('-') && !part.contains(odd);
    role == "*" || (role.split('/').all(part) && !role.split('/').any(|part| part == "*"))
}

fn offers(value: &Value) -> Vec<OfferId> {
    list(value, "offer_ids")
        .filter_map(|one| text(one, "value"))
        .map(OfferId::new)
        .collect()
}

fn refusal(value: &Value) -> Duration {
    let filters = get(value, "filters").unwrap_or(&Value::Null);
    let seconds = double(filters, "refuse_seconds").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.unwrap_or(DEFAULT_REFUSAL).min(LONGEST_REFUSAL)
}

fn accept(accept: &Value) -> FrameworkCall {
    FrameworkCall::Accept {
        offers: offers(accept),
        operations: list(accept, "operations").map(operation).collect(),
        refuse: refusal(accept),
    }
}

fn operation(operation: &Value) -> Operation {
    let kind = text(operation, "type").unwrap_or("an operation without type");
    if kind == "LAUNCH" {
        let launch = get(operation, "launch").unwrap_or(&Value::Null);
        return Operation::Launch(list(launch, "task_infos").map(task_order).collect());
    }
    let group = get(operation, "launch_group").and_then(|launch| get(launch, "task_group"));
    let executor = get(operation, "launch_group").and_then(|launch| get(launch, "executor"));
    let custom =
        executor.is_some_and(|executor| text(executor, "type") == Some("CUSTOM") || get(executor, "command").is_some());
    if kind == "LAUNCH_GROUP" && !custom {
        let network = executor.and_then(|executor| get(executor, "container"));
        let tasks = group.map(|group| list(group, "tasks").map(|task| of_group_task(task, network)).collect());
        return Operation::LaunchGroup(tasks.unwrap_or_default());
    }
    let id_of_operation = id(operation, "id").map(str::to_owned);
    let changes = get(operation, &kind.to_lowercase());
    let listed = changes.and_then(|change| get(change, "resources").or_else(|| get(change, "volumes")));
    if let ("RESERVE" | "UNRESERVE" | "CREATE" | "DESTROY", Some(Value::Array(listed))) = (kind, listed) {
        return match holding_change(kind, listed) {
            Ok(change) => Operation::Change {
                id: id_of_operation,
                change,
            },
            Err(why) => Operation::Refused {
                id: id_of_operation,
                why,
                tasks: Vec::new(),
            },
        };
    }
    let of_group = |task: &Value| {
        let agent = id(task, "agent_id").unwrap_or_default();
        Some((TaskId::new(id(task, "task_id")?), AgentId::new(agent)))
    };
    Operation::Refused {
        id: id_of_operation,
        why: format!(
            "{kind} in this form is not carried out by revere; LAUNCH, LAUNCH_GROUP with the default executor, RESERVE, UNRESERVE, CREATE and DESTROY are"
        ),
        tasks: group
            .map(|group| list(group, "tasks").filter_map(of_group).collect())
            .unwrap_or_default(),
    }
}

/// A task of a group: its network is that of the executor around it.
fn of_group_task(task: &Value, executor: Option<&Value>) -> TaskOrder {
    let mut task = task.clone();
    let networks = executor.and_then(|container| get(container, "network_infos"));
    if let (Some(networks), Some(fields)) = (networks, task.as_object_mut()) {
        let container = fields
            .entry("container")
            .or_insert_with(|| serde_json::json!({"type": "MESOS"}));
        if let Some(container) = container.as_object_mut() {
            container.insert("network_infos".to_owned(), networks.clone());
        }
    }
    task_order(&task)
}

fn kill(kill: &Value) -> Result<FrameworkCall, String> {
    let policy = get(kill, "kill_policy").and_then(|policy| get(policy, "grace_period"));
    Ok(FrameworkCall::Kill {
        task: TaskId::new(id(kill, "task_id").ok_or_else(|| expected("kill.task_id"))?),
        agent: id(kill, "agent_id").map(AgentId::new),
        grace: policy.and_then(nanoseconds),
    })
}

fn acknowledge(acknowledge: &Value) -> Result<FrameworkCall, String> {
    let uuid = text(acknowledge, "uuid").ok_or_else(|| expected("acknowledge.uuid"))?;
    let bytes = BASE64
        .decode(uuid.as_bytes())
        .ok()
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let bytes = bytes.ok_or("Failed to validate scheduler::Call: 'acknowledge.uuid' is not a valid UUID")?;
    Ok(FrameworkCall::Acknowledge {
        task: TaskId::new(id(acknowledge, "task_id").ok_or_else(|| expected("acknowledge.task_id"))?),
        update: UpdateId(u128::from_be_bytes(bytes)),
    })
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
