//! The store of secrets: values that operators put in and tasks get, and nobody reads out.

use model::SecretValue;

use crate::spec::secret::MAX_VALUE;

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its path, such as `team/db-password`.
    pub path: String,
    /// What tasks get.
    pub value: SecretValue,
}

/// Why a secret is not taken or not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A path that is none.
    #[error(
        "`{0}` is no path of a secret: write parts of letters, digits, `-`, `_` and `.` (not first), joined by single slashes"
    )]
    Path(String),
    /// More than a secret may be.
    #[error("a secret may have {MAX_VALUE} bytes, and this one has {0}")]
    TooLong(usize),
    /// A POST of one that is there.
    #[error("there is a secret {0} already: PATCH changes it")]
    Exists(String),
    /// None of that path.
    #[error("there is no secret {0}; `revere secret list` shows all")]
    Missing(String),
    /// Apps could not start any more.
    #[error("the secret {path} is used by {}: remove or change them first", .apps.join(", "))]
    Used {
        /// Which.
        path: String,
        /// By whom.
        apps: Vec<String>,
    },
}
