//! A network of tasks: an overlay with its own identifier, cut into one block for each node.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Ipv4Net, NetError};

/// An overlay network beside the default one.
///
/// Node number `n` (its block's place in the default overlay) has the `n`-th block of every network, so that who has which
/// block follows from what every node knows, and needs no record of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// What apps name.
    pub name: String,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// All its addresses.
    pub subnet: Ipv4Net,
    /// Prefix length of a node's block.
    pub prefix: u8,
    /// Networks whose tasks may exchange packets with this one's. It holds in both directions, whoever of the two says it.
    pub peers: BTreeSet<String>,
}

/// Why a text names no networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkTextError {
    /// Not five fields, or a field that is no number.
    #[error("`{0}` is no network: it has a name, a VNI, a prefix, the length of a block and peers, joined by commas")]
    Syntax(String),
    /// Its prefix.
    #[error(transparent)]
    Net(#[from] NetError),
}

impl Network {
    /// The block of node number `number`; nodes are counted from 1. `None` where the network has no more blocks.
    pub fn block(&self, number: u32) -> Option<Ipv4Net> {
        self.subnet.subnet(self.prefix, number.checked_sub(1)?)
    }

    /// How many nodes can have a block.
    pub fn blocks(&self) -> u32 {
        1u32.checked_shl(u32::from(self.prefix.saturating_sub(self.subnet.prefix())))
            .unwrap_or(u32::MAX)
    }

    /// Whether tasks of the two may exchange packets.
    pub fn meets(&self, other: &Self) -> bool {
        self.name == other.name || self.peers.contains(&other.name) || other.peers.contains(&self.name)
    }

    /// Several in one line, as agents' attributes bear them.
    pub fn join(networks: &[Self]) -> String {
        let each: Vec<String> = networks.iter().map(ToString::to_string).collect();
        each.join(";")
    }

    /// What [`Network::join`] wrote.
    pub fn split(text: &str) -> Result<Vec<Self>, NetworkTextError> {
        text.split(';').filter(|one| !one.is_empty()).map(str::parse).collect()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers: Vec<&str> = self.peers.iter().map(String::as_str).collect();
        let Self {
            name,
            vni,
            subnet,
            prefix,
            ..
        } = self;
        write!(f, "{name},{vni},{subnet},{prefix},{}", peers.join("+"))
    }
}

impl FromStr for Network {
    type Err = NetworkTextError;

    fn from_str(text: &str) -> Result<Self, NetworkTextError> {
        let syntax = || NetworkTextError::Syntax(text.to_owned());
        let fields: Vec<&str> = text.split(',').collect();
        let [name, vni, subnet, prefix, peers] = fields[..] else {
            return Err(syntax());
        };
        let network = Self {
            name: name.to_owned(),
            vni: vni.parse().map_err(|_| syntax())?,
            subnet: subnet.parse()?,
            prefix: prefix.parse().map_err(|_| syntax())?,
            peers: peers
                .split('+')
                .filter(|peer| !peer.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        // A block inside the network, and room in it for a node and a task.
        if name.is_empty() || network.prefix < network.subnet.prefix() || network.prefix > 30 {
            return Err(syntax());
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blue() -> Network {
        "blue,4097,10.64.0.0/16,24,dcos+green".parse().expect("a network")
    }

    #[test]
    fn a_network_survives_its_text() {
        let other: Network = "red,4098,10.65.0.0/24,26,".parse().expect("a network");
        let both = vec![blue(), other];
        assert_eq!(Network::split(&Network::join(&both)), Ok(both));
        assert_eq!(Network::split(""), Ok(Vec::new()));
    }

    #[test]
    fn text_that_is_no_network_is_refused() {
        for text in [
            "blue",
            "blue,x,10.64.0.0/16,24,",
            "blue,1,10.64.0.1/16,24,",
            "blue,1,10.64.0.0/16,15,",
            "blue,1,10.64.0.0/16,31,",
            ",1,10.64.0.0/16,24,",
            "blue,1,10.64.0.0/16,24,,",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_node_has_a_block_until_there_are_no_more() {
        let network: Network = "red,4098,10.65.0.0/24,26,".parse().expect("a network");
        assert_eq!(network.blocks(), 4);
        assert_eq!(network.block(0), None, "nodes are counted from 1");
        let text = |number| network.block(number).map(|net| net.to_string());
        assert_eq!(text(1).as_deref(), Some("10.65.0.0/26"));
        assert_eq!(text(4).as_deref(), Some("10.65.0.192/26"));
        assert_eq!(text(5), None);
    }

    #[test]
    fn one_peer_that_says_it_is_enough() {
        let dcos = Network {
            name: "dcos".to_owned(),
            peers: BTreeSet::new(),
            ..blue()
        };
        let red = Network {
            name: "red".to_owned(),
            ..dcos.clone()
        };
        assert!(blue().meets(&dcos) && dcos.meets(&blue()) && red.meets(&red));
        assert!(!blue().meets(&red) && !red.meets(&blue()));
    }
}
