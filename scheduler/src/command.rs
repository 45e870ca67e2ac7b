//! What users ask of the core, and what it answers at once.

use crate::{AppId, AppSpec, Fault, Force, Timestamp};

/// A user's wish. `now` comes beside it; what follows comes out of `poll_effect`.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `POST /v2/apps`.
    CreateApp(Box<AppSpec>),
    /// `PUT /v2/apps/{id}` with `instances`.
    ScaleApp {
        /// Id as the user wrote it.
        id: String,
        /// Wanted instances.
        instances: i64,
        /// `force` of the query.
        force: Force,
    },
    /// `PUT /v2/apps/{id}` with a whole definition: instances go over to it as its upgrade strategy says.
    UpdateApp {
        /// Id as the user wrote it.
        id: String,
        /// The new definition; its id is not read.
        spec: Box<AppSpec>,
        /// `force` of the query.
        force: Force,
    },
    /// `POST /v2/apps/{id}/restart`.
    RestartApp {
        /// Id as the user wrote it.
        id: String,
        /// `force` of the query.
        force: Force,
    },
    /// `PUT /v2/apps/{id}` with nothing but `version`.
    RollBackApp {
        /// Id as the user wrote it.
        id: String,
        /// The version to return to.
        version: Timestamp,
        /// `force` of the query.
        force: Force,
    },
    /// `DELETE /v2/apps/{id}`.
    RemoveApp {
        /// Id as the user wrote it.
        id: String,
    },
    /// `DELETE /v2/apps/{id}/tasks/{task}`: ends one task; it is replaced.
    KillTask {
        /// Task id.
        task: String,
    },
}

/// A command that was taken. Marathon calls each change a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The app concerned.
    pub app: AppId,
    /// Version of the change.
    pub version: Timestamp,
    /// Deployment id (a UUID in text).
    pub deployment: String,
}

/// A command that was refused whole; nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// Marathon's 422.
    #[error("Object is not valid")]
    Invalid(Vec<Fault>),
    /// Marathon's 404.
    #[error("App '{0}' does not exist")]
    NoApp(String),
    /// Marathon's 404 for a task.
    #[error("Task '{0}' does not exist")]
    NoTask(String),
    /// 404 for a version that is not kept.
    #[error("App '{0}' has no version {1}; GET /v2/apps{0}/versions lists those that are kept")]
    NoVersion(String, String),
    /// Marathon's 409 while a change of the app is being carried out; holds the deployment's id.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/{0}'."
    )]
    Locked(String),
    /// Marathon's 409 for a POST of an app that exists.
    #[error("An app with id [{0}] already exists.")]
    AppExists(String),
}
