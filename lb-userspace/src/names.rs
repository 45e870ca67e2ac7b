//! Names answered before the name server's sockets: the XDP program for it, its map, and who may ask.
//!
//! Apart from the load balancer: an object, pins and a layout of its own, so that one is switched on and off without the
//! other. In the map are answers ready to be sent; whose questions they answer, and until when, is one small entry.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError, PerCpuArray};
use lb_common::{
    Be16, Be32, MAX_NAMES, NAME_CLIENTS, NAME_SERVERS, NameAnswer, NameClients, NameConfig, NameCount, NameKey,
    NameServer,
};
use model::Ipv4Net;

use crate::pins::Pins;
use crate::raw;
use crate::run::{PacketRun, RunError, run_program, xdp_context};

mod apply;
mod entry;
mod open;
mod plan;

pub use apply::{NamesReport, apply};
pub use entry::entry;
pub use lb_common::{NameAnswer as Answer, NameCount as Count, NameKey as Key};
pub use open::{NamesError, remove, silence};
pub use plan::{NamesPlan, plan};

/// Answers by question.
pub type Answers = BTreeMap<NameKey, NameAnswer>;

/// What is to be answered, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The node's directory for pins, on a bpffs.
    pub bpffs: PathBuf,
    /// Interfaces on whose questions the program looks.
    pub interfaces: Vec<String>,
    /// Where the name server listens; the first four are looked for.
    pub servers: Vec<SocketAddrV4>,
    /// Networks whose questions the server answers without a limit; the first eight are answered here. Others' are the
    /// server's.
    pub clients: Vec<Ipv4Net>,
    /// Whether the server tells these clients that it asks other servers for them (RA).
    pub recursion: bool,
    /// Largest answer it sends by UDP.
    pub max_payload: u16,
}

/// The program and its maps, held open. Dropping it leaves it attached; it answers until its time is over.
pub struct NameMap {
    settings: Settings,
    ebpf: Ebpf,
    names: HashMap<MapData, NameKey, NameAnswer>,
    config: Array<MapData, NameConfig>,
    counts: PerCpuArray<MapData, u64>,
    pins: Pins,
}

impl fmt::Debug for NameMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameMap")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl NameMap {
    /// All answers in the map.
    pub fn observe(&self) -> io::Result<Answers> {
        let mut all = Answers::new();
        raw::walk::<NameKey, NameAnswer>(self.names.map().fd().as_fd(), 1, |key, values| {
            all.extend(values.first().map(|value| (*key, *value)));
        })?;
        Ok(all)
    }

    /// Those to these questions.
    pub fn look(&self, keys: impl IntoIterator<Item = NameKey>) -> Result<Answers, MapError> {
        let mut some = Answers::new();
        for key in keys {
            match self.names.get(&key, 0) {
                Ok(answer) => drop(some.insert(key, answer)),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(some)
    }

    /// Answers from now on bear this serial.
    pub fn set_serial(&mut self, serial: u32) -> Result<(), MapError> {
        self.change(|config| config.serial = Be32::new(serial))
    }

    /// Nothing is answered from `until` on, in seconds of the monotonic clock; 0: nothing at all.
    pub fn answer_until(&mut self, until: u32) -> Result<(), MapError> {
        self.change(|config| config.until = until)
    }

    fn change(&mut self, change: impl FnOnce(&mut NameConfig)) -> Result<(), MapError> {
        let mut config = self.config.get(&0, 0)?;
        change(&mut config);
        self.config.set(0, config, 0)
    }

    /// What became of questions since the maps were made, summed over CPUs.
    pub fn counts(&self) -> Result<[(NameCount, u64); 5], MapError> {
        let mut all = NameCount::ALL.map(|what| (what, 0));
        for (what, sum) in &mut all {
            *sum = self.counts.get(&(*what as u32), 0)?.iter().sum();
        }
        Ok(all)
    }

    /// Rooms for answers.
    pub fn rooms(&self) -> usize {
        usize::try_from(MAX_NAMES).unwrap_or(usize::MAX)
    }

    /// What it works with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs the program on a frame.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<PacketRun, RunError> {
        run_program(&self.ebpf, open::PROGRAM, frame, Some(&xdp_context(frame, 1)), repeat)
    }

    /// Instructions that the verifier walked.
    pub fn verified_instructions(&self) -> Option<u32> {
        let info = self.ebpf.program(open::PROGRAM)?.info().ok()?;
        info.verified_instruction_count()
    }
}

/// The settings as the program reads them, with what only time and zones change as it was.
fn config(settings: &Settings, old: &NameConfig) -> NameConfig {
    let mut config = NameConfig {
        until: old.until,
        serial: old.serial,
        max_payload: settings.max_payload,
        // RA is the highest bit of its byte.
        recursion: u16::from(settings.recursion) << 7,
        ..NameConfig::NONE
    };
    let servers = settings.servers.iter().filter(|server| !server.ip().is_unspecified());
    for (place, server) in config.servers.iter_mut().take(NAME_SERVERS).zip(servers) {
        *place = NameServer {
            addr: be32(*server.ip()),
            port: Be16::new(server.port()),
            zero: 0,
        };
    }
    for (place, net) in config.clients.iter_mut().take(NAME_CLIENTS).zip(&settings.clients) {
        let mask = u32::MAX.checked_shl(32 - u32::from(net.prefix())).unwrap_or(0);
        *place = NameClients {
            addr: be32(net.network()),
            mask: Be32::new(mask),
        };
    }
    config
}

fn be32(addr: Ipv4Addr) -> Be32 {
    Be32::new(u32::from(addr))
}
