//! Opening the load balancer: checks, loading, adopting what an earlier daemon left pinned.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use model::{Generation, Ipv4Net};

use crate::cookies::SynCookies;
use crate::hop::Finder;
use crate::lb::Book;
use crate::pins::Pins;
use crate::sock_destroy::Worker;
use crate::{DestroyError, Lb};

mod attach;
mod check;
mod clsact;
mod link;
mod load;
mod migrate;
mod own6;

pub(crate) use attach::{attach_one, attach_xdp, unattached};
pub use check::nat_ports as check_nat_ports;
pub(crate) use check::{bpffs, ifindex, machine};
pub(crate) use clsact::remove as remove_filter;
pub(crate) use load::{explaining, load_program};

/// Which kind of XDP to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver has it, else generic.
    #[default]
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}

/// How the program for packets that leave is attached to an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EgressHook {
    /// By tcx where the kernel has it (6.6), else by clsact.
    #[default]
    Auto,
    /// By a pinned tcx link.
    Tcx,
    /// By a filter of the clsact queueing discipline, with a fixed priority and handle.
    Clsact,
}

/// What the load balancer needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory for our pins, on a bpffs; one is mounted on it if it is on none.
    pub bpffs: PathBuf,
    /// Interfaces that packets from outside come in by.
    pub uplinks: Vec<String>,
    /// Interfaces with clients of this node that the socket hooks do not reach: names, or the beginning of names and a
    /// `*`. Needs tcx (Linux 6.6). Those that come later are found by the next look.
    pub local_interfaces: Vec<String>,
    /// The cgroup (v2) directory whose processes get the socket hooks; made if missing.
    pub cgroup: PathBuf,
    /// Addresses of named VIPs.
    pub vip_net: Ipv4Net,
    /// Which kind of XDP to use.
    pub mode: XdpMode,
    /// How the program for packets that leave is attached.
    pub egress: EgressHook,
    /// Log each packet (`--trace-packets`).
    pub trace: bool,
    /// First address of the /64 of named VIPs; unspecified = there is none.
    pub vip6_net: Ipv6Addr,
    /// Rooms in the table of IPv4 flows.
    pub flows: u32,
    /// Rooms in the table of IPv6 flows.
    pub flows6: u32,
    /// Rooms in the tables of half-open flows.
    pub half: u32,
    /// The same for IPv6.
    pub half6: u32,
    /// Rooms in the table of sockets that the hooks changed.
    pub sockets: u32,
    /// Rooms in the slot array, over all VIPs.
    pub slots: u32,
    /// Rooms in the tables of VIPs, at most 65,536; number 0 is never given out.
    pub vips: u32,
    /// Rooms in the table of backends, over all VIPs.
    pub backends: u32,
    /// Seconds for which a VIP's previous table is kept after a change.
    pub previous_seconds: u32,
    /// Seconds in which a new backend comes to its full share; 0 = at once.
    pub slow_start: u32,
    /// Ports of this node's own address for flows whose source it takes the place of; outside of what the kernel gives out itself
    /// (`net.ipv4.ip_local_port_range`). `None`: no source is translated.
    pub nat_ports: Option<RangeInclusive<u16>>,
    /// Nodes that run no daemon: packets for their backends go there with translated source.
    pub bare_nodes: Vec<Ipv4Net>,
    /// The IPv6 address of this node that translated packets leave with; `None`: the best one of the uplinks.
    pub nat_address6: Option<Ipv6Addr>,
    /// When listeners of this node are asked for SYN cookies.
    pub syn_cookies: SynCookies,
    /// Whether packets from outside for containers of this node go past its network stack, and so past its packet filter, where the
    /// kernel can.
    pub fast_path: bool,
}

