//! What an operator can set about questions that go to other servers, and what is refused about it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Upstream servers of one rule: more would only be asked when all before them are silent, which takes too long to help.
const MAX_UPSTREAMS: usize = 16;
/// Rules of one node: far above what is sensible, so that a file that went wrong is told from one that is large.
const MAX_ZONES: usize = 4096;

/// Names at or below a suffix go to servers of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardZone {
    /// For example `corp.example`; lower case, without the last dot.
    pub suffix: String,
    /// The servers that know the zone. Empty: its names never leave this node, and questions for them are REFUSED.
    pub upstreams: Vec<SocketAddr>,
}

/// Whether questions are sent with letters of random case, which an upstream server must repeat (draft "0x20").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseMixing {
    /// As the client wrote it, in lower case.
    Off,
    /// Every letter at random: about one bit more per letter that a forger must guess.
    On,
}

/// How questions are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Rules by suffix; of several that fit, the longest counts. Names that fit none go to [`crate::Config::upstreams`].
    pub zones: Vec<ForwardZone>,
    /// Upstream servers asked at once; the first usable reply counts. DC/OS asked two.
    pub parallel: usize,
    /// Letters of random case.
    pub case: CaseMixing,
    /// Bytes of replies kept; 0 keeps none.
    pub cache_bytes: u64,
    /// How long after its end a reply may still be given out while no upstream server answers; zero switches that off.
    pub stale: Duration,
    /// Ports that questions are never sent from, since others may want to listen there: first and last of each range.
    /// Those in the kernel's `ip_local_reserved_ports` are left alone too.
    pub reserved_ports: Vec<(u16, u16)>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            parallel: 2,
            case: CaseMixing::On,
            cache_bytes: 16 * 1024 * 1024,
            // The lower end of what RFC 8767 section 5 recommends.
            stale: Duration::from_secs(86_400),
            // The ports that a Mesos agent offers to tasks.
            reserved_ports: vec![(31_000, 32_000)],
        }
    }
}

/// Why settings of forwarding can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A suffix is no domain name.
    #[error("`{0}` can't be the suffix of a forwarding rule: write a lower-case domain name such as corp.example")]
    Suffix(String),
    /// Two rules for the same suffix.
    #[error("there are two forwarding rules for `{0}`: put all its servers into one")]
    Twice(String),
    /// The rule could never apply.
    #[error(
        "the forwarding rule for `{suffix}` would never be used: this node answers for `{zone}` itself; remove the rule"
    )]
    Ours {
        /// The rule's suffix.
        suffix: String,
        /// Our zone at or above it.
        zone: String,
    },
    /// More than a question can try.
    #[error("{what} has {count} upstream servers: name at most {MAX_UPSTREAMS}")]
    ManyUpstreams {
        /// The rule, or the default.
        what: String,
        /// How many there are.
        count: usize,
    },
    /// Too many rules.
    #[error("there are {0} forwarding rules: at most {MAX_ZONES} are taken")]
    ManyZones(usize),
    /// No server can be there.
    #[error(
        "upstream name server {0} is no address of a single server: write one such as 192.0.2.53 or 192.0.2.53:5353"
    )]
    Address(SocketAddr),
    /// Nobody would be asked, or everybody.
    #[error("`parallel` is {0}: ask between 1 and {MAX_UPSTREAMS} upstream servers at once")]
    Parallel(usize),
    /// A range that ends before it begins.
    #[error("{0}-{1} is no range of ports: write the lower one first")]
    Ports(u16, u16),
}

impl Forwarding {
    /// Checks rules and servers; `default` are the servers of all other names, `ours` the zones this node answers for.
    pub(crate) fn check(&self, default: &[SocketAddr], ours: &[&str]) -> Result<(), ForwardError> {
        if self.zones.len() > MAX_ZONES {
            return Err(ForwardError::ManyZones(self.zones.len()));
        }
        if !(1..=MAX_UPSTREAMS).contains(&self.parallel) {
            return Err(ForwardError::Parallel(self.parallel));
        }
        if let Some((first, last)) = self.reserved_ports.iter().find(|(first, last)| first > last) {
            return Err(ForwardError::Ports(*first, *last));
        }
        upstreams("the default", default)?;
        let mut seen = BTreeSet::new();
        for zone in &self.zones {
            let suffix = &zone.suffix;
            if !is_suffix(suffix) {
                return Err(ForwardError::Suffix(suffix.clone()));
            }
            if !seen.insert(suffix) {
                return Err(ForwardError::Twice(suffix.clone()));
            }
            let above = |ours: &&&str| suffix == **ours || suffix.ends_with(&format!(".{ours}"));
            if let Some(zone) = ours.iter().find(above) {
                return Err(ForwardError::Ours {
                    suffix: suffix.clone(),
                    zone: (*zone).to_owned(),
                });
            }
            upstreams(&format!("the forwarding rule for `{suffix}`"), &zone.upstreams)?;
        }
        Ok(())
    }

