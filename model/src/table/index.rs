//! Which task stands behind which VIP, kept so that one task's change costs that task's VIPs and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::TaskKey;
use super::reject::{RejectReason, Rejected};
use crate::address::Places;
use crate::{Backend, Service, ServiceOptions, SharedMap, Vip6Range, VipAddress, VipKey, VipName, VipRange, VipTarget};

/// How a name was written: framework and label, before they were cleaned.
pub(super) type Spelling = (String, String);

type Options = BTreeMap<VipKey, ServiceOptions>;

/// What one task adds to the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// The names it declares, whether or not it is a backend yet: they keep their addresses over a restart.
    pub(super) names: Vec<(VipName, Spelling)>,
    /// Each VIP it declares with one backend of it.
    pub(super) backends: Vec<(VipKey, Backend)>,
    /// What it asks for its VIPs, where that is anything.
    pub(super) options: Options,
    /// What of it had to be left out.
    pub(super) rejected: Vec<Rejected>,
}

/// Services by address, with the bookkeeping to change them piecemeal.
///
/// # Invariants
/// - `declared` is the union of all shares; no VIP in it is without a backend.
/// - `asked` holds the options of all shares; no VIP in it is without any.
/// - `names` holds every name of every share; their addresses are those of [`Places`].
/// - `services` holds, for each address, the backends of every VIP in `by_address` there.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceIndex {
    range: VipRange,
    range6: Option<Vip6Range>,
    shares: BTreeMap<TaskKey, Share>,
    names: BTreeMap<VipName, BTreeMap<Spelling, usize>>,
    clashes: BTreeSet<VipName>,
    places: Places,
    places6: Places,
    declared: BTreeMap<VipKey, BTreeSet<Backend>>,
    asked: BTreeMap<VipKey, BTreeMap<TaskKey, ServiceOptions>>,
    /// Where each declared VIP listens at present.
    listens: BTreeMap<VipKey, Vec<VipAddress>>,
    by_address: BTreeMap<VipAddress, BTreeSet<VipKey>>,
    services: SharedMap<VipAddress, Arc<Service>>,
}

impl ServiceIndex {
    pub(super) fn new(range: VipRange, range6: Option<Vip6Range>) -> Self {
        Self {
            range,
            range6,
            places: Places::new(range.span()),
            places6: Places::new(range6.map_or(0, Vip6Range::span)),
            ..Self::default()
        }
    }

    pub(super) fn services(&self) -> SharedMap<VipAddress, Arc<Service>> {
        self.services.clone()
    }

    /// What tasks together had to leave out; what one task alone had to is in its share.
    pub(super) fn rejected(&self) -> impl Iterator<Item = Rejected> {
        let full = self.places.without().map(|name| Rejected {
            reason: RejectReason::OutOfAddresses,
            what: format!(
                "VIP {name}: no address left from {} to {}",
                self.range.min, self.range.max
            ),
        });
        let clashes = self.clashes.iter().map(|name| Rejected {
            reason: RejectReason::NameClash,
            what: format!(
                "VIP {name}: {:?} are written differently and are one name, so one service",
                self.names
                    .get(name)
                    .map(|spellings| spellings.keys().collect::<Vec<_>>())
            ),
        });
        full.chain(clashes)
    }

    /// Replaces the shares of the given tasks (`None`: the task adds nothing any more). Returns whether any service
    /// changed.
    pub(super) fn update(&mut self, changes: Vec<(TaskKey, Option<Share>)>) -> bool {
        let mut touched: BTreeSet<VipKey> = BTreeSet::new();
        let mut moved: BTreeSet<VipName> = BTreeSet::new();
        for (task, share) in changes {
            let share = share.unwrap_or_default();
            let old = self.shares.remove(&task).unwrap_or_default();
            if old == share {
                self.keep(task, share);
                continue;
            }
            // The new ones first, so that a name both have never loses its address in between.
            for (name, spelling) in &share.names {
                self.add_name(name, spelling, &mut moved);
            }
            for (name, spelling) in &old.names {
                self.remove_name(name, spelling, &mut moved);
            }
            self.ask(&task, &old.options, &share.options, &mut touched);
            for (vip, backend) in old.backends {
                if let Some(backends) = self.declared.get_mut(&vip) {
                    backends.remove(&backend);
                    if backends.is_empty() {
                        self.declared.remove(&vip);
                    }
                }
                touched.insert(vip);
            }
            for (vip, backend) in &share.backends {
                self.declared.entry(vip.clone()).or_default().insert(backend.clone());
                touched.insert(vip.clone());
            }
            self.keep(task, share);
        }
        for name in moved {
            touched.extend(self.keys_of(&name));
        }
        self.rebuild(&touched)
    }

    /// Replaces what one task asks for its VIPs.
    fn ask(&mut self, task: &TaskKey, old: &Options, new: &Options, touched: &mut BTreeSet<VipKey>) {
        for vip in old.keys() {
            touched.insert(vip.clone());
            if let Some(asked) = self.asked.get_mut(vip) {
                asked.remove(task);
                if asked.is_empty() {
                    self.asked.remove(vip);
                }
            }
        }
        for (vip, options) in new {
            touched.insert(vip.clone());
            let asked = self.asked.entry(vip.clone()).or_default();
            asked.insert(task.clone(), options.clone());
        }
    }

