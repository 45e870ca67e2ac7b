//! Deployments: one change of one or more apps, cut into steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::{App, AppId, GroupId, GroupRecord, Timestamp};

/// What a step does with an app; Marathon's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// Makes a new app known; it has no instance yet.
    Start,
    /// Ends all instances of a removed app.
    Stop,
    /// Brings the number of instances to the wanted one.
    Scale,
    /// Replaces instances of another definition.
    Restart,
}

impl ActionKind {
    /// Marathon's name.
    pub fn as_str(self, of: RunKind) -> &'static str {
        match (self, of) {
            (Self::Start, RunKind::App) => "StartApplication",
            (Self::Stop, RunKind::App) => "StopApplication",
            (Self::Scale, RunKind::App) => "ScaleApplication",
            (Self::Restart, RunKind::App) => "RestartApplication",
            (Self::Start, RunKind::Pod) => "StartPod",
            (Self::Stop, RunKind::Pod) => "StopPod",
            (Self::Scale, RunKind::Pod) => "ScalePod",
            (Self::Restart, RunKind::Pod) => "RestartPod",
        }
    }
}

/// One thing that a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub kind: ActionKind,
    /// With which app.
    pub app: AppId,
    /// What that is.
    pub of: RunKind,
}

/// What runs under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunKind {
    /// An app: each instance is one task.
    App,
    /// A pod: each instance is one task per container.
    Pod,
}

/// A deployment that is being carried out, and what is needed to take it back.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRecord {
    /// A UUID in text.
    pub id: String,
    /// Version that the change made.
    pub version: Timestamp,
    /// Each step begins when the one before is done.
    pub steps: Vec<Vec<Action>>,
    /// Index of the step being carried out.
    pub step: u32,
    /// The apps concerned as they were before; `None`: there was none.
    pub before: BTreeMap<AppId, Option<App>>,
    /// The groups concerned as they were before.
    pub groups_before: BTreeMap<GroupId, Option<GroupRecord>>,
}

impl DeploymentRecord {
    /// Actions of the step being carried out.
    pub fn current(&self) -> &[Action] {
        self.steps.get(self.index()).map_or(&[], Vec::as_slice)
    }

    /// The apps concerned, each once.
    pub fn apps(&self) -> BTreeSet<&AppId> {
        self.steps.iter().flatten().map(|action| &action.app).collect()
    }

    /// Whether it does nothing but end instances of removed apps.
    pub(crate) fn only_removes(&self) -> bool {
        self.steps
            .iter()
            .flatten()
            .all(|action| action.kind == ActionKind::Stop)
    }

    pub(crate) fn index(&self) -> usize {
        usize::try_from(self.step).unwrap_or(usize::MAX)
    }

    /// Actions of steps that have not begun.
    pub(crate) fn to_come(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().skip(self.index().saturating_add(1)).flatten()
    }
}
