//! Tests of the fold: who is a backend, what a restart of the master must not empty, order independence.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{Ipv4Net, PortScope, Protocol, TaskPort, TaskState, TaskStatus};

pub(super) fn agent(n: u8) -> AgentInfo {
    AgentInfo {
        id: AgentId::new(format!("cluster-S{n}")),
        hostname: format!("10.99.0.{n}"),
        ip: Some(Ipv4Addr::new(10, 99, 0, n)),
        port: None,
        subnet: Ipv4Net::new(Ipv4Addr::new(9, 0, n, 0), 24).ok(),
        networks: Default::default(),
        attributes: BTreeMap::new(),
    }
}

pub(super) fn framework() -> FrameworkInfo {
    FrameworkInfo {
        id: FrameworkId::new("f-0"),
        name: "marathon".into(),
        ip: None,
        port: None,
    }
}

fn status(state: TaskState, healthy: Option<bool>) -> TaskStatus {
    TaskStatus {
        state,
        reason: None,
        healthy,
        addresses: Vec::new(),
        message: None,
        checks: Default::default(),
        timestamp_ms: 1,
    }
}

pub(super) fn task(n: u8, on: u8, state: TaskState) -> Task {
    Task {
        id: TaskId::new(format!("my-service.{n}")),
        name: "my-service".into(),
        framework: framework().id,
        agent: agent(on).id,
        status: status(state, None),
        has_health_check: false,
        has_discovery: true,
        ports: vec![TaskPort {
            number: 31000 + u16::from(n),
            name: Some("my-vip".into()),
            protocol: Protocol::Tcp,
            scope: PortScope::Host,
            labels: vec![("VIP_0".into(), "/my-service:5555".into())],
        }],
        mappings: Vec::new(),
        host_ports: vec![31000 + u16::from(n)],
        labels: BTreeMap::new(),
    }
}

fn begin(agents: &[u8], tasks: Vec<Task>) -> TaskEvent {
    TaskEvent::Snapshot(StateSnapshot {
        agents: agents.iter().map(|n| agent(*n)).collect(),
        recovered_agents: Vec::new(),
        frameworks: vec![framework()],
        tasks,
    })
}

fn weights(table: &ServiceTable) -> Vec<(String, u16)> {
    let snapshot = table.snapshot();
    let list = snapshot.services.values().flat_map(|s| s.backends.iter());
    list.map(|b| (format!("{}:{}", b.addr, b.port), b.weight)).collect()
}

fn two_running() -> ServiceTable {
    let mut table = ServiceTable::new(VipRange::default());
    assert!(table.apply(begin(
        &[1, 2],
        vec![task(1, 1, TaskState::Running), task(2, 2, TaskState::Running)]
    )));
    table
}

fn update(n: u8, status: TaskStatus) -> TaskEvent {
    TaskEvent::TaskUpdated {
        framework: framework().id,
        task: TaskId::new(format!("my-service.{n}")),
        status,
        mappings: Vec::new(),
    }
}

/// What is told later is newer, whatever the clock of who tells it.
#[test]
fn a_clock_that_jumps_back_hides_no_news() {
    let mut table = two_running();
    for (timestamp_ms, healthy, weight) in [(9_000, false, 0), (5, true, 1), (0, false, 0), (u64::MAX, true, 1)] {
        let mut status = status(TaskState::Running, Some(healthy));
        status.timestamp_ms = timestamp_ms;
        table.apply(update(1, status));
        assert_eq!(weights(&table)[0], ("10.99.0.1:31001".into(), weight), "{timestamp_ms}");
    }
}

#[test]
fn a_running_task_is_a_backend_of_its_named_vip() {
    let table = two_running();
    let snapshot = table.snapshot();
    let (vip, service) = snapshot.services.iter().next().expect("one service");
    assert_eq!(
        service.name.as_ref().map(ToString::to_string).as_deref(),
        Some("my-service.marathon.l4lb.thisdcos.directory")
    );
    let hashed = u32::from(Ipv4Addr::new(11, 0, 0, 0)) + crate::phash2(b"my-service.marathon") % 16_777_215;
    assert_eq!(vip.addr, IpAddr::V4(Ipv4Addr::from(hashed)));
    assert_eq!(vip.port, 5555);
    assert_eq!(
        weights(&table),
        [("10.99.0.1:31001".into(), 1), ("10.99.0.2:31002".into(), 1)]
    );
}

#[test]
fn only_ready_tasks_take_new_connections() {
    let rules = [
        (TaskState::Staging, None, false, None),
        (TaskState::Starting, None, false, None),
        (TaskState::Running, None, false, Some(1)),
        (TaskState::Running, Some(true), true, Some(1)),
        (TaskState::Running, Some(false), false, Some(0)),
        (TaskState::Running, None, true, Some(0)),
        (TaskState::Killing, Some(true), true, Some(0)),
        (TaskState::Unreachable, None, false, None),
        (TaskState::Failed, None, false, None),
    ];
    for (state, healthy, has_health_check, weight) in rules {
        let mut table = ServiceTable::new(VipRange::default());
        let mut one = task(1, 1, state);
        one.status.healthy = healthy;
        one.has_health_check = has_health_check;
        table.apply(begin(&[1], vec![one]));
        let got = weights(&table).first().map(|(_, weight)| *weight);
        assert_eq!(got, weight, "{state:?} healthy={healthy:?} check={has_health_check}");
    }
}

