//! Marathon's JSON: definitions in, apps, tasks, deployments and the queue out.

pub(super) mod merge;
pub(super) mod read;
pub(super) mod write;
