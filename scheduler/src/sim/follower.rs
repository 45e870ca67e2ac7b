//! A copy that is told every record as it is persisted, beside the master that persists it.

use crate::{Record, Scheduler, Timestamp};

use super::master::config;
use super::world::World;

impl World {
    /// Another master's copy takes a record.
    pub(super) fn copied(&mut self, record: &Record) {
        self.copy.follow(Timestamp(self.now), record.clone());
    }

    /// What the copy came to by single records must be what it would be from all of them; and what its readers see of the
    /// tasks is what the leader's readers see.
    pub(super) fn check_copy(&mut self) {
        if let Some(core) = &self.core {
            self.copy.follow_suspects(core.suspects());
        }
        let mut fresh = Scheduler::following(config(), self.store.records());
        fresh.follow_suspects(self.copy.suspects());
        let agents: Vec<_> = fresh.known_agents().cloned().collect();
        assert!(self.copy.known_agents().eq(&agents), "the copy knows other agents");
        for id in &agents {
            assert_eq!(self.copy.told_on(id), fresh.told_on(id), "of {id}, from all records");
            let sums = |core: &Scheduler| core.agent_view(id).map(|view| (view.used, view.reserved, view.empty));
            assert_eq!(sums(&self.copy), sums(&fresh), "used of {id}");
            let Some(leader) = self.core.as_ref().and_then(|core| core.told_on(id)) else {
                continue;
            };
            if let Some(told) = self.copy.told_on(id) {
                assert_eq!(told, leader, "of {id}, by the leader");
            }
        }
        assert!(
            self.copy.apps().eq(fresh.apps()) && self.copy.pods().eq(fresh.pods()),
            "apps"
        );
        for app in fresh.apps().chain(fresh.pods()) {
            let ids = |core: &Scheduler| core.instances_of(&app.id).map(|one| one.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&self.copy), ids(&fresh), "instances of {}", app.id);
        }
        assert!(self.copy.framework_infos().eq(fresh.framework_infos()), "frameworks");
    }
}
