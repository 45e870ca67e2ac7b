//! This node's IPv6 address that translated packets leave with: the setting, or one of the uplinks'.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use lb_common::Ip;

use crate::Lb;

/// Every IPv6 address of the network namespace. Not the process's file: threads may be in namespaces of their own.
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";

/// `IFA_F_*` of the kernel: made for privacy and gone in a day; found to be another host's; not to be used for new
/// connections; not yet known to be no other host's.
const TEMPORARY: u8 = 0x01;
const TAKEN: u8 = 0x08;
const DEPRECATED: u8 = 0x20;
const TENTATIVE: u8 = 0x40;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    addr: Ipv6Addr,
    interface: String,
    /// 0: valid everywhere.
    scope: u8,
    flags: u8,
}

impl Address {
    /// A line of the kernel's: address, index, length of the prefix, scope and flags in hexadecimal, interface.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let addr = u128::from_str_radix(words.next()?, 16).ok()?;
        let mut number = || u8::from_str_radix(words.next()?, 16).ok();
        let (_, _, scope, flags) = (number(), number()?, number()?, number()?);
        Some(Self {
            addr: Ipv6Addr::from(addr),
            interface: words.next()?.to_owned(),
            scope,
            flags,
        })
    }

    fn is_usable(&self) -> bool {
        self.scope == 0 && self.flags & (TAKEN | TENTATIVE) == 0
    }

    /// The best one is the least.
    fn rank(&self) -> (bool, bool, Ipv6Addr) {
        let is = |flag: u8| self.flags & flag != 0;
        (is(DEPRECATED), is(TEMPORARY), self.addr)
    }
}

