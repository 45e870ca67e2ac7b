//! What users ask of the core, and what it answers at once.

use model::SecretValue;

use crate::{Action, AppId, AppSpec, Fault, Force, GroupSpec, NetworkError, NetworkSpec, Put, SecretError, Timestamp};

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
        /// `force` of the query; Marathon's default here is yes.
        force: Force,
    },
    /// `PUT /v2/apps`: each definition is made or takes the place of the present one, all in one deployment.
    PutApps {
        /// Whole definitions.
        specs: Vec<AppSpec>,
        /// `force` of the query.
        force: Force,
    },
    /// Ends tasks.
    KillTasks {
        /// Task ids.
        tasks: Vec<String>,
        /// What becomes of their apps.
        then: AfterKill,
        /// `wipe` of the query.
        volumes: Volumes,
        /// `force` of the query; counts only where apps are scaled.
        force: Force,
    },
    /// `DELETE /v2/deployments/{id}`.
    CancelDeployment {
        /// Which.
        id: String,
        /// What becomes of what was done so far.
        how: Cancel,
    },
    /// `DELETE /v2/queue/{id}/delay`.
    ForgetDelay {
        /// Id of the app as the user wrote it.
        id: String,
    },
    /// `PUT` and `PATCH /secrets/v1/secret/default/{path}`.
    PutSecret {
        /// Its path.
        path: String,
        /// What tasks get.
        value: SecretValue,
        /// Whether it must be there.
        put: Put,
    },
    /// `DELETE /secrets/v1/secret/default/{path}`.
    RemoveSecret {
        /// Its path.
        path: String,
    },
    /// `POST /revere/v1/networks`.
    CreateNetwork(NetworkSpec),
    /// `DELETE /revere/v1/networks/{name}`.
    RemoveNetwork {
        /// Which.
        name: String,
    },
    /// A change of a group.
    Group {
        /// Id as the user wrote it; empty for the root.
        id: String,
        /// What.
        change: GroupChange,
        /// `force` of the query.
        force: Force,
        /// Whether to carry it out or only to tell.
        run: Run,
    },
}

/// What becomes of the apps of ended tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterKill {
    /// New instances take their places.
    Replace,
    /// They want so many fewer.
    Scale,
}

/// What becomes of the volumes of ended tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// The next task of the instance finds them again.
    Keep,
    /// They are removed, with all that is in them; the instance may live elsewhere then.
    Wipe,
}

/// How a deployment ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// A new deployment brings back what was before.
    RollBack,
    /// All stays as it is now.
    Leave,
}

/// Whether a change is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It is.
    Real,
    /// Only its steps are told.
    Dry,
}

/// What to change of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupChange {
    /// `POST`: it must not be there yet.
    Create(Box<GroupSpec>),
    /// `PUT`.
    Update(Box<GroupSpec>),
    /// `DELETE`: with all apps in it.
    Remove,
    /// `PUT` with `scaleBy`: instances of every app in it times this, rounded up.
    ScaleBy(f64),
    /// `PUT` with nothing but `version`.
    RollBack(Timestamp),
}

/// A command that was taken. Marathon calls each change a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The apps concerned.
    pub apps: Vec<AppId>,
    /// Version of the change.
    pub version: Timestamp,
    /// Deployment id (a UUID in text); none where nothing is deployed.
    pub deployment: Option<String>,
    /// The steps of the change.
    pub steps: Vec<Vec<Action>>,
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
    /// 404 for a deployment that is not under way.
    #[error("Deployment '{0}' does not exist: it is done, was given up, or never was")]
    NoDeployment(String),
    /// Marathon's 404 for a group.
    #[error("Group '{0}' does not exist")]
    NoGroup(String),
    /// 404 for a version of a group that is not kept.
    #[error("Group '{0}' has no version {1}; GET /v2/groups{0}/versions lists those that are kept")]
    NoGroupVersion(String, String),
    /// Marathon's 409 for a POST of a group that exists.
    #[error("Group {0} is already created. Use PUT to change this group.")]
    GroupExists(String),
    /// Marathon's 409 while a change of the app is being carried out; holds the deployments' ids.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/{}'.",
        .0.first().map_or("", String::as_str)
    )]
    Locked(Vec<String>),
    /// Of secrets.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Of networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Marathon's 409 for a POST of an app that exists.
    #[error("An app with id [{0}] already exists.")]
    AppExists(String),
}
