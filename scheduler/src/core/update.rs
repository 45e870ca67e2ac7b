//! Changes of an app that is there: another definition, a restart, a return to an earlier version.

use crate::{App, AppId, AppSpec, CommandError, NetworkMode, PortSpec, Record, Reply, Run, Timestamp};

use super::Scheduler;
use super::change::Change;

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
        self.check_unlocked(&[old.id.clone()].into(), force)?;
        let spec = AppSpec {
            id: old.id.to_string(),
            ..spec.clone()
        };
        let mut change = Change::new(self.next_version());
        self.add_specs(&mut change, &[(String::new(), &spec)])
            .map_err(CommandError::Invalid)?;
        self.change(change, force, Run::Real)
    }

    /// Every instance replaced, nothing else changed.
    pub(super) fn restart_app(&mut self, id: &str, force: Force) -> Result<Reply, CommandError> {
        let mut app = self.known(id)?;
        app.version = self.next_version();
        app.last_config_change = app.version;
        self.change(Change::of_app(app), force, Run::Real)
    }

    /// The definition of an earlier version, as a new one.
    pub(super) fn roll_back_app(&mut self, id: &str, version: Timestamp, force: Force) -> Result<Reply, CommandError> {
        let present = self.known(id)?;
        let earlier = self.version(&present.id, version).cloned();
        let no_version = || CommandError::NoVersion(present.id.to_string(), version.to_string());
        let mut app = earlier.ok_or_else(no_version)?;
        super::residence::check_update(&present, &app)?;
        let faults = self.secret_faults(&app);
        if !faults.is_empty() {
            return Err(CommandError::Invalid(faults));
        }
        app.version = self.next_version();
        app.last_config_change = if same_but_for_instances(&present, &app) {
            present.last_config_change
        } else {
            app.version
        };
        self.change(Change::of_app(app), force, Run::Real)
    }

    pub(super) fn known(&self, id: &str) -> Result<App, CommandError> {
        self.run_spec(id)
            .cloned()
            .ok_or_else(|| CommandError::NoApp(id.to_owned()))
    }

    /// Makes `app` the newest version; the one before is kept.
    pub(super) fn put_app(&mut self, app: App) {
        let (id, config) = (app.id.clone(), app.last_config_change);
        if let Some(before) = self.apps.insert(id.clone(), app.clone()) {
            if before.last_config_change != config {
                self.forget_delay(&id);
            }
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
pub(super) fn keep_service_ports(old: &App, spec: &mut AppSpec) {
    if spec.require_ports {
        // There a number is a host port and a 0 means any.
        return;
    }
    let host = spec.port_mappings.is_none();
    let default = PortSpec {
        name: Some("default".to_owned()),
        ..PortSpec::default()
    };
    // Where nothing is written there is one port by default, which keeps its number too.
    match (&old.network, old.ports.len()) {
        (NetworkMode::Host, 1)
            if host
                && spec.port_definitions.is_none()
                && spec.networks.first().is_none_or(|(mode, _)| mode == "host") =>
        {
            spec.port_definitions = Some(vec![default]);
        }
        _ => {}
    }
    let ports = spec
        .port_definitions
        .iter_mut()
        .chain(spec.port_mappings.iter_mut())
        .flatten();
    for (port, before) in ports.zip(&old.ports) {
        if host && port.port == 0 && old.network == NetworkMode::Host {
            port.port = i64::from(before.service_port);
        } else if !host && port.service_port.unwrap_or(0) == 0 {
            port.service_port = Some(i64::from(before.service_port));
        }
    }
}

/// Whether instances of one definition count as those of the other: all but how many, and their share of VIPs.
pub(super) fn same_but_for_instances(a: &App, b: &App) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    for app in [&mut a, &mut b] {
        app.labels.retain(|label, _| !super::shares::is_of_shares(label));
    }
    b.instances = a.instances;
    b.version = a.version;
    b.last_config_change = a.last_config_change;
    a == b
}

#[cfg(test)]
#[path = "update/tests.rs"]
mod tests;
