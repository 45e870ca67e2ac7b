//! Networks of tasks: kept as records, checked against all that has addresses, told to nodes as attributes of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::{Ipv4Net, Network, Protocol, TaskEvent, TaskNetwork, VipTarget, is_vip_label, parse_vip};

use crate::{App, BlockUse, CommandError, Fault, NetworkError, NetworkMode, NetworkSpec, NetworkView, Record, Reply};

use super::Scheduler;

/// Every pair of networks that are apart has a route on every node: this many make ten thousand.
const MOST: usize = 100;

/// The first identifier given: clear of DC/OS's 1024 and of what people number by hand (VLANs end at 4094).
const FIRST_VNI: u32 = 4097;

/// 24 bits; the last two are for Revere's own tunnel and for nobody.
const LAST_VNI: u32 = 0x00ff_fffd;

/// DC/OS's identifier of the default overlay.
const DEFAULT_VNI: u32 = 1024;

/// A node's block, where nothing else is said (DC/OS: 24).
const USUAL_PREFIX: u8 = 24;

/// Longest block: a network address, the node's own, a task's, broadcast.
const LONGEST_PREFIX: u8 = 30;

/// Names that mean something else.
const NO_NAMES: [&str; 4] = ["host", "bridge", "container", "none"];

/// Addresses that no network can have, and what they are for.
const RESERVED: [(&str, &str); 6] = [
    ("0.0.0.0/8", "this host"),
    ("127.0.0.0/8", "the loopback block"),
    ("169.254.0.0/16", "the link-local block"),
    ("224.0.0.0/3", "for multicast and nothing else"),
    ("44.128.0.0/20", "the nodes' tunnel endpoints"),
    ("198.51.100.0/24", "the nodes' service addresses"),
];

impl Scheduler {
    /// Every network with an address block of its own, the default one first, with its use.
    pub fn networks(&self) -> Vec<NetworkView> {
        let default = self.default_network();
        let others = self.networks.values();
        default
            .iter()
            .chain(others)
            .map(|network| self.network_view(network))
            .collect()
    }

    /// The default overlay, told like the others. Its first block is nobody's.
    fn default_network(&self) -> Option<Network> {
        Some(Network {
            name: self.config.default_network.clone(),
            vni: DEFAULT_VNI,
            subnet: self.config.overlay?,
            prefix: self.config.overlay_prefix,
            peers: BTreeSet::new(),
        })
    }

    fn network_view(&self, network: &Network) -> NetworkView {
        let default = network.name == self.config.default_network;
        let has_block =
            |node: &super::Node| node.record.subnet.is_some() && (default || !node.lacks.contains(&network.name));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let nodes = self.nodes.values().filter(|node| has_block(node)).count();
        // Network, node and broadcast.
        let whole = 1u32.checked_shl(32 - u32::from(network.prefix)).unwrap_or(u32::MAX);
        NetworkView {
            network: network.clone(),
            nodes: count(nodes),
            nodes_without: count(self.nodes.len() - nodes),
            block_addresses: whole.saturating_sub(3),
            tasks: count(self.addresses_in(network.subnet).count()),
            apps: self.network_apps(&network.name),
        }
    }

    /// Addresses of that range that tasks have.
    fn addresses_in(&self, subnet: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
        let own = self.instances.values().flat_map(|one| &one.status.addresses);
        let of_frameworks = self.framework_tasks().filter(|task| !task.is_over());
        let of_frameworks = of_frameworks.flat_map(|task| &task.status.addresses);
        own.chain(of_frameworks).filter_map(move |addr| match addr {
            IpAddr::V4(addr) if subnet.contains(*addr) => Some(*addr),
            _ => None,
        })
    }

    /// What each node has of a network and how much of that is in use, the fullest first; nothing of one that is not there.
    pub fn network_blocks(&self, name: &str) -> Vec<BlockUse> {
        let default = self.default_network().filter(|default| default.name == name);
        let is_default = default.is_some();
        let Some(network) = default.or_else(|| self.networks.get(name).cloned()) else {
            return Vec::new();
        };
        let host = u32::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
        let mut used: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
        for addr in self.addresses_in(network.subnet) {
            *used.entry(Ipv4Addr::from(u32::from(addr) & !host)).or_default() += 1;
        }
        let block = |node: &super::Node| {
            let subnet = node.record.subnet?;
            let number = || subnet.index_in(self.config.overlay?);
            if is_default {
                Some(subnet)
            } else {
                network.block(number()?)
            }
        };
        let one = |node: &super::Node| {
            let block = block(node);
            BlockUse {
                hostname: node.record.hostname.clone(),
                block,
                tasks: block.and_then(|block| used.get(&block.network()).copied()).unwrap_or(0),
            }
        };
        let mut all: Vec<BlockUse> = self.nodes.values().map(one).collect();
        all.sort_by(|a, b| b.tasks.cmp(&a.tasks).then_with(|| a.hostname.cmp(&b.hostname)));
        all
    }

