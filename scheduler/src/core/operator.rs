//! What operators say of agents: no more tasks there, empty it, it will not come back; and what roles weigh.

use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, TaskEvent, TaskId, TaskState};

use crate::{AgentCall, AgentOrder, InstanceId, Record, Timestamp};

use super::Scheduler;
use super::frameworks::Return;
use super::node::Link;
use super::timers::Timer;

#[cfg(test)]
#[path = "operator/tests.rs"]
mod tests;

impl Scheduler {
    /// Takes what an operator says of an agent. An error says why it is not taken.
    pub fn handle_agent_call(&mut self, now: Timestamp, agent: &AgentId, call: AgentCall) -> Result<(), String> {
        self.enter(now);
        let node = self.nodes.get(agent).filter(|node| !node.order.gone);
        let order = node
            .map(|node| node.order.clone())
            .ok_or_else(|| format!("Agent '{agent}' is not known"))?;
        match call {
            AgentCall::Deactivate => self.order_agent(
                agent,
                AgentOrder {
                    deactivated: true,
                    ..order
                },
            ),
            AgentCall::Reactivate => self.order_agent(agent, AgentOrder::default()),
            AgentCall::Drain(drain) => {
                let order = AgentOrder {
                    deactivated: true,
                    drain: Some(drain),
                    ..order
                };
                self.order_agent(agent, order);
                self.empty(agent);
            }
            AgentCall::MarkGone => self.mark_gone(agent),
        }
        self.settle();
        Ok(())
    }

    /// Sets what a role weighs in the allocator.
    pub fn handle_weight(&mut self, now: Timestamp, role: &str, weight: f64) -> Result<(), String> {
        self.enter(now);
        if !weight.is_finite() || weight <= 0.0 {
            return Err(format!("Invalid weight '{weight}': Weights must be positive"));
        }
        self.persist(Record::PutWeight(role.to_owned(), weight));
        self.set_weight(role, weight);
        self.settle();
        Ok(())
    }

    fn order_agent(&mut self, agent: &AgentId, order: AgentOrder) {
        let Some(node) = self.nodes.get_mut(agent) else { return };
        if node.order == order {
            return;
        }
        node.order = order.clone();
        self.leaving.remove(agent);
        if order.drain.as_ref().is_some_and(|drain| drain.mark_gone) {
            self.leaving.insert(agent.clone());
        }
        let back = !order.deactivated;
        self.persist(Record::PutAgentOrder(agent.clone(), order));
        if back {
            self.frameworks.freed(agent);
            self.capacity_changed();
        } else {
            self.rescind_all_of(agent);
        }
    }

    /// Ends all that runs on an agent that is being emptied or out of service; Marathon's instances get others elsewhere.
    pub(super) fn empty(&mut self, agent: &AgentId) {
        let Some(node) = self.nodes.get(agent) else { return };
        let most = match &node.order.drain {
            Some(drain) => drain.max_grace.unwrap_or(Duration::MAX),
            None if node.down => Duration::MAX,
            None => return,
        };
        let instances: Vec<InstanceId> = node.instances.iter().cloned().collect();
        for id in instances {
            if let Some(instance) = self.instances.get_mut(&id) {
                let kill = &mut Arc::make_mut(&mut instance.spec).kill;
                kill.grace = kill.grace.min(most);
            }
            self.end(&id);
        }
        self.empty_of_frameworks(agent, most);
    }

    /// Agents that are empty now and are not to come back.
    pub(super) fn finish_drains(&mut self) {
        let empty = |agent: &&AgentId| self.nodes.get(*agent).is_some_and(super::Node::is_empty);
        let done: Vec<AgentId> = self.leaving.iter().filter(empty).cloned().collect();
        for agent in done {
            self.mark_gone(&agent);
        }
    }

    /// The agent and all that ran there is gone for good; its id never comes back.
    fn mark_gone(&mut self, agent: &AgentId) {
        const WHY: &str = "an operator says that its agent is gone";
        self.rescind_all_of(agent);
        self.framework_tasks_lost(agent, Return::NeverSaysOperator, WHY);
        let Some(node) = self.nodes.get_mut(agent) else { return };
        let told = node.link.is_told();
        node.link = Link::Unreachable;
        node.order = AgentOrder {
            deactivated: true,
            drain: None,
            gone: true,
        };
        let order = node.order.clone();
        let strays: Vec<TaskId> = node.strays.keys().cloned().collect();
        for task in &strays {
            node.drop_stray(task);
            self.timers.cancel(&Timer::RepeatStray(agent.clone(), task.clone()));
        }
        let instances: Vec<InstanceId> = node.instances.iter().cloned().collect();
        self.persist(Record::PutAgentOrder(agent.clone(), order));
        for id in instances {
            self.instance_over(&id, self.own_status(TaskState::GoneByOperator, WHY));
        }
        self.forget_holdings(agent);
        self.suspects.remove(agent);
        self.leaving.remove(agent);
        self.timers.cancel(&Timer::AgentSilent(agent.clone()));
        self.timers.cancel(&Timer::AgentSuspect(agent.clone()));
        let forget = self.now.after(self.config.forget_agent);
        self.timers.set(Timer::ForgetAgent(agent.clone()), forget);
        if told {
            self.tell_agent_failed(agent);
            self.emit(TaskEvent::AgentRemoved(agent.clone()));
        }
    }
}
