//! Agents that are deactivated, emptied, gone.

use std::time::Duration;

use model::{TaskState, TaskStatus};

use super::super::tests::{Bench, status};
use crate::{AgentCall, AppSpec, Command, Drain, ReportedTask};

fn app() -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(1),
        ..AppSpec::default()
    }
}

/// An instance on the one agent there is.
fn one_running() -> (Bench, model::AgentId, model::LaunchSpec) {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.command(Command::CreateApp(Box::new(app()))).expect("valid");
    let launched = bench.launches().remove(0);
    let (at, now) = (bench.at(), bench.now);
    assert!(
        bench
            .core
            .handle_status(at, &agent, launched.task.clone(), status(TaskState::Running, now))
    );
    bench.effects();
    (bench, agent, launched)
}

#[test]
fn a_deactivated_agent_keeps_its_tasks_and_gets_no_more() {
    let (mut bench, agent, _) = one_running();
    let at = bench.at();
    bench
        .core
        .handle_agent_call(at, &agent, AgentCall::Deactivate)
        .expect("known");
    let scale = Command::ScaleApp {
        id: "/a".to_owned(),
        instances: 2,
        force: crate::Force::No,
    };
    bench.command(scale).expect("valid");
    assert!(bench.launches().is_empty() && bench.kills().is_empty());
    // A restart of the master does not forget it.
    let mut bench = Bench::restored(bench.stored);
    let report = bench.core.instances().next().map(|one| ReportedTask {
        spec: model::LaunchSpec::clone(&one.spec),
        status: one.status.clone(),
    });
    bench.register(Some(&agent), report.into_iter().collect());
    assert!(bench.launches().is_empty());
    let at = bench.at();
    bench
        .core
        .handle_agent_call(at, &agent, AgentCall::Reactivate)
        .expect("known");
    assert_eq!(bench.launches().len(), 1);
}

#[test]
fn a_drained_agent_is_emptied_and_its_instances_go_elsewhere() {
    let (mut bench, agent, launched) = one_running();
    let other = bench.register_at(2, None, Vec::new()).agent;
    bench.effects();
    let drain = Drain {
        max_grace: Some(Duration::from_secs(1)),
        mark_gone: true,
    };
    let at = bench.at();
    bench
        .core
        .handle_agent_call(at, &agent, AgentCall::Drain(drain))
        .expect("known");
    let effects = bench.effects();
    let killed = effects.iter().any(|effect| match effect {
        crate::Effect::Kill { task, policy, .. } => *task == launched.task && policy.grace == Duration::from_secs(1),
        _ => false,
    });
    let launched_on = effects.iter().find_map(|effect| match effect {
        crate::Effect::Launch { agent, .. } => Some(agent.clone()),
        _ => None,
    });
    assert!(killed && launched_on == Some(other), "{effects:?}");
    assert_eq!(bench.core.agents().count(), 2, "not yet empty");
    let ended: TaskStatus = status(TaskState::Killed, bench.now + 1);
    let at = bench.at();
    bench.core.handle_status(at, &agent, launched.task, ended);
    assert_eq!(bench.core.agents().count(), 1, "gone");
    assert!(!bench.core.handle_heartbeat(at, &agent), "it is to register anew");
    bench.core.check();
}

#[test]
fn an_agent_that_is_gone_never_has_its_id_again() {
    let (mut bench, agent, launched) = one_running();
    let at = bench.at();
    bench
        .core
        .handle_agent_call(at, &agent, AgentCall::MarkGone)
        .expect("known");
    bench.effects();
    assert_eq!(bench.core.agents().count(), 0);
    assert!(bench.core.handle_agent_call(at, &agent, AgentCall::Reactivate).is_err());
    let report = ReportedTask {
        spec: launched.clone(),
        status: status(TaskState::Running, bench.now),
    };
    let mut bench = Bench::restored(bench.stored);
    let back = bench.register(Some(&agent), vec![report]);
    assert!(back.agent != agent && back.unknown == [launched.task], "{back:?}");
    bench.core.check();
}
