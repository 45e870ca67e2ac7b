//! The streams of subscribed frameworks, as the driver holds them.

use std::collections::BTreeMap;

use scheduler::{FrameworkEvent, StreamId};
use tokio::sync::mpsc;

/// Events that a framework may lag behind before its stream is closed; it then subscribes again and is told what it has
/// not acknowledged.
pub(super) const STREAM_QUEUE: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<StreamId, mpsc::Sender<FrameworkEvent>>,
}

impl Streams {
    pub(super) fn add(&mut self, id: StreamId, sender: mpsc::Sender<FrameworkEvent>) {
        self.open.insert(id, sender);
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        self.open.remove(&id);
    }

    pub(super) fn ids(&self) -> Vec<StreamId> {
        self.open.keys().copied().collect()
    }

    /// Sends an event. `false`: the stream is closed, its reader is gone or too slow.
    pub(super) fn send(&mut self, id: StreamId, event: FrameworkEvent) -> bool {
        let last = matches!(event, FrameworkEvent::Error(_) | FrameworkEvent::Closed);
        let Some(sender) = self.open.get(&id) else { return true };
        let sent = sender.try_send(event).is_ok();
        if last || !sent {
            self.open.remove(&id);
        }
        sent || last
    }
}