    fn keep(&mut self, task: TaskKey, share: Share) {
        if share != Share::default() {
            self.shares.insert(task, share);
        }
    }

    fn add_name(&mut self, name: &VipName, spelling: &Spelling, moved: &mut BTreeSet<VipName>) {
        let spellings = self.names.entry(name.clone()).or_default();
        let new = spellings.is_empty();
        *spellings.entry(spelling.clone()).or_default() += 1;
        if spellings.len() > 1 {
            self.clashes.insert(name.clone());
        }
        if new {
            moved.extend(self.places.add(name, self.range.home(name)));
            if let Some(range) = self.range6 {
                moved.extend(self.places6.add(name, range.home(name)));
            }
        }
    }

    fn remove_name(&mut self, name: &VipName, spelling: &Spelling, moved: &mut BTreeSet<VipName>) {
        let Some(spellings) = self.names.get_mut(name) else {
            return;
        };
        if let Some(count) = spellings.get_mut(spelling) {
            *count -= 1;
            if *count == 0 {
                spellings.remove(spelling);
            }
        }
        if spellings.len() < 2 {
            self.clashes.remove(name);
        }
        if spellings.is_empty() {
            self.names.remove(name);
            moved.extend(self.places.remove(name, self.range.home(name)));
            if let Some(range) = self.range6 {
                moved.extend(self.places6.remove(name, range.home(name)));
            }
        }
    }

    /// The VIPs in use that bear this name.
    fn keys_of(&self, name: &VipName) -> Vec<VipKey> {
        let from = VipKey {
            target: VipTarget::Name(name.clone()),
            port: 0,
            protocol: crate::Protocol::Tcp,
        };
        let keys = self.declared.range(from..).map(|(key, _)| key);
        keys.take_while(|key| named(key) == Some(name)).cloned().collect()
    }

    fn rebuild(&mut self, touched: &BTreeSet<VipKey>) -> bool {
        let mut dirty = BTreeSet::new();
        for key in touched {
            for at in self.listens.remove(key).unwrap_or_default() {
                if let Some(keys) = self.by_address.get_mut(&at) {
                    keys.remove(key);
                }
                dirty.insert(at);
            }
            if self.declared.contains_key(key) {
                let addresses = self.addresses_of(key);
                for at in &addresses {
                    self.by_address.entry(*at).or_default().insert(key.clone());
                    dirty.insert(*at);
                }
                self.listens.insert(key.clone(), addresses);
            }
        }
        let mut changed = false;
        for at in dirty {
            let keys = self.by_address.get(&at);
            let service = keys.and_then(|keys| merge(at, keys, &self.declared, &self.asked));
            if keys.is_some_and(BTreeSet::is_empty) {
                self.by_address.remove(&at);
            }
            if self.services.get(&at).map(Arc::as_ref) == service.as_ref() {
                continue;
            }
            changed = true;
            match service {
                Some(service) => self.services.insert(at, Arc::new(service)),
                None => self.services.remove(&at),
            };
        }
        changed
    }

    /// Where a VIP listens; a name has an address of each family that has a range.
    fn addresses_of(&self, key: &VipKey) -> Vec<VipAddress> {
        let addrs: Vec<IpAddr> = match &key.target {
            VipTarget::Addr(addr) => vec![*addr],
            VipTarget::Name(name) => {
                let place = self.places.of(name, self.range.home(name));
                let v4 = place.map(|place| IpAddr::V4(self.range.at(place)));
                let v6 = self.range6.and_then(|range| {
                    let place = self.places6.of(name, range.home(name))?;
                    Some(IpAddr::V6(range.at(place)))
                });
                v4.into_iter().chain(v6).collect()
            }
        };
        let at = |addr| VipAddress {
            addr,
            port: key.port,
            protocol: key.protocol,
        };
        addrs.into_iter().map(at).collect()
    }
}

fn named(key: &VipKey) -> Option<&VipName> {
    match &key.target {
        VipTarget::Name(name) => Some(name),
        VipTarget::Addr(_) => None,
    }
}

/// The service at one address: a VIP declared by the very address that a name hashes to shares its backends with it.
fn merge(
    at: VipAddress,
    keys: &BTreeSet<VipKey>,
    declared: &BTreeMap<VipKey, BTreeSet<Backend>>,
    asked: &BTreeMap<VipKey, BTreeMap<TaskKey, ServiceOptions>>,
) -> Option<Service> {
    let all = keys.iter().filter_map(|key| declared.get(key)).flatten();
    let backends: BTreeSet<Backend> = all.filter(|b| b.addr.is_ipv4() == at.addr.is_ipv4()).cloned().collect();
    if backends.is_empty() {
        return None;
    }
    let name = keys.iter().find_map(named).cloned();
    let mut options = ServiceOptions::default();
    for one in keys.iter().filter_map(|key| asked.get(key)).flat_map(BTreeMap::values) {
        options.join(one);
    }
    Some(Service {
        vip: at,
        name,
        backends: backends.into_iter().collect(),
        options,
    })
}
