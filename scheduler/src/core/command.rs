//! What users ask: create, scale and remove apps, end a task.

use model::TaskId;

use crate::{App, AppId, AppSpec, Command, CommandError, Fault, InstanceId, Record, Reply, Timestamp};

use super::{Deployment, Force, Scheduler};

impl Scheduler {
    /// Takes a user's wish, or refuses it whole.
    pub fn handle_command(&mut self, now: Timestamp, command: Command) -> Result<Reply, CommandError> {
        self.enter(now);
        let reply = match command {
            Command::CreateApp(spec) => self.create_app(&spec),
            Command::ScaleApp { id, instances, force } => self.scale_app(&id, instances, force),
            Command::UpdateApp { id, spec, force } => self.update_app(&id, &spec, force),
            Command::RestartApp { id, force } => self.restart_app(&id, force),
            Command::RollBackApp { id, version, force } => self.roll_back_app(&id, version, force),
            Command::RemoveApp { id } => self.remove_app(&id),
            Command::KillTask { task } => self.kill_task(&task),
        };
        self.settle();
        reply
    }

    fn create_app(&mut self, spec: &AppSpec) -> Result<Reply, CommandError> {
        if let Some(app) = self.app(&spec.id) {
            return Err(CommandError::AppExists(app.id.to_string()));
        }
        let version = self.next_version();
        // Ports given to a definition that is then refused stay free.
        let mut ports = self.service_ports.clone();
        let checked = App::from_spec(
            version,
            spec,
            &self.config.framework_name,
            &self.config.default_network,
            &mut ports,
        );
        let mut faults = self.group_conflicts(&spec.id);
        let app = match checked {
            Ok(app) if faults.is_empty() => app,
            Ok(_) => return Err(CommandError::Invalid(faults)),
            Err(more) => {
                faults.extend(more);
                return Err(CommandError::Invalid(faults));
            }
        };
        self.service_ports = ports;
        self.service_ports.take(&app);
        let id = app.id.clone();
        self.persist(Record::PutApp(Box::new(app.clone())));
        self.apps.insert(id.clone(), app);
        Ok(self.deploy(id, version))
    }

    /// An app and a group cannot share an id.
    fn group_conflicts(&self, id: &str) -> Vec<Fault> {
        let Ok(id) = AppId::parse(id) else { return Vec::new() };
        let within = |inner: &AppId, outer: &AppId| {
            inner
                .as_str()
                .strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        self.apps
            .keys()
            .filter(|other| within(other, &id) || within(&id, other))
            .map(|other| {
                Fault::new(
                    "/id",
                    format!(
                        "an app and a group cannot share an id: {id} conflicts with the app {other}; choose another"
                    ),
                )
            })
            .collect()
    }

    fn scale_app(&mut self, id: &str, instances: i64, force: Force) -> Result<Reply, CommandError> {
        let no_app = || CommandError::NoApp(id.to_owned());
        let app_id = self.app(id).map(|app| app.id.clone()).ok_or_else(no_app)?;
        let wanted = crate::spec::instance_count(instances).map_err(|fault| CommandError::Invalid(vec![fault]))?;
        self.check_unlocked(&app_id, force)?;
        let mut app = self.apps.get(&app_id).cloned().ok_or_else(no_app)?;
        app.instances = wanted;
        app.version = self.next_version();
        Ok(self.put_app(app))
    }

    fn remove_app(&mut self, id: &str) -> Result<Reply, CommandError> {
        let no_app = || CommandError::NoApp(id.to_owned());
        let app_id = AppId::parse(id).map_err(|_| no_app())?;
        let app = self.apps.remove(&app_id).ok_or_else(no_app)?;
        self.free_service_ports(&app);
        self.waiting.remove(&app_id);
        self.forget_delay(&app_id);
        let version = self.next_version();
        self.forget_versions(&app_id);
        self.persist(Record::DeleteApp(app_id.clone()));
        Ok(self.deploy(app_id, version))
    }

    /// A number that another app wrote itself stays taken.
    pub(super) fn free_service_ports(&mut self, app: &App) {
        self.service_ports.free(app);
        for other in self.apps.values() {
            self.service_ports.take(other);
        }
    }

    fn kill_task(&mut self, task: &str) -> Result<Reply, CommandError> {
        let instance = InstanceId::of_task(&TaskId::new(task)).and_then(|id| self.instances.get(&id));
        let Some(instance) = instance.filter(|instance| instance.spec.task.as_str() == task) else {
            return Err(CommandError::NoTask(task.to_owned()));
        };
        let (id, app) = (instance.id.clone(), instance.app.clone());
        self.end(&id);
        let version = self.apps.get(&app).map_or(self.now, |app| app.version);
        match self.deployments.get(&app) {
            // A change of the app goes on; its instances are looked at again anyway.
            Some(running) if !running.done => Ok(Reply {
                deployment: running.id.clone(),
                app,
                version,
            }),
            _ => Ok(self.deploy(app, version)),
        }
    }

    pub(super) fn deploy(&mut self, app: AppId, version: Timestamp) -> Reply {
        let id = self.random.uuid();
        self.deployments.insert(
            app.clone(),
            Deployment {
                id: id.clone(),
                version,
                done: false,
            },
        );
        self.dirty.insert(app.clone());
        Reply {
            app,
            version,
            deployment: id,
        }
    }

    /// Versions are times and never come twice.
    pub(super) fn next_version(&mut self) -> Timestamp {
        let next = Timestamp(self.last_version.0.saturating_add(1));
        self.last_version = self.now.max(next);
        self.last_version
    }
}
