//! Deployments under way: their steps one after the other, and their early ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{
    Action, ActionKind, App, AppId, Cancel, ClusterEvent, CommandError, DeploymentRecord, GroupId, GroupRecord,
    InstanceId, Record, Reply, Run, Timestamp,
};

use super::change::Change;
use super::deadline::DeploymentEnd;
use super::timers::Timer;
use super::{Force, Scheduler};

impl Scheduler {
    /// Makes a deployment of a change that is in the state already.
    pub(super) fn deploy(
        &mut self,
        version: Timestamp,
        steps: Vec<Vec<Action>>,
        before: BTreeMap<AppId, Option<App>>,
        groups_before: BTreeMap<GroupId, Option<GroupRecord>>,
    ) -> String {
        let record = DeploymentRecord {
            id: self.random.uuid(),
            version,
            steps,
            step: 0,
            before,
            groups_before,
        };
        let id = record.id.clone();
        for app in record.apps() {
            self.deploying.insert(app.clone(), id.clone());
        }
        self.persist(Record::PutDeployment(Box::new(record.clone())));
        self.tell_event(ClusterEvent::StepBegan(Arc::new(record.clone())));
        self.deployments.insert(id.clone(), record);
        self.time_deployment(&id);
        self.advance(&id);
        id
    }

    /// Goes on to the first step that is not done; after the last one the deployment is over.
    pub(super) fn advance(&mut self, id: &str) {
        let Some(record) = self.deployments.get(id) else { return };
        let done_so_far = record.step;
        loop {
            let Some(record) = self.deployments.get(id) else { return };
            if record.index() >= record.steps.len() {
                let record = Arc::new(record.clone());
                self.drop_deployment(id);
                self.ends.note(id, DeploymentEnd::Done);
                self.tell_event(ClusterEvent::Deployed(record));
                return;
            }
            if !record.current().iter().all(|action| self.is_done(action)) {
                break;
            }
            self.next_step(id);
        }
        if let Some(record) = self.deployments.get(id)
            && record.step != done_so_far
        {
            self.persist(Record::PutDeployment(Box::new(record.clone())));
        }
    }

    fn next_step(&mut self, id: &str) {
        let Some(record) = self.deployments.get_mut(id) else {
            return;
        };
        let done = Arc::new(record.clone());
        record.step = record.step.saturating_add(1);
        let begun = Arc::new(record.clone());
        self.tell_event(ClusterEvent::StepDone(done));
        if !begun.current().is_empty() {
            // Apps whose turn has come are looked at.
            self.dirty
                .extend(begun.current().iter().map(|action| action.app.clone()));
            self.tell_event(ClusterEvent::StepBegan(begun));
        }
    }

    fn is_done(&self, action: &Action) -> bool {
        match action.kind {
            ActionKind::Start => true,
            ActionKind::Stop => self.apps.contains_key(&action.app) || !self.by_app.contains_key(&action.app),
            ActionKind::Scale | ActionKind::Restart => self.is_deployed(&action.app),
        }
    }

    fn drop_deployment(&mut self, id: &str) -> Option<DeploymentRecord> {
        let record = self.deployments.remove(id)?;
        self.deploying.retain(|_, deployment| deployment != id);
        self.timers.cancel(&Timer::Deadline(id.to_owned()));
        self.persist(Record::DeleteDeployment(id.to_owned()));
        Some(record)
    }

    /// The definition by which an app is kept now: while its turn in a deployment has not come, that of before.
    pub(crate) fn in_force(&self, id: &AppId) -> Option<App> {
        let app = self.apps.get(id)?;
        let deployment = self.deploying.get(id).and_then(|id| self.deployments.get(id));
        let held = deployment.filter(|record| record.to_come().any(|action| action.app == *id));
        match held {
            None => Some(app.clone()),
            Some(record) => record.before.get(id).cloned().flatten(),
        }
    }

