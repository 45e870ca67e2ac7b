//! An immutable set of zones: which names exist, with which addresses, services, aliases and reverse names.

use std::net::IpAddr;
use std::sync::Arc;

use model::Generation;

use crate::alias::Aliases;
use crate::trie::Trie;

/// The name server itself.
pub(crate) const SPARTAN: &str = "spartan";
/// Longest name in text form without the final dot, RFC 1035 section 2.3.4.
pub(crate) const MAX_NAME: usize = 253;

/// One service of a name: a target and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Lower-case name without final dot.
    pub target: Arc<str>,
    /// Port at the target.
    pub port: u16,
}

/// What one name holds; all empty for a name that only has names below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Index into the zones.
    pub(crate) zone: usize,
    pub(crate) addrs: Vec<IpAddr>,
    pub(crate) srvs: Vec<Srv>,
    pub(crate) cname: Option<Arc<str>>,
    pub(crate) ptr: Option<Arc<str>>,
    /// A reverse name that several tasks claim, so that none has it.
    pub(crate) ambiguous: bool,
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
    /// The name it is another word for; it then has nothing else. The target may lie in no zone of ours.
    pub cname: Option<&'a str>,
    /// The name of the address that this name of `in-addr.arpa` or `ip6.arpa` stands for.
    pub ptr: Option<&'a str>,
}

/// What the zones had to leave out; a picture of now, not a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneCounts {
    /// Records left out because a name in them is longer than DNS allows.
    pub too_long: usize,
    /// Names that two things claim: the one of higher rank has it, or those of one rank share it.
    pub conflicts: usize,
    /// Addresses that several tasks have, and that therefore have no reverse name.
    pub ambiguous: usize,
}

/// All zones of one generation, only read. Two versions share what they have in common, so a clone is cheap and so is
/// the next version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zones {
    pub(crate) generation: Generation,
    /// Longest apex first, so that the first match is the innermost zone.
    pub(crate) zones: Arc<[ZoneInfo]>,
    pub(crate) names: Trie<Arc<Held>>,
    pub(crate) aliases: Arc<Aliases>,
    pub(crate) counts: ZoneCounts,
}

impl Zones {
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
        self.len() == 0
    }

    /// What had to be left out.
    pub fn counts(&self) -> ZoneCounts {
        self.counts
    }

    /// All zones, the innermost before those around it.
    pub fn zones(&self) -> &[ZoneInfo] {
        &self.zones
    }

    /// Looks a name up: lower case, no final dot. Aliases of our zones are followed.
    pub fn lookup(&self, name: &str) -> Lookup<'_> {
        // Most questions are for a name that exists under its own name: one hash and done.
        if let Some(held) = self.names.get(name) {
            return Lookup::Name(self.found(name, held));
        }
        match self.aliases.real_name(name) {
            Some(real) => match self.names.get(&real) {
                Some(held) => Lookup::Name(self.found(&real, held)),
                None => self.missing(&real),
            },
            None => self.missing(name),
        }
    }

    /// How many labels at the end of `name` are its zone's, counted in the name as asked, which may be an alias with more
    /// or fewer labels than the zone's own name.
    pub fn zone_labels(&self, name: &str, zone: &ZoneInfo) -> usize {
        let labels = |text: &str| text.split('.').count();
        let real = self.aliases.real_name(name).map_or(labels(name), |real| labels(&real));
        (labels(name) + labels(&zone.apex)).saturating_sub(real)
    }

    /// Every name with what it has, in the order of their text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Found<'_>)> {
        let mut all = self.names.entries();
        all.sort_unstable_by_key(|(name, _)| *name);
        all.into_iter().map(|(name, held)| (&**name, self.found(name, held)))
    }

    fn found<'a>(&'a self, name: &str, held: &'a Held) -> Found<'a> {
        let zone = &self.zones[held.zone];
        Found {
            zone,
            is_apex: name.len() == zone.apex.len(),
            addrs: &held.addrs,
            srvs: &held.srvs,
            cname: held.cname.as_deref(),
            ptr: held.ptr.as_deref(),
        }
    }

    fn missing(&self, name: &str) -> Lookup<'_> {
        match zone_of(&self.zones, name) {
            Some(index) => Lookup::NoName(&self.zones[index]),
            None => Lookup::NotOurs,
        }
    }
}

/// The innermost of `zones` that holds `name`; they are sorted by length, the longest first.
pub(crate) fn zone_of(zones: &[ZoneInfo], name: &str) -> Option<usize> {
    zones.iter().position(|zone| is_within(name, &zone.apex))
}

/// Whether `name` is `zone` or below it.
pub(crate) fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