fn addresses() -> io::Result<Vec<Address>> {
    match fs::read_to_string(ADDRESSES) {
        Ok(text) => Ok(text.lines().filter_map(Address::parse).collect()),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The one to use, or why there is none. `told`: the one in use; `preferred`: what the kernel itself would take.
fn choose(
    all: &[Address],
    uplinks: &[String],
    setting: Option<Ipv6Addr>,
    told: Option<Ipv6Addr>,
    preferred: Option<Ipv6Addr>,
) -> Result<Ipv6Addr, String> {
    if let Some(wanted) = setting {
        let has = all.iter().any(|address| address.addr == wanted && address.is_usable());
        return if has {
            Ok(wanted)
        } else {
            Err(format!(
                "no interface of this node has the address {wanted} of `nat_address6`, so answers would not come back"
            ))
        };
    }
    let usable = all
        .iter()
        .filter(|address| address.is_usable() && uplinks.contains(&address.interface));
    let lasting: Vec<&Address> = usable.collect();
    let known = |wanted: Option<Ipv6Addr>| {
        wanted.filter(|wanted| {
            lasting
                .iter()
                .any(|address| address.addr == *wanted && address.flags & DEPRECATED == 0)
        })
    };
    let best = || {
        lasting
            .iter()
            .min_by_key(|address| address.rank())
            .map(|address| address.addr)
    };
    // One that is gone tomorrow would end what is translated then.
    let lasts = |wanted: &Ipv6Addr| {
        lasting
            .iter()
            .any(|one| one.addr == *wanted && one.flags & TEMPORARY == 0)
    };
    known(preferred.filter(lasts)).or_else(|| known(told)).or_else(best).ok_or_else(|| {
        format!(
            "no uplink ({}) has an IPv6 address that is valid beyond its link; give one an address, or name one of this node's in `nat_address6`",
            uplinks.join(", ")
        )
    })
}

/// The address that the kernel would send from to a backend. Nothing is sent.
fn preferred(backend: Ipv6Addr) -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((backend, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(addr) => Some(addr),
        IpAddr::V4(_) => None,
    }
}

impl Lb {
    /// The address to use now; `None` where there is none, or nothing is translated.
    pub(crate) fn find_own6(&mut self, told: Option<Ipv6Addr>) -> Option<Ipv6Addr> {
        if self.config.nat_ports.is_none() {
            self.nat6_hindered = None;
            return None;
        }
        let backends = self.bare_backends6();
        let kernels = backends.first().copied().and_then(preferred);
        let found = addresses()
            .map_err(|error| format!("could not read {ADDRESSES}: {error}"))
            .and_then(|all| choose(&all, &self.config.uplinks, self.config.nat_address6, told, kernels));
        let wanted = !backends.is_empty() || self.config.nat_address6.is_some();
        self.nat6_hindered = found.as_ref().err().filter(|_| wanted).cloned();
        found.ok()
    }

    /// Backends at IPv6 addresses on nodes without the daemon, as the book has them.
    fn bare_backends6(&self) -> BTreeSet<Ipv6Addr> {
        if self.config.bare_nodes.is_empty() {
            return BTreeSet::new();
        }
        let keys = self.book.indices.iter();
        keys.filter_map(|(key, index)| match key.addr {
            IpAddr::V6(addr) => Some((addr, index)),
            IpAddr::V4(_) => None,
        })
        .filter(|(_, index)| {
            let entry = self.maps.backends.get(index, 0);
            entry.is_ok_and(|entry| entry.flags & lb_common::backend_flags::BARE != 0)
        })
        .map(|(addr, _)| addr)
        .collect()
    }

    /// The address as the programs know it.
    pub(crate) fn told_own6(&self) -> Result<Option<Ipv6Addr>, aya::maps::MapError> {
        let told = self.maps.own6.get(&0, 0)?;
        Ok(match IpAddr::from(told) {
            IpAddr::V6(addr) if told != Ip::default() => Some(addr),
            _ => None,
        })
    }

    /// Why packets from outside for IPv6 backends on nodes without the daemon are dropped; `None`: they are not, or there are no
    /// such backends.
    pub fn nat6_hindered(&self) -> Option<&str> {
        self.nat6_hindered.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn line(addr: &str, scope: u8, flags: u8, interface: &str) -> Address {
        let addr = u128::from(at(addr));
        let line = format!("{addr:032x} 02 40 {scope:02x} {flags:02x} {interface:>8}");
        Address::parse(&line).expect("a line")
    }

    #[test]
    fn the_best_address_of_an_uplink_is_taken_and_the_one_in_use_stays() {
        let uplinks = ["eth0".to_owned()];
        let all = [
            line("fe80::1", 0x20, 0x80, "eth0"),
            line("2001:db8::9", 0, TEMPORARY, "eth0"),
            line("2001:db8::1", 0, DEPRECATED, "eth0"),
            line("2001:db8::2", 0, TENTATIVE, "eth0"),
            line("2001:db8::3", 0, TAKEN, "eth0"),
            line("2001:db8::5", 0, 0x80, "eth0"),
            line("fd00::5", 0, 0x80, "eth0"),
            line("2001:db8::4", 0, 0x80, "eth1"),
        ];
        let of = |all: &[Address], told: Option<&str>, kernels: Option<&str>| {
            choose(all, &uplinks, None, told.map(at), kernels.map(at))
        };
        assert_eq!(of(&all, None, None), Ok(at("2001:db8::5")));
        assert_eq!(of(&all, Some("fd00::5"), None), Ok(at("fd00::5")), "in use");
        assert_eq!(
            of(&all, Some("2001:db8::1"), None),
            Ok(at("2001:db8::5")),
            "to be given up"
        );
        assert_eq!(
            of(&all, Some("2001:db8::9"), Some("fd00::5")),
            Ok(at("fd00::5")),
            "the kernel's own choice"
        );
        assert_eq!(
            of(&all, None, Some("2001:db8::4")),
            Ok(at("2001:db8::5")),
            "no uplink's"
        );
        assert_eq!(
            of(&all, Some("2001:db8::5"), Some("2001:db8::9")),
            Ok(at("2001:db8::5")),
            "the kernel's own choice is gone in a day"
        );
        assert_eq!(of(&all[..2], None, None), Ok(at("2001:db8::9")));
        let said = of(&all[..1], None, None).expect_err("none");
        assert!(said.contains("eth0") && said.contains("nat_address6"), "{said}");
        let set = |addr: &str| choose(&all, &uplinks, Some(at(addr)), None, None);
        assert_eq!(set("2001:db8::4"), Ok(at("2001:db8::4")), "any interface's");
        let said = set("2001:db8::77").expect_err("nobody's");
        assert!(said.contains("2001:db8::77") && said.contains("nat_address6"), "{said}");
    }
}
