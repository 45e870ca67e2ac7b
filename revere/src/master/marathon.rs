//! Marathon's JSON: definitions in, apps, tasks, deployments and the queue out.

pub(super) mod event;
pub(super) mod merge;
pub(super) mod read;
pub(super) mod selector;
pub(super) mod write;
