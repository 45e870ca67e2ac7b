//! What must hold of frameworks at every moment, for the simulation.

use std::collections::BTreeMap;

use model::Resources;

use crate::framework::FrameworkTaskRecord;

use super::super::Scheduler;
use super::super::node::Node;

impl Scheduler {
    /// What frameworks' tasks run on an agent.
    pub(in crate::core) fn tasks_of_frameworks<'a>(
        &'a self,
        node: &'a Node,
    ) -> impl Iterator<Item = &'a FrameworkTaskRecord> {
        node.tasks.iter().map(|key| {
            let record = self.frameworks.task(key).expect("a task on an agent is known");
            assert!(!record.is_over(), "{}: an ended task is charged", record.spec.task);
            assert_eq!(record.agent, node.record.id, "{} is on another agent", record.spec.task);
            record
        })
    }

    /// Panics where the state contradicts itself.
    pub(in crate::core) fn check_frameworks(&self) {
        let mut held: BTreeMap<_, (Resources, Vec<(u16, u16)>)> = BTreeMap::new();
        for offer in self.frameworks.offers.values() {
            let framework = &self.frameworks.joined[&offer.framework];
            assert!(framework.offers.contains(&offer.id) && framework.stream.is_some());
            let sum = held.entry(&offer.agent.id).or_default();
            sum.0 = sum.0.plus(&offer.resources);
            sum.1.extend(&offer.ports);
        }
        for (id, node) in self.nodes.iter() {
            let (resources, mut ports) = held.remove(id).unwrap_or_default();
            let mut offered = node.offered_ports.clone();
            ports.sort_unstable();
            offered.sort_unstable();
            assert_eq!(
                (resources, ports),
                (node.offered, offered),
                "{id}: what is held in offers"
            );
            let both = node.used.plus(&node.offered);
            assert!(
                node.record.resources.holds(&both),
                "{id} is over-committed with its offers"
            );
            let twice = node
                .used_ports
                .iter()
                .find(|port| super::super::node::in_ranges(&node.offered_ports, **port));
            assert_eq!(twice, None, "{id}: a port in use is offered");
        }
        for node in self.nodes.values() {
            self.check_holdings(node);
        }
        assert!(held.is_empty(), "offers of agents that are not there: {held:?}");
        for framework in self.frameworks.joined.values() {
            self.check_framework(framework);
        }
    }

    /// No part of a reservation, and no volume, is used or offered twice, and none that is to go.
    fn check_holdings(&self, node: &Node) {
        let id = &node.record.id;
        let mut left = node.holdings().to_vec();
        let offers = self.frameworks.offers.values().filter(|offer| offer.agent.id == *id);
        let tasks = self.tasks_of_frameworks(node).flat_map(|task| &task.from);
        let strays = node.strays.values().flat_map(|stray| &stray.from);
        for part in tasks.chain(strays).chain(offers.flat_map(|offer| &offer.reserved)) {
            let kept = left.iter_mut().find(|one| one.by == part.by);
            let kept = kept.unwrap_or_else(|| panic!("{id}: {part:?} is reserved by nobody"));
            assert!(kept.resources.holds(&part.resources), "{id}: {part:?} is given twice");
            kept.resources = kept.resources.minus(&part.resources);
            for volume in &part.volumes {
                let index = kept.volumes.iter().position(|one| one.id == volume.id && !one.leaving);
                let index = index.unwrap_or_else(|| panic!("{id}: the volume {} is given twice", volume.id));
                kept.volumes.remove(index);
            }
        }
    }

    fn check_framework(&self, framework: &super::Joined) {
        let mut allocated: BTreeMap<String, Resources> = BTreeMap::new();
        for record in framework.tasks.values() {
            if record.is_over() {
                assert!(!record.pending.is_empty(), "{}: kept for nobody", record.spec.task);
                continue;
            }
            super::add(&mut allocated, &record.role, &record.spec.resources);
            let key = (framework.record.id.clone(), record.task.clone());
            let node = self.nodes.get(&record.agent).expect("a task's agent is known");
            assert!(
                node.tasks.contains(&key),
                "{} is not charged to its agent",
                record.spec.task
            );
        }
        allocated.retain(|_, sum| *sum != Resources::default());
        assert_eq!(
            allocated, framework.allocated,
            "{}: what its tasks use",
            framework.record.id
        );
        assert!(framework.record.removed_at.is_none());
    }
}
