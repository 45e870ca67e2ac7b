//! One backend: its entry, its tag, the list of its VIPs.

use lb_common::{BackendEntry, BackendStats, Be16, Ip, Tag, backend_flags};

use super::{ApplyError, absent_is_fine, map};
use crate::sock_destroy::Doomed;
use crate::{BackendKey, BackendState, Hop, Lb, VIPS_PER_BACKEND, clock, guard, hop};

fn tag(key: &BackendKey) -> Tag {
    Tag::new(&Ip::from(key.addr), Be16::new(key.port), key.protocol.number())
}

pub(super) fn put(lb: &mut Lb, key: &BackendKey, state: &BackendState) -> Result<(), ApplyError> {
    let known = lb.book.indices.get(key).is_some();
    let full = ApplyError::NoBackends(lb.config.backends);
    let index = lb.book.indices.take(*key).ok_or(full)?;
    let old = lb.maps.backends.get(&index, 0).map_err(map("BACKENDS"))?;
    let entry = entry(lb, key, state, known.then_some(&old), old.generation)?;
    if entry.flags & backend_flags::SHARED != 0 {
        let ids = vip_ids(lb, state)?;
        let put = lb.maps.backend_vips.insert(index, ids, 0);
        put.map_err(map("BACKEND_VIPS"))?;
    }
    lb.maps.backends.set(index, entry, 0).map_err(map("BACKENDS"))?;
    // Only now: sockets of the last owner count down until they see the new generation. No table names the index yet.
    if !known && old.generation != 0 {
        forget_counts(lb, index)?;
    }
    if known && old.flags & backend_flags::SHARED != 0 && entry.flags & backend_flags::SHARED == 0 {
        absent_is_fine(lb.maps.backend_vips.remove(&index)).map_err(map("BACKEND_VIPS"))?;
    }
    let closes = known && old.flags & backend_flags::OPEN != 0 && entry.flags & backend_flags::OPEN == 0;
    if closes && entry.flags & backend_flags::RESET != 0 {
        end_sockets(lb, key, index, entry.generation);
    }
    guard::put(lb, key, index, &entry, state.weight > 0).map_err(map("GUARDS"))?;
    put_tag(lb, key, index)
}

/// Changes the way to a backend of this node; nothing else of it.
pub(super) fn set_hop(lb: &mut Lb, key: &BackendKey, hop: Option<Hop>) -> Result<(), ApplyError> {
    let Some(index) = lb.book.indices.get(key) else {
        return Ok(());
    };
    let mut entry = lb.maps.backends.get(&index, 0).map_err(map("BACKENDS"))?;
    hop::write(&mut entry, hop);
    lb.maps.backends.set(index, entry, 0).map_err(map("BACKENDS"))
}

/// Local sockets to a backend that is gone learn it at once. What takes no more connections but lives keeps what it has,
/// of TCP and of connected UDP, unless its VIP resets.
fn end_sockets(lb: &Lb, backend: &BackendKey, index: u32, generation: u32) {
    // When that cannot be read, there may be some.
    let open = lb.maps.open_sockets.get(&index, 0).unwrap_or(1);
    if open.cast_signed() > 0 {
        lb.sockets.hand(Doomed {
            backend: *backend,
            index,
            generation,
        });
    }
}

