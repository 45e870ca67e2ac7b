//! What users ask of the core, and what it answers at once.

use crate::{AppId, AppSpec, Fault, Timestamp};

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
    /// Marathon's 409 for a POST of an app that exists.
    #[error("An app with id [{0}] already exists.")]
    AppExists(String),
}