    /// Marathon's lock: one change of an app at a time, unless forced.
    pub(super) fn check_unlocked(&self, apps: &BTreeSet<AppId>, force: Force) -> Result<(), CommandError> {
        let running = self.running(apps);
        if force == Force::No && !running.is_empty() {
            return Err(CommandError::Locked(running.into_iter().collect()));
        }
        Ok(())
    }

    /// Deployments under way that concern any of the apps.
    fn running(&self, apps: &BTreeSet<AppId>) -> BTreeSet<String> {
        apps.iter().filter_map(|app| self.deploying.get(app)).cloned().collect()
    }

    /// Ends every deployment that concerns any of the apps: a new one takes its place for those, others are left as
    /// they are.
    pub(super) fn overtake(&mut self, apps: &BTreeSet<AppId>) {
        for id in self.running(apps) {
            self.end_early(&id, apps, "another change took its place by force");
        }
    }

    /// Ends a deployment early. Instances of its apps, but for those in `except`, count from now on as what their app
    /// wants, whichever definition they were launched from.
    pub(super) fn end_early(&mut self, id: &str, except: &BTreeSet<AppId>, why: &str) {
        let Some(record) = self.drop_deployment(id) else { return };
        self.ends.note(id, DeploymentEnd::GivenUp(why.to_owned()));
        for app in record.apps() {
            if !except.contains(app) {
                self.adopt_all(app);
                self.dirty.insert(app.clone());
            }
        }
        let record = Arc::new(record);
        self.tell_event(ClusterEvent::StepGivenUp(Arc::clone(&record)));
        self.tell_event(ClusterEvent::GivenUp(record, why.to_owned()));
    }

    fn adopt_all(&mut self, app: &AppId) {
        let Some(config) = self.apps.get(app).map(|app| app.last_config_change) else {
            return;
        };
        let old = self.wanted_instances(app).filter(|one| one.config != config);
        let old: Vec<InstanceId> = old.map(|one| one.id.clone()).collect();
        for id in old {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.config = config;
                let record = Record::PutInstance(Box::new(instance.clone()));
                self.persist(record);
            }
        }
    }

    /// `DELETE /v2/deployments/{id}`.
    pub(super) fn cancel_deployment(&mut self, id: &str, how: Cancel) -> Result<Reply, CommandError> {
        let record = self.deployments.get(id).cloned();
        let record = record.ok_or_else(|| CommandError::NoDeployment(id.to_owned()))?;
        if how == Cancel::Leave {
            self.end_early(id, &BTreeSet::new(), "it was cancelled; all stays as it is");
            return Ok(Reply {
                apps: record.apps().into_iter().cloned().collect(),
                version: record.version,
                ..Reply::default()
            });
        }
        self.roll_back(record, "it was cancelled; what was before comes back")
    }

    /// Brings back what was before a deployment that is under way.
    pub(super) fn roll_back(&mut self, record: DeploymentRecord, why: &str) -> Result<Reply, CommandError> {
        let id = record.id;
        let mut change = Change::new(self.next_version());
        for (app, before) in record.before {
            let before = before.map(|before| App {
                version: change.version,
                ..before
            });
            if before.is_some() || self.apps.contains_key(&app) {
                change.apps.insert(app, before);
            }
        }
        change.groups = record.groups_before;
        // A first look without consequences: what cannot be brought back leaves the deployment as it is.
        self.change(change.clone(), Force::Yes, Run::Dry)?;
        let all = change.apps.keys().cloned().collect();
        self.end_early(&id, &all, why);
        self.change(change, Force::Yes, Run::Real)
    }

    /// A deployment that is under way and concerns an app.
    pub fn deployment_of(&self, app: &AppId) -> Option<&DeploymentRecord> {
        self.deployments.get(self.deploying.get(app)?)
    }

    /// Deployments under way, oldest first.
    pub fn deployments(&self) -> Vec<&DeploymentRecord> {
        let mut all: Vec<&DeploymentRecord> = self.deployments.values().collect();
        all.sort_by_key(|record| record.version);
        all
    }
}
