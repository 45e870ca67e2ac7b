//! Settings of source translation: ports of this node's own for it, and nodes that need it.

use std::net::Ipv4Addr;
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
        Ok(Self { ports, bare })
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
}
