//! `/state-summary` of a large cluster: kept from one request to the next, so that each costs what changed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use model::{AgentId, FrameworkId, Resources, SharedMap, Task, TaskId};
use serde_json::json;

use super::picture::{AgentFacts, Picture};
use crate::mesos::encode::Sizes;
use crate::mesos::legacy;
use crate::mesos::tally::Tally;

type TaskKey = (FrameworkId, TaskId);

/// See the module. Asked for by several at once, they write one after the other.
#[derive(Debug, Default)]
pub(super) struct Summary(Mutex<Kept>);

/// The picture that was written last, and what was made of it.
#[derive(Debug, Default)]
struct Kept {
    tasks: SharedMap<TaskKey, Arc<Task>>,
    sizes: SharedMap<TaskKey, Arc<Sizes>>,
    agents: Arc<Vec<Arc<AgentFacts>>>,
    by_agent: BTreeMap<AgentId, Tally<FrameworkId>>,
    by_framework: BTreeMap<FrameworkId, Tally<AgentId>>,
    /// Each agent's part of the text, and of what it was written.
    written: BTreeMap<AgentId, (Arc<AgentFacts>, String)>,
    /// Bytes of the last text.
    length: usize,
}

impl Summary {
    /// The agents of the last picture.
    pub(super) fn agents(&self) -> Arc<Vec<Arc<AgentFacts>>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).agents)
    }

    /// The whole text.
    pub(super) fn write(&self, picture: &Picture) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count(picture);
        kept.write(picture)
    }
}

impl Kept {
    /// Brings the counts up to a picture, which may be any.
    fn count(&mut self, picture: &Picture) {
        let (tasks, sizes) = (picture.snapshot.tasks.clone(), picture.sizes.clone());
        let mut changed: BTreeSet<TaskKey> = tasks.changed(&self.tasks).into_iter().collect();
        changed.extend(sizes.changed(&self.sizes));
        let before = (
            std::mem::replace(&mut self.tasks, tasks),
            std::mem::replace(&mut self.sizes, sizes),
        );
        for key in changed {
            if let Some((task, used)) = part(&before.0, &before.1, &key) {
                if let Some(tally) = self.by_agent.get_mut(&task.agent) {
                    tally.remove(task, &used, &key.0);
                }
                if let Some(tally) = self.by_framework.get_mut(&key.0) {
                    tally.remove(task, &used, &task.agent);
                }
                self.written.remove(&task.agent);
            }
            if let Some((task, used)) = part(&self.tasks, &self.sizes, &key) {
                let tally = self.by_agent.entry(task.agent.clone()).or_default();
                tally.add(task, &used, key.0.clone());
                let tally = self.by_framework.entry(key.0.clone()).or_default();
                tally.add(task, &used, task.agent.clone());
                self.written.remove(&task.agent);
            }
        }
        self.by_agent.retain(|_, tally| !tally.is_empty());
        self.by_framework.retain(|_, tally| !tally.is_empty());
        self.agents = Arc::new(picture.agents.clone());
    }

    fn write(&mut self, picture: &Picture) -> String {
        let (host, _) = picture.address.rsplit_once(':').unwrap_or((&picture.address, ""));
        let mut out = String::with_capacity(self.length + self.length / 8);
        out.push_str(&format!(
            "{{\"hostname\":{},\"cluster\":{},\"slaves\":[",
            json!(host),
            json!(picture.cluster)
        ));
        let none = Tally::default();
        for (index, facts) in picture.agents.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let id = &facts.record.id;
            let known = self.written.get(id).filter(|(of, _)| Arc::ptr_eq(of, facts));
            if known.is_none() {
                let tally = self.by_agent.get(id).unwrap_or(&none);
                let text = legacy::agent_summary(picture.started, facts, tally).to_string();
                self.written.insert(id.clone(), (Arc::clone(facts), text));
            }
            out.push_str(self.written.get(id).map_or("{}", |(_, text)| text));
        }
        if self.written.len() > picture.agents.len() {
            let there: BTreeSet<&AgentId> = picture.agents.iter().map(|facts| &facts.record.id).collect();
            self.written.retain(|id, _| there.contains(id));
        }
        out.push_str("],\"frameworks\":[");
        let none = Tally::default();
        for (index, facts) in picture.frameworks.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let tally = self.by_framework.get(&facts.info.id).unwrap_or(&none);
            out.push_str(&legacy::framework_summary(picture.started, facts, tally).to_string());
        }
        out.push_str("]}");
        self.length = out.len();
        out
    }
}

/// A task and what it uses.
fn part<'a>(
    tasks: &'a SharedMap<TaskKey, Arc<Task>>,
    sizes: &SharedMap<TaskKey, Arc<Sizes>>,
    key: &TaskKey,
) -> Option<(&'a Task, Resources)> {
    let task = tasks.get(key)?;
    Some((task, sizes.get(key).map(|sizes| sizes.resources).unwrap_or_default()))
}
