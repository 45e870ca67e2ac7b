//! Taking over the maps of an older layout: what they hold is written into maps of today's layout, while the old programs go on with
//! the old ones. Then the hooks get the new programs, one step each, and the old maps are let go.
//!
//! The old maps are put aside under a name of their own until that is done. A daemon that dies halfway leaves them there, and the
//! next one begins anew from them; their own `LAYOUT` is the first to go once nobody needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::{Be16, Be32, FlowKey4, FlowState, FlowValue, LAYOUT_VERSION};
use model::VipAddress;

use super::check;
use crate::{BackendKey, Desired, DesiredVip, Lb, OpenError, apply, clock, observe, plan};

mod layout1;

/// Where the maps are pinned, and where those of an older layout wait.
const MAPS: &str = "maps";
const ASIDE: &str = "maps-old";

/// A TCP flow of an older layout. Only IPv4 had any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldFlow {
    client: SocketAddrV4,
    vip: VipAddress,
    backend: BackendKey,
    state: FlowState,
}

/// What an older layout's maps held, in today's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    own: Option<Ipv4Addr>,
    peers: BTreeSet<Ipv4Addr>,
    vips: BTreeMap<VipAddress, DesiredVip>,
    flows: Vec<OldFlow>,
}

/// Pinned maps of an older layout, put aside.
#[derive(Debug)]
pub(super) struct Old {
    bpffs: PathBuf,
    version: u32,
}

/// How much was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    vips: usize,
    flows: usize,
}

/// Puts the pinned maps aside if they are of an older layout that can be read. Those of a newer one, and those without a version,
/// are refused.
pub(super) fn begin(bpffs: &Path) -> Result<Option<Old>, OpenError> {
    let (maps, aside) = (bpffs.join(MAPS), bpffs.join(ASIDE));
    let failed = failed(bpffs);
    match check::version(&aside) {
        Ok(Some(LAYOUT_VERSION)) => {
            // A newer release began to take these over and did not end.
            unpin(&maps).and_then(|()| fs::rename(&aside, &maps)).map_err(&failed)?;
            return Ok(None);
        }
        Ok(Some(version)) => {
            // Begun, and not ended: what the new maps hold is a part of it.
            let old = found(bpffs, version)?;
            unpin(&maps).and_then(|()| fs::create_dir_all(&maps)).map_err(&failed)?;
            return Ok(Some(old));
        }
        Ok(None) => clear(&aside),
        // They may be the only ones that are whole.
        Err(source) => return Err(failed(source)),
    }
    let Some(version) = check::layout(bpffs)? else {
        return Ok(None);
    };
    let old = found(bpffs, version)?;
    fs::rename(&maps, &aside)
        .and_then(|()| fs::create_dir_all(&maps))
        .map_err(&failed)?;
    Ok(Some(old))
}

/// Removes what is left of maps that nobody needs any more; nothing depends on it.
fn clear(aside: &Path) {
    if let Err(error) = unpin(aside) {
        tracing::warn!(
            "{} is of no use any more and could not be removed: {error}",
            aside.display()
        );
    }
}

fn found(bpffs: &Path, version: u32) -> Result<Old, OpenError> {
    match version {
        1 => Ok(Old {
            bpffs: bpffs.to_owned(),
            version,
        }),
        _ => Err(OpenError::Layout {
            path: bpffs.join(MAPS),
            found: version,
            expected: LAYOUT_VERSION,
        }),
    }
}

fn failed(bpffs: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = bpffs.join(MAPS);
    move |source| OpenError::Migrate {
        path: path.clone(),
        source,
    }
}

/// Removes the pins in a folder, `LAYOUT` first, and the folder.
fn unpin(folder: &Path) -> io::Result<()> {
    let missing_is_fine = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    missing_is_fine(fs::remove_file(folder.join("LAYOUT")))?;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        fs::remove_file(entry?.path())?;
    }
    missing_is_fine(fs::remove_dir(folder))
}

impl Old {
    /// Writes everything into the new maps; no hook is touched.
    pub(super) fn carry(&self, lb: &mut Lb) -> Result<(), OpenError> {
        let carried = self.held().and_then(|held| write(lb, held));
        let Carried { vips, flows } = carried.map_err(failed(&self.bpffs))?;
        let (from, to) = (self.version, LAYOUT_VERSION);
        tracing::info!(from, to, vips, flows, "took over the maps of an older layout");
        Ok(())
    }

    /// Puts the old maps back where they were.
    pub(super) fn back(&self) {
        let (maps, aside) = (self.bpffs.join(MAPS), self.bpffs.join(ASIDE));
        if let Err(error) = unpin(&maps).and_then(|()| fs::rename(&aside, &maps)) {
            tracing::error!(
                "could not put the maps of the older layout back; the next start begins from {}: {error}",
                aside.display()
            );
        }
    }

    fn held(&self) -> io::Result<Held> {
        layout1::read(&self.bpffs.join(ASIDE))
    }

    /// Nobody needs the old maps any more: a hook or all of them go on with the new ones.
    pub(super) fn end(self) {
        clear(&self.bpffs.join(ASIDE));
    }
}

/// A typed view of a pinned map.
fn open<T: TryFrom<Map, Error = MapError>>(path: &Path, kind: fn(MapData) -> Map) -> Result<T, MapError> {
    T::try_from(kind(MapData::from_pin(path)?))
}

fn write(lb: &mut Lb, held: Held) -> io::Result<Carried> {
    let mut wanted = Desired::default();
    wanted.own = held.own;
    wanted.peers = held.peers;
    let vips = held.vips.len();
    for (address, vip) in held.vips {
        let all: Vec<_> = vip.members.keys().copied().collect();
        wanted.put(address, vip, &all);
    }
    let mut actual = observe(lb).map_err(io::Error::other)?;
    // The hooks come last, when everything is in its place.
    actual.unattached.clear();
    let report = apply(lb, &plan(&wanted, &actual));
    if let Some((step, error)) = report.failed.first() {
        return Err(io::Error::other(format!("{step:?}: {error}")));
    }
    let flows = write_flows(lb, &held.flows)?;
    Ok(Carried { vips, flows })
}

fn write_flows(lb: &Lb, flows: &[OldFlow]) -> io::Result<usize> {
    let table = |name: &str| -> Result<HashMap<MapData, FlowKey4, FlowValue>, MapError> {
        open(&lb.config.bpffs.join(MAPS).join(name), Map::LruHashMap)
    };
    let mut live = table("FLOWS4").map_err(io::Error::other)?;
    let mut half = table("HALF4").map_err(io::Error::other)?;
    let now = clock::seconds_u32();
    let mut carried = 0;
    for flow in flows {
        let (Some(vip), Some(backend)) = (lb.book.ids.get(&flow.vip), lb.book.indices.get(&flow.backend)) else {
            continue;
        };
        let entry = lb.maps.backends.get(&backend, 0).map_err(io::Error::other)?;
        let key = FlowKey4 {
            client: Be32::new(u32::from(*flow.client.ip())),
            port: Be16::new(flow.client.port()),
            vip,
        };
        let value = FlowValue {
            backend,
            generation: entry.generation,
            seen: now,
            state: flow.state as u8,
            flags: 0,
            port: Be16::new(0),
        };
        let table = if flow.state == FlowState::Opening {
            &mut half
        } else {
            &mut live
        };
        table.insert(key, value, 0).map_err(io::Error::other)?;
        carried += 1;
    }
    Ok(carried)
}
