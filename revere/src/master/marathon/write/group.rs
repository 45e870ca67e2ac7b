//! Groups as trees.

use std::collections::BTreeSet;

use scheduler::{App, GroupId, GroupVersion, Scheduler, Timestamp};
use serde_json::{Value, json};

use super::{definition, pod};

/// Which parts of a tree are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embeds {
    apps: bool,
    pods: bool,
    groups: bool,
    /// Counts and more of each app, where any of it is asked for.
    app: Option<super::Embeds>,
}

impl Embeds {
    /// Without any `embed` everything is shown, as in Marathon.
    pub(crate) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let values: Vec<&str> = values.collect();
        let named = |name: &str| values.is_empty() || values.iter().any(|value| value.starts_with(name));
        let more = values.iter().any(|value| value.starts_with("group.apps."));
        Self {
            apps: named("group.apps"),
            pods: named("group.pods"),
            groups: named("group.groups"),
            app: more.then(|| super::Embeds::of(values.iter().copied())),
        }
    }
}

/// A group, with what is in it as far as it shall be shown.
pub(crate) fn group(scheduler: &Scheduler, id: &GroupId, embeds: &Embeds, now: Timestamp) -> Value {
    let mut out = json!({
        "id": id.as_str(),
        "dependencies": scheduler.group_dependencies(id),
        "version": scheduler.group_version(id).unwrap_or_default().to_string(),
    });
    if embeds.apps {
        let apps = scheduler.child_apps(id).filter(|app| app.pod.is_none());
        out["apps"] = match embeds.app {
            Some(more) => apps.map(|app| super::app(scheduler, app, more, now)).collect(),
            None => apps.map(definition).collect(),
        };
    }
    if embeds.pods {
        out["pods"] = pods(scheduler.child_apps(id));
    }
    if embeds.groups {
        let groups = scheduler.child_groups(id);
        out["groups"] = groups
            .iter()
            .map(|inner| group(scheduler, inner, embeds, now))
            .collect();
    }
    out
}

fn pods<'a>(members: impl Iterator<Item = &'a App>) -> Value {
    let pods = members.filter_map(|member| Some(pod::definition(member, member.pod.as_deref()?)));
    pods.collect()
}

/// A version that is kept, as a tree.
pub(crate) fn kept(version: &GroupVersion) -> Value {
    kept_group(version, &version.id)
}

fn kept_group(version: &GroupVersion, id: &GroupId) -> Value {
    let apps = || version.apps.values().filter(|app| id.holds_directly(app.id.as_str()));
    let below = id.as_str().trim_end_matches('/').len() + 1;
    let paths = version
        .apps
        .keys()
        .map(|app| app.as_str())
        .filter(|path| id.holds(path));
    let implied = paths.filter_map(|path| {
        let (first, _) = path.get(below..)?.split_once('/')?;
        path.get(..below + first.len())
    });
    let recorded = version.groups.keys().map(GroupId::as_str);
    let groups: BTreeSet<&str> = implied.chain(recorded.filter(|path| id.holds_directly(path))).collect();
    let own = version.groups.get(id);
    let inside = version.apps.values().filter(|app| id.holds(app.id.as_str()));
    let newest = inside.map(|app| app.version).chain(own.map(|own| own.version)).max();
    json!({
        "id": id.as_str(),
        "dependencies": own.map_or(&[][..], |own| &own.dependencies),
        "version": newest.unwrap_or(version.version).to_string(),
        "apps": apps().filter(|app| app.pod.is_none()).map(definition).collect::<Vec<_>>(),
        "pods": pods(apps()),
        "groups": groups
            .into_iter()
            .filter_map(|path| GroupId::parse("/", path).ok())
            .map(|inner| kept_group(version, &inner))
            .collect::<Vec<_>>(),
    })
}
