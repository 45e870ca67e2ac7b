//! The core's own invariants, for the simulation.

use std::collections::{BTreeMap, BTreeSet};

use model::Resources;

use super::Scheduler;
use super::rolling::is_ready;

impl Scheduler {
    /// Nobody is hidden but ready instances of suspects, and wherever one is, another takes its place.
    fn check_hidden(&self) {
        for id in &self.hidden {
            let hidden = &self.instances[id];
            assert!(
                self.suspects.contains(&hidden.agent),
                "{id} is hidden, but its agent speaks"
            );
            let mut others = self.instances_of(&hidden.app);
            let other = others.any(|one| !one.unwanted && is_ready(one) && !self.hidden.contains(&one.id));
            assert!(other, "{id} is hidden, though no other instance is ready");
        }
    }

    /// An instance with volumes is where they are, and has volumes if its app gave it some.
    fn check_residences(&self) {
        for residence in self.residences.values() {
            assert!(
                self.nodes.contains_key(&residence.agent),
                "{} has volumes on an unknown agent",
                residence.id
            );
            if let Some(instance) = self.instances.get(&residence.id) {
                assert_eq!(
                    instance.agent, residence.agent,
                    "{} ran away from its volumes",
                    residence.id
                );
                assert_eq!(
                    instance.spec.task,
                    residence.task(),
                    "the newest task of {}",
                    residence.id
                );
                assert!(
                    instance.unwanted || !residence.wiped,
                    "{} runs on though its volumes are to go",
                    residence.id
                );
            }
        }
        for instance in self.instances.values() {
            assert_eq!(
                self.residences.contains_key(&instance.id),
                !instance.spec.container.persistent.is_empty(),
                "{}: volumes and residence",
                instance.id
            );
        }
        let indexed: BTreeSet<_> = self.residences_by_app.values().flatten().collect();
        assert_eq!(indexed, self.residences.keys().collect(), "index of residences by app");
    }

    /// Panics where the state contradicts itself.
    pub(crate) fn check(&self) {
        self.nodes.check();
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for instance in self.instances.values() {
            *counts.entry(&instance.app).or_default() += 1;
            let listed = self
                .by_app
                .get(&instance.app)
                .is_some_and(|ids| ids.contains(&instance.id));
            assert!(listed, "{} is not listed under its app", instance.id);
            assert!(
                instance.comes_to(instance.status.state),
                "{}: {:?} is not what its members come to",
                instance.id,
                instance.status.state
            );
            let node = self.nodes.get(&instance.agent).expect("an instance's agent is known");
            assert!(
                node.instances.contains(&instance.id),
                "{} is not charged to its agent",
                instance.id
            );
        }
        let listed = self.by_app.iter().map(|(app, ids)| (app, ids.len()));
        assert!(counts.into_iter().eq(listed), "index by app");
        for node in self.nodes.values() {
            let mut used = Resources::default();
            let mut ports = BTreeSet::new();
            let specs = node.instances.iter().map(|id| &self.instances[id].spec);
            let charges = specs.map(|spec| (spec.resources, &spec.host_ports));
            let tasks = self.tasks_of_frameworks(node);
            let charges = charges.chain(tasks.map(|task| (task.unreserved(), &task.spec.host_ports)));
            let strays = node.strays.values().map(|stray| (stray.resources, &stray.host_ports));
            used = used.plus(&crate::reservation::total(node.holdings()));
            let here = self.residences.values().filter(|one| one.agent == node.record.id);
            for residence in here {
                used = used.plus(&residence.disk());
                if !node.instances.contains(&residence.id) && !node.has_stray_of(&residence.id) {
                    used = used.plus(&residence.resources);
                }
            }
            for (resources, host_ports) in charges.chain(strays) {
                used = used.plus(&resources);
                for port in host_ports {
                    assert!(
                        ports.insert(*port),
                        "{}: host port {port} is given twice",
                        node.record.id
                    );
                }
            }
            assert_eq!(used, node.used, "{}: used resources", node.record.id);
            assert_eq!(ports, node.used_ports, "{}: used ports", node.record.id);
            assert!(
                node.record.resources.holds(&used),
                "{} is over-committed",
                node.record.id
            );
        }
        self.check_residences();
        assert!(self.dirty.is_empty(), "every app was looked at");
        self.check_hidden();
        self.check_frameworks();
    }
}
