//! The output of the fold: one immutable picture that every plane reads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::{
    AgentId, FrameworkId, FrameworkInfo, Generation, Ipv4Net, Network, Protocol, ServiceOptions, SharedMap, Task,
    TaskId,
};

/// The name of a named VIP: label and framework, both as cleaned for DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipName {
    /// `my-service` of `/my-service:5555`, cleaned.
    pub label: String,
    /// `marathon`, cleaned.
    pub framework: String,
}

impl VipName {
    /// `label.framework`, the text that is hashed to the address and stands before `.l4lb.thisdcos.directory`.
    pub fn fragment(&self) -> String {
        format!("{}.{}", self.label, self.framework)
    }
}

impl fmt::Display for VipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.l4lb.thisdcos.directory", self.label, self.framework)
    }
}

/// Where a VIP listens. IPv6 is ready in the type; the fold makes IPv4 so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipAddress {
    /// The virtual address.
    pub addr: IpAddr,
    /// The virtual port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}/{}", self.port, self.protocol),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}/{}", self.port, self.protocol),
        }
    }
}

/// One backend of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Address that packets are sent to: the agent's for host ports, else the task's own.
    pub addr: IpAddr,
    /// Port there.
    pub port: u16,
    /// Relative share of new connections, 1 unless told otherwise; 0 only keeps old ones.
    pub weight: u16,
    /// The agent it runs on.
    pub agent: AgentId,
    /// That agent's underlay address.
    pub agent_ip: Ipv4Addr,
    /// The task behind it.
    pub task: TaskId,
}

/// A VIP and its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it listens.
    pub vip: VipAddress,
    /// The name, unless the VIP was declared by address.
    pub name: Option<VipName>,
    /// Sorted by (address, port, task), without duplicates.
    pub backends: Vec<Backend>,
    /// What its tasks ask of the load balancer.
    pub options: ServiceOptions,
}

/// A node that the data plane and the overlay know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its agent id.
    pub agent: AgentId,
    /// As registered.
    pub hostname: String,
    /// Underlay address.
    pub ip: Ipv4Addr,
    /// The port of its agent's API, when known.
    pub port: Option<u16>,
    /// Overlay block, if it has one.
    pub subnet: Option<Ipv4Net>,
    /// Overlay networks beside the default one.
    pub networks: Arc<[Network]>,
}

/// Which node is asking: planes differ between nodes only by this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// This node's underlay address.
    pub ip: Ipv4Addr,
    /// This node's agent id once it has one.
    pub agent: Option<AgentId>,
}

/// The cluster as one generation of the service table sees it. Cheap to clone; never changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Counts changes.
    pub generation: Generation,
    /// Every VIP with at least one backend, by address.
    pub services: SharedMap<VipAddress, Arc<Service>>,
    /// Live tasks (not ended) whose framework and agent are known.
    pub tasks: SharedMap<(FrameworkId, TaskId), Arc<Task>>,
    /// Frameworks by id.
    pub frameworks: SharedMap<FrameworkId, FrameworkInfo>,
    /// Agents with a known address.
    pub nodes: SharedMap<AgentId, Node>,
}

impl Snapshot {
    /// The services that bear a name, with it.
    pub fn named_services(&self) -> impl Iterator<Item = (&VipName, &Service)> {
        self.services
            .values()
            .filter_map(|service| Some((service.name.as_ref()?, service.as_ref())))
    }
}
