//! In which order the apps of a change have their turn: after everything they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{App, AppId, Fault, GroupId, GroupRecord};

use super::Scheduler;
use super::change::Change;

/// The tree as it will be once a change is taken.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) core: &'a Scheduler,
    pub(super) change: &'a Change,
}

impl<'a> Target<'a> {
    pub(super) fn app(&self, id: &AppId) -> Option<&'a App> {
        match self.change.apps.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.core.apps.get(id),
        }
    }

    pub(super) fn group(&self, id: &GroupId) -> Option<&'a GroupRecord> {
        match self.change.groups.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.core.groups.get(id),
        }
    }

    /// Every app below a path.
    pub(super) fn below(&self, path: &str) -> BTreeSet<AppId> {
        let mut found: BTreeSet<AppId> = inside(&self.core.apps, path).map(|(id, _)| id.clone()).collect();
        for (id, app) in inside(&self.change.apps, path) {
            if app.is_some() {
                found.insert(id.clone());
            } else {
                found.remove(id);
            }
        }
        found
    }

    /// Every app that one waits for: its own dependencies and those of the groups it lives in. Ids of nothing count as
    /// nothing, as in Marathon.
    fn dependencies(&self, id: &AppId) -> BTreeSet<AppId> {
        let own = self.app(id).into_iter().flat_map(|app| &app.dependencies);
        let groups = ancestors(id.as_str()).filter_map(|group| self.group(&group));
        let mut found = BTreeSet::new();
        for path in own.chain(groups.flat_map(|group| &group.dependencies)) {
            let app = AppId(Arc::from(path.as_str()));
            if self.app(&app).is_some() {
                found.insert(app);
            } else {
                found.extend(self.below(path));
            }
        }
        found
    }

    /// The layer of each of `apps`: the longest way down to an app that waits for nothing.
    pub(super) fn layers(&self, apps: impl IntoIterator<Item = AppId>) -> Result<BTreeMap<AppId, u32>, Fault> {
        let mut layers: BTreeMap<AppId, u32> = BTreeMap::new();
        for app in apps {
            if !layers.contains_key(&app) {
                self.walk(app, &mut layers)?;
            }
        }
        Ok(layers)
    }

    /// Depth first with a stack of its own: a chain may be as long as there are apps.
    fn walk(&self, first: AppId, layers: &mut BTreeMap<AppId, u32>) -> Result<(), Fault> {
        let open_on = |id: AppId| {
            let waits_for: Vec<AppId> = self.dependencies(&id).into_iter().collect();
            (id, waits_for, 0_u32)
        };
        let mut open = BTreeSet::from([first.clone()]);
        let mut stack = vec![open_on(first)];
        while let Some((id, left, layer)) = stack.last_mut() {
            let Some(next) = left.pop() else {
                let (id, layer) = (id.clone(), *layer);
                open.remove(&id);
                layers.insert(id, layer);
                stack.pop();
                if let Some((_, _, above)) = stack.last_mut() {
                    *above = (*above).max(layer.saturating_add(1));
                }
                continue;
            };
            if let Some(known) = layers.get(&next) {
                *layer = (*layer).max(known.saturating_add(1));
            } else if open.insert(next.clone()) {
                stack.push(open_on(next));
            } else {
                let from = stack.iter().skip_while(|(id, _, _)| *id != next);
                let circle: Vec<&str> = from.map(|(id, _, _)| id.as_str()).chain([next.as_str()]).collect();
                let error = format!("dependencies must not go round in a circle: {}", circle.join(" -> "));
                return Err(Fault::new("/dependencies", error));
            }
        }
        Ok(())
    }
}

/// The groups around a path, innermost first, the root last.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = GroupId> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let (outer, _) = rest?.rsplit_once('/')?;
        rest = (!outer.is_empty()).then_some(outer);
        Some(GroupId(Arc::from(if outer.is_empty() { "/" } else { outer })))
    })
}

/// Entries whose ids lie below a path.
pub(super) fn inside<'a, T>(apps: &'a BTreeMap<AppId, T>, path: &str) -> impl Iterator<Item = (&'a AppId, &'a T)> {
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let from = AppId(Arc::from(prefix.as_str()));
    apps.range(from..)
        .take_while(move |(id, _)| id.as_str().starts_with(&prefix))
}

/// Groups whose ids lie below a path.
pub(super) fn groups_inside<'a, T>(
    groups: &'a BTreeMap<GroupId, T>,
    path: &str,
) -> impl Iterator<Item = (&'a GroupId, &'a T)> {
    let prefix = format!("{}/", path.trim_end_matches('/'));
    groups
        .iter()
        .filter(move |(id, _)| id.as_str().starts_with(&prefix) && id.as_str() != "/")
}
