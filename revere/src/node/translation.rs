//! Settings of source translation: ports of this node's own for it, and nodes that need it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use model::Ipv4Net;

use super::NodeError;
use super::config::{Config, wrong};

/// Above what the kernel gives out by default (32768 to 60999), below the tunnel's port.
const USUAL: RangeInclusive<u16> = 61_000..=63_999;

/// What the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Translation {
    /// `None`: whatever is free of the usual ports.
    ports: Option<Option<RangeInclusive<u16>>>,
    pub(super) bare: Vec<Ipv4Net>,
    /// `None`: one of the uplinks'.
    pub(super) address6: Option<Ipv6Addr>,
}

impl Translation {
    pub(super) fn new(config: &Config) -> Result<Self, NodeError> {
        let ports = match config.nat_ports.as_str() {
            "" => None,
            "none" => Some(None),
            text => Some(Some(range(text)?)),
        };
        let bare: Result<Vec<Ipv4Net>, NodeError> = config.bare_nodes.iter().map(|text| net(text)).collect();
        let bare = bare?;
        if ports == Some(None) && !bare.is_empty() {
            return Err(wrong(
                "nat_ports",
                "none",
                "bare_nodes are reached by translated packets only; name ports for them",
            ));
        }
        let address6 = match config.nat_address6.as_str() {
            "" => None,
            text => Some(address6(text)?),
        };
        Ok(Self { ports, bare, address6 })
    }

    /// The ports to use. The usual ones are left alone where the kernel gives them to others.
    pub(super) fn ports(&self) -> Option<RangeInclusive<u16>> {
        match &self.ports {
            Some(told) => told.clone(),
            None => match lb_userspace::check_nat_ports(&USUAL) {
                Ok(()) => Some(USUAL),
                Err(error) => {
                    tracing::warn!("no source is translated: {error}");
                    None
                }
            },
        }
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, NodeError> {
    let want = "write two ports such as 61000-63999, `none`, or nothing for the usual ones";
    let ends = text.split_once('-').and_then(|(first, last)| {
        let first: u16 = first.trim().parse().ok()?;
        let last: u16 = last.trim().parse().ok()?;
        (first > 0 && first <= last).then_some(first..=last)
    });
    ends.ok_or_else(|| wrong("nat_ports", text, want))
}

/// One that packets from elsewhere can be sent to.
fn address6(text: &str) -> Result<Ipv6Addr, NodeError> {
    let want = "write an IPv6 address of this node such as 2001:db8::17 that is valid beyond its link, or nothing for one of the uplinks'";
    let parsed = text.parse::<Ipv6Addr>().ok();
    let fits = |addr: &Ipv6Addr| {
        let odd = addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || addr.is_unicast_link_local();
        !odd && addr.to_ipv4_mapped().is_none()
    };
    parsed.filter(fits).ok_or_else(|| wrong("nat_address6", text, want))
}

fn net(text: &str) -> Result<Ipv4Net, NodeError> {
    let want = "write IPv4 addresses or prefixes such as 10.0.5.0/24";
    let one = || Ipv4Net::new(text.parse::<Ipv4Addr>().ok()?, 32).ok();
    text.parse()
        .ok()
        .or_else(one)
        .ok_or_else(|| wrong("bare_nodes", text, want))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ports: &str, bare: &[&str]) -> Result<Translation, NodeError> {
        Translation::new(&Config {
            nat_ports: ports.to_owned(),
            bare_nodes: bare.iter().map(|text| (*text).to_owned()).collect(),
            ..Config::default()
        })
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_refused_by_its_key() {
        assert_eq!(of("100-200", &[]).expect("a range").ports(), Some(100..=200));
        assert_eq!(of("none", &[]).expect("a word").ports(), None);
        for text in ["200-100", "0-5", "5", "1-70000", "x"] {
            assert!(
                of(text, &[]).expect_err(text).to_string().contains("nat_ports"),
                "{text}"
            );
        }
        let bare = of("", &["10.0.0.9", "10.0.5.0/24"]).expect("networks").bare;
        assert!(bare[0].contains([10, 0, 0, 9].into()) && !bare[0].contains([10, 0, 0, 8].into()));
        assert!(bare[1].contains([10, 0, 5, 77].into()));
        assert!(of("", &["ten"]).expect_err("no net").to_string().contains("bare_nodes"));
        assert!(of("none", &["10.0.0.9"]).is_err());
    }

    #[test]
    fn an_address_that_no_answer_could_reach_is_refused() {
        let of = |text: &str| {
            Translation::new(&Config {
                nat_address6: text.to_owned(),
                ..Config::default()
            })
        };
        assert_eq!(of("").expect("the uplinks'").address6, None);
        let taken = of("2001:db8::17").expect("an address").address6;
        assert_eq!(taken, Some("2001:db8::17".parse().expect("an address")));
        for text in [
            "10.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "x",
            "2001:db8::/64",
        ] {
            let said = of(text).expect_err(text).to_string();
            assert!(said.contains("nat_address6"), "{said}");
        }
    }
}