    fn network_apps(&self, name: &str) -> Vec<String> {
        let on_it = |app: &&App| matches!(&app.network, NetworkMode::Container(of) if of == name);
        self.apps.values().filter(on_it).map(|app| app.id.to_string()).collect()
    }

    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<Reply, CommandError> {
        let network = self.checked_network(spec)?;
        self.persist(Record::PutNetwork(Box::new(network.clone())));
        self.networks.insert(network.name.clone(), network);
        self.networks_changed();
        Ok(Reply::default())
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Result<Reply, CommandError> {
        if name == self.config.default_network || NO_NAMES[..2].contains(&name) {
            return Err(NetworkError::BuiltIn(name.to_owned()).into());
        }
        if !self.networks.contains_key(name) {
            return Err(NetworkError::Missing(name.to_owned()).into());
        }
        let users = self.network_users(name);
        if !users.is_empty() {
            let name = name.to_owned();
            return Err(NetworkError::Used { name, users }.into());
        }
        self.networks.remove(name);
        self.persist(Record::DeleteNetwork(name.to_owned()));
        self.networks_changed();
        Ok(Reply::default())
    }

    /// Apps and pods that name it, tasks that are still on it, networks that are its peers.
    fn network_users(&self, name: &str) -> Vec<String> {
        let apps = self.network_apps(name);
        let on_it = |network: &TaskNetwork| matches!(network, TaskNetwork::Container { name: of } if of == name);
        let instances = self.instances.values();
        let tasks = instances.filter(|one| on_it(&one.spec.network) && !apps.contains(&one.app.to_string()));
        let tasks = tasks.map(|one| format!("the task {}", one.spec.task));
        let of_frameworks = self.framework_tasks();
        let of_frameworks = of_frameworks.filter(|task| !task.is_over() && on_it(&task.spec.network));
        let of_frameworks = of_frameworks.map(|task| format!("the task {}", task.task));
        let peers = self.networks.values().filter(|other| other.peers.contains(name));
        let peers = peers.map(|other| format!("the network {}, its peer", other.name));
        apps.iter()
            .cloned()
            .chain(tasks)
            .chain(of_frameworks)
            .chain(peers)
            .collect()
    }

    fn checked_network(&self, spec: &NetworkSpec) -> Result<Network, NetworkError> {
        let default = self.default_network().ok_or(NetworkError::NoOverlay)?;
        let name = &spec.name;
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(valid) || NO_NAMES.contains(&name.as_str()) {
            return Err(NetworkError::Name(name.clone()));
        }
        if *name == default.name || self.networks.contains_key(name) {
            return Err(NetworkError::Exists(name.clone()));
        }
        if self.networks.len() >= MOST {
            return Err(NetworkError::TooMany(MOST));
        }
        let subnet: Ipv4Net = spec.subnet.parse()?;
        if subnet.prefix() > LONGEST_PREFIX {
            return Err(NetworkError::TooSmall(subnet));
        }
        let usual = USUAL_PREFIX.max(subnet.prefix().saturating_add(2)).min(LONGEST_PREFIX);
        let written = spec.prefix.unwrap_or(usual.into());
        let fits = |prefix: &u8| (subnet.prefix()..=LONGEST_PREFIX).contains(prefix);
        let prefix = u8::try_from(written).ok().filter(fits);
        let prefix = prefix.ok_or(NetworkError::Prefix {
            subnet,
            prefix: written,
        })?;
        self.check_free(subnet, &default)?;
        let peer = |peer: &String| {
            let there = *peer == default.name || self.networks.contains_key(peer);
            there
                .then(|| peer.clone())
                .ok_or_else(|| NetworkError::NoPeer(peer.clone()))
        };
        Ok(Network {
            name: name.clone(),
            vni: self.checked_vni(spec.vni, &default)?,
            subnet,
            prefix,
            peers: spec.peers.iter().map(peer).collect::<Result<_, _>>()?,
        })
    }

    fn checked_vni(&self, written: Option<i64>, default: &Network) -> Result<u32, NetworkError> {
        let owner = |vni: u32| self.networks.values().chain([default]).find(|other| other.vni == vni);
        let Some(written) = written else {
            let free = (FIRST_VNI..=LAST_VNI).find(|vni| owner(*vni).is_none());
            return free.ok_or(NetworkError::TooMany(MOST));
        };
        let vni = u32::try_from(written).ok().filter(|vni| (1..=LAST_VNI).contains(vni));
        let vni = vni.ok_or(NetworkError::Vni(written))?;
        match owner(vni) {
            Some(other) => Err(NetworkError::VniTaken {
                vni,
                name: other.name.clone(),
            }),
            None => Ok(vni),
        }
    }

    /// Whether nothing else has addresses of a block.
    fn check_free(&self, subnet: Ipv4Net, default: &Network) -> Result<(), NetworkError> {
        for (net, what) in RESERVED {
            let net: Ipv4Net = net.parse()?;
            if subnet.overlaps(net) {
                return Err(NetworkError::Reserved { subnet, net, what });
            }
        }
        if let Some(other) = (self.networks.values().chain([default])).find(|other| other.subnet.overlaps(subnet)) {
            return Err(NetworkError::Overlaps {
                subnet,
                net: other.subnet,
                name: other.name.clone(),
            });
        }
        if !self.nodes.values().any(|node| node.link.is_registered()) {
            return Err(NetworkError::NoNodes);
        }
        for node in self.nodes.values() {
            let own = Ipv4Net::new(node.record.ip, 32)?;
            let own = (own, "its own address");
            let taken = node.taken.iter().map(|taken| (taken.net, taken.by.as_str()));
            if let Some((net, by)) = taken.chain([own]).find(|(net, _)| net.overlaps(subnet)) {
                return Err(NetworkError::Taken {
                    subnet,
                    net,
                    by: by.to_owned(),
                    node: node.record.hostname.clone(),
                });
            }
        }
        for app in self.apps.values() {
            if let Some(addr) = vip_addresses(app).find(|addr| subnet.contains(*addr)) {
                return Err(NetworkError::Vip {
                    subnet,
                    addr,
                    app: app.id.to_string(),
                });
            }
        }
        Ok(())
    }

    /// A network that an app names and that is not there, and VIPs that a network has as addresses of tasks.
    pub(super) fn network_faults(&self, app: &App) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let NetworkMode::Container(name) = &app.network
            && *name != self.config.default_network
            && !self.networks.contains_key(name)
        {
            let error = format!("there is no network {name}: make it first (revere network create {name})");
            faults.push(Fault::new("/networks(0)/name", error));
        }
        for addr in vip_addresses(app) {
            if let Some(network) = self.networks.values().find(|one| one.subnet.contains(addr)) {
                let error = format!("the virtual address {addr} is one of the network {}'s", network.name);
                faults.push(Fault::new("/labels", error));
            }
        }
        faults
    }

