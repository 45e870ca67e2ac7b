//! What the maps hold, in the words of `desired`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use model::VipAddress;

use crate::{BackendKey, BackendState, Hop, Op, Plan};

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// This node's address as the programs know it.
    pub own: Option<Ipv4Addr>,
    /// The IPv6 address that translated packets leave with, as the programs know it.
    pub told_own6: Option<Ipv6Addr>,
    /// The same as it should be.
    pub own6: Option<Ipv6Addr>,
    /// Longest packet of the uplinks in bytes, as the programs know it.
    pub told_mtu: u16,
    /// The same as it is.
    pub mtu: u16,
    /// Fingerprints of the backend sets by VIP; `None` when the VIP's slots name backends that are gone.
    pub vips: BTreeMap<VipAddress, Option<u64>>,
    /// Backends by key.
    pub backends: BTreeMap<BackendKey, BackendState>,
    /// Ways past the stack as the programs know them, of backends of this node.
    pub told_hops: BTreeMap<BackendKey, Hop>,
    /// The same as they are.
    pub hops: BTreeMap<BackendKey, Hop>,
    /// Peers.
    pub peers: BTreeSet<Ipv4Addr>,
    /// Names of hooks that are not attached (any more), for example `xdp-eth0`.
    pub unattached: BTreeSet<String>,
}

impl Actual {
    /// What the maps hold after these steps, so that a change need not look at all of them. Indices are the load balancer's
    /// own affair and are not kept here.
    pub fn note(&mut self, steps: &Plan) {
        for op in steps.adds.iter().chain(&steps.removes) {
            match op {
                Op::Attach(hook) => {
                    self.unattached.remove(hook);
                }
                Op::SetOwn(own) => self.own = Some(*own),
                Op::SetOwn6(own) => self.told_own6 = *own,
                Op::SetMtu(mtu) => self.told_mtu = *mtu,
                Op::PutPeer(peer) => {
                    self.peers.insert(*peer);
                }
                Op::PutBackend(key, state) => {
                    self.backends.insert(*key, state.clone());
                }
                Op::SetHop(key, hop) => {
                    self.told_hops.remove(key);
                    self.told_hops.extend(hop.map(|hop| (*key, hop)));
                }
                Op::PutVip(vip, wanted) => {
                    self.vips.insert(*vip, Some(wanted.fingerprint()));
                }
                Op::RemoveVip(vip) => {
                    self.vips.remove(vip);
                }
                Op::RemoveBackend(key) => {
                    self.backends.remove(key);
                    self.told_hops.remove(key);
                    self.hops.remove(key);
                }
                Op::RemovePeer(peer) => {
                    self.peers.remove(peer);
                }
            }
        }
    }
}
