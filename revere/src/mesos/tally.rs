//! What the tasks of an agent or of a framework come to, kept up as they come and go.

use std::collections::BTreeMap;

use model::{Resources, Task, TaskState};

/// Sums over tasks. `O` are the agents of a framework's tasks, or the frameworks of an agent's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tally<O> {
    states: BTreeMap<TaskState, u64>,
    resources: Resources,
    /// Host ports in use, and by how many: those of a framework repeat on each agent.
    ports: BTreeMap<u16, u32>,
    others: BTreeMap<O, u32>,
}

impl<O> Default for Tally<O> {
    fn default() -> Self {
        Self {
            states: BTreeMap::new(),
            resources: Resources::default(),
            ports: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }
}

impl<O: Ord> Tally<O> {
    /// Over several tasks and what each uses.
    pub(crate) fn of<'a>(tasks: impl Iterator<Item = (&'a Task, Resources, O)>) -> Self {
        let mut tally = Self::default();
        for (task, resources, other) in tasks {
            tally.add(task, &resources, other);
        }
        tally
    }

    /// One more task.
    pub(crate) fn add(&mut self, task: &Task, resources: &Resources, other: O) {
        *self.states.entry(task.status.state).or_default() += 1;
        self.resources = self.resources.plus(resources);
        for port in &task.host_ports {
            *self.ports.entry(*port).or_default() += 1;
        }
        *self.others.entry(other).or_default() += 1;
    }

    /// A task that was added so is no more.
    pub(crate) fn remove(&mut self, task: &Task, resources: &Resources, other: &O) {
        if let Some(count) = self.states.get_mut(&task.status.state) {
            *count = count.saturating_sub(1);
        }
        self.resources = self.resources.minus(resources);
        for port in &task.host_ports {
            one_less(&mut self.ports, port);
        }
        one_less(&mut self.others, other);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// How many tasks are in a state.
    pub(crate) fn count(&self, state: TaskState) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// Host ports in use, in order, neighbours joined.
    pub(crate) fn port_ranges(&self) -> Vec<(u16, u16)> {
        joined(self.ports.keys().copied())
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &O> {
        self.others.keys()
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Ports that come in order, neighbours joined.
pub(super) fn joined(ports: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut out: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match out.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(port) => *high = port,
            _ => out.push((port, port)),
        }
    }
    out
}
