//! Who claims which name: each task, service, agent and framework by itself, so that one can change without the others.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use model::{FrameworkInfo, Node, NodeView, Service, Snapshot};

use crate::own::OwnData;
use crate::reverse::reverse_name;
use crate::zones::SPARTAN;
use crate::{Config, Names, Zones};

mod task;

pub(crate) use task::task;

/// All names that a node shall answer for, made anew. Depends on nothing but its arguments.
pub fn desired(snapshot: &Snapshot, view: &NodeView, config: &Config) -> Zones {
    Names::new(config.clone()).update(snapshot, view)
}

/// Who has a name that several claim: the first of these. Claims of one rank share the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rank {
    /// The operator's word.
    Declared,
    /// Names with a fixed meaning: masters, agents, this node.
    Fixed,
    /// Named VIPs and their reverse names.
    Service,
    /// A framework's own name.
    Framework,
    /// Names of tasks by their agent, `.slave.`.
    OnAgent,
    /// Names of tasks.
    Task,
    /// Tasks that are not ready, for services that ask for them when no other is left.
    Fallback,
}

impl Rank {
    /// Whether a name of rank `best` is claimed by something else in `self`. A service's own fallback is nothing else.
    pub(crate) fn conflicts_with(self, best: Self) -> bool {
        self != best && self != Self::Fallback
    }
}

/// What is claimed for a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Record {
    Addr(IpAddr),
    Srv(Arc<str>, u16),
    Alias(Arc<str>),
    Reverse(Arc<str>),
}

/// One record for one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) rank: Rank,
    /// Tells apart whose it is, among claims of one rank for one name; 0 where that is no question.
    pub(crate) origin: u64,
    pub(crate) record: Record,
}

impl Claim {
    pub(crate) fn new(name: impl Into<String>, rank: Rank, record: Record) -> Self {
        Self {
            name: name.into(),
            rank,
            origin: 0,
            record,
        }
    }
}

/// Names that need no cluster: this node, the masters, what the operator declared.
pub(crate) fn fixed(config: &Config, view: &NodeView, leader: Option<SocketAddr>) -> Vec<Claim> {
    let (domain, directory) = (&config.domain, &config.directory);
    let own = IpAddr::V4(view.ip);
    let mut out = Vec::new();
    let mut add = |name: &str, record| out.push(Claim::new(name, Rank::Fixed, record));
    add(&format!("thisnode.{directory}"), Record::Addr(own));
    for addr in &config.public_addrs {
        add(&format!("public.thisnode.{directory}"), Record::Addr(*addr));
    }
    add(&format!("ready.{SPARTAN}"), Record::Addr(Ipv4Addr::LOCALHOST.into()));
    add(&format!("ns.{SPARTAN}"), Record::Addr(own));
    add("localhost", Record::Addr(Ipv4Addr::LOCALHOST.into()));
    add("localhost", Record::Addr(Ipv6Addr::LOCALHOST.into()));
    let mut masters = config.masters.clone();
    if let Some(leader) = leader {
        if !masters.contains(&leader) {
            masters.push(leader);
        }
        add(&format!("leader.{domain}"), Record::Addr(leader.ip()));
        add(&format!("leader.dcos.{directory}"), Record::Addr(leader.ip()));
        let target: Arc<str> = Arc::from(format!("leader.{domain}"));
        for protocol in ["tcp", "udp"] {
            let record = Record::Srv(Arc::clone(&target), leader.port());
            add(&format!("_leader._{protocol}.{domain}"), record);
        }
    }
    for (index, master) in masters.iter().enumerate() {
        add(&format!("master.{domain}"), Record::Addr(master.ip()));
        add(&format!("master.dcos.{directory}"), Record::Addr(master.ip()));
        add(&format!("master{index}.{domain}"), Record::Addr(master.ip()));
    }
    for (index, master) in masters.iter().cycle().take(ZK_NAMES).enumerate() {
        add(&format!("zk-{}.zk", index + 1), Record::Addr(master.ip()));
    }
    out.extend(config.records.iter().map(|own| {
        let record = match &own.data {
            OwnData::Addr(addr) => Record::Addr(*addr),
            OwnData::Alias(target) => Record::Alias(Arc::from(target.as_str())),
            OwnData::Service { port, target } => Record::Srv(Arc::from(target.as_str()), *port),
        };
        Claim::new(own.name.as_str(), Rank::Declared, record)
    }));
    out
}

/// DC/OS gave ZooKeeper on the masters these many names, however many masters there were.
const ZK_NAMES: usize = 5;

/// The names of an agent.
pub(crate) fn agent(node: &Node, config: &Config) -> Vec<Claim> {
    let slave = format!("slave.{}", config.domain);
    let mut out = vec![Claim::new(
        slave.as_str(),
        Rank::Fixed,
        Record::Addr(IpAddr::V4(node.ip)),
    )];
    if let Some(port) = node.port {
        let record = Record::Srv(Arc::from(slave), port);
        out.push(Claim::new(
            format!("_slave._tcp.{}", config.domain),
            Rank::Fixed,
            record,
        ));
    }
    out
}

/// The names of a framework whose scheduler's address is known.
pub(crate) fn framework(info: &FrameworkInfo, config: &Config) -> Vec<Claim> {
    let fragment = model::framework_frag(&info.name);
    let (Some(ip), false) = (info.ip, fragment.is_empty()) else {
        return Vec::new();
    };
    let name = format!("{fragment}.{}", config.domain);
    let mut out = vec![Claim::new(name.as_str(), Rank::Framework, Record::Addr(ip))];
    // Port 0 leads nowhere; Mesos-DNS published it.
    if let Some(port) = info.port.filter(|port| *port != 0) {
        let owner = format!("_framework._tcp.{name}");
        out.push(Claim::new(owner, Rank::Framework, Record::Srv(Arc::from(name), port)));
    }
    out
}

/// The names of a VIP that has a name and a backend.
pub(crate) fn service(service: &Service, config: &Config) -> Vec<Claim> {
    let Some(name) = service.name.as_ref().filter(|_| !service.backends.is_empty()) else {
        return Vec::new();
    };
    let mut owner = String::new();
    // Writing to a String cannot fail.
    let _ = write!(owner, "{}.{}.l4lb.{}", name.label, name.framework, config.directory);
    let addr = service.vip.addr;
    let mut out = reverse(addr, &owner, Rank::Service, config);
    out.push(Claim::new(owner, Rank::Service, Record::Addr(addr)));
    out
}

/// The reverse name of an address in one of our own blocks.
fn reverse(addr: IpAddr, name: &str, rank: Rank, config: &Config) -> Vec<Claim> {
    let ours = config.reverse.iter().any(|block| block.contains(&addr));
    let claim = || Claim::new(reverse_name(addr), rank, Record::Reverse(Arc::from(name)));
    ours.then(claim).into_iter().collect()
}

#[cfg(test)]
#[path = "desired/tests.rs"]
mod tests;
