//! Changes of groups: a whole tree of definitions at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::spec::resolve;
use crate::{
    App, AppId, AppSpec, ClusterEvent, CommandError, Fault, GroupChange, GroupId, GroupRecord, GroupSpec, GroupVersion,
    Record, Reply, Run, RunKind, Timestamp,
};

use super::change::{Change, has_below};
use super::order::{groups_inside, inside};
use super::{Force, Scheduler};

/// Versions kept of a group. Each holds whole definitions, so they are fewer than an app's.
const MOST_GROUP_VERSIONS: usize = 20;

/// What an update of a group comes to before its apps are checked.
#[derive(Default)]
struct Listed {
    specs: Vec<(String, AppSpec)>,
    gone: BTreeSet<AppId>,
    groups: BTreeMap<GroupId, Option<GroupRecord>>,
    faults: Vec<Fault>,
}

impl Scheduler {
    pub(super) fn group_command(
        &mut self,
        id: &str,
        change: &GroupChange,
        force: Force,
        run: Run,
    ) -> Result<Reply, CommandError> {
        let invalid = |errors: Vec<String>| {
            CommandError::Invalid(vec![Fault {
                path: "/id".to_owned(),
                errors,
            }])
        };
        let group = match change {
            GroupChange::Create(spec) | GroupChange::Update(spec) if id.trim_matches('/').is_empty() => {
                GroupId::parse("/", &spec.id)
            }
            _ => GroupId::parse("/", id),
        };
        let group = group.map_err(invalid)?;
        let version = self.next_version();
        let reply = self
            .group_target(&group, change, version)
            .and_then(|target| self.change_group(&group, target, force, run));
        if let (Err(error), Run::Real) = (&reply, run) {
            self.tell_event(ClusterEvent::GroupRefused(
                group.to_string(),
                version,
                error.to_string(),
            ));
        }
        reply
    }

    fn change_group(&mut self, id: &GroupId, target: Change, force: Force, run: Run) -> Result<Reply, CommandError> {
        let before = self.group_content(id, self.group_version(id).unwrap_or_default());
        let version = target.version;
        let reply = self.change(target, force, run)?;
        if run == Run::Real {
            self.keep_group_version(before);
            self.keep_group_version(self.group_content(id, version));
            self.tell_event(ClusterEvent::GroupChanged(id.to_string(), version));
        }
        Ok(reply)
    }

    /// The tree that a command wants.
    fn group_target(&self, id: &GroupId, change: &GroupChange, version: Timestamp) -> Result<Change, CommandError> {
        let missing = || CommandError::NoGroup(id.to_string());
        match change {
            GroupChange::Create(_) if *id != GroupId::root() && self.group_exists(id) => {
                Err(CommandError::GroupExists(id.to_string()))
            }
            GroupChange::Create(spec) | GroupChange::Update(spec) => {
                let mut listed = Listed::default();
                self.list(id, spec, version, "", &mut listed);
                self.listed_change(listed, version)
            }
            GroupChange::Remove if !self.group_exists(id) => Err(missing()),
            GroupChange::Remove => {
                let mut target = Change::new(version);
                self.remove_below(id, &mut target.groups, &mut |app| {
                    target.apps.insert(app, None);
                });
                Ok(target)
            }
            GroupChange::ScaleBy(_) if !self.group_exists(id) => Err(missing()),
            GroupChange::ScaleBy(factor) => self.scaled(id, *factor, version),
            GroupChange::RollBack(earlier) => {
                let kept = self.group_versions.get(id).and_then(|kept| kept.get(earlier));
                let kept = kept.ok_or_else(|| CommandError::NoGroupVersion(id.to_string(), earlier.to_string()))?;
                Ok(self.returned(kept, version))
            }
        }
    }

    fn listed_change(&self, listed: Listed, version: Timestamp) -> Result<Change, CommandError> {
        let mut faults = listed.faults;
        let mut target = Change::new(version);
        target.groups = listed.groups;
        let specs: Vec<(String, &AppSpec)> = listed.specs.iter().map(|(path, spec)| (path.clone(), spec)).collect();
        if let Err(more) = self.add_specs(&mut target, &specs) {
            faults.extend(more);
        }
        if !faults.is_empty() {
            return Err(CommandError::Invalid(faults));
        }
        for app in listed.gone {
            target.apps.entry(app).or_insert(None);
        }
        // What a definition says again as it is needs no deployment.
        let same = |id: &AppId, app: &Option<App>| match (app, self.apps.get(id)) {
            (Some(app), Some(present)) => {
                app.last_config_change == present.last_config_change && app.instances == present.instances
            }
            _ => false,
        };
        target.apps.retain(|id, app| !same(id, app));
        Ok(target)
    }

