//! Keeps the zones true to the snapshot: a change costs the names it touches, whatever else the zones hold.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use model::{AgentId, Node, NodeView, Snapshot, Task};

use crate::Config;
use crate::alias::Aliases;
use crate::desired::{self, Claim, Rank, Record};
use crate::reverse::reverse_zones;
use crate::zones::{Held, MAX_NAME, Srv, ZoneInfo, Zones, is_within, zone_of};

/// Conflicts that are told by name; all are counted.
const TOLD: usize = 100;

/// The one writer of a node's zones. [`Names::update`] gives the next version, which shares with the one before all that
/// did not change.
///
/// # Invariants
/// - What is published is a function of the snapshot, the view, the leader and the settings alone; how it came about
///   makes no difference.
#[derive(Debug)]
pub struct Names {
    config: Config,
    leader: Option<SocketAddr>,
    /// What the zones were last made from.
    snapshot: Snapshot,
    fixed: Vec<Claim>,
    claims: HashMap<Arc<str>, Claims>,
    conflicts: BTreeSet<Arc<str>>,
    ambiguous: usize,
    too_long: usize,
    zones: Zones,
}

/// Everything that is claimed for one name.
#[derive(Debug, Default)]
struct Claims {
    /// Sorted; how often each is claimed.
    all: Vec<(Entry, usize)>,
    /// Names directly below that exist.
    below: usize,
    is_apex: bool,
}

/// One claim without its name; sorted by rank first.
type Entry = (Rank, u64, Record);

impl Names {
    /// No cluster yet, only what the settings say. They must have passed [`Config::check`].
    pub fn new(config: Config) -> Self {
        let mut infos = zone_infos(&config);
        infos.sort_by(|a, b| b.apex.len().cmp(&a.apex.len()).then_with(|| a.apex.cmp(&b.apex)));
        infos.dedup_by(|a, b| a.apex == b.apex);
        let zones = Zones {
            zones: infos.into(),
            aliases: Arc::new(Aliases::new(&config)),
            ..Zones::default()
        };
        let mut names = Self {
            leader: config.masters.first().copied(),
            config,
            snapshot: Snapshot::default(),
            fixed: Vec::new(),
            claims: HashMap::new(),
            conflicts: BTreeSet::new(),
            ambiguous: 0,
            too_long: 0,
            zones,
        };
        let infos = Arc::clone(&names.zones.zones);
        for zone in infos.iter() {
            let apex: Arc<str> = Arc::from(zone.apex.as_str());
            names.exist(&apex);
            names.claims.entry(Arc::clone(&apex)).or_default().is_apex = true;
            names.publish(&apex);
        }
        names
    }

    /// Which master leads now; takes effect with the next [`Names::update`].
    pub fn set_leader(&mut self, leader: Option<SocketAddr>) {
        self.leader = leader;
    }

    /// The zones as last made.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Names that two things claim, the first hundred in their order.
    pub fn conflicts(&self) -> impl Iterator<Item = &str> {
        self.conflicts.iter().take(TOLD).map(|name| &**name)
    }