    /// All servers of all rules.
    pub(crate) fn servers<'a>(&'a self, default: &'a [SocketAddr]) -> impl Iterator<Item = &'a SocketAddr> {
        default.iter().chain(self.zones.iter().flat_map(|zone| &zone.upstreams))
    }
}

fn upstreams(what: &str, list: &[SocketAddr]) -> Result<(), ForwardError> {
    if list.len() > MAX_UPSTREAMS {
        return Err(ForwardError::ManyUpstreams {
            what: what.to_owned(),
            count: list.len(),
        });
    }
    let nobody = |addr: &&SocketAddr| {
        let broadcast = matches!(addr.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        addr.port() == 0 || addr.ip().is_unspecified() || addr.ip().is_multicast() || broadcast
    };
    match list.iter().find(nobody) {
        Some(addr) => Err(ForwardError::Address(*addr)),
        None => Ok(()),
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 bytes, as names of hosts and of services need.
fn is_suffix(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(suffix: &str, upstreams: &[&str]) -> ForwardZone {
        ForwardZone {
            suffix: suffix.to_owned(),
            upstreams: upstreams.iter().map(|addr| addr.parse().expect("an address")).collect(),
        }
    }

    fn check(zones: Vec<ForwardZone>) -> Result<(), ForwardError> {
        let forwarding = Forwarding {
            zones,
            ..Forwarding::default()
        };
        forwarding.check(&[], &["mesos", "thisdcos.directory"])
    }

    #[test]
    fn rules_that_work_pass() {
        let zones = [
            "corp.example",
            "10.in-addr.arpa",
            "_tcp.example",
            "notmesos",
            "directory",
        ];
        let zones = zones.map(|suffix| zone(suffix, &["192.0.2.1:53", "[2001:db8::1]:5353"]));
        assert_eq!(check(zones.into()), Ok(()));
        assert_eq!(check(vec![zone("kept.inside", &[])]), Ok(()));
    }

    #[test]
    fn rules_that_cannot_work_are_named() {
        for bad in ["", ".", "Corp.example", "corp.example.", "a..b", "a b", &"x".repeat(64)] {
            assert_eq!(check(vec![zone(bad, &[])]), Err(ForwardError::Suffix(bad.to_owned())));
        }
        let twice = vec![zone("a.example", &["192.0.2.1:53"]), zone("a.example", &[])];
        assert_eq!(check(twice), Err(ForwardError::Twice("a.example".to_owned())));
        for (suffix, of) in [("mesos", "mesos"), ("l4lb.thisdcos.directory", "thisdcos.directory")] {
            let error = check(vec![zone(suffix, &["192.0.2.1:53"])]).expect_err("ours");
            assert!(
                matches!(&error, ForwardError::Ours { zone, .. } if zone == of),
                "{error}"
            );
        }
        for bad in [
            "0.0.0.0:53",
            "192.0.2.1:0",
            "224.0.0.251:5353",
            "255.255.255.255:53",
            "[::]:53",
        ] {
            let error = check(vec![zone("a.example", &[bad])]).expect_err("nobody is there");
            assert_eq!(error, ForwardError::Address(bad.parse().expect("an address")));
        }
        let many = check(vec![zone("a.example", &["192.0.2.1:53"; 17])]).expect_err("many");
        assert!(matches!(many, ForwardError::ManyUpstreams { count: 17, .. }));
        let none = Forwarding {
            parallel: 0,
            ..Forwarding::default()
        };
        assert_eq!(none.check(&[], &[]), Err(ForwardError::Parallel(0)));
    }
}
