//! The handle: the loaded programs, the open maps and the bookkeeping beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use lb_common::{
    BackendEntry, BackendStats, Endpoint, Endpoint4, FlowValue, Guard, Ip, ListenPlace, ListenerEntry, NatKey4,
    NodeConfig, PeerEntry, RateBucket, Reason, SocketEntry, Tag, VipEntry, VipOptions, VipStats,
};
use model::{Cidr, Generation, VipAddress};

use crate::Config;
use crate::guard::Guards;
use crate::hop::Finder;
use crate::open::remove_filter;
use crate::pins::Pins;
use crate::raw::SlotMemory;
use crate::slots::{Ids, Indices, Ranges};
use crate::sock_destroy::Worker;

/// The load balancer's kernel side, held open. Dropping it leaves everything attached and forwarding.
pub struct Lb {
    pub(crate) config: Config,
    pub(crate) ebpf: Ebpf,
    /// Names of all hooks this object and configuration have, in the order in which they are attached.
    pub(crate) hooks: Vec<String>,
    /// Passes on what the programs logged; there only while tracing.
    pub(crate) drain: Option<Box<dyn FnMut() + Send>>,
    pub(crate) maps: Maps,
    pub(crate) pins: Pins,
    /// Ends sockets of backends that are gone.
    pub(crate) sockets: Worker,
    pub(crate) book: Book,
    pub(crate) generation: Generation,
    /// See [`Lb::cookies_hindered`].
    pub(crate) cookies_hindered: Option<String>,
    /// See [`Lb::nat6_hindered`].
    pub(crate) nat6_hindered: Option<String>,
    /// There once somebody asked for an explanation.
    pub(crate) explaining: Option<Ebpf>,
    /// There while packets may go past the stack.
    pub(crate) hops: Option<Finder>,
}

/// What is where in the maps.
pub(crate) struct Book {
    pub(crate) ranges: Ranges,
    pub(crate) indices: Indices,
    pub(crate) ids: Ids,
    pub(crate) vips: BTreeMap<VipAddress, VipRecord>,
    /// When `previous` tables are to be emptied, in seconds of the monotonic clock.
    pub(crate) expiries: BTreeSet<(u64, VipAddress)>,
    pub(crate) guards: Guards,
}

impl Book {
    /// Empty.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            ranges: Ranges::new(config.slots),
            indices: Indices::new(config.backends),
            ids: Ids::new(config.vips),
            vips: BTreeMap::new(),
            expiries: BTreeSet::new(),
            guards: Guards::default(),
        }
    }
}

/// A VIP as its map has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct VipRecord {
    pub(crate) entry: VipEntry,
    /// When `entry.previous` is to be emptied.
    pub(crate) until: u64,
    /// Second in which its table was made, if that is not told slot by slot; 0 = long ago.
    pub(crate) made: u32,
    /// Of each slot, where the last table was as long; there while `entry.previous` is.
    pub(crate) ages: Option<Arc<[Age]>>,
    /// Whether its options were ever other than none.
    pub(crate) limited: bool,
    /// Its ranges in the tries of sources.
    pub(crate) sources: BTreeSet<Cidr>,
}

/// How long owners of a slot have had it, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age {
    /// When the present one got it.
    pub(crate) since: u32,
    /// For how long the previous table's had it.
    pub(crate) before: u32,
}

impl VipRecord {
    /// Of a slot of the table.
    pub(crate) fn age(&self, slot: u32) -> Age {
        let known = self
            .ages
            .as_ref()
            .and_then(|ages| ages.get(usize::try_from(slot).ok()?));
        known.copied().unwrap_or(Age {
            since: self.made,
            before: 0,
        })
    }
}