    /// Brings the zones up to `snapshot` as this node sees it. Costs what differs from the snapshot before.
    pub fn update(&mut self, snapshot: &Snapshot, view: &NodeView) -> Zones {
        let mut touched = BTreeSet::new();
        let fixed = desired::fixed(&self.config, view, self.leader);
        if fixed != self.fixed {
            let old = std::mem::replace(&mut self.fixed, fixed.clone());
            self.exchange(old, fixed, &mut touched);
        }
        let before = std::mem::replace(&mut self.snapshot, snapshot.clone());
        let agents = before.nodes.changed(&snapshot.nodes);
        for id in &agents {
            let of = |snapshot: &Snapshot, config| snapshot.nodes.get(id).map(|node| desired::agent(node, config));
            let (old, new) = (of(&before, &self.config), of(snapshot, &self.config));
            self.exchange(old.unwrap_or_default(), new.unwrap_or_default(), &mut touched);
        }
        let frameworks = before.frameworks.changed(&snapshot.frameworks);
        for id in &frameworks {
            let of = |snapshot: &Snapshot, config| snapshot.frameworks.get(id).map(|fw| desired::framework(fw, config));
            let (old, new) = (of(&before, &self.config), of(snapshot, &self.config));
            self.exchange(old.unwrap_or_default(), new.unwrap_or_default(), &mut touched);
        }
        for vip in before.services.changed(&snapshot.services) {
            let of = |snapshot: &Snapshot, config| snapshot.services.get(&vip).map(|s| desired::service(s, config));
            let (old, new) = (of(&before, &self.config), of(snapshot, &self.config));
            self.exchange(old.unwrap_or_default(), new.unwrap_or_default(), &mut touched);
        }
        let mut tasks: BTreeSet<_> = before.tasks.changed(&snapshot.tasks).into_iter().collect();
        if !agents.is_empty() || !frameworks.is_empty() {
            let agents: BTreeSet<&AgentId> = agents.iter().collect();
            let frameworks: BTreeSet<_> = frameworks.iter().collect();
            let concerned = |task: &&Arc<Task>| agents.contains(&task.agent) || frameworks.contains(&task.framework);
            let both = before.tasks.values().chain(snapshot.tasks.values()).filter(concerned);
            tasks.extend(both.map(|task| (task.framework.clone(), task.id.clone())));
        }
        for key in tasks {
            let of = |snapshot: &Snapshot, config| {
                let task = snapshot.tasks.get(&key)?;
                let node: &Node = snapshot.nodes.get(&task.agent)?;
                Some(desired::task(task, node, snapshot.frameworks.get(&key.0)?, config))
            };
            let (old, new) = (of(&before, &self.config), of(snapshot, &self.config));
            self.exchange(old.unwrap_or_default(), new.unwrap_or_default(), &mut touched);
        }
        for name in touched {
            self.publish(&name);
        }
        self.zones.generation = snapshot.generation;
        self.zones.counts.too_long = self.too_long;
        self.zones.counts.conflicts = self.conflicts.len();
        self.zones.counts.ambiguous = self.ambiguous;
        self.zones.clone()
    }

    /// Takes new claims in and old ones back. What both hold is not touched.
    fn exchange(&mut self, mut old: Vec<Claim>, mut new: Vec<Claim>, touched: &mut BTreeSet<Arc<str>>) {
        old.sort_unstable();
        new.sort_unstable();
        if old == new {
            return;
        }
        // New ones first, so that a name that stays is never gone in between.
        for claim in new {
            self.add(claim, touched);
        }
        for claim in old {
            self.take_back(claim, touched);
        }
    }

    fn add(&mut self, claim: Claim, touched: &mut BTreeSet<Arc<str>>) {
        if claim.too_long() {
            self.too_long += 1;
            return;
        }
        if zone_of(&self.zones.zones, &claim.name).is_none() {
            return;
        }
        let name = match self.claims.get_key_value(claim.name.as_str()) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(claim.name.as_str()),
        };
        self.exist(&name);
        let claims = self.claims.entry(Arc::clone(&name)).or_default();
        let entry = (claim.rank, claim.origin, claim.record);
        match claims.all.binary_search_by(|(other, _)| other.cmp(&entry)) {
            Ok(index) => claims.all[index].1 += 1,
            Err(index) => claims.all.insert(index, (entry, 1)),
        }
        touched.insert(name);
    }

    fn take_back(&mut self, claim: Claim, touched: &mut BTreeSet<Arc<str>>) {
        if claim.too_long() {
            self.too_long -= 1;
            return;
        }
        let Some((name, _)) = self.claims.get_key_value(claim.name.as_str()) else {
            return;
        };
        let name = Arc::clone(name);
        let entry = (claim.rank, claim.origin, claim.record);
        if let Some(claims) = self.claims.get_mut(&name)
            && let Ok(index) = claims.all.binary_search_by(|(other, _)| other.cmp(&entry))
        {
            claims.all[index].1 -= 1;
            if claims.all[index].1 == 0 {
                claims.all.remove(index);
            }
            touched.insert(name);
        }
    }

    /// Makes a name exist, and with it all names between it and its zone.
    fn exist(&mut self, name: &Arc<str>) {
        if self.claims.contains_key(name) {
            return;
        }
        self.claims.insert(Arc::clone(name), Claims::default());
        if let Some(parent) = self.parent(name) {
            self.exist(&parent);
            if let Some(claims) = self.claims.get_mut(&parent) {
                claims.below += 1;
            }
            self.publish(&parent);
        }
    }

    /// The name directly above, unless that is outside of the zone.
    fn parent(&self, name: &str) -> Option<Arc<str>> {
        let zone = &self.zones.zones[zone_of(&self.zones.zones, name)?];
        let (_, parent) = name.split_once('.')?;
        (name.len() > zone.apex.len() && is_within(parent, &zone.apex)).then(|| {
            match self.claims.get_key_value(parent) {
                Some((parent, _)) => Arc::clone(parent),
                None => Arc::from(parent),
            }
        })
    }

    /// Shows a name as its claims say, or takes it away with all names above that stood only for it.
    fn publish(&mut self, name: &Arc<str>) {
        let Some(claims) = self.claims.get(name) else { return };
        if claims.all.is_empty() && claims.below == 0 && !claims.is_apex {
            self.claims.remove(name);
            self.note(name, Verdict::default());
            self.zones.names.remove(name);
            if let Some(parent) = self.parent(name) {
                if let Some(claims) = self.claims.get_mut(&parent) {
                    claims.below -= 1;
                }
                self.publish(&parent);
            }
            return;
        }
        let Some(zone) = zone_of(&self.zones.zones, name) else {
            return;
        };
        let (held, verdict) = claims.held(zone);
        self.note(name, verdict);
        if self.zones.names.get(name).is_none_or(|now| **now != held) {
            self.zones.names.insert(Arc::clone(name), Arc::new(held));
        }
    }

    fn note(&mut self, name: &Arc<str>, verdict: Verdict) {
        let was_ambiguous = self.zones.names.get(name).is_some_and(|held| held.ambiguous);
        self.ambiguous = self.ambiguous + usize::from(verdict.ambiguous) - usize::from(was_ambiguous);
        if verdict.conflict {
            self.conflicts.insert(Arc::clone(name));
        } else {
            self.conflicts.remove(name);
        }
    }
}