#[test]
fn a_restarted_master_empties_nothing() {
    let mut table = two_running();
    let before = table.snapshot();
    table.apply(begin(&[], Vec::new()));
    assert_eq!(
        table.snapshot().services,
        before.services,
        "an empty first snapshot keeps every backend"
    );
    assert_eq!(table.held_agents().count(), 2);
    // Agent 1 comes back with its task; agent 2 stays away until the hold is over.
    table.apply(TaskEvent::AgentAdded(agent(1)));
    table.apply(TaskEvent::TaskAdded(task(1, 1, TaskState::Running)));
    assert_eq!(table.snapshot().services, before.services);
    table.apply(TaskEvent::HoldExpired);
    assert_eq!(weights(&table), [("10.99.0.1:31001".into(), 1)]);
}

#[test]
fn a_task_that_ended_while_the_master_was_away_goes_with_the_hold() {
    let mut table = two_running();
    table.apply(begin(&[], vec![task(1, 1, TaskState::Running)]));
    table.apply(TaskEvent::AgentAdded(agent(1)));
    table.apply(TaskEvent::AgentAdded(agent(2)));
    assert_eq!(table.held_agents().count(), 0);
    assert!(table.is_holding(), "nothing has spoken for the second agent's task");
    assert_eq!(weights(&table).len(), 2);
    table.apply(TaskEvent::HoldExpired);
    assert_eq!(weights(&table), [("10.99.0.1:31001".into(), 1)]);
    assert!(!table.is_holding());
}

#[test]
fn a_snapshot_is_the_truth_for_the_agents_it_tells() {
    let mut table = two_running();
    table.apply(begin(&[1], Vec::new()));
    assert_eq!(
        weights(&table),
        [("10.99.0.2:31002".into(), 1)],
        "agent 1 is told without tasks; agent 2 is held"
    );
    table.apply(TaskEvent::AgentRemoved(agent(2).id));
    assert!(weights(&table).is_empty());
}

#[test]
fn a_task_seen_dead_here_is_out_at_once_and_stays_out() {
    let mut table = two_running();
    assert!(table.apply(TaskEvent::LocalExit(TaskId::new("my-service.1"))));
    assert_eq!(weights(&table), [("10.99.0.2:31002".into(), 1)]);
    table.apply(update(1, status(TaskState::Running, Some(true))));
    assert_eq!(weights(&table).len(), 1, "a late RUNNING does not revive it");
    table.apply(update(1, status(TaskState::Failed, None)));
    assert_eq!(weights(&table).len(), 1);
    assert!(!table.apply(TaskEvent::LocalExit(TaskId::new("stranger"))));
}

#[test]
fn killing_keeps_the_backend_at_weight_zero() {
    let mut table = two_running();
    table.apply(update(2, status(TaskState::Killing, None)));
    assert_eq!(
        weights(&table),
        [("10.99.0.1:31001".into(), 1), ("10.99.0.2:31002".into(), 0)]
    );
}

#[test]
fn the_order_of_events_does_not_matter() {
    let mut first = ServiceTable::new(VipRange::default());
    let mut second = ServiceTable::new(VipRange::default());
    let events = [
        TaskEvent::FrameworkAdded(framework()),
        TaskEvent::AgentAdded(agent(1)),
        TaskEvent::AgentAdded(agent(2)),
        TaskEvent::TaskAdded(task(1, 1, TaskState::Running)),
        TaskEvent::TaskAdded(task(2, 2, TaskState::Running)),
    ];
    for event in events.iter().cloned() {
        first.apply(event);
    }
    for event in events.into_iter().rev() {
        second.apply(event);
    }
    assert_eq!(first.snapshot().services, second.snapshot().services);
}

#[test]
fn one_bad_label_costs_only_itself() {
    let mut table = ServiceTable::new(VipRange::default());
    let mut bad = task(1, 1, TaskState::Running);
    bad.ports[0].labels.insert(0, ("VIP_1".into(), "/broken".into()));
    table.apply(begin(&[1], vec![bad]));
    assert_eq!(weights(&table).len(), 1);
    assert_eq!(
        table.rejected().iter().map(|r| r.reason).collect::<Vec<_>>(),
        [RejectReason::VipLabel]
    );
}

#[test]
fn an_unchanged_picture_is_no_new_generation() {
    let mut table = two_running();
    let before = table.snapshot().generation;
    assert!(!table.apply(TaskEvent::AgentAdded(agent(1))));
    assert_eq!(table.snapshot().generation, before);
}

#[test]
fn container_ports_use_the_task_address() {
    let mut table = ServiceTable::new(VipRange::default());
    let mut one = task(1, 1, TaskState::Running);
    one.ports[0].scope = PortScope::Container;
    one.ports[0].number = 8080;
    table.apply(begin(&[1], vec![one.clone()]));
    assert!(weights(&table).is_empty());
    assert_eq!(table.rejected()[0].reason, RejectReason::NoAddress);
    one.status.addresses = vec![IpAddr::V4(Ipv4Addr::new(9, 0, 1, 5))];
    table.apply(TaskEvent::TaskAdded(one));
    assert_eq!(weights(&table), [("9.0.1.5:8080".into(), 1)]);
}
