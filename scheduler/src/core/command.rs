//! What users ask: create, scale and remove apps, end tasks.

use std::collections::{BTreeMap, BTreeSet};

use model::TaskId;

use crate::{
    AfterKill, App, AppId, AppSpec, ClusterEvent, Command, CommandError, Fault, InstanceId, InstanceRecord, Reply, Run,
    Timestamp, Volumes,
};

use super::change::Change;
use super::order::ancestors;
use super::{Force, Scheduler};

impl Scheduler {
    /// Takes a user's wish, or refuses it whole.
    pub fn handle_command(&mut self, now: Timestamp, command: Command) -> Result<Reply, CommandError> {
        self.enter(now);
        let of_group = matches!(command, Command::Group { .. });
        let reply = match command {
            Command::CreateApp(spec) => self.create_app(&spec),
            Command::ScaleApp { id, instances, force } => self.scale_app(&id, instances, force),
            Command::UpdateApp { id, spec, force } => self.update_app(&id, &spec, force),
            Command::RestartApp { id, force } => self.restart_app(&id, force),
            Command::RollBackApp { id, version, force } => self.roll_back_app(&id, version, force),
            Command::RemoveApp { id, force } => self.remove_app(&id, force),
            Command::PutApps { specs, force } => self.put_apps(&specs, force),
            Command::KillTasks {
                tasks,
                then,
                volumes,
                force,
            } => self.kill_tasks(&tasks, then, volumes, force),
            Command::CancelDeployment { id, how } => self.cancel_deployment(&id, how),
            Command::ForgetDelay { id } => self.end_delay(&id),
            Command::PutSecret { path, value, put } => self.put_secret(&path, &value, put),
            Command::RemoveSecret { path } => self.remove_secret(&path),
            Command::CreateNetwork(spec) => self.create_network(&spec),
            Command::RemoveNetwork { name } => self.remove_network(&name),
            Command::Group { id, change, force, run } => self.group_command(&id, &change, force, run),
        };
        if let Ok(reply) = &reply
            && !of_group
            && reply.deployment.is_some()
        {
            self.tell_groups(reply);
        }
        self.settle();
        reply
    }

    /// A change of an app is one of the group around it, too.
    fn tell_groups(&mut self, reply: &Reply) {
        let around: BTreeSet<String> = reply
            .apps
            .iter()
            .filter_map(|app| ancestors(app.as_str()).next())
            .map(|group| group.to_string())
            .collect();
        for group in around {
            self.tell_event(ClusterEvent::GroupChanged(group, reply.version));
        }
    }

    fn create_app(&mut self, spec: &AppSpec) -> Result<Reply, CommandError> {
        if let Some(app) = self.run_spec(&spec.id) {
            return Err(CommandError::AppExists(app.id.to_string()));
        }
        let mut change = Change::new(self.next_version());
        self.add_specs(&mut change, &[(String::new(), spec)])
            .map_err(CommandError::Invalid)?;
        // The instances of an earlier app of that name may still be ending: that need not be waited for.
        let leaving = change
            .apps
            .keys()
            .all(|id| self.deployment_of(id).is_none_or(|running| running.only_removes()));
        let force = if leaving { Force::Yes } else { Force::No };
        self.change(change, force, Run::Real)
    }

    fn put_apps(&mut self, specs: &[AppSpec], force: Force) -> Result<Reply, CommandError> {
        let mut change = Change::new(self.next_version());
        let placed = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| (format!("({index})"), spec));
        let placed: Vec<(String, &AppSpec)> = placed.collect();
        self.add_specs(&mut change, &placed).map_err(CommandError::Invalid)?;
        if change.apps.is_empty() {
            let fault = Fault::new("/", "the list is empty: write the apps that are to be made or changed");
            return Err(CommandError::Invalid(vec![fault]));
        }
        self.change(change, force, Run::Real)
    }

    fn scale_app(&mut self, id: &str, instances: i64, force: Force) -> Result<Reply, CommandError> {
        let app = self.known(id)?;
        let wanted = crate::spec::instance_count(instances).map_err(|fault| CommandError::Invalid(vec![fault]))?;
        let version = self.next_version();
        let app = App {
            instances: wanted,
            version,
            ..app
        };
        self.change(Change::of_app(app), force, Run::Real)
    }

    fn remove_app(&mut self, id: &str, force: Force) -> Result<Reply, CommandError> {
        let app = self.known(id)?;
        let mut change = Change::new(self.next_version());
        change.apps.insert(app.id, None);
        self.change(change, force, Run::Real)
    }

    /// The instance of a task that a user names.
    fn instance_of(&self, task: &str) -> Option<&InstanceRecord> {
        let instance = InstanceId::of_task(&TaskId::new(task)).and_then(|id| self.instances.get(&id))?;
        instance.has_task(&TaskId::new(task)).then_some(instance)
    }

    fn kill_tasks(
        &mut self,
        tasks: &[String],
        then: AfterKill,
        volumes: Volumes,
        force: Force,
    ) -> Result<Reply, CommandError> {
        let mut ends: Vec<InstanceId> = Vec::new();
        let mut wipes: Vec<InstanceId> = Vec::new();
        let mut fewer: BTreeMap<AppId, u32> = BTreeMap::new();
        for task in tasks {
            if let Some(idle) = self.idle_residence_of(task) {
                wipes.push(idle);
                continue;
            }
            let instance = self.instance_of(task);
            let instance = instance.ok_or_else(|| CommandError::NoTask(task.clone()))?;
            wipes.push(instance.id.clone());
            if !instance.unwanted && !ends.contains(&instance.id) {
                ends.push(instance.id.clone());
                *fewer.entry(instance.app.clone()).or_default() += 1;
            }
        }
        let mut reply = Reply {
            apps: fewer.keys().cloned().collect(),
            version: self.now,
            ..Reply::default()
        };
        if then == AfterKill::Scale {
            let mut change = Change::new(self.next_version());
            for (id, count) in fewer {
                if let Some(app) = self.apps.get(&id) {
                    let app = App {
                        instances: app.instances.saturating_sub(count),
                        version: change.version,
                        ..app.clone()
                    };
                    change.apps.insert(id, Some(app));
                }
            }
            reply = self.change(change, force, Run::Real)?;
        }
        if volumes == Volumes::Wipe {
            wipes.iter().for_each(|id| self.wipe(id));
        }
        for id in ends {
            self.end(&id);
        }
        Ok(reply)
    }

    /// `DELETE /v2/queue/{id}/delay`.
    fn end_delay(&mut self, id: &str) -> Result<Reply, CommandError> {
        let app = self.known(id)?;
        self.forget_delay(&app.id);
        self.dirty.insert(app.id.clone());
        Ok(Reply {
            apps: vec![app.id],
            version: app.version,
            ..Reply::default()
        })
    }

    /// Versions are times and never come twice.
    pub(super) fn next_version(&mut self) -> Timestamp {
        let next = Timestamp(self.last_version.0.saturating_add(1));
        self.last_version = self.now.max(next);
        self.last_version
    }
}
