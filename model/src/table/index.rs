//! Which task stands behind which VIP, kept so that one task's change costs that task's VIPs and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{RejectReason, Rejected, TaskKey};
use crate::{Backend, Service, VipAddress, VipKey, VipName, VipRange, VipTarget, named_vip_address};

/// What one task adds to the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Each VIP it declares with one backend of it.
    pub(super) backends: Vec<(VipKey, Backend)>,
    /// What of it had to be left out.
    pub(super) rejected: Vec<Rejected>,
}

/// Services by address, with the bookkeeping to change them piecemeal.
///
/// # Invariants
/// - `declared` is the union of all shares; no VIP in it is without a backend.
/// - `addresses` is [`named_vip_address`] over the names in `declared` in sorted order.
/// - `services` holds, for each address, the backends of every VIP in `by_address` there.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceIndex {
    range: VipRange,
    shares: BTreeMap<TaskKey, Share>,
    declared: BTreeMap<VipKey, BTreeSet<Backend>>,
    addresses: BTreeMap<VipName, Option<Ipv4Addr>>,
    by_address: BTreeMap<VipAddress, BTreeSet<VipKey>>,
    services: Arc<BTreeMap<VipAddress, Arc<Service>>>,
}

impl ServiceIndex {
    pub(super) fn new(range: VipRange) -> Self {
        Self {
            range,
            ..Self::default()
        }
    }

    pub(super) fn services(&self) -> Arc<BTreeMap<VipAddress, Arc<Service>>> {
        Arc::clone(&self.services)
    }

    /// Everything left out at present.
    pub(super) fn rejected(&self) -> impl Iterator<Item = Rejected> {
        let of_tasks = self.shares.values().flat_map(|share| share.rejected.iter().cloned());
        let full = self
            .addresses
            .iter()
            .filter(|(_, addr)| addr.is_none())
            .map(|(name, _)| Rejected {
                reason: RejectReason::OutOfAddresses,
                what: format!(
                    "VIP {name}: no address left from {} to {}",
                    self.range.min, self.range.max
                ),
            });
        of_tasks.chain(full)
    }

    /// Replaces the shares of the given tasks (`None`: the task adds nothing any more). Returns whether any service
    /// changed.
    pub(super) fn update(&mut self, changes: Vec<(TaskKey, Option<Share>)>) -> bool {
        let mut touched: BTreeSet<VipKey> = BTreeSet::new();
        for (task, share) in changes {
            let old = match share {
                Some(share) => {
                    for (vip, backend) in &share.backends {
                        touched.insert(vip.clone());
                        self.declared.entry(vip.clone()).or_default().insert(backend.clone());
                    }
                    let kept: BTreeSet<(VipKey, Backend)> = share.backends.iter().cloned().collect();
                    let old = self.shares.insert(task, share).unwrap_or_default();
                    old.backends.into_iter().filter(|pair| !kept.contains(pair)).collect()
                }
                None => self.shares.remove(&task).unwrap_or_default().backends,
            };
            for (vip, backend) in old {
                if let Some(backends) = self.declared.get_mut(&vip) {
                    backends.remove(&backend);
                    if backends.is_empty() {
                        self.declared.remove(&vip);
                    }
                }
                touched.insert(vip);
            }
        }
        if touched.is_empty() {
            return false;
        }
        let left = self.readdress(&mut touched);
        self.rebuild(&touched, left)
    }

    /// Gives names their addresses again if the set of names has changed, and touches the VIPs that move. Returns the
    /// addresses that some VIP has left.
    fn readdress(&mut self, touched: &mut BTreeSet<VipKey>) -> BTreeSet<VipAddress> {
        let stands = |index: &Self, name: &VipName| {
            let from = VipKey {
                target: VipTarget::Name(name.clone()),
                port: 0,
                protocol: crate::Protocol::Tcp,
            };
            index
                .declared
                .range(from..)
                .next()
                .is_some_and(|(key, _)| named(key) == Some(name))
        };
        let changed = touched
            .iter()
            .filter_map(named)
            .any(|name| stands(self, name) != self.addresses.contains_key(name));
        let mut left = BTreeSet::new();
        if !changed {
            return left;
        }
        let names: BTreeSet<VipName> = self.declared.keys().filter_map(named).cloned().collect();
        let mut taken = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for name in names {
            let addr = named_vip_address(self.range, &name, &taken);
            if let Some(addr) = addr {
                taken.insert(addr, name.clone());
            }
            addresses.insert(name, addr);
        }
        let moved = |name: &VipName| self.addresses.get(name) != addresses.get(name);
        touched.extend(
            self.declared
                .keys()
                .filter(|key| named(key).is_some_and(moved))
                .cloned(),
        );
        for (at, keys) in &mut self.by_address {
            let before = keys.len();
            keys.retain(|key| named(key).is_none_or(|name| addresses.get(name) == Some(&ipv4(at.addr))));
            if keys.len() < before {
                left.insert(*at);
            }
        }
        self.addresses = addresses;
        left
    }

    fn rebuild(&mut self, touched: &BTreeSet<VipKey>, mut dirty: BTreeSet<VipAddress>) -> bool {
        for key in touched {
            let Some(at) = self.address_of(key) else { continue };
            dirty.insert(at);
            let keys = self.by_address.entry(at).or_default();
            if self.declared.contains_key(key) {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        let mut changed = false;
        for at in dirty {
            let keys = self.by_address.get(&at).cloned().unwrap_or_default();
            if keys.is_empty() {
                self.by_address.remove(&at);
            }
            let service = merge(at, &keys, &self.declared);
            if self.services.get(&at).map(Arc::as_ref) == service.as_ref() {
                continue;
            }
            changed = true;
            let services = Arc::make_mut(&mut self.services);
            match service {
                Some(service) => services.insert(at, Arc::new(service)),
                None => services.remove(&at),
            };
        }
        changed
    }

    /// Where a VIP listens; `None` if it has no address (any more).
    fn address_of(&self, key: &VipKey) -> Option<VipAddress> {
        let addr = match &key.target {
            VipTarget::Addr(addr) => *addr,
            VipTarget::Name(name) => IpAddr::V4((*self.addresses.get(name)?)?),
        };
        Some(VipAddress {
            addr,
            port: key.port,
            protocol: key.protocol,
        })
    }
}

fn named(key: &VipKey) -> Option<&VipName> {
    match &key.target {
        VipTarget::Name(name) => Some(name),
        VipTarget::Addr(_) => None,
    }
}

fn ipv4(addr: IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    }
}

/// The service at one address: a VIP declared by the very address that a name hashes to shares its backends with it.
fn merge(at: VipAddress, keys: &BTreeSet<VipKey>, declared: &BTreeMap<VipKey, BTreeSet<Backend>>) -> Option<Service> {
    let all = keys.iter().filter_map(|key| declared.get(key)).flatten();
    let backends: BTreeSet<Backend> = all.filter(|b| b.addr.is_ipv4() == at.addr.is_ipv4()).cloned().collect();
    if backends.is_empty() {
        return None;
    }
    let name = keys.iter().find_map(named).cloned();
    Some(Service {
        vip: at,
        name,
        backends: backends.into_iter().collect(),
    })
}
