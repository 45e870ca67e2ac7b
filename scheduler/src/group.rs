//! Groups: folders of apps. Most exist only because an app lives in them; a record is kept of those with something of
//! their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{App, AppId, AppSpec, Timestamp};

/// An absolute group id: `/` or `/a/b`, every segment valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(crate) Arc<str>);

impl GroupId {
    /// The group that holds all.
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// The id with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a path lies below this group, at any depth; the group itself does not.
    pub fn holds(&self, path: &str) -> bool {
        let inner = path.strip_prefix(self.as_str().trim_end_matches('/'));
        inner.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    }

    /// Whether a path lies in this group itself and in none of its groups.
    pub fn holds_directly(&self, path: &str) -> bool {
        let below = self.as_str().trim_end_matches('/').len() + 1;
        self.holds(path) && !path.get(below..).unwrap_or_default().contains('/')
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group as written. What is absent stays as it is; a list that is there replaces the present one whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSpec {
    /// `id`, relative to the group around it.
    pub id: String,
    /// `apps`.
    pub apps: Option<Vec<AppSpec>>,
    /// `pods`.
    pub pods: Option<Vec<AppSpec>>,
    /// `groups`.
    pub groups: Option<Vec<GroupSpec>>,
    /// `dependencies`.
    pub dependencies: Option<Vec<String>>,
}

/// What is kept of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// Absolute ids of apps and groups that must run before the apps in it change.
    pub dependencies: Vec<String>,
    /// Time of its last change.
    pub version: Timestamp,
}

/// A group's content at a time, to return to.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupVersion {
    /// Which group.
    pub id: GroupId,
    /// When it became so.
    pub version: Timestamp,
    /// Every app below it.
    pub apps: BTreeMap<AppId, App>,
    /// Every record of it and of groups below it.
    pub groups: BTreeMap<GroupId, GroupRecord>,
}
