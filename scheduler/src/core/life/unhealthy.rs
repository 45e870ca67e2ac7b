//! What follows from results of checks: the end of an unhealthy instance, and updates that wait for health and readiness.

use std::time::Duration;

use model::{AgentId, CheckResult, CheckResults, LaunchSpec, ReadinessResult, TaskId, TaskState, TaskStatus};

use super::super::tests::{Bench, status};
use crate::{AppSpec, Command, Effect, Force, HealthCheckSpec, PortSpec, ReadinessCheckSpec, Record, ReportedTask};

fn spec(cmd: &str, instances: i64) -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some(cmd.to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(instances),
        health_checks: vec![HealthCheckSpec::default()],
        port_definitions: Some(vec![PortSpec {
            name: Some("http-api".to_owned()),
            ..PortSpec::default()
        }]),
        ..AppSpec::default()
    }
}

/// RUNNING with what checks say: verdict, failures in a row, and whether it was ready.
fn checked(alive: Option<bool>, failures: u32, ready: Option<bool>, at: u64) -> TaskStatus {
    let health = vec![CheckResult {
        alive,
        failures,
        ..CheckResult::default()
    }];
    let readiness = ready.map(|ready| ReadinessResult { ready, response: None });
    TaskStatus {
        healthy: alive,
        checks: Box::new(CheckResults {
            health,
            readiness: readiness.into_iter().collect(),
        }),
        ..status(TaskState::Running, at)
    }
}

fn say(bench: &mut Bench, agent: &AgentId, task: &TaskId, (alive, failures): (Option<bool>, u32), ready: Option<bool>) {
    bench.now += 1;
    let status = checked(alive, failures, ready, bench.now);
    let at = bench.at();
    assert!(bench.core.handle_status(at, agent, task.clone(), status));
}

fn deployed(spec: AppSpec) -> (Bench, AgentId, Vec<LaunchSpec>) {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.command(Command::CreateApp(Box::new(spec))).expect("valid");
    let launched = bench.launches();
    (bench, agent, launched)
}

const WELL: (Option<bool>, u32) = (Some(true), 0);

#[test]
fn an_instance_that_failed_too_often_is_ended_and_replaced_after_the_delay() {
    let (mut bench, agent, launched) = deployed(spec("x", 2));
    let (bad, good) = (&launched[0].task, &launched[1].task);
    for task in [bad, good] {
        say(&mut bench, &agent, task, WELL, None);
    }
    bench.effects();
    for failures in [1, 2] {
        say(&mut bench, &agent, bad, (Some(false), failures), None);
        assert!(bench.kills().is_empty(), "{failures} of 3");
    }
    say(&mut bench, &agent, bad, (Some(false), 3), None);
    let effects = bench.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Kill { task, .. } if task == bad))
    );
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Launch { .. })),
        "not before the delay"
    );
    assert_eq!(bench.next_timer(), Duration::from_secs(1), "backoffSeconds");
    assert_eq!(bench.launches().len(), 1);
    // The end itself delays nothing more, and is no second failure.
    bench.tell(&agent, bad, TaskState::Killed);
    let left: Vec<bool> = bench.core.instances().map(|one| one.unwanted).collect();
    assert_eq!(left, [false, false]);
}

#[test]
fn a_check_that_may_fail_for_ever_ends_nothing() {
    let mut never = spec("x", 1);
    never.health_checks[0].max_consecutive_failures = Some(0);
    let (mut bench, agent, launched) = deployed(never);
    say(&mut bench, &agent, &launched[0].task, (Some(false), 1_000), None);
    assert!(bench.kills().is_empty());
}

/// Wherever the master stops between two effects, the next one ends the instance all the same.
#[test]
fn the_decision_survives_a_crash_at_any_point() {
    let (mut bench, agent, launched) = deployed(spec("x", 1));
    let task = &launched[0].task;
    say(&mut bench, &agent, task, WELL, None);
    bench.effects();
    let before = bench.stored.len();
    say(&mut bench, &agent, task, (Some(false), 3), None);
    let failed = checked(Some(false), 3, None, bench.now);
    bench.effects();
    for kept in before..=bench.stored.len() {
        let records: Vec<Record> = bench.stored[..kept].to_vec();
        let mut after = Bench::restored(records);
        after.now = bench.now;
        let report = ReportedTask {
            spec: launched[0].clone(),
            status: failed.clone(),
        };
        let registered = after.register(Some(&agent), vec![report]);
        let ends = registered.unknown.contains(task) || after.kills().contains(task);
        assert!(ends, "{kept} records kept");
    }
}

#[test]
fn an_update_waits_for_health_and_then_for_readiness() {
    let mut first = spec("one", 2);
    first.readiness_checks = vec![ReadinessCheckSpec::default()];
    let (mut bench, agent, old) = deployed(first.clone());
    for spec in &old {
        say(&mut bench, &agent, &spec.task, (None, 0), Some(false));
    }
    assert_eq!(bench.core.deployments().len(), 1, "not yet checked is not healthy");
    for spec in &old {
        say(&mut bench, &agent, &spec.task, WELL, Some(false));
    }
    assert_eq!(bench.core.deployments().len(), 1, "healthy is not yet ready");
    for spec in &old {
        say(&mut bench, &agent, &spec.task, WELL, Some(true));
    }
    assert!(bench.core.deployments().is_empty());
    bench.effects();

    let update = Command::UpdateApp {
        id: "/a".to_owned(),
        spec: Box::new(AppSpec {
            cmd: Some("two".to_owned()),
            ..first
        }),
        force: Force::No,
    };
    bench.command(update).expect("unlocked");
    let new = bench.launches();
    assert_eq!(new.len(), 2);
    for (verdict, ready) in [
        ((None, 0), Some(false)),
        (WELL, Some(false)),
        ((Some(false), 1), Some(true)),
    ] {
        say(&mut bench, &agent, &new[0].task, verdict, ready);
        assert!(bench.kills().is_empty(), "{verdict:?} {ready:?}");
    }
    say(&mut bench, &agent, &new[0].task, WELL, Some(true));
    assert_eq!(bench.kills().len(), 1, "one old for one that is healthy and ready");
}