/// The maps, typed.
pub(crate) struct Maps {
    pub(crate) vips4: HashMap<MapData, Endpoint4, VipEntry>,
    pub(crate) vips6: HashMap<MapData, Endpoint, VipEntry>,
    pub(crate) vip_options: Array<MapData, VipOptions>,
    pub(crate) vip_endpoints: Array<MapData, Endpoint>,
    pub(crate) vip_stats: PerCpuArray<MapData, VipStats>,
    pub(crate) vip_rates: PerCpuArray<MapData, RateBucket>,
    pub(crate) socket_rates: Array<MapData, RateBucket>,
    pub(crate) backends: Array<MapData, BackendEntry>,
    pub(crate) backend_stats: PerCpuArray<MapData, BackendStats>,
    pub(crate) backend_vips: HashMap<MapData, u32, [u16; 8]>,
    pub(crate) open_sockets: Array<MapData, u64>,
    pub(crate) sockets: HashMap<MapData, u64, SocketEntry>,
    pub(crate) tags: HashMap<MapData, Tag, u32>,
    pub(crate) sources4: LpmTrie<MapData, [u32; 2], u8>,
    pub(crate) sources6: LpmTrie<MapData, [u32; 5], u8>,
    pub(crate) peers: HashMap<MapData, Ip, PeerEntry>,
    pub(crate) counters: PerCpuArray<MapData, u64>,
    pub(crate) node: Array<MapData, NodeConfig>,
    pub(crate) guards: Array<MapData, Guard>,
    pub(crate) listeners: HashMap<MapData, u64, ListenerEntry>,
    pub(crate) listen_places: HashMap<MapData, u32, ListenPlace>,
    pub(crate) cookie_counts: PerCpuArray<MapData, u64>,
    pub(crate) nat4: HashMap<MapData, NatKey4, FlowValue>,
    pub(crate) own6: Array<MapData, Ip>,
    pub(crate) slots: SlotMemory,
}

/// The counters could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the counter of `{}`: {source}", reason.as_str())]
pub struct CountersError {
    reason: Reason,
    source: MapError,
}

/// Not everything could be taken off.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// A pin could not be removed.
    #[error("could not remove {}: {source}; remove it by hand to detach", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The filter on an uplink could not be removed.
    #[error("could not take the filter off {uplink}: {source}; see `tc filter show dev {uplink} egress`")]
    Filter {
        /// The uplink.
        uplink: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the verifier did for one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// The program's name.
    pub name: String,
    /// Instructions the verifier walked.
    pub verified_instructions: u32,
    /// Bytes of BPF instructions after translation.
    pub size: u32,
}

impl fmt::Debug for Lb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lb")
            .field("config", &self.config)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Lb {
    /// Every reason with its count since the maps were made, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, CountersError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = self.maps.counters.get(&reason.index(), 0);
                let values = values.map_err(|source| CountersError {
                    reason: *reason,
                    source,
                })?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }

    /// The newest generation that the maps hold whole.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Names of hooks that are not attached (any more), or whose interface is gone or another one by now.
    pub fn unattached(&self) -> BTreeSet<String> {
        crate::open::unattached(self)
    }

    /// Pins again what somebody unpinned; forwarding did not suffer, for everything is held besides. Tells what is back.
    pub fn restore_pins(&mut self) -> Vec<PathBuf> {
        let (back, failed) = self.pins.restore();
        for (pin, error) in failed {
            tracing::warn!("could not pin {} again: {error}", pin.display());
        }
        back
    }

    /// Passes traced packets on to the `log` crate; call it often while `Config::trace` is on.
    pub fn drain_trace(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain();
        }
    }

    /// Instructions verified per program that is loaded, by name.
    pub fn verifier_stats(&self) -> Result<Vec<ProgramStats>, aya::programs::ProgramError> {
        let mut stats = Vec::new();
        let all = self
            .ebpf
            .programs()
            .chain(self.explaining.iter().flat_map(Ebpf::programs));
        for (name, program) in all {
            if program.fd().is_err() {
                continue;
            }
            let info = program.info()?;
            stats.push(ProgramStats {
                name: name.to_owned(),
                verified_instructions: info.verified_instruction_count().unwrap_or_default(),
                size: info.size_translated().unwrap_or_default(),
            });
        }
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(stats)
    }

    /// Takes everything off: hooks first, then maps. Connections through VIPs end.
    pub fn detach(self) -> Result<(), DetachError> {
        let Self { config, ebpf, .. } = self;
        drop(ebpf);
        for uplink in config.uplinks {
            remove_filter(&uplink).map_err(|error| DetachError::Filter {
                uplink,
                source: error.into(),
            })?;
        }
        for folder in ["links", "maps"] {
            remove_pins(&config.bpffs.join(folder))?;
        }
        Ok(())
    }
}

fn remove_pins(folder: &Path) -> Result<(), DetachError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DetachError::Pin { path, source }
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed(folder))?,
    };
    for entry in entries {
        let path = entry.map_err(failed(folder))?.path();
        std::fs::remove_file(&path).map_err(failed(&path))?;
    }
    std::fs::remove_dir(folder).map_err(failed(folder))
}
