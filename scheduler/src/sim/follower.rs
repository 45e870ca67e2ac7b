//! The other two of three masters: one copy is told every record as it is persisted, the other hears of many at a time.

use crate::{Record, Scheduler, Timestamp};

use super::master::config;
use super::world::{Bug, World};

/// The copies of those that do not lead.
pub(super) struct Copies {
    prompt: Scheduler,
    late: Scheduler,
    /// What the late one has not been told.
    untold: Vec<Record>,
}

impl Copies {
    pub(super) fn new() -> Self {
        let copy = || Scheduler::following(config(), Vec::new());
        Self {
            prompt: copy(),
            late: copy(),
            untold: Vec::new(),
        }
    }
}

impl World {
    /// The other masters' copies take a record.
    pub(super) fn copied(&mut self, record: &Record) {
        self.copies.prompt.follow(Timestamp(self.now), record.clone());
        let missed = self.bug == Some(Bug::MissedRecord) && matches!(record, Record::PutInstance(_));
        if !missed {
            self.copies.untold.push(record.clone());
        }
    }

    /// See [`check_copy`](Self::check_copy), of both.
    pub(super) fn check_copies(&mut self) {
        for record in std::mem::take(&mut self.copies.untold) {
            self.copies.late.follow(Timestamp(self.now), record);
        }
        if let Some(core) = &self.core {
            self.copies.prompt.follow_suspects(core.suspects());
            self.copies.late.follow_suspects(core.suspects());
        }
        self.check_copy(&self.copies.prompt);
        self.check_copy(&self.copies.late);
    }

    /// What a copy came to by single records must be what it would be from all of them; and what its readers see of the
    /// tasks is what the leader's readers see.
    fn check_copy(&self, copy: &Scheduler) {
        let mut fresh = Scheduler::following(config(), self.store.records());
        fresh.follow_suspects(copy.suspects());
        let agents: Vec<_> = fresh.known_agents().cloned().collect();
        assert!(copy.known_agents().eq(&agents), "the copy knows other agents");
        for id in &agents {
            assert_eq!(copy.told_on(id), fresh.told_on(id), "of {id}, from all records");
            let sums = |core: &Scheduler| core.agent_view(id).map(|view| (view.used, view.reserved, view.empty));
            assert_eq!(sums(copy), sums(&fresh), "used of {id}");
            let Some(leader) = self.core.as_ref().and_then(|core| core.told_on(id)) else {
                continue;
            };
            if let Some(told) = copy.told_on(id) {
                assert_eq!(told, leader, "of {id}, by the leader");
            }
        }
        assert!(copy.apps().eq(fresh.apps()) && copy.pods().eq(fresh.pods()), "apps");
        for app in fresh.apps().chain(fresh.pods()) {
            let ids = |core: &Scheduler| core.instances_of(&app.id).map(|one| one.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(copy), ids(&fresh), "instances of {}", app.id);
        }
        assert!(copy.framework_infos().eq(fresh.framework_infos()), "frameworks");
    }
}
