//! One change of the tree of apps and groups: checked whole, then taken whole as one deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{
    Action, ActionKind, App, AppId, AppSpec, CommandError, Fault, GroupId, GroupRecord, Record, Reply, Run, RunKind,
    Timestamp,
};

use super::order::{Target, ancestors, groups_inside, inside};
use super::{Force, Scheduler, ServicePorts};

/// What becomes of which app and group; `None`: it goes.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: Timestamp,
    pub(super) apps: BTreeMap<AppId, Option<App>>,
    pub(super) groups: BTreeMap<GroupId, Option<GroupRecord>>,
}

impl Change {
    pub(super) fn new(version: Timestamp) -> Self {
        Self {
            version,
            apps: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    pub(super) fn of_app(app: App) -> Self {
        let mut change = Self::new(app.version);
        change.apps.insert(app.id.clone(), Some(app));
        change
    }
}

/// A definition and the path at which its faults are told.
pub(super) type Placed<'a> = (String, &'a AppSpec);

impl Scheduler {
    /// Checks definitions and puts them into a change; every fault of all of them is told at once.
    pub(super) fn add_specs(&self, change: &mut Change, specs: &[Placed<'_>]) -> Result<(), Vec<Fault>> {
        let mut ports = self.service_ports.clone();
        let mut faults = Vec::new();
        for (path, spec) in specs {
            match self.checked(change.version, spec, &mut ports) {
                Ok(app) => {
                    ports.take(&app);
                    if matches!(change.apps.insert(app.id.clone(), Some(app)), Some(Some(_))) {
                        faults.push(Fault::new(format!("{path}/id"), "the same app is defined twice"));
                    }
                }
                Err(found) => faults.extend(found.into_iter().map(|fault| Fault {
                    path: format!("{path}{}", fault.path),
                    ..fault
                })),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// A definition in the place of the present one, if there is one.
    fn checked(&self, version: Timestamp, spec: &AppSpec, ports: &mut ServicePorts) -> Result<App, Vec<Fault>> {
        let (framework, network) = (&self.config.framework_name, &self.config.default_network);
        let Some(old) = self.run_spec(&spec.id) else {
            let app = App::from_spec(version, spec, framework, network, ports)?;
            return self.with_all(app);
        };
        if old.pod.is_some() != spec.pod.is_some() {
            let there = if old.pod.is_some() { "a pod" } else { "an app" };
            let error = format!("{there} has this id; remove it first, or choose another");
            return Err(vec![Fault::new("/id", error)]);
        }
        let mut spec = spec.clone();
        super::update::keep_service_ports(old, &mut spec);
        let mut app = App::from_spec(version, &spec, framework, network, ports)?;
        let faults = super::residence::update_faults(old, &app);
        if !faults.is_empty() {
            return Err(faults);
        }
        if super::update::same_but_for_instances(old, &app) {
            app.last_config_change = old.last_config_change;
        }
        self.with_all(app)
    }

    /// An app whose secrets and network are there.
    fn with_all(&self, app: App) -> Result<App, Vec<Fault>> {
        let mut faults = self.secret_faults(&app);
        faults.extend(self.network_faults(&app));
        if faults.is_empty() { Ok(app) } else { Err(faults) }
    }

    /// Takes a change, or refuses it whole.
    pub(super) fn change(&mut self, change: Change, force: Force, run: Run) -> Result<Reply, CommandError> {
        let affected: BTreeSet<AppId> = change.apps.keys().cloned().collect();
        self.check_unlocked(&affected, force)?;
        let steps = self.steps(&change).map_err(CommandError::Invalid)?;
        let mut reply = Reply {
            apps: affected.iter().cloned().collect(),
            version: change.version,
            deployment: None,
            steps: steps.clone(),
        };
        if run == Run::Real {
            self.overtake(&affected);
            reply.deployment = Some(self.begin(change, steps));
        }
        Ok(reply)
    }

    /// The steps that lead to a change's end, or why it cannot be.
    fn steps(&self, change: &Change) -> Result<Vec<Vec<Action>>, Vec<Fault>> {
        let target = Target { core: self, change };
        let mut faults = shared_ids(target);
        // Also what comes back from an earlier version.
        faults.extend(change.apps.values().flatten().flat_map(|app| self.network_faults(app)));
        if !faults.is_empty() {
            return Err(faults);
        }
        let changed = change.groups.iter().filter(|(_, record)| record.is_some());
        let mut looked_at: BTreeSet<AppId> = changed.flat_map(|(id, _)| target.below(id.as_str())).collect();
        looked_at.extend(change.apps.keys().filter(|id| target.app(id).is_some()).cloned());
        let layers = target.layers(looked_at).map_err(|fault| vec![fault])?;
        let (mut stop, mut start) = (Vec::new(), Vec::new());
        let mut by_layer: BTreeMap<u32, Vec<Action>> = BTreeMap::new();
        for (id, app) in &change.apps {
            let definition = app.as_ref().or_else(|| self.apps.get(id));
            let of = match definition {
                Some(app) if app.pod.is_some() => RunKind::Pod,
                _ => RunKind::App,
            };
            let action = |kind| Action {
                kind,
                app: id.clone(),
                of,
            };
            let present = self.apps.contains_key(id);
            let Some(app) = app else {
                stop.push(action(ActionKind::Stop));
                continue;
            };
            if !present {
                start.push(action(ActionKind::Start));
            }
            let kind = if present && self.replaces(app) {
                ActionKind::Restart
            } else {
                ActionKind::Scale
            };
            let layer = layers.get(id).copied().unwrap_or(0);
            by_layer.entry(layer).or_default().push(action(kind));
        }
        let steps = [stop, start].into_iter().chain(by_layer.into_values());
        Ok(steps.filter(|step| !step.is_empty()).collect())
    }

    /// Whether instances have to be replaced on the way to a definition.
    fn replaces(&self, app: &App) -> bool {
        let before = self.apps.get(&app.id).map(|before| before.last_config_change);
        before != Some(app.last_config_change)
            || self
                .wanted_instances(&app.id)
                .any(|instance| super::rolling::is_old(app, instance))
    }

    /// Puts a checked change into the state; the deployment's id.
    fn begin(&mut self, change: Change, steps: Vec<Vec<Action>>) -> String {
        let mut before = BTreeMap::new();
        let mut groups_before = BTreeMap::new();
        let only_new = change.apps.keys().all(|id| !self.apps.contains_key(id));
        for (id, app) in change.apps {
            before.insert(id.clone(), self.apps.get(&id).cloned());
            match app {
                Some(app) => self.put_app(app),
                None => self.forget_app(&id),
            }
            self.dirty.insert(id);
        }
        for (id, group) in change.groups {
            let earlier = match group {
                Some(group) => {
                    self.persist(Record::PutGroup(group.clone()));
                    self.groups.insert(id.clone(), group)
                }
                None => {
                    let earlier = self.groups.remove(&id);
                    if earlier.is_some() {
                        self.persist(Record::DeleteGroup(id.clone()));
                    }
                    earlier
                }
            };
            groups_before.insert(id, earlier);
        }
        if only_new {
            for app in before.keys().filter_map(|id| self.apps.get(id)) {
                self.service_ports.take(app);
            }
        } else {
            // Several apps may have the same port: what one gives up is not free yet.
            self.service_ports = ServicePorts::new(self.config.service_ports);
            for app in self.apps.values() {
                self.service_ports.take(app);
            }
        }
        self.deploy(change.version, steps, before, groups_before)
    }

    fn forget_app(&mut self, id: &AppId) {
        if self.apps.remove(id).is_some() {
            self.waiting.remove(id);
            self.failures.remove(id);
            self.forget_delay(id);
            self.forget_versions(id);
            self.persist(Record::DeleteApp(id.clone()));
        }
    }
}

/// An app and a group cannot share an id: looked at for everything that a change makes.
fn shared_ids(target: Target<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut conflict = |one: &str, other: &str| {
        let error =
            format!("an app and a group cannot share an id: {one} conflicts with the app {other}; choose another");
        faults.push(Fault::new("/id", error));
    };
    let made = target.change.apps.iter().filter(|(_, app)| app.is_some());
    for (id, _) in made {
        let path = id.as_str();
        if let Some(inner) = target.below(path).first() {
            conflict(path, inner.as_str());
        }
        for group in ancestors(path) {
            let outer = AppId(Arc::clone(&group.0));
            if target.app(&outer).is_some() {
                conflict(path, outer.as_str());
            }
        }
        let itself = GroupId(Arc::from(path));
        let group_there = target.group(&itself).is_some()
            || groups_inside(&target.core.groups, path).any(|(group, _)| target.group(group).is_some());
        if group_there {
            conflict(&format!("the group {path}"), path);
        }
    }
    for (id, _) in target.change.groups.iter().filter(|(_, group)| group.is_some()) {
        for group in ancestors(id.as_str()).chain([id.clone()]) {
            let app = AppId(group.0);
            if target.app(&app).is_some() {
                conflict(&format!("the group {id}"), app.as_str());
            }
        }
    }
    faults.dedup();
    faults
}

/// Whether anything of the tree lies below a path.
pub(super) fn has_below(core: &Scheduler, path: &str) -> bool {
    inside(&core.apps, path).next().is_some() || groups_inside(&core.groups, path).next().is_some()
}