    /// Gathers what a group's definition lists, and what is there now and is not listed.
    fn list(&self, id: &GroupId, spec: &GroupSpec, version: Timestamp, path: &str, out: &mut Listed) {
        let mut dependencies = self.groups.get(id).map(|group| group.dependencies.clone());
        if let Some(written) = &spec.dependencies {
            let mut absolute = Vec::new();
            for (index, text) in written.iter().enumerate() {
                match resolve(id.as_str(), text) {
                    Ok(resolved) => absolute.push(resolved),
                    Err(errors) => out.faults.push(Fault {
                        path: format!("{path}/dependencies({index})"),
                        errors,
                    }),
                }
            }
            dependencies = Some(absolute);
        }
        let record = GroupRecord {
            id: id.clone(),
            dependencies: dependencies.unwrap_or_default(),
            version,
        };
        out.groups.insert(id.clone(), Some(record));
        self.list_members(id, RunKind::App, spec.apps.as_deref(), path, out);
        self.list_members(id, RunKind::Pod, spec.pods.as_deref(), path, out);
        if let Some(groups) = &spec.groups {
            let mut named = BTreeSet::new();
            for (index, group) in groups.iter().enumerate() {
                let path = format!("{path}/groups({index})");
                match child(id, &group.id).map(|absolute| GroupId(Arc::from(absolute))) {
                    Ok(inner) if named.insert(inner.clone()) => self.list(&inner, group, version, &path, out),
                    Ok(_) => out
                        .faults
                        .push(Fault::new(format!("{path}/id"), "the same group is defined twice")),
                    Err(error) => out.faults.push(Fault::new(format!("{path}/id"), error)),
                }
            }
            for inner in self.child_groups(id).difference(&named) {
                let (gone, groups) = (&mut out.gone, &mut out.groups);
                self.remove_below(inner, groups, &mut |app| {
                    gone.insert(app);
                });
            }
        }
    }

    /// Apps or pods that a group's definition lists; those of that kind that are there and not listed go.
    fn list_members(&self, id: &GroupId, of: RunKind, listed: Option<&[AppSpec]>, path: &str, out: &mut Listed) {
        let Some(listed) = listed else { return };
        let name = if of == RunKind::Pod { "pods" } else { "apps" };
        let present = inside(&self.apps, id.as_str())
            .filter(|(app, known)| id.holds_directly(app.as_str()) && known.pod.is_some() == (of == RunKind::Pod));
        out.gone.extend(present.map(|(app, _)| app.clone()));
        for (index, app) in listed.iter().enumerate() {
            let path = format!("{path}/{name}({index})");
            match child(id, &app.id) {
                Ok(absolute) => {
                    let spec = AppSpec {
                        id: absolute,
                        ..app.clone()
                    };
                    out.specs.push((path, spec));
                }
                Err(error) => out.faults.push(Fault::new(format!("{path}/id"), error)),
            }
        }
    }

    fn remove_below(
        &self,
        id: &GroupId,
        groups: &mut BTreeMap<GroupId, Option<GroupRecord>>,
        app: &mut dyn FnMut(AppId),
    ) {
        inside(&self.apps, id.as_str()).for_each(|(inner, _)| app(inner.clone()));
        for inner in self.groups.keys() {
            if inner == id || id.holds(inner.as_str()) {
                groups.insert(inner.clone(), None);
            }
        }
    }

    fn scaled(&self, id: &GroupId, factor: f64, version: Timestamp) -> Result<Change, CommandError> {
        let invalid = |error: String| CommandError::Invalid(vec![Fault::new("/scaleBy", error)]);
        if !factor.is_finite() || factor < 0.0 {
            return Err(invalid(format!("must be a number not below 0, not {factor}")));
        }
        let mut target = Change::new(version);
        for (app_id, app) in inside(&self.apps, id.as_str()) {
            let wanted = (f64::from(app.instances) * factor).ceil();
            if wanted > f64::from(u32::MAX) {
                return Err(invalid(format!("{app_id} would have more than {} instances", u32::MAX)));
            }
            let app = App {
                instances: super::rolling::whole(wanted),
                version,
                ..app.clone()
            };
            target.apps.insert(app_id.clone(), Some(app));
        }
        Ok(target)
    }

    /// What leads back to a kept version.
    fn returned(&self, kept: &GroupVersion, version: Timestamp) -> Change {
        let mut target = Change::new(version);
        self.remove_below(&kept.id, &mut target.groups, &mut |app| {
            target.apps.insert(app, None);
        });
        for (id, app) in &kept.apps {
            let mut app = App {
                version,
                last_config_change: version,
                ..app.clone()
            };
            if let Some(present) = self.apps.get(id)
                && super::update::same_but_for_instances(present, &app)
            {
                app.last_config_change = present.last_config_change;
            }
            target.apps.insert(id.clone(), Some(app));
        }
        for (id, group) in &kept.groups {
            let group = GroupRecord {
                version,
                ..group.clone()
            };
            target.groups.insert(id.clone(), Some(group));
        }
        target
    }

