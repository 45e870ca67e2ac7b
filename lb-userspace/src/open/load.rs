//! Loading the object: maps by their pins, programs through the verifier.

use aya::maps::{Array, Map, MapData, MapError, ProgramArray};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use lb_common::{BackendEntry, Be16, Be32, LAYOUT_VERSION, NodeConfig, Reason, TUNNEL_PORT, VipOptions, node_flags};

use crate::lb::Maps;
use crate::open::link;
use crate::raw::SlotMemory;
use crate::run::EXPLAIN;
use crate::{Config, Lb, OpenError};

#[cfg(revere_bpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("REVERE_BPF_OBJECT_PATH"));
#[cfg(not(revere_bpf_object))]
static OBJECT: &[u8] = &[];

/// Maps that outlive the daemon. Not pinned: what one run of a program leaves for its caller (`DECISION`).
const PINNED: [&str; 46] = [
    "LAYOUT",
    "NODE",
    "VIPS4",
    "VIPS6",
    "VIP_OPTIONS",
    "VIP_ENDPOINTS",
    "VIP_STATS",
    "VIP_RATES",
    "SLOTS",
    "BACKENDS",
    "BACKEND_STATS",
    "BACKEND_VIPS",
    "OPEN_SOCKETS",
    "TAGS",
    "PEERS",
    "SOURCES4",
    "SOURCES6",
    "FLOWS4",
    "FLOWS6",
    "HALF4",
    "HALF6",
    "FRAGMENTS4",
    "FRAGMENTS6",
    "NAT4",
    "NAT4_BACK",
    "NAT6",
    "NAT6_BACK",
    "NAT6_PARTS",
    "NAT6_PROGRAMS",
    "OWN6",
    "GUARDS",
    "LISTENERS",
    "LISTEN_PLACES",
    "SYN_RATES",
    "COOKIE_TIMES",
    "COOKIE_ASK",
    "COOKIE_COUNTS",
    "COOKIE_PROGRAMS",
    "PROGRAMS",
    "SOCKETS",
    "DATAGRAMS",
    "SOCKET_RATES",
    "TOO_BIG_RATES",
    "COUNTERS",
    "EVENTS",
    "EVENTS_LOST",
];

