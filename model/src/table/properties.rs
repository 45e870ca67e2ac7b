//! Properties of the fold over random event sequences.

use proptest::prelude::*;

use super::tests::{self, agent, framework};
use super::*;
use crate::TaskState;

/// Names that collide in a range of three addresses, two ports of one name, and a VIP declared by an address that names
/// hash to.
const LABELS: [&str; 6] = ["/a:80", "/b:80", "/a:81", "11.0.0.0:80", "/c:80", "11.0.0.1:80"];

fn range() -> VipRange {
    VipRange {
        min: [11, 0, 0, 0].into(),
        max: [11, 0, 0, 2].into(),
    }
}

fn task(n: u8, on: u8, state: TaskState) -> Task {
    let mut task = tests::task(n, on, state);
    task.ports[0].labels = vec![("VIP_0".into(), LABELS[usize::from(n - 1)].into())];
    task
}

/// Agents 1 to 3, tasks 1 to 6; small so that events meet.
fn event() -> impl Strategy<Value = TaskEvent> {
    let state = prop::sample::select(TaskState::ALL.to_vec());
    prop_oneof![
        (1u8..4).prop_map(|n| TaskEvent::AgentAdded(agent(n))),
        (1u8..4).prop_map(|n| TaskEvent::AgentRemoved(agent(n).id)),
        (1u8..7, state).prop_map(|(n, state)| TaskEvent::TaskAdded(task(n, 1 + n % 3, state))),
        (1u8..7).prop_map(|n| TaskEvent::LocalExit(task(n, 1, TaskState::Running).id)),
        Just(TaskEvent::FrameworkAdded(framework())),
        Just(TaskEvent::FrameworkRemoved(framework().id)),
        Just(TaskEvent::HoldExpired),
        prop::collection::vec(1u8..4, 0..3).prop_map(|agents| TaskEvent::Snapshot(StateSnapshot {
            agents: agents.into_iter().map(agent).collect(),
            recovered_agents: Vec::new(),
            frameworks: vec![framework()],
            tasks: Vec::new(),
        })),
    ]
}

/// What a fresh stream would tell of this table's state.
fn retold(table: &ServiceTable) -> TaskEvent {
    TaskEvent::Snapshot(StateSnapshot {
        agents: table.agents.values().cloned().collect(),
        recovered_agents: Vec::new(),
        frameworks: table.frameworks.values().cloned().collect(),
        tasks: table
            .tasks
            .values()
            .filter(|t| !table.dead_here.contains(&t.id))
            .map(|t| Task::clone(t))
            .collect(),
    })
}

proptest! {
    #[test]
    fn any_history_equals_its_retelling(events in prop::collection::vec(event(), 0..40)) {
        let mut table = ServiceTable::new(range());
        for event in events {
            let before = table.snapshot();
            let changed = table.apply(event);
            prop_assert_eq!(changed, table.snapshot().generation > before.generation);
            if !changed {
                prop_assert_eq!(table.snapshot(), before);
            }
        }
        let mut fresh = ServiceTable::new(range());
        fresh.apply(retold(&table));
        prop_assert_eq!(&fresh.snapshot().services, &table.snapshot().services);
    }

    #[test]
    fn every_backend_is_a_live_task_on_a_known_node(events in prop::collection::vec(event(), 0..40)) {
        let mut table = ServiceTable::new(range());
        for event in events {
            table.apply(event);
            let snapshot = table.snapshot();
            for service in snapshot.services.values() {
                prop_assert!(!service.backends.is_empty());
                for backend in &service.backends {
                    prop_assert!(snapshot.nodes.contains_key(&backend.agent));
                    prop_assert!(snapshot.tasks.keys().any(|key| key.1 == backend.task));
                }
            }
        }
    }
}