    fn group_content(&self, id: &GroupId, version: Timestamp) -> GroupVersion {
        let apps = inside(&self.apps, id.as_str());
        let own = self.groups.get(id).map(|own| (id, own));
        let groups = groups_inside(&self.groups, id.as_str()).chain(own);
        GroupVersion {
            id: id.clone(),
            version,
            apps: apps.map(|(id, app)| (id.clone(), app.clone())).collect(),
            groups: groups.map(|(id, group)| (id.clone(), group.clone())).collect(),
        }
    }

    /// Keeps a group's content under its version; what was never there is no version.
    fn keep_group_version(&mut self, content: GroupVersion) {
        let kept = self.group_versions.entry(content.id.clone()).or_default();
        if content.version == Timestamp::default() || kept.contains_key(&content.version) {
            return;
        }
        let id = content.id.clone();
        let oldest = (kept.len() >= MOST_GROUP_VERSIONS).then(|| kept.pop_first()).flatten();
        kept.insert(content.version, content.clone());
        if let Some((oldest, _)) = oldest {
            self.persist(Record::DeleteGroupVersion(id, oldest));
        }
        self.persist(Record::PutGroupVersion(Box::new(content)));
    }

    /// Whether a group is there: it has a record, or something lives in it. The root always is.
    pub fn group_exists(&self, id: &GroupId) -> bool {
        *id == GroupId::root() || self.groups.contains_key(id) || has_below(self, id.as_str())
    }

    /// Groups directly in a group.
    pub fn child_groups(&self, id: &GroupId) -> BTreeSet<GroupId> {
        let below = id.as_str().trim_end_matches('/').len() + 1;
        let apps = inside(&self.apps, id.as_str()).filter_map(|(app, _)| {
            let (first, _) = app.as_str().get(below..)?.split_once('/')?;
            app.as_str().get(..below + first.len())
        });
        let groups = groups_inside(&self.groups, id.as_str()).filter_map(|(group, _)| {
            let rest = group.as_str().get(below..)?;
            let first = rest.split('/').next()?;
            group.as_str().get(..below + first.len())
        });
        apps.chain(groups).map(|path| GroupId(Arc::from(path))).collect()
    }

    /// Apps and pods directly in a group.
    pub fn child_apps(&self, id: &GroupId) -> impl Iterator<Item = &App> {
        let apps = inside(&self.apps, id.as_str()).map(|(_, app)| app);
        apps.filter(move |app| id.holds_directly(app.id.as_str()))
    }

    /// Apps and pods below a group, at any depth.
    pub fn apps_below(&self, id: &GroupId) -> impl Iterator<Item = &App> {
        inside(&self.apps, id.as_str()).map(|(_, app)| app)
    }

    /// Absolute ids that a group depends on.
    pub fn group_dependencies(&self, id: &GroupId) -> &[String] {
        self.groups.get(id).map_or(&[], |group| &group.dependencies)
    }

    /// Time of the newest change in a group; `None` if it is not there.
    pub fn group_version(&self, id: &GroupId) -> Option<Timestamp> {
        let apps = inside(&self.apps, id.as_str()).map(|(_, app)| app.version);
        let own = self.groups.get(id).map(|group| group.version);
        let groups = groups_inside(&self.groups, id.as_str()).map(|(_, group)| group.version);
        apps.chain(own).chain(groups).max()
    }

    /// Kept versions of a group, newest first.
    pub fn group_versions(&self, id: &GroupId) -> Vec<Timestamp> {
        let kept = self.group_versions.get(id);
        kept.into_iter().flat_map(|kept| kept.keys().rev().copied()).collect()
    }

    /// A kept version of a group.
    pub fn group_at(&self, id: &GroupId, version: Timestamp) -> Option<&GroupVersion> {
        self.group_versions.get(id)?.get(&version)
    }
}

/// The absolute id of a member of a group, which must lie directly in it.
fn child(group: &GroupId, id: &str) -> Result<String, String> {
    let absolute = resolve(group.as_str(), id).map_err(|errors| errors.join("; "))?;
    if group.holds_directly(&absolute) {
        Ok(absolute)
    } else {
        Err(format!(
            "{absolute} is no child of the group {group}: write its last segment only"
        ))
    }
}

#[cfg(test)]
#[path = "groups/tests.rs"]
mod tests;
