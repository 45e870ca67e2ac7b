//! What the maps hold, in the words of `desired`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::VipAddress;

use crate::{BackendKey, BackendState};

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// This node's address as the programs know it.
    pub own: Option<Ipv4Addr>,
    /// Fingerprints of the backend sets by VIP; `None` when the VIP's slots name backends that are gone.
    pub vips: BTreeMap<VipAddress, Option<u64>>,
    /// Backends by key.
    pub backends: BTreeMap<BackendKey, BackendState>,
    /// Peers.
    pub peers: BTreeSet<Ipv4Addr>,
    /// Names of hooks that are not attached (any more), for example `xdp-eth0`.
    pub unattached: BTreeSet<String>,
}