fn entry(
    lb: &mut Lb,
    key: &BackendKey,
    state: &BackendState,
    known: Option<&BackendEntry>,
    generation: u32,
) -> Result<BackendEntry, ApplyError> {
    let mut flags = backend_flags::LIVE;
    for (on, flag) in [
        (state.weight > 0, backend_flags::OPEN),
        (state.local, backend_flags::LOCAL),
        (!state.local && lb.config.is_bare(state.node), backend_flags::BARE),
        (state.reset, backend_flags::RESET),
        (state.vips.len() > 1, backend_flags::SHARED),
    ] {
        flags |= if on { flag } else { 0 };
    }
    // Only the kernel knows that it stopped to listen, until a look at the sockets says otherwise.
    if known.is_some_and(|old| old.flags & backend_flags::GONE != 0) {
        flags = flags & !backend_flags::OPEN | backend_flags::GONE;
    }
    let was_open = known.is_some_and(|old| old.flags & backend_flags::OPEN != 0);
    let opened = match known {
        Some(old) if was_open || state.weight == 0 => old.opened,
        _ => clock::seconds_u32(),
    };
    let [vip, ..] = vip_ids(lb, state)?;
    let mut entry = BackendEntry {
        addr: Ip::from(key.addr),
        node: Ip::from(state.node),
        port: Be16::new(key.port),
        protocol: key.protocol.number(),
        flags,
        generation: known.map_or_else(|| next(generation), |old| old.generation.max(1)),
        opened,
        vip,
        weight: state.weight.max(1),
        ..BackendEntry::default()
    };
    hop::write(&mut entry, lb.hop(state.local, key.addr));
    Ok(entry)
}

/// Numbers of the VIPs it stands behind; new VIPs get theirs here, before they are there.
fn vip_ids(lb: &mut Lb, state: &BackendState) -> Result<[u16; VIPS_PER_BACKEND], ApplyError> {
    let mut ids = [0; VIPS_PER_BACKEND];
    for (room, address) in ids.iter_mut().zip(&state.vips) {
        let id = lb.book.ids.take(*address);
        *room = id.ok_or(ApplyError::NoVips(lb.config.vips))?;
    }
    Ok(ids)
}

/// The generation of an index's next owner; never 0, which marks an index that was never used.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// What an index's last owner has seen is not its next owner's.
fn forget_counts(lb: &mut Lb, index: u32) -> Result<(), ApplyError> {
    lb.maps.open_sockets.set(index, 0, 0).map_err(map("OPEN_SOCKETS"))?;
    let cpus = lb
        .maps
        .backend_stats
        .get(&index, 0)
        .map_err(map("BACKEND_STATS"))?
        .len();
    let nothing = aya::maps::PerCpuValues::try_from(vec![BackendStats::default(); cpus]);
    let Ok(nothing) = nothing else { return Ok(()) };
    lb.maps
        .backend_stats
        .set(index, nothing, 0)
        .map_err(map("BACKEND_STATS"))
}

/// IPv4 tags name one backend each; of IPv6 ones, which are hashes, the first comer keeps it.
fn put_tag(lb: &mut Lb, key: &BackendKey, index: u32) -> Result<(), ApplyError> {
    let tag = tag(key);
    if key.addr.is_ipv6()
        && let Ok(other) = lb.maps.tags.get(&tag, 0)
        && other != index
    {
        return Err(ApplyError::TagTaken(*key));
    }
    lb.maps.tags.insert(tag, index, 0).map_err(map("TAGS"))
}

pub(super) fn remove(lb: &mut Lb, key: &BackendKey) -> Result<(), ApplyError> {
    let Some(index) = lb.book.indices.get(key) else {
        return Ok(());
    };
    if lb.maps.tags.get(&tag(key), 0).is_ok_and(|owner| owner == index) {
        absent_is_fine(lb.maps.tags.remove(&tag(key))).map_err(map("TAGS"))?;
    }
    let mut entry = lb.maps.backends.get(&index, 0).map_err(map("BACKENDS"))?;
    let shared = entry.flags & backend_flags::SHARED != 0;
    entry.flags = 0;
    lb.maps.backends.set(index, entry, 0).map_err(map("BACKENDS"))?;
    if shared {
        absent_is_fine(lb.maps.backend_vips.remove(&index)).map_err(map("BACKEND_VIPS"))?;
    }
    lb.book.indices.free(key);
    guard::remove(lb, key).map_err(map("GUARDS"))?;
    end_sockets(lb, key, index, entry.generation);
    Ok(())
}
