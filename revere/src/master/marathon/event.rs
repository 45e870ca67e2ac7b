//! What happens in the cluster, as Marathon's events.

use model::TaskState;
use scheduler::{Action, ClusterEvent, DeploymentRecord, InstanceFacts, InstanceId, RunKind};
use serde_json::{Value, json};

/// Marathon's name of an instance's condition.
fn condition(state: TaskState) -> &'static str {
    match state {
        TaskState::Staging => "Staging",
        TaskState::Starting => "Starting",
        TaskState::Running => "Running",
        TaskState::Killing => "Killing",
        TaskState::Killed => "Killed",
        TaskState::Finished => "Finished",
        TaskState::Failed => "Failed",
        TaskState::Error => "Error",
        TaskState::Unreachable => "Unreachable",
        TaskState::Dropped => "Dropped",
        TaskState::Gone | TaskState::GoneByOperator => "Gone",
        _ => "Unknown",
    }
}

fn changed(facts: &InstanceFacts, condition: &str) -> Value {
    json!({
        "instanceId": facts.instance.0,
        "condition": condition,
        "runSpecId": facts.app.as_str(),
        "agentId": facts.agent.as_str(),
        "host": facts.host,
        "runSpecVersion": facts.version.to_string(),
    })
}

/// One action.
pub(crate) fn action(action: &Action) -> Value {
    let key = match action.of {
        RunKind::App => "app",
        RunKind::Pod => "pod",
    };
    json!({"action": action.kind.as_str(action.of), key: action.app.as_str()})
}

/// Actions of a step.
pub(crate) fn actions(actions: &[Action]) -> Value {
    actions.iter().map(action).collect()
}

/// All steps.
pub(crate) fn steps(steps: &[Vec<Action>]) -> Value {
    steps.iter().map(|step| json!({"actions": actions(step)})).collect()
}

/// The plan, in the form that `plan-format=light` asks for: never the whole tree.
fn plan(record: &DeploymentRecord) -> Value {
    json!({"id": record.id, "version": record.version.to_string(), "steps": steps(&record.steps)})
}

fn step(record: &DeploymentRecord) -> Value {
    json!({"plan": plan(record), "currentStep": {"actions": actions(record.current())}})
}

fn status(facts: &InstanceFacts, status: &model::TaskStatus) -> Value {
    let address = |addr: &std::net::IpAddr| json!({"ipAddress": addr.to_string(), "protocol": if addr.is_ipv4() { "IPv4" } else { "IPv6" }});
    json!({
        "slaveId": facts.agent.as_str(),
        "taskId": facts.task.as_str(),
        "taskStatus": status.state.as_str(),
        "message": status.message.as_deref().unwrap_or_default(),
        "appId": facts.app.as_str(),
        "host": facts.host,
        "ipAddresses": status.addresses.iter().map(address).collect::<Vec<_>>(),
        "ports": facts.ports,
        "version": facts.version.to_string(),
    })
}

fn stray(task: &model::TaskId, agent: &model::AgentId, news: &model::TaskStatus) -> Value {
    let instance = InstanceId::of_task(task).map_or_else(|| task.to_string(), |id| id.0);
    let app = instance.rsplit_once(".instance-").map_or("", |(app, _)| app);
    json!({
        "instanceId": instance,
        "runSpecId": format!("/{}", app.replace('_', "/")),
        "condition": condition(news.state),
        "agentId": agent.as_str(),
    })
}

/// Types that Marathon does not have. Clients that know a closed set of types fail on others: who wants these says so.
pub(crate) const OWN_TYPES: [&str; 1] = ["crash_loop_event"];

/// An app that fails again and again.
pub(crate) fn crash_loop(known: &scheduler::CrashLoop) -> Value {
    let last = known.last.as_ref().map(|last| {
        json!({
            "taskId": last.facts.task.as_str(),
            "host": last.facts.host,
            "state": last.state.as_str(),
            "message": last.message,
            "at": last.at.to_string(),
        })
    });
    json!({
        "failures": known.failures,
        "since": known.since.to_string(),
        "nextLaunchInSeconds": known.next_launch.as_secs_f64().ceil(),
        "lastFailure": last,
    })
}

/// The events that one happening is told as.
pub(crate) fn of(event: &ClusterEvent) -> Vec<(&'static str, Value)> {
    match event {
        ClusterEvent::Placed(facts) => vec![("instance_changed_event", changed(facts, "Provisioned"))],
        ClusterEvent::Member(facts, news) => vec![("status_update_event", status(facts, news))],
        // Of a pod the containers' own statuses are told before.
        ClusterEvent::Status(facts, news) if facts.task.as_str() == facts.instance.0 => {
            vec![("instance_changed_event", changed(facts, condition(news.state)))]
        }
        ClusterEvent::Status(facts, news) => vec![
            ("status_update_event", status(facts, news)),
            ("instance_changed_event", changed(facts, condition(news.state))),
        ],
        ClusterEvent::Health(facts, healthy) => {
            let body = json!({
                "instanceId": facts.instance.0,
                "runSpecId": facts.app.as_str(),
                "runSpecVersion": facts.version.to_string(),
                "healthy": healthy,
            });
            let alive = json!({
                "appId": facts.app.as_str(),
                "instanceId": facts.instance.0,
                "version": facts.version.to_string(),
                "alive": healthy,
            });
            vec![
                ("instance_health_changed_event", body),
                ("health_status_changed_event", alive),
            ]
        }
        ClusterEvent::UnhealthyEnds(facts) => {
            let body = json!({
                "appId": facts.app.as_str(),
                "taskId": facts.task.as_str(),
                "instanceId": facts.instance.0,
                "version": facts.version.to_string(),
                "reason": "a health check failed as often as it may",
                "host": facts.host,
                "slaveId": facts.agent.as_str(),
            });
            vec![("unhealthy_instance_kill_event", body)]
        }
        ClusterEvent::CrashLoop(app, known) => {
            let mut body = crash_loop(known);
            body["appId"] = json!(app.as_str());
            vec![("crash_loop_event", body)]
        }
        ClusterEvent::StrayEnded(task, agent, news) => {
            vec![("unknown_instance_terminated_event", stray(task, agent, news))]
        }
        ClusterEvent::AppGone(app) => vec![("app_terminated_event", json!({"appId": app.as_str()}))],
        ClusterEvent::StepBegan(record) => vec![("deployment_info", step(record))],
        ClusterEvent::StepDone(record) => vec![("deployment_step_success", step(record))],
        ClusterEvent::StepGivenUp(record) => vec![("deployment_step_failure", step(record))],
        ClusterEvent::Deployed(record) => {
            vec![("deployment_success", json!({"id": record.id, "plan": plan(record)}))]
        }
        ClusterEvent::GivenUp(record, why) => {
            let body = json!({"id": record.id, "plan": plan(record), "reason": why});
            vec![("deployment_failed", body)]
        }
        ClusterEvent::GroupChanged(group, version) => {
            let body = json!({"groupId": group, "version": version.to_string()});
            vec![("group_change_success", body)]
        }
        ClusterEvent::GroupRefused(group, version, why) => {
            let body = json!({"groupId": group, "version": version.to_string(), "reason": why});
            vec![("group_change_failed", body)]
        }
    }
}
