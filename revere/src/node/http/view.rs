//! What the name and VIP paths read: pictures, zones, and what the node was told of itself.

use std::sync::Arc;

use axum::http::StatusCode;
use dns::{Listed, Lookup, Zones};
use model::Snapshot;
use tokio::sync::watch;

use super::changes::Hub;
use crate::node::status::Status;
use crate::node::table::Picture;

/// Shared by all listeners; cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::node) struct View {
    pub(in crate::node) status: Arc<Status>,
    pub(in crate::node) pictures: watch::Receiver<Picture>,
    /// None where names are off.
    pub(in crate::node) names: Option<Names>,
    /// Masters, without secrets.
    pub(in crate::node) masters: Vec<String>,
}

/// The names this node serves.
#[derive(Clone, Debug)]
pub(in crate::node) struct Names {
    pub(in crate::node) zones: watch::Receiver<Arc<Zones>>,
    pub(in crate::node) config: Arc<dns::Config>,
    pub(in crate::node) hub: Arc<Hub>,
}

/// A refusal in a sentence.
pub(super) type Refusal = (StatusCode, &'static str);

impl View {
    pub(super) fn names(&self) -> Result<&Names, Refusal> {
        self.names.as_ref().ok_or((
            StatusCode::SERVICE_UNAVAILABLE,
            "names are off on this node: node.dns = false\n",
        ))
    }

    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.pictures.borrow().clone()
    }
}

impl Names {
    pub(super) fn zones(&self) -> Arc<Zones> {
        Arc::clone(&self.zones.borrow())
    }

    /// The records of a name, as asked in any case and with or without its last dot.
    pub(super) fn find(&self, name: &str) -> Vec<Listed> {
        let name = clean(name);
        match self.zones().lookup(&name) {
            Lookup::Name(found) => found.listed(&name),
            Lookup::NotOurs | Lookup::NoName(_) => Vec::new(),
        }
    }

    /// Its addresses of one kind.
    pub(super) fn addresses(&self, name: &str, kind: &str) -> Vec<String> {
        let found = self.find(name).into_iter().filter(|one| one.kind == kind);
        found.map(|one| one.data).collect()
    }

    /// Targets and ports of a service.
    pub(super) fn services(&self, name: &str) -> Vec<(String, u16)> {
        let found = self.find(name).into_iter().filter(|one| one.kind == "SRV");
        found
            .filter_map(|one| {
                let (target, port) = one.data.rsplit_once(':')?;
                Some((target.to_owned(), port.parse().ok()?))
            })
            .collect()
    }
}

/// A name as zones hold it.
pub(super) fn clean(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
