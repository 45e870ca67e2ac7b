//! What a subscriber begins with and `GET_STATE` tells: taken between two inputs in little time, written out elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{AgentId, FrameworkId, Resources, SharedMap, Task, TaskId};
use scheduler::{AgentOrder, AgentRecord, AgentView, Residence};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json};

use super::core::Core;
use crate::mesos::encode::{self, Sizes};

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    tasks: Tasks,
    /// They are few.
    frameworks: Value,
    agents: Agents,
}

/// `get_tasks`.
#[derive(Debug)]
pub(super) struct Tasks {
    told: Vec<Task>,
    unreachable: Vec<Task>,
    completed: Vec<Task>,
    sizes: SharedMap<(FrameworkId, TaskId), Arc<Sizes>>,
}

/// `get_agents`.
#[derive(Debug)]
pub(super) struct Agents {
    registered: Vec<Agent>,
    recovered: Vec<AgentRecord>,
}

#[derive(Debug)]
struct Agent {
    record: AgentRecord,
    connected: bool,
    /// By tasks.
    used: Resources,
    ports: Vec<u16>,
    /// What is told apart of its resources, with its sum.
    reserved: (Vec<Value>, Resources),
    offered: Resources,
    order: AgentOrder,
    empty: bool,
}

/// The values of a list, each made when it is written: all of ten thousand agents at once would take far more memory than
/// their text.
struct Each<F>(F);

impl<I: Iterator<Item = Value>, F: Fn() -> I> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("get_tasks", &self.tasks)?;
        map.serialize_entry("get_executors", &json!({}))?;
        map.serialize_entry("get_frameworks", &self.frameworks)?;
        map.serialize_entry("get_agents", &self.agents)?;
        map.end()
    }
}

/// Mesos leaves empty lists out.
impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sizes = |task: &Task| self.sizes.get(&(task.framework.clone(), task.id.clone()));
        let sized = |task: &Task| encode::task(task, sizes(task).map(Arc::as_ref));
        let mut map = serializer.serialize_map(None)?;
        if !self.told.is_empty() {
            map.serialize_entry("tasks", &Each(|| self.told.iter().map(sized)))?;
        }
        if !self.unreachable.is_empty() {
            map.serialize_entry("unreachable_tasks", &Each(|| self.unreachable.iter().map(sized)))?;
        }
        if !self.completed.is_empty() {
            let completed = || self.completed.iter().map(|task| encode::task(task, None));
            map.serialize_entry("completed_tasks", &Each(completed))?;
        }
        map.end()
    }
}

impl Serialize for Agents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.registered.is_empty() {
            map.serialize_entry("agents", &Each(|| self.registered.iter().map(Agent::json)))?;
        }
        if !self.recovered.is_empty() {
            let recovered = || self.recovered.iter().map(encode::agent_info);
            map.serialize_entry("recovered_agents", &Each(recovered))?;
        }
        map.end()
    }
}

impl Agent {
    fn json(&self) -> Value {
        let shown = encode::agent(&self.record, &self.used, &self.ports, self.reserved.clone());
        let view = AgentView {
            record: &self.record,
            connected: self.connected,
            used: self.used,
            reserved: self.reserved.1,
            holdings: &[],
            offered: self.offered,
            order: &self.order,
            empty: self.empty,
        };
        encode::ordered(shown, &view)
    }
}

impl Core {
    /// `get_state`.
    pub(super) fn state(&self) -> State {
        State {
            tasks: self.tasks(),
            frameworks: self.get_frameworks(),
            agents: self.agents(),
        }
    }

    /// `get_tasks`.
    pub(super) fn tasks(&self) -> Tasks {
        Tasks {
            told: self.scheduler.state().tasks,
            unreachable: self.scheduler.unreachable_tasks(),
            completed: self.scheduler.completed_framework_tasks().cloned().collect(),
            sizes: self.sizes.clone(),
        }
    }

    /// `get_agents`.
    pub(super) fn agents(&self) -> Agents {
        let mut ports = self.ports_used();
        let mut there: BTreeMap<&AgentId, Vec<&Residence>> = BTreeMap::new();
        for residence in self.scheduler.residences() {
            there.entry(&residence.agent).or_default().push(residence);
        }
        let agent = |view: AgentView<'_>| {
            let id = &view.record.id;
            let there = there.get(id).map_or(&[][..], Vec::as_slice);
            let mut reserved = encode::reserved(self.scheduler.framework(), there.iter().copied());
            for held in self.scheduler.holdings(id) {
                reserved.0.extend(encode::held(held));
                reserved.1 = reserved.1.plus(&held.total());
            }
            // Reservations without a task are used by nobody.
            let idle = there.iter().copied();
            let idle = idle.filter(|one| self.scheduler.instance(&one.id).is_none());
            let (_, mut unused) = encode::reserved(self.scheduler.framework(), idle);
            for held in self.scheduler.unused_holdings(id) {
                unused = unused.plus(&held.total());
            }
            Agent {
                record: view.record.clone(),
                connected: view.connected,
                used: view.used.minus(&unused),
                ports: ports.remove(id).unwrap_or_default(),
                reserved,
                offered: view.offered,
                order: view.order.clone(),
                empty: view.empty,
            }
        };
        Agents {
            registered: self.scheduler.agents().map(agent).collect(),
            recovered: self.scheduler.recovered_agents().cloned().collect(),
        }
    }

    fn ports_used(&self) -> BTreeMap<AgentId, Vec<u16>> {
        let mut used: BTreeMap<AgentId, Vec<u16>> = BTreeMap::new();
        for instance in self.scheduler.instances() {
            used.entry(instance.agent.clone())
                .or_default()
                .extend(&instance.spec.host_ports);
        }
        for task in self.scheduler.framework_tasks().filter(|task| !task.is_over()) {
            used.entry(task.agent.clone())
                .or_default()
                .extend(&task.spec.host_ports);
        }
        used
    }
}
