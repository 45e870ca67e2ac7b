//! Mirrors of deployments and groups.

use bincode::{Decode, Encode};
use scheduler::{
    Action, ActionKind, App, AppId, DeploymentRecord, GroupId, GroupRecord, GroupVersion, RunKind, Timestamp,
};

use super::super::since::Version;
use super::super::{Wire, WireError};
use super::record::app_id;
use super::{list, unlist};

fn group_id(text: &str) -> Result<GroupId, WireError> {
    GroupId::parse("/", text).map_err(|_| WireError::Field {
        field: "group id",
        reason: format!("`{text}` is none"),
    })
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub enum ActionKindMirror {
    Start,
    Stop,
    Scale,
    Restart,
    StartPod,
    StopPod,
    ScalePod,
    RestartPod,
}

impl Wire for Action {
    type Mirror = (ActionKindMirror, String);

    fn to_mirror(&self) -> Self::Mirror {
        let kind = match (self.kind, self.of) {
            (ActionKind::Start, RunKind::App) => ActionKindMirror::Start,
            (ActionKind::Stop, RunKind::App) => ActionKindMirror::Stop,
            (ActionKind::Scale, RunKind::App) => ActionKindMirror::Scale,
            (ActionKind::Restart, RunKind::App) => ActionKindMirror::Restart,
            (ActionKind::Start, RunKind::Pod) => ActionKindMirror::StartPod,
            (ActionKind::Stop, RunKind::Pod) => ActionKindMirror::StopPod,
            (ActionKind::Scale, RunKind::Pod) => ActionKindMirror::ScalePod,
            (ActionKind::Restart, RunKind::Pod) => ActionKindMirror::RestartPod,
        };
        (kind, self.app.as_str().to_owned())
    }

    fn from_mirror((kind, app): Self::Mirror) -> Result<Self, WireError> {
        let (kind, of) = match kind {
            ActionKindMirror::Start => (ActionKind::Start, RunKind::App),
            ActionKindMirror::Stop => (ActionKind::Stop, RunKind::App),
            ActionKindMirror::Scale => (ActionKind::Scale, RunKind::App),
            ActionKindMirror::Restart => (ActionKind::Restart, RunKind::App),
            ActionKindMirror::StartPod => (ActionKind::Start, RunKind::Pod),
            ActionKindMirror::StopPod => (ActionKind::Stop, RunKind::Pod),
            ActionKindMirror::ScalePod => (ActionKind::Scale, RunKind::Pod),
            ActionKindMirror::RestartPod => (ActionKind::Restart, RunKind::Pod),
        };
        Ok(Self {
            kind,
            app: app_id(&app)?,
            of,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct GroupMirror {
    id: String,
    dependencies: Vec<String>,
    version: u64,
}

impl Wire for GroupRecord {
    type Mirror = GroupMirror;

    fn to_mirror(&self) -> GroupMirror {
        GroupMirror {
            id: self.id.as_str().to_owned(),
            dependencies: self.dependencies.clone(),
            version: self.version.0,
        }
    }

    fn from_mirror(mirror: GroupMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: group_id(&mirror.id)?,
            dependencies: mirror.dependencies,
            version: Timestamp(mirror.version),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct DeploymentMirror {
    id: String,
    version: u64,
    steps: Vec<Vec<<Action as Wire>::Mirror>>,
    step: u32,
    before: Vec<(String, Option<<App as Wire>::Mirror>)>,
    groups_before: Vec<(String, Option<GroupMirror>)>,
}

impl Wire for DeploymentRecord {
    type Mirror = DeploymentMirror;

    fn to_mirror(&self) -> DeploymentMirror {
        let before = self.before.iter();
        let groups = self.groups_before.iter();
        DeploymentMirror {
            id: self.id.clone(),
            version: self.version.0,
            steps: self.steps.iter().map(|step| list(step)).collect(),
            step: self.step,
            before: before
                .map(|(id, app)| (id.as_str().to_owned(), app.as_ref().map(Wire::to_mirror)))
                .collect(),
            groups_before: groups
                .map(|(id, group)| (id.as_str().to_owned(), group.as_ref().map(Wire::to_mirror)))
                .collect(),
        }
    }

    fn from_mirror(mirror: DeploymentMirror) -> Result<Self, WireError> {
        let app = |(id, app): (String, Option<_>)| -> Result<(AppId, Option<App>), WireError> {
            Ok((app_id(&id)?, app.map(App::from_mirror).transpose()?))
        };
        let group = |(id, group): (String, Option<_>)| -> Result<(GroupId, Option<GroupRecord>), WireError> {
            Ok((group_id(&id)?, group.map(GroupRecord::from_mirror).transpose()?))
        };
        Ok(Self {
            id: mirror.id,
            version: Timestamp(mirror.version),
            steps: mirror.steps.into_iter().map(unlist).collect::<Result<_, _>>()?,
            step: mirror.step,
            before: mirror.before.into_iter().map(app).collect::<Result<_, _>>()?,
            groups_before: mirror.groups_before.into_iter().map(group).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct GroupVersionMirror {
    id: String,
    version: u64,
    apps: Vec<<App as Wire>::Mirror>,
    groups: Vec<GroupMirror>,
}

impl Wire for GroupVersion {
    type Mirror = GroupVersionMirror;

    fn to_mirror(&self) -> GroupVersionMirror {
        GroupVersionMirror {
            id: self.id.as_str().to_owned(),
            version: self.version.0,
            apps: self.apps.values().map(Wire::to_mirror).collect(),
            groups: self.groups.values().map(Wire::to_mirror).collect(),
        }
    }

    fn from_mirror(mirror: GroupVersionMirror) -> Result<Self, WireError> {
        let apps: Vec<App> = unlist(mirror.apps)?;
        let groups: Vec<GroupRecord> = unlist(mirror.groups)?;
        Ok(Self {
            id: group_id(&mirror.id)?,
            version: Timestamp(mirror.version),
            apps: apps.into_iter().map(|app| (app.id.clone(), app)).collect(),
            groups: groups.into_iter().map(|group| (group.id.clone(), group)).collect(),
        })
    }
}