/// What was found wrong with a name's claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    conflict: bool,
    ambiguous: bool,
}

impl Claims {
    /// What the name shows: the claims of the best rank. Those of one rank share the name, but an address with two reverse
    /// names has none.
    fn held(&self, zone: usize) -> (Held, Verdict) {
        let mut held = Held {
            zone,
            ..Held::default()
        };
        let Some(((best, first, _), _)) = self.all.first() else {
            return (held, Verdict::default());
        };
        let shown = self
            .all
            .iter()
            .map(|(entry, _)| entry)
            .filter(|(rank, ..)| rank == best);
        let mut origins_differ = false;
        for (_, origin, record) in shown {
            origins_differ |= origin != first;
            match record {
                Record::Addr(addr) => held.addrs.push(*addr),
                Record::Srv(target, port) => held.srvs.push(Srv {
                    target: Arc::clone(target),
                    port: *port,
                }),
                Record::Alias(target) => held.cname = Some(Arc::clone(target)),
                Record::Reverse(target) => match &held.ptr {
                    Some(other) if other != target => held.ambiguous = true,
                    _ => held.ptr = Some(Arc::clone(target)),
                },
            }
        }
        if held.ambiguous {
            held.ptr = None;
        }
        held.addrs.sort_unstable();
        held.addrs.dedup();
        held.srvs.sort_unstable();
        held.srvs.dedup();
        let others = self.all.iter().any(|((rank, ..), _)| rank.conflicts_with(*best));
        let verdict = Verdict {
            conflict: others || (origins_differ && !held.ambiguous),
            ambiguous: held.ambiguous,
        };
        (held, verdict)
    }
}

impl Claim {
    fn too_long(&self) -> bool {
        let target = match &self.record {
            Record::Srv(target, _) | Record::Alias(target) | Record::Reverse(target) => target.len(),
            Record::Addr(_) => 0,
        };
        self.name.len() > MAX_NAME || target > MAX_NAME
    }
}

fn zone_infos(config: &Config) -> Vec<ZoneInfo> {
    let zone = |apex: String, ttl: u32| ZoneInfo {
        apex,
        ttl,
        negative_ttl: config.negative_ttl,
    };
    let below = ["l4lb", "dcos", "thisnode"].map(|name| format!("{name}.{}", config.directory));
    let alone = [
        config.directory.clone(),
        "spartan".to_owned(),
        "localhost".to_owned(),
        "zk".to_owned(),
    ];
    let reverse = config.reverse.iter().flat_map(reverse_zones);
    below
        .into_iter()
        .chain(alone)
        .chain(config.zones.iter().cloned())
        .chain(reverse)
        .map(|apex| zone(apex, config.vip_ttl))
        .chain([zone(config.domain.clone(), config.mesos_ttl)])
        .collect()
}

#[cfg(test)]
#[path = "names/tests.rs"]
mod tests;