/// Rooms by map, where the configuration has a say. A name the object does not have changes nothing.
fn rooms(config: &Config) -> [(&'static str, u32); 22] {
    let backends = config.backends;
    [
        ("VIPS4", config.vips),
        ("VIPS6", config.vips),
        ("VIP_OPTIONS", config.vips),
        ("VIP_ENDPOINTS", config.vips),
        ("VIP_STATS", config.vips),
        ("VIP_RATES", config.vips),
        ("SLOTS", config.slots.div_ceil(2)),
        ("BACKENDS", backends),
        ("BACKEND_STATS", backends),
        ("BACKEND_VIPS", backends),
        ("OPEN_SOCKETS", backends),
        ("TAGS", backends),
        ("FLOWS4", config.flows),
        ("FLOWS6", config.flows6),
        ("HALF4", config.half),
        ("HALF6", config.half6),
        ("SOCKETS", config.sockets),
        // Paid for in advance, unlike connected sockets; of sockets without a connection a node has far fewer.
        ("DATAGRAMS", config.sockets / 4),
        ("SOCKET_RATES", config.vips),
        ("SYN_RATES", config.vips),
        ("COOKIE_TIMES", config.vips),
        ("LISTEN_PLACES", backends),
    ]
}

/// The program for SYN cookies.
const COOKIES: &str = "revere_cookie";

/// The kernel's default when an uplink does not tell.
const DEFAULT_MTU: u16 = 1500;

pub(crate) fn object(config: &Config) -> Result<Ebpf, OpenError> {
    loaded(config, |name| name != EXPLAIN)
}

/// The explaining twin of the uplink program, on the same pinned maps: as large as all that is needed always, so it is loaded
/// only when somebody asks.
pub(crate) fn explaining(config: &Config) -> Result<Ebpf, OpenError> {
    loaded(config, |name| name == EXPLAIN)
}

fn loaded(config: &Config, wanted: impl Fn(&str) -> bool) -> Result<Ebpf, OpenError> {
    if OBJECT.is_empty() {
        return Err(OpenError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    for name in PINNED {
        loader.map_pin_path(name, config.bpffs.join("maps").join(name));
    }
    for (name, rooms) in rooms(config) {
        loader.map_max_entries(name, rooms);
    }
    let mut ebpf = loader.load(OBJECT)?;
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| wanted(name)) {
        match load_program(program) {
            // Not needed to forward anything; see `cookies_loaded`.
            Err(error) if name == COOKIES => tracing::warn!("could not load the BPF program {name}: {error}"),
            loaded => loaded.map_err(|source| OpenError::Program {
                name: name.to_owned(),
                source,
            })?,
        }
    }
    Ok(ebpf)
}

/// How often a load is tried that the kernel broke off: it does so when a signal comes for the thread meanwhile, and says
/// EAGAIN. libbpf tries as often.
const LOAD_TRIES: u32 = 5;

pub(crate) fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    for _ in 1..LOAD_TRIES {
        match load_once(program) {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
    load_once(program)
}

fn load_once(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        other => Err(ProgramError::UnexpectedProgramType).inspect_err(|_| {
            tracing::error!(?other, "the BPF object holds a program of a kind that nobody attaches");
        }),
    }
}

/// The typed maps, and the configuration with the sizes there are: adopted maps may be of others than configured.
pub(crate) fn maps(ebpf: &mut Ebpf, mut config: Config) -> Result<(Maps, Config), OpenError> {
    let mut layout: Array<MapData, u32> = take(ebpf, "LAYOUT")?;
    let put = layout.set(0, LAYOUT_VERSION, 0);
    put.map_err(|source| OpenError::Map { name: "LAYOUT", source })?;
    hand_over(ebpf)?;
    let slots = ebpf.take_map("SLOTS").ok_or_else(|| missing("SLOTS"))?;
    let Map::Array(slots) = slots else {
        return Err(missing("SLOTS"));
    };
    let found = entries(&slots, "SLOTS")?.saturating_mul(2);
    adopt_size(&mut config.slots, found, "slots");
    let backends: Array<MapData, BackendEntry> = take(ebpf, "BACKENDS")?;
    adopt_size(&mut config.backends, backends.len(), "backends");
    let vip_options: Array<MapData, VipOptions> = take(ebpf, "VIP_OPTIONS")?;
    adopt_size(&mut config.vips, vip_options.len(), "VIPs");
    let maps = Maps {
        vips4: take(ebpf, "VIPS4")?,
        vips6: take(ebpf, "VIPS6")?,
        vip_options,
        vip_endpoints: take(ebpf, "VIP_ENDPOINTS")?,
        vip_stats: take(ebpf, "VIP_STATS")?,
        vip_rates: take(ebpf, "VIP_RATES")?,
        socket_rates: take(ebpf, "SOCKET_RATES")?,
        backends,
        backend_stats: take(ebpf, "BACKEND_STATS")?,
        backend_vips: take(ebpf, "BACKEND_VIPS")?,
        open_sockets: take(ebpf, "OPEN_SOCKETS")?,
        sockets: take(ebpf, "SOCKETS")?,
        tags: take(ebpf, "TAGS")?,
        sources4: take(ebpf, "SOURCES4")?,
        sources6: take(ebpf, "SOURCES6")?,
        peers: take(ebpf, "PEERS")?,
        counters: take(ebpf, "COUNTERS")?,
        node: take(ebpf, "NODE")?,
        guards: take(ebpf, "GUARDS")?,
        listeners: take(ebpf, "LISTENERS")?,
        listen_places: take(ebpf, "LISTEN_PLACES")?,
        cookie_counts: take(ebpf, "COOKIE_COUNTS")?,
        nat4: take(ebpf, "NAT4")?,
        own6: take(ebpf, "OWN6")?,
        slots: SlotMemory::map(slots.fd(), found).map_err(OpenError::Slots)?,
    };
    Ok((maps, config))
}

/// What the uplink program hands packets over to: the pinned arrays get the new programs in one step each.
fn hand_over(ebpf: &mut Ebpf) -> Result<(), OpenError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Attach {
        hook: "the programs that packets are handed over to".to_owned(),
        source,
    };
    for (map, place, name) in [
        ("PROGRAMS", 0, "revere_nat"),
        ("NAT6_PROGRAMS", 0, "revere_nat6"),
        ("COOKIE_PROGRAMS", 1, "revere_xdp"),
        ("COOKIE_PROGRAMS", 0, COOKIES),
    ] {
        if name == COOKIES && !cookies_loaded(ebpf) {
            continue;
        }
        let Some(Program::Xdp(program)) = ebpf.program(name) else {
            return Err(failed(ProgramError::NotLoaded.into()));
        };
        let fd = program.fd().map_err(|error| failed(error.into()))?;
        let fd = fd.try_clone().map_err(|error| failed(error.into()))?;
        let array = ebpf.map_mut(map).ok_or_else(|| missing(map))?;
        let array = ProgramArray::try_from(array);
        let mut array = array.map_err(|source| OpenError::Map { name: map, source })?;
        array.set(place, &fd, 0).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// Whether the kernel took the program for SYN cookies.
fn cookies_loaded(ebpf: &Ebpf) -> bool {
    ebpf.program(COOKIES).is_some_and(|program| program.fd().is_ok())
}

fn entries(map: &MapData, name: &'static str) -> Result<u32, OpenError> {
    let info = map.info().map_err(|source| OpenError::Map { name, source })?;
    Ok(info.max_entries())
}

fn adopt_size(configured: &mut u32, found: u32, what: &str) {
    if found != configured.next_multiple_of(2) && found != *configured {
        tracing::warn!(
            found,
            configured,
            what,
            "using the pinned maps with the rooms they have"
        );
    }
    *configured = found;
}

fn missing(name: &'static str) -> OpenError {
    let source = MapError::InvalidName { name: name.to_owned() };
    OpenError::Map { name, source }
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, OpenError> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    T::try_from(map).map_err(|source| OpenError::Map { name, source })
}

/// What passes the programs' log lines on, or a warning why there is none.
pub(crate) fn trace_drain(ebpf: &mut Ebpf, warnings: &mut Vec<String>) -> Option<Box<dyn FnMut() + Send>> {
    let ring = take::<aya::maps::RingBuf<MapData>>(ebpf, "TRACE");
    match ring {
        Ok(mut ring) => Some(Box::new(move || {
            while let Some(line) = ring.next() {
                trace_line(&line);
            }
        })),
        Err(error) => {
            warnings.push(format!("packets cannot be traced: {error}"));
            None
        }
    }
}

/// A reason and an interface, four bytes each.
fn trace_line(line: &[u8]) {
    let word = |at: usize| Some(u32::from_ne_bytes(line.get(at..at + 4)?.try_into().ok()?));
    let (Some(number), Some(interface)) = (word(0), word(4)) else {
        return;
    };
    let reason = Reason::ALL.iter().find(|reason| reason.index() == number);
    tracing::info!(
        reason = reason.map_or("?", |reason| reason.as_str()),
        interface,
        "packet"
    );
}

/// What the uplinks have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uplinks {
    /// Longest packet in bytes that each carries.
    pub(crate) mtu: u16,
    /// Whether one is a veth.
    pub(crate) veth: bool,
}

impl Lb {
    /// The uplinks as they are now.
    pub(crate) fn uplinks(&self) -> Uplinks {
        let names = self.config.uplinks.iter();
        let facts: Vec<_> = names.filter_map(|name| link::facts(name).ok()).collect();
        let mtu = facts.iter().filter_map(|facts| u16::try_from(facts.mtu).ok()).min();
        Uplinks {
            mtu: mtu.unwrap_or(DEFAULT_MTU),
            veth: facts.iter().any(|facts| facts.veth),
        }
    }

    /// Tells the programs this node's facts; its own address stays as it was until `apply` sets it.
    pub(crate) fn write_node_config(&mut self) -> Result<(), OpenError> {
        self.cookies_hindered = self.config.syn_cookies.hindered(cookies_loaded(&self.ebpf));
        let failed = |source| OpenError::Map { name: "NODE", source };
        let old = self.maps.node.get(&0, 0).map_err(failed)?;
        let net = self.config.vip_net;
        let mask = u32::MAX.checked_shl(32 - u32::from(net.prefix())).unwrap_or(0);
        let uplinks = self.uplinks();
        let mut flags = if self.config.trace { node_flags::TRACE } else { 0 };
        if uplinks.veth {
            flags |= node_flags::REDIRECT;
        }
        let vip6 = u128::from(self.config.vip6_net);
        let word = |shift: u32| Be32::new(u32::try_from(vip6 >> shift & u128::from(u32::MAX)).unwrap_or_default());
        let mut node = NodeConfig {
            own: old.own,
            vip_network: Be32::new(u32::from(net.network())),
            vip_mask: Be32::new(mask),
            vip6_network: [word(96), word(64)],
            tunnel_port: Be16::new(TUNNEL_PORT),
            underlay_mtu: uplinks.mtu,
            flags,
            nat_first: Be16::new(self.config.nat_ports.as_ref().map_or(0, |ports| *ports.start())),
            nat_last: Be16::new(self.config.nat_ports.as_ref().map_or(0, |ports| *ports.end())),
            slow_start: self.config.slow_start,
            syn_threshold: 0,
        };
        if self.cookies_hindered.is_none() {
            self.config.syn_cookies.tell(&mut node);
        }
        self.maps.node.set(0, node, 0).map_err(failed)
    }
}
