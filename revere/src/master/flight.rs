//! A write on its way to the store, and what waits for it.

use std::pin::Pin;
use std::sync::Arc;

use model::AgentId;

use super::driver::After;
use crate::store::StoreError;
use crate::store::etcd::Recorded;
use crate::wire::MasterMessage;

type Write = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// See the module. Dropped, it gives the write up.
pub(super) struct Flight {
    write: Write,
    /// Told to readers once they are recorded.
    pub(super) events: Option<Arc<Recorded>>,
    pub(super) orders: Vec<(AgentId, MasterMessage)>,
    pub(super) after: Vec<After>,
}

impl Flight {
    pub(super) fn new(
        write: impl Future<Output = Result<(), StoreError>> + Send + 'static,
        events: Option<Arc<Recorded>>,
        orders: Vec<(AgentId, MasterMessage)>,
        after: Vec<After>,
    ) -> Self {
        Self {
            write: Box::pin(write),
            events,
            orders,
            after,
        }
    }
}

/// The end of the write that is on its way; without one it never comes.
pub(super) async fn landed(flight: &mut Option<Flight>) -> Result<(), StoreError> {
    match flight {
        Some(flight) => flight.write.as_mut().await,
        None => std::future::pending().await,
    }
}
