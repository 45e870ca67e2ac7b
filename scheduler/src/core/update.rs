//! Changes of an app that is there: another definition, a restart, a return to an earlier version.

use crate::{App, AppId, AppSpec, CommandError, Record, Reply, Timestamp};

use super::Scheduler;

/// Versions kept of an app, the newest included (Marathon's `--zk_max_versions`).
const MOST_VERSIONS: usize = 50;

/// Whether a command may overtake a change that is still being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refused while there is one.
    No,
    /// Takes its place; what was done so far stays done.
    Yes,
}

impl Scheduler {
    /// Another definition in the place of the present one. A change of `instances` alone scales.
    pub(super) fn update_app(&mut self, id: &str, spec: &AppSpec, force: Force) -> Result<Reply, CommandError> {
        let old = self.known(id)?;
        self.check_unlocked(&old.id, force)?;
        let mut spec = spec.clone();
        spec.id = old.id.to_string();
        keep_service_ports(&old, &mut spec);
        // The app's own numbers are free for itself, and stay taken if the definition is refused.
        let mut ports = self.service_ports.clone();
        ports.free(&old);
        for other in self.apps.values().filter(|app| app.id != old.id) {
            ports.take(other);
        }
        let version = self.next_version();
        let (framework, network) = (&self.config.framework_name, &self.config.default_network);
        let mut app = App::from_spec(version, &spec, framework, network, &mut ports).map_err(CommandError::Invalid)?;
        ports.take(&app);
        if same_but_for_instances(&old, &app) {
            app.last_config_change = old.last_config_change;
        } else {
            self.forget_delay(&app.id);
        }
        self.service_ports = ports;
        Ok(self.put_app(app))
    }

    /// Every instance replaced, nothing else changed.
    pub(super) fn restart_app(&mut self, id: &str, force: Force) -> Result<Reply, CommandError> {
        let mut app = self.known(id)?;
        self.check_unlocked(&app.id, force)?;
        app.version = self.next_version();
        app.last_config_change = app.version;
        self.forget_delay(&app.id);
        Ok(self.put_app(app))
    }

    /// The definition of an earlier version, as a new one.
    pub(super) fn roll_back_app(&mut self, id: &str, version: Timestamp, force: Force) -> Result<Reply, CommandError> {
        let present = self.known(id)?;
        let earlier = self.version(&present.id, version).cloned();
        let no_version = || CommandError::NoVersion(present.id.to_string(), version.to_string());
        let mut app = earlier.ok_or_else(no_version)?;
        self.check_unlocked(&app.id, force)?;
        app.version = self.next_version();
        app.last_config_change = if same_but_for_instances(&present, &app) {
            present.last_config_change
        } else {
            app.version
        };
        self.forget_delay(&app.id);
        self.free_service_ports(&present);
        self.service_ports.take(&app);
        Ok(self.put_app(app))
    }

    fn known(&self, id: &str) -> Result<App, CommandError> {
        self.app(id).cloned().ok_or_else(|| CommandError::NoApp(id.to_owned()))
    }

    /// Marathon's lock: one change of an app at a time, unless forced.
    pub(super) fn check_unlocked(&self, app: &AppId, force: Force) -> Result<(), CommandError> {
        match self.deployments.get(app) {
            Some(running) if force == Force::No && !running.done => Err(CommandError::Locked(running.id.clone())),
            _ => Ok(()),
        }
    }

    /// Makes `app` the newest version; the one before is kept.
    pub(super) fn put_app(&mut self, app: App) -> Reply {
        let (id, version) = (app.id.clone(), app.version);
        if let Some(before) = self.apps.insert(id.clone(), app.clone()) {
            self.persist(Record::PutVersion(Box::new(before.clone())));
            self.versions
                .entry(id.clone())
                .or_default()
                .insert(before.version, before);
        }
        self.persist(Record::PutApp(Box::new(app)));
        while let Some(oldest) = self.surplus_version(&id) {
            self.versions.entry(id.clone()).or_default().remove(&oldest);
            self.persist(Record::DeleteVersion(id.clone(), oldest));
        }
        self.time_unreachable_of(&id);
        self.deploy(id, version)
    }

    fn surplus_version(&self, app: &AppId) -> Option<Timestamp> {
        let kept = self.versions.get(app).filter(|kept| kept.len() >= MOST_VERSIONS)?;
        kept.keys().next().copied()
    }

    pub(super) fn forget_versions(&mut self, app: &AppId) {
        for version in self.versions.remove(app).unwrap_or_default().into_keys() {
            self.persist(Record::DeleteVersion(app.clone(), version));
        }
    }

    /// A version of an app that is kept, the present one included.
    pub fn version(&self, app: &AppId, version: Timestamp) -> Option<&App> {
        let present = self.apps.get(app).filter(|present| present.version == version);
        present.or_else(|| self.versions.get(app)?.get(&version))
    }

    /// Versions kept of an app, newest first.
    pub fn versions(&self, app: &AppId) -> Vec<Timestamp> {
        let present = self.apps.get(app).map(|app| app.version);
        let before = self
            .versions
            .get(app)
            .into_iter()
            .flat_map(|kept| kept.keys().rev().copied());
        present.into_iter().chain(before).collect()
    }
}

/// Marathon keeps the service ports of an app over updates: where the user wrote 0, the number of the port in the same
/// place stays.
fn keep_service_ports(old: &App, spec: &mut AppSpec) {
    let host = spec.port_mappings.is_none();
    let ports = spec
        .port_definitions
        .iter_mut()
        .chain(spec.port_mappings.iter_mut())
        .flatten();
    for (port, before) in ports.zip(&old.ports) {
        if host && port.port == 0 && old.network == crate::NetworkMode::Host {
            port.port = i64::from(before.service_port);
        } else if !host && port.service_port.unwrap_or(0) == 0 {
            port.service_port = Some(i64::from(before.service_port));
        }
    }
}

fn same_but_for_instances(a: &App, b: &App) -> bool {
    let mut b = b.clone();
    b.instances = a.instances;
    b.version = a.version;
    b.last_config_change = a.last_config_change;
    *a == b
}

#[cfg(test)]
#[path = "update/tests.rs"]
mod tests;
