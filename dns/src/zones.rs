//! An immutable set of zones: which names exist, with which addresses and services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Generation;

/// Parent of the cluster's own zones; nothing below it is ever forwarded.
pub(crate) const DIRECTORY: &str = "thisdcos.directory";
/// Older name of [`DIRECTORY`]; everything below it means the same name there.
pub(crate) const GLOBAL: &str = "thisdcos.global";
/// Names of VIPs.
pub(crate) const L4LB: &str = "l4lb.thisdcos.directory";
/// Older name of [`L4LB`].
pub(crate) const DCLB: &str = "dclb.thisdcos.directory";
/// The node that answers.
pub(crate) const THISNODE: &str = "thisnode.thisdcos.directory";
/// The name server itself.
pub(crate) const SPARTAN: &str = "spartan";
/// Longest name in text form without the final dot, RFC 1035 section 2.3.4.
const MAX_NAME: usize = 253;

/// One service of a name: a target and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Lower-case name without final dot, in one of our zones.
    pub target: String,
    /// Port at the target.
    pub port: u16,
}

/// What one name holds; both empty for a name that only has names below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    addrs: Vec<IpAddr>,
    srvs: Vec<Srv>,
}

/// A zone's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneInfo {
    /// Lower-case name of the zone without final dot.
    pub apex: String,
    /// Seconds that its records may be cached.
    pub ttl: u32,
    /// Seconds that the absence of a record may be cached.
    pub negative_ttl: u32,
}

/// The outcome of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The name lies in no zone of ours.
    NotOurs,
    /// The zone is ours, the name does not exist.
    NoName(&'a ZoneInfo),
    /// The name exists; it may still have no record of the type asked.
    Name(Found<'a>),
}

/// A name that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its zone.
    pub zone: &'a ZoneInfo,
    /// Whether it is the zone's own name, the one with SOA and NS.
    pub is_apex: bool,
    /// Its addresses, sorted.
    pub addrs: &'a [IpAddr],
    /// Its services, sorted.
    pub srvs: &'a [Srv],
}

/// All zones of one generation. Built once by [`crate::desired`], then only read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    generation: Generation,
    /// Longest apex first, so that the first match is the innermost zone.
    zones: Vec<ZoneInfo>,
    names: BTreeMap<String, Node>,
    left_out: usize,
}

impl Zones {
    /// No names yet; `zones` in any order.
    pub(crate) fn new(generation: Generation, mut zones: Vec<ZoneInfo>) -> Self {
        zones.sort_by(|a, b| b.apex.len().cmp(&a.apex.len()).then_with(|| a.apex.cmp(&b.apex)));
        let names = zones.iter().map(|zone| (zone.apex.clone(), Node::default())).collect();
        Self {
            generation,
            zones,
            names,
            left_out: 0,
        }
    }

    /// The generation of the snapshot these zones were made from.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How many names exist, names that only have names below them included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name at all: true only for [`Zones::default`].
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many names were left out because they are longer than DNS allows.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Looks a name up: lower case, no final dot. Aliases of our zones are followed.
    pub fn lookup(&self, name: &str) -> Lookup<'_> {
        match rename(name) {
            Some(real) => self.find(&real),
            None => self.find(name),
        }
    }

    fn find(&self, name: &str) -> Lookup<'_> {
        let Some(zone) = self.zones.iter().find(|zone| is_within(name, &zone.apex)) else {
            return Lookup::NotOurs;
        };
        match self.names.get(name) {
            None => Lookup::NoName(zone),
            Some(node) => Lookup::Name(Found {
                zone,
                is_apex: name.len() == zone.apex.len(),
                addrs: &node.addrs,
                srvs: &node.srvs,
            }),
        }
    }

    pub(crate) fn add_addr(&mut self, name: &str, addr: IpAddr) {
        if let Some(node) = self.node(name) {
            node.addrs.push(addr);
        }
    }

    pub(crate) fn add_srv(&mut self, name: &str, target: &str, port: u16) {
        if target.len() > MAX_NAME {
            self.left_out += 1;
        } else if let Some(node) = self.node(name) {
            let target = target.to_owned();
            node.srvs.push(Srv { target, port });
        }
    }

    /// Sorts every name's records and drops duplicates; called once when all are in.
    pub(crate) fn finish(mut self) -> Self {
        for node in self.names.values_mut() {
            node.addrs.sort_unstable();
            node.addrs.dedup();
            node.srvs.sort_unstable();
            node.srvs.dedup();
        }
        self
    }

    /// The node of a name, made with all names between it and its zone if it is new.
    fn node(&mut self, name: &str) -> Option<&mut Node> {
        if name.len() > MAX_NAME {
            self.left_out += 1;
            return None;
        }
        if !self.names.contains_key(name) {
            let mut parent = name;
            while let Some((_, rest)) = parent.split_once('.') {
                parent = rest;
                // Whatever exists has all its parents already; the apex of each zone exists from the start.
                if self.names.contains_key(parent) || !self.zones.iter().any(|zone| is_within(parent, &zone.apex)) {
                    break;
                }
                self.names.insert(parent.to_owned(), Node::default());
            }
        }
        Some(self.names.entry(name.to_owned()).or_default())
    }
}

/// The real name behind an alias of one of our zones.
fn rename(name: &str) -> Option<String> {
    let swap = |from: &str, to: &str| {
        is_within(name, from).then(|| {
            let rest = name.strip_suffix(from).unwrap_or_default();
            format!("{rest}{to}")
        })
    };
    let directory = swap(GLOBAL, DIRECTORY);
    let name = directory.as_deref().unwrap_or(name);
    if is_within(name, DCLB) {
        let rest = name.strip_suffix(DCLB).unwrap_or_default();
        return Some(format!("{rest}{L4LB}"));
    }
    directory
}

/// Whether `name` is `zone` or below it.
fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
