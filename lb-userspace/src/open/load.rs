//! Loading the object: maps by their pins, programs through the verifier.

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use lb_common::{Be16, Be32, LAYOUT_VERSION, NodeConfig, TUNNEL_PORT, node_flags};

use crate::lb::Maps;
use crate::open::link;
use crate::raw::SlotMemory;
use crate::{Config, Lb, OpenError};

#[cfg(revere_bpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("REVERE_BPF_OBJECT_PATH"));
#[cfg(not(revere_bpf_object))]
static OBJECT: &[u8] = &[];

/// Maps that outlive the daemon.
const PINNED: [&str; 11] = [
    "LAYOUT",
    "NODE",
    "VIPS",
    "SLOTS",
    "BACKENDS",
    "LOCALS",
    "PEERS",
    "FLOWS",
    "REVERSE",
    "ORIGINALS",
    "COUNTERS",
];

/// The kernel's default when an uplink does not tell.
const DEFAULT_MTU: u16 = 1500;

pub(crate) fn object(config: &Config) -> Result<Ebpf, OpenError> {
    if OBJECT.is_empty() {
        return Err(OpenError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    for name in PINNED {
        loader.map_pin_path(name, config.bpffs.join("maps").join(name));
    }
    loader.map_max_entries("FLOWS", config.flows);
    loader.map_max_entries("REVERSE", config.flows);
    loader.map_max_entries("SLOTS", config.slots.div_ceil(2));
    let mut ebpf = loader.load(OBJECT)?;
    for (name, program) in ebpf.programs_mut() {
        load_program(program).map_err(|source| OpenError::Program {
            name: name.to_owned(),
            source,
        })?;
    }
    Ok(ebpf)
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        other => Err(ProgramError::UnexpectedProgramType).inspect_err(|_| {
            tracing::error!(?other, "the BPF object holds a program of a kind that nobody attaches");
        }),
    }
}

/// The typed maps, and how many slots there are (an adopted array may be of another size than configured).
pub(crate) fn maps(ebpf: &mut Ebpf, config: &Config) -> Result<(Maps, u32), OpenError> {
    let mut layout: Array<MapData, u32> = take(ebpf, "LAYOUT")?;
    let put = layout.set(0, LAYOUT_VERSION, 0);
    put.map_err(|source| OpenError::Map { name: "LAYOUT", source })?;
    let slots = ebpf.take_map("SLOTS").ok_or_else(|| missing("SLOTS"))?;
    let Map::Array(slots) = slots else {
        return Err(missing("SLOTS"));
    };
    let pairs = slots
        .info()
        .map_err(|source| OpenError::Map { name: "SLOTS", source })?
        .max_entries();
    let slot_count = pairs.saturating_mul(2);
    if slot_count != config.slots.next_multiple_of(2) {
        tracing::warn!(
            found = slot_count,
            configured = config.slots,
            "using the pinned slot array as it is"
        );
    }
    let maps = Maps {
        vips: take(ebpf, "VIPS")?,
        backends: take(ebpf, "BACKENDS")?,
        locals: take(ebpf, "LOCALS")?,
        peers: take(ebpf, "PEERS")?,
        counters: take(ebpf, "COUNTERS")?,
        node: take(ebpf, "NODE")?,
        slots: SlotMemory::map(slots.fd(), slot_count).map_err(OpenError::Slots)?,
    };
    Ok((maps, slot_count))
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
    match aya_log::EbpfLogger::init(ebpf) {
        Ok(mut logger) => Some(Box::new(move || logger.flush())),
        Err(error) => {
            warnings.push(format!("packets cannot be traced: {error}"));
            None
        }
    }
}

impl Lb {
    /// Tells the programs this node's facts; its own address stays as it was until `apply` sets it.
    pub(crate) fn write_node_config(&mut self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Map { name: "NODE", source };
        let old = self.maps.node.get(&0, 0).map_err(failed)?;
        let net = self.config.vip_net;
        let mask = u32::MAX.checked_shl(32 - u32::from(net.prefix())).unwrap_or(0);
        let uplinks: Vec<_> = self
            .config
            .uplinks
            .iter()
            .filter_map(|name| link::facts(name).ok())
            .collect();
        let mtu = uplinks.iter().filter_map(|facts| u16::try_from(facts.mtu).ok()).min();
        let mut flags = if self.config.trace { node_flags::TRACE } else { 0 };
        if uplinks.iter().any(|facts| facts.veth) {
            flags |= node_flags::REDIRECT;
        }
        let node = NodeConfig {
            own: old.own,
            vip_network: Be32::new(u32::from(net.network())),
            vip_mask: Be32::new(mask),
            tunnel_port: Be16::new(TUNNEL_PORT),
            underlay_mtu: mtu.unwrap_or(DEFAULT_MTU),
            flags,
        };
        self.maps.node.set(0, node, 0).map_err(failed)
    }
}
