//! Networks of tasks as users make them, and why one is not made or not removed.

use model::{Ipv4Net, Network};

/// A network as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// What apps name.
    pub name: String,
    /// All its addresses, such as `10.64.0.0/16`.
    pub subnet: String,
    /// Prefix length of a node's block; by itself 24, or what makes 4 blocks of a smaller network.
    pub prefix: Option<i64>,
    /// Its VXLAN network identifier; by itself the lowest free one from 4097 on.
    pub vni: Option<i64>,
    /// Networks whose tasks may exchange packets with this one's.
    pub peers: Vec<String>,
}

/// Addresses that a node needs for itself, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenNet {
    /// Which.
    pub net: Ipv4Net,
    /// `a route by eth0`, for people.
    pub by: String,
}

/// A network and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// Itself.
    pub network: Network,
    /// Nodes that have a block.
    pub nodes: u32,
    /// Nodes that are too many for it.
    pub nodes_without: u32,
    /// Addresses that one block has for tasks.
    pub block_addresses: u32,
    /// Tasks that have an address.
    pub tasks: u32,
    /// Apps and pods that name it.
    pub apps: Vec<String>,
}

/// What is used of a network on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockUse {
    /// The node's name.
    pub hostname: String,
    /// Its addresses; none if there was none left for it.
    pub block: Option<Ipv4Net>,
    /// Tasks that have one of them.
    pub tasks: u32,
}

/// Why a network is not made or not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A name that is none.
    #[error(
        "`{0}` is no name of a network: write 1 to 63 lower-case letters, digits and hyphens, not `host`, `bridge`, `container` or `none`"
    )]
    Name(String),
    /// No prefix.
    #[error("the network's subnet: {0}")]
    Subnet(#[from] model::NetError),
    /// Addresses that mean something else on every node.
    #[error("{subnet} overlaps {net}, which is {what}; choose another subnet, such as 10.64.0.0/16")]
    Reserved {
        /// As written.
        subnet: Ipv4Net,
        /// What it overlaps.
        net: Ipv4Net,
        /// What that is for.
        what: &'static str,
    },
    /// Addresses of another network.
    #[error("{subnet} overlaps {net} of the network {name}; choose another subnet")]
    Overlaps {
        /// As written.
        subnet: Ipv4Net,
        /// What it overlaps.
        net: Ipv4Net,
        /// Whose that is.
        name: String,
    },
    /// Addresses that a node uses otherwise.
    #[error("{subnet} overlaps {net}, {by} on node {node}; choose another subnet, or change that first")]
    Taken {
        /// As written.
        subnet: Ipv4Net,
        /// What it overlaps.
        net: Ipv4Net,
        /// What that is.
        by: String,
        /// Where.
        node: String,
    },
    /// A VIP by address.
    #[error("{subnet} holds {addr}, a virtual address of {app}; choose another subnet")]
    Vip {
        /// As written.
        subnet: Ipv4Net,
        /// The address.
        addr: std::net::Ipv4Addr,
        /// Who declares it.
        app: String,
    },
    /// No room for even one task.
    #[error("{0} has no room for a node and a task; choose a prefix of at most 30")]
    TooSmall(Ipv4Net),
    /// The length of a block.
    #[error(
        "a node's block of {subnet} cannot have the length {prefix}: write a number from {} to 30",
        .subnet.prefix()
    )]
    Prefix {
        /// As written.
        subnet: Ipv4Net,
        /// As written.
        prefix: i64,
    },
    /// The identifier.
    #[error("{0} is no VXLAN identifier for a network: write a number from 1 to 16777213")]
    Vni(i64),
    /// An identifier in use.
    #[error("the VXLAN identifier {vni} is that of the network {name}; choose another, or leave it out")]
    VniTaken {
        /// As written.
        vni: u32,
        /// Who has it.
        name: String,
    },
    /// A peer that is none.
    #[error("there is no network {0} to be a peer of; `revere network list` shows all")]
    NoPeer(String),
    /// No overlay at all.
    #[error(
        "this master gives nodes no overlay (master.overlay is empty), and other networks build on it; set it first"
    )]
    NoOverlay,
    /// Nobody knows which addresses are free.
    #[error("no node is registered, and only nodes know which addresses are in use; start one first")]
    NoNodes,
    /// Too many.
    #[error("there are {0} networks already, which is as many as nodes are prepared to keep apart")]
    TooMany(usize),
    /// It is there.
    #[error("there is a network {0} already; networks are not changed: remove it and make it anew")]
    Exists(String),
    /// It is not there.
    #[error("there is no network {0}; `revere network list` shows all")]
    Missing(String),
    /// One that is always there.
    #[error("the network {0} is part of the cluster and cannot be removed")]
    BuiltIn(String),
    /// Somebody would be cut off.
    #[error("the network {name} is in use by {}: remove or change them first", .users.join(", "))]
    Used {
        /// Which.
        name: String,
        /// By whom.
        users: Vec<String>,
    },
}