    /// Tells the networks to every node, and to everybody who follows the nodes.
    fn networks_changed(&mut self) {
        let ids: Vec<model::AgentId> = self.nodes.keys().cloned().collect();
        for id in ids {
            self.refresh_networks(&id);
            let told = self.nodes.get(&id).filter(|node| node.link.is_registered());
            if let Some(info) = told.map(super::Node::info) {
                self.emit(TaskEvent::AgentAdded(info));
            }
        }
    }

    /// Notes which networks there are and which of them have no block for a node.
    pub(super) fn refresh_networks(&mut self, agent: &model::AgentId) {
        let all = self.all_networks();
        let Some(node) = self.nodes.get_mut(agent) else { return };
        let number = node.record.subnet.zip(self.config.overlay);
        let number = number.and_then(|(subnet, overlay)| subnet.index_in(overlay));
        let lacks = |network: &&Network| number.and_then(|number| network.block(number)).is_none();
        node.lacks = all.iter().filter(lacks).map(|network| network.name.clone()).collect();
        node.record.networks = all;
    }

    /// The networks beside the default one, as agents' records bear them.
    pub(super) fn all_networks(&self) -> Arc<[Network]> {
        self.networks.values().cloned().collect()
    }
}

/// The virtual addresses that an app declares by number.
fn vip_addresses(app: &App) -> impl Iterator<Item = Ipv4Addr> {
    let labels = app.ports.iter().flat_map(|port| &port.labels);
    let vips = labels.filter(|(name, _)| is_vip_label(name));
    vips.filter_map(|(_, value)| match parse_vip(value, "", Protocol::Tcp).ok()?.target {
        VipTarget::Addr(IpAddr::V4(addr)) => Some(addr),
        _ => None,
    })
}

#[cfg(test)]
#[path = "networks/tests.rs"]
mod tests;
