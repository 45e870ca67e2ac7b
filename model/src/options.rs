//! What a service asks of the load balancer besides its VIP: options from `revere.*` labels on its ports.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::RejectReason;

/// An address and how many of its leading bits count; host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The first address.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// The prefix length: 0 to 32 or 128.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = OptionError;

    /// `address/length`, or an address alone.
    fn from_str(text: &str) -> Result<Self, OptionError> {
        let wrong = || OptionError::Allow(text.to_owned());
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.trim().parse().map_err(|_| wrong())?;
        let (bits, width) = match addr {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let prefix: u8 = prefix.map_or(Ok(width), |prefix| prefix.trim().parse().map_err(|_| wrong()))?;
        let host = bits.checked_shl(u32::from(prefix)).unwrap_or(0);
        if prefix > width || host != 0 {
            return Err(wrong());
        }
        Ok(Self { addr, prefix })
    }
}

/// What a service asks of new connections, on each node; the same for all its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceOptions {
    /// Connections of one source address go to one backend (`revere.affinity: source`).
    pub affinity: bool,
    /// New connections per second and node, 0 = no limit (`revere.max-rate`).
    pub max_rate: u32,
    /// Open connections per node, 0 = no limit (`revere.max-connections`).
    pub max_connections: u32,
    /// Sources that may connect; empty = all (`revere.allow`).
    pub allow: BTreeSet<Cidr>,
    /// Connections of a backend that is gone are reset instead of left to time out (`revere.reset`).
    pub reset: bool,
}

impl ServiceOptions {
    /// Two tasks of one service may say different things, for example while it is updated: the stricter limit holds, and
    /// sources that any of those allow which name sources at all. The order of the tasks does not matter.
    pub fn join(&mut self, other: &Self) {
        let stricter = |a: u32, b: u32| match (a, b) {
            (0, other) | (other, 0) => other,
            (a, b) => a.min(b),
        };
        self.affinity |= other.affinity;
        self.max_rate = stricter(self.max_rate, other.max_rate);
        self.max_connections = stricter(self.max_connections, other.max_connections);
        self.allow.extend(other.allow.iter().copied());
        self.reset |= other.reset;
    }
}

/// Why an option was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No number from 0 to 65535.
    #[error("`revere.weight: {0}` is no whole number from 0 to 65535")]
    Weight(String),
    /// Not `source`.
    #[error("`revere.affinity: {0}` is not known; `source` is")]
    Affinity(String),
    /// Not a number from 1.
    #[error("`{0}: {1}` is no whole number from 1 to 4294967295")]
    Limit(&'static str, String),
    /// Not a list of prefixes.
    #[error("`{0}` in `revere.allow` is no address or prefix (address/length with no bits behind the prefix)")]
    Allow(String),
    /// More prefixes than one service may have.
    #[error("`revere.allow` holds {0} prefixes; {MAX_ALLOWED} are the most")]
    TooMany(usize),
    /// Not `true` or `false`.
    #[error("`revere.reset: {0}` is neither `true` nor `false`")]
    Reset(String),
    /// A key of ours that nothing reads, most likely misspelt.
    #[error("`{0}` is no option; there are revere.weight, .affinity, .max-rate, .max-connections, .allow, .reset")]
    Unknown(String),
}

impl OptionError {
    /// The class, for counters.
    pub fn reason(&self) -> RejectReason {
        match self {
            Self::Weight(_) => RejectReason::OptionWeight,
            Self::Affinity(_) => RejectReason::OptionAffinity,
            Self::Limit(..) => RejectReason::OptionLimit,
            Self::Allow(_) | Self::TooMany(_) => RejectReason::OptionAllow,
            Self::Reset(_) => RejectReason::OptionReset,
            Self::Unknown(_) => RejectReason::OptionUnknown,
        }
    }
}

/// Most prefixes that one service may allow: the kernel's table has room for 16,384 over all services.
pub const MAX_ALLOWED: usize = 256;

/// What all labels of one port add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Of the service.
    pub service: ServiceOptions,
    /// Of this task's backends; `None` = 1.
    pub weight: Option<u16>,
    /// What was left out; the rest holds all the same. A wrong `revere.allow` allows nobody.
    pub errors: Vec<OptionError>,
}

const PREFIX: &str = "revere.";

/// Reads the `revere.*` labels of a port.
pub fn port_options(labels: &[(String, String)]) -> PortOptions {
    let mut out = PortOptions::default();
    for (key, value) in labels {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if let Err(error) = read(&mut out, name, value.trim()) {
            out.errors.push(error);
        }
    }
    out
}

