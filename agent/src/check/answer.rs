//! What one question brought.

use model::CheckResponse;

/// What one question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All is well.
    Alive,
    /// It is not, and why.
    Dead(String),
    /// Neither.
    Silent,
    /// An HTTP answer to a readiness check.
    Response(CheckResponse),
}

/// An HTTP answer as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The text after the number.
    pub(crate) reason: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}