impl Config {
    /// The usual sizes: 300,000 flows, 2,097,152 slots (8 MB), 8,191 VIPs. The kernel gives a table of flows as many buckets as
    /// the next power of two, so these rooms lie in half-filled buckets and a lookup waits for memory less often.
    pub fn new(bpffs: PathBuf, uplinks: Vec<String>, cgroup: PathBuf, vip_net: Ipv4Net) -> Self {
        Self {
            bpffs,
            uplinks,
            local_interfaces: Vec::new(),
            cgroup,
            vip_net,
            mode: XdpMode::Auto,
            egress: EgressHook::Auto,
            trace: false,
            vip6_net: Ipv6Addr::UNSPECIFIED,
            flows: 300_000,
            flows6: 32_768,
            half: 65_536,
            half6: 8_192,
            sockets: 131_072,
            slots: 2_097_152,
            vips: 8_192,
            backends: lb_common::MAX_BACKENDS,
            previous_seconds: 120,
            slow_start: 0,
            nat_ports: None,
            bare_nodes: Vec::new(),
            nat_address6: None,
            syn_cookies: SynCookies::default(),
            fast_path: false,
        }
    }
}

impl Config {
    /// Whether a node runs no daemon.
    pub(crate) fn is_bare(&self, node: Ipv4Addr) -> bool {
        self.bare_nodes.iter().any(|net| net.contains(node))
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Hooks that an earlier daemon had attached and whose program was replaced in place.
    pub adopted: Vec<String>,
    /// Hooks that were attached anew.
    pub attached: Vec<String>,
    /// Sentences for the log, for example that an uplink only has generic XDP.
    pub warnings: Vec<String>,
}

/// Why the load balancer could not be opened. What was attached before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This binary was built without the BPF object.
    #[error("this binary holds no BPF programs: run `cargo xtask build-ebpf` and build it again")]
    NoObject,
    /// Not root, or a capability is missing.
    #[error("loading BPF programs needs {missing}: start as root or grant it (AmbientCapabilities= in the unit)")]
    Privilege {
        /// Names of capabilities.
        missing: String,
    },
    /// The kernel lacks something.
    #[error("Linux {found} has no {feature}; it came with {needed}")]
    Kernel {
        /// Running version.
        found: String,
        /// What is missing.
        feature: &'static str,
        /// First version that has it.
        needed: &'static str,
    },
    /// No bpffs and none could be mounted.
    #[error("could not use {} as a BPF file system: {source}; mount one there with `mount -t bpf bpf {}`", path.display(), path.display())]
    Bpffs {
        /// The directory of the configuration.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No such interface.
    #[error("there is no interface `{name}` to use as uplink; `ip link` lists those there are")]
    Uplink {
        /// As configured.
        name: String,
    },
    /// The kernel does not tell about an interface.
    #[error("could not ask the kernel what kind of interface the uplink `{name}` is: {source}")]
    Link {
        /// As configured.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel gives such ports to others.
    #[error(
        "the node's translated flows cannot have ports {first} to {last}: {why}; choose others (`nat_ports`), or none"
    )]
    NatPorts {
        /// As configured.
        first: u16,
        /// As configured.
        last: u16,
        /// What is wrong with them.
        why: String,
    },
    /// The cgroup directory cannot be used.
    #[error("could not use {} as a cgroup v2 directory: {source}", path.display())]
    Cgroup {
        /// The directory of the configuration.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The pins are of another version.
    #[error("the maps pinned in {} have layout version {found}, this binary has {expected} and can take over older ones only: start the Revere that made them, or drain the node, stop it, remove that directory, start it again", path.display())]
    Layout {
        /// Directory of the pins.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The pins tell no version.
    #[error("the maps pinned in {} tell no layout version, as when a first start was broken off: remove that directory and start the node again; hooks that use them are detached with it", path.display())]
    NoLayout {
        /// Directory of the pins.
        path: PathBuf,
    },
    /// Maps of an older layout could not be taken over; they are as they were, and so is what passes.
    #[error("could not take over the maps of an older layout pinned in {}: {source}; they stay in use: go back to the Revere that made them, or drain the node, stop it, remove that directory and start it again", path.display())]
    Migrate {
        /// Directory of the pins.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The object was refused.
    #[error("could not load the BPF object: {0}")]
    Load(#[from] EbpfError),
    /// One program was refused.
    #[error("could not load the BPF program {name}: {source}")]
    Program {
        /// Its name.
        name: String,
        /// The kernel's answer, with the verifier's log.
        source: ProgramError,
    },
    /// One map could not be used.
    #[error("could not use the BPF map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// The slot array could not be mapped.
    #[error("could not map the slot array into memory: {0}")]
    Slots(io::Error),
    /// Sockets of backends that are gone could not be ended.
    #[error(transparent)]
    Sockets(#[from] DestroyError),
    /// A program could not be attached.
    #[error("could not attach {hook}: {source}")]
    Attach {
        /// For example `xdp-eth0`.
        hook: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Lb {
    /// Opens the load balancer. Maps that an earlier daemon left pinned are used on; its hooks get the new programs in
    /// one step each, so that no packet passes unhandled.
    pub fn open(config: Config) -> Result<(Self, Opened), OpenError> {
        let mut opened = Opened::default();
        machine()?;
        bpffs(&config.bpffs)?;
        check::uplinks(&config.uplinks, &mut opened.warnings)?;
        check::cgroup(&config.cgroup)?;
        check::local(&config.local_interfaces, &mut opened.warnings);
        config.nat_ports.as_ref().map_or(Ok(()), check::nat_ports)?;
        let old = migrate::begin(&config.bpffs)?;
        let opening = Self::open_maps(config, &mut opened);
        let opening = opening.and_then(|mut lb| {
            old.as_ref().map_or(Ok(()), |old| old.carry(&mut lb))?;
            Ok(lb)
        });
        let mut lb = opening.inspect_err(|_| old.iter().for_each(migrate::Old::back))?;
        let swapped = lb.swap_hooks(&mut opened);
        if let Some(old) = old {
            // What a hook uses must stay, even if another one could not be had.
            match swapped.is_err() && opened.adopted.is_empty() && opened.attached.is_empty() {
                true => old.back(),
                false => old.end(),
            }
        }
        swapped?;
        if lb.config.nat_ports.is_some() {
            check::accept_own(&lb.config.uplinks, &mut opened.warnings);
            if !lb.config.bare_nodes.is_empty() {
                check::forward6(&lb.config.uplinks, &mut opened.warnings);
            }
        }
        lb.pins = Pins::all(&lb.config.bpffs);
        Ok((lb, opened))
    }

    /// Maps and programs; no hook is touched.
    fn open_maps(config: Config, opened: &mut Opened) -> Result<Self, OpenError> {
        let mut ebpf = load::object(&config)?;
        let (maps, config) = load::maps(&mut ebpf, config)?;
        let drain = config
            .trace
            .then(|| load::trace_drain(&mut ebpf, &mut opened.warnings))
            .flatten();
        let worker = Worker::start(config.bpffs.join("maps"))?;
        let mut lb = Self {
            sockets: worker,
            hooks: attach::hooks(&config, &ebpf),
            book: Book::new(&config),
            generation: Generation::default(),
            config,
            ebpf,
            drain,
            maps,
            pins: Pins::default(),
            cookies_hindered: None,
            nat6_hindered: None,
            explaining: None,
            hops: None,
        };
        lb.write_node_config()?;
        if lb.config.fast_path {
            match Finder::open() {
                Ok(finder) => lb.hops = Some(finder),
                Err(error) => opened.warnings.push(format!(
                    "packets for containers go by the node's stack although `fast_path` is on: the kernel does not tell which interfaces take frames \
                     from programs, which came with Linux 6.3 ({error})"
                )),
            }
        }
        if let Some(why) = &lb.cookies_hindered {
            opened
                .warnings
                .push(format!("no SYN is answered with a cookie before the stack: {why}"));
        }
        Ok(lb)
    }

    /// Every hook gets the new program in one step, or is attached.
    fn swap_hooks(&mut self, opened: &mut Opened) -> Result<(), OpenError> {
        let missing: BTreeSet<String> = unattached(self);
        let local = attach::local_hooks(&self.config);
        let hooks: Vec<String> = self.hooks.iter().cloned().chain(local).collect();
        for hook in hooks {
            if missing.contains(&hook) {
                attach_one(self, &hook)?;
                opened.attached.push(hook);
            } else {
                attach::replace(self, &hook)?;
                opened.adopted.push(hook);
            }
        }
        Ok(())
    }
}