fn read(out: &mut PortOptions, name: &str, value: &str) -> Result<(), OptionError> {
    match name {
        "weight" => out.weight = Some(value.parse().map_err(|_| OptionError::Weight(value.to_owned()))?),
        "affinity" if value == "source" => out.service.affinity = true,
        "affinity" => return Err(OptionError::Affinity(value.to_owned())),
        "max-rate" => out.service.max_rate = limit("revere.max-rate", value)?,
        "max-connections" => out.service.max_connections = limit("revere.max-connections", value)?,
        "allow" => {
            let allowed = allowed(value);
            // Who meant to keep somebody out must not let everybody in by a slip of the pen.
            out.service.allow = allowed.clone().unwrap_or_else(|_| nobody());
            allowed?;
        }
        "reset" => out.service.reset = value.parse().map_err(|_| OptionError::Reset(value.to_owned()))?,
        _ => return Err(OptionError::Unknown(format!("{PREFIX}{name}"))),
    }
    Ok(())
}

fn limit(key: &'static str, value: &str) -> Result<u32, OptionError> {
    let wrong = || OptionError::Limit(key, value.to_owned());
    value.parse().ok().filter(|limit| *limit > 0).ok_or_else(wrong)
}

fn allowed(value: &str) -> Result<BTreeSet<Cidr>, OptionError> {
    let parts = || value.split(',').map(str::trim).filter(|part| !part.is_empty());
    match parts().count() {
        0 => Err(OptionError::Allow(value.to_owned())),
        1..=MAX_ALLOWED => parts().map(Cidr::from_str).collect(),
        many => Err(OptionError::TooMany(many)),
    }
}

/// A list with nobody in it who could connect: the address that no packet comes from.
fn nobody() -> BTreeSet<Cidr> {
    BTreeSet::from([Cidr {
        addr: IpAddr::from([0; 4]),
        prefix: 32,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(labels: &[(&str, &str)]) -> PortOptions {
        let owned = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        port_options(&owned.collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_read() {
        let got = options(&[
            ("VIP_0", "/a:80"),
            ("revere.affinity", "source"),
            ("revere.allow", "10.0.0.0/8, 192.0.2.1, fd00::/8"),
            ("revere.max-connections", "100"),
            ("revere.max-rate", "50"),
            ("revere.reset", "true"),
            ("revere.weight", "7"),
            ("zebra", "x"),
        ]);
        assert_eq!((got.errors.len(), got.weight), (0, Some(7)), "{got:?}");
        let service = got.service;
        assert!(service.affinity && service.reset);
        assert_eq!((service.max_rate, service.max_connections), (50, 100));
        let texts: Vec<String> = service.allow.iter().map(Cidr::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
    }

    #[test]
    fn what_is_wrong_is_named_and_costs_only_itself() {
        for (key, value) in [
            ("revere.weight", "-1"),
            ("revere.weight", "65536"),
            ("revere.affinity", "cookie"),
            ("revere.max-rate", "0"),
            ("revere.max-connections", "many"),
            ("revere.allow", "10.0.0.1/8"),
            ("revere.allow", "10.0.0.0/33"),
            ("revere.allow", "fd00::1/64"),
            ("revere.allow", ""),
            ("revere.reset", "yes"),
            ("revere.wieght", "1"),
        ] {
            let got = options(&[(key, value), ("revere.weight", "9")]);
            let text = got.errors.iter().map(ToString::to_string).collect::<String>();
            assert_eq!((got.errors.len(), got.weight), (1, Some(9)), "{key}: {value}: {text}");
            assert!(text.contains("revere."), "{text}");
        }
        let many = vec!["10.0.0.0/8"; MAX_ALLOWED + 1].join(",");
        assert_eq!(
            options(&[("revere.allow", &many)]).errors,
            [OptionError::TooMany(MAX_ALLOWED + 1)]
        );
    }

    #[test]
    fn a_wrong_list_of_sources_allows_nobody_rather_than_everybody() {
        let got = options(&[("revere.allow", "10.0.0.0/8, nonsense")]);
        assert_eq!(got.service.allow, nobody());
    }

    #[test]
    fn tasks_that_disagree_are_joined_in_any_order() {
        let a = options(&[("revere.max-rate", "50"), ("revere.allow", "10.0.0.0/8")]).service;
        let b = options(&[("revere.max-rate", "20"), ("revere.reset", "true")]).service;
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.join(&b);
        ba.join(&a);
        assert_eq!(ab, ba);
        assert_eq!((ab.max_rate, ab.reset, ab.allow.len()), (20, true, 1));
    }
}
