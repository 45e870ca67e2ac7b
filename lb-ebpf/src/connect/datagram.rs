//! Unconnected datagrams: a socket keeps to one backend per VIP while that lives, and sees the VIP answer.
#![allow(unsafe_code, reason = "map values are shared with other CPUs and user space")]

use lb_common::{BackendEntry, DatagramKey, Reason, SocketEntry, VipEntry, backend_flags};

use super::call::{Call, Family};
use super::{admit, choose, in_range, memory, open, tell};
use crate::maps::{BACKEND_VIPS, DATAGRAMS, live_backend, vip_of};

/// A datagram with an address of its own.
#[inline(always)]
pub(crate) fn send<F: Family>(call: &Call<'_, F>) -> Reason {
    let Some(vip) = vip_of(&call.endpoint) else {
        // A datagram to an address that is no VIP must not leave the node.
        return if in_range(&call.endpoint.addr) {
            Reason::SocketUnknownVip
        } else {
            Reason::SocketOther
        };
    };
    let cookie = call.cookie();
    let key = DatagramKey {
        cookie,
        addr: call.endpoint.addr,
        port: call.endpoint.port,
        by_vip: 1,
        zero: 0,
    };
    if let Some((entry, backend)) = used_last(&key, &vip) {
        back(cookie, backend, &entry);
        call.rewrite(&backend.addr, backend.port);
        return Reason::SocketBalanced;
    }
    match balance(call, &key, &vip) {
        Ok(()) => Reason::SocketBalanced,
        Err(reason) => {
            tell::refused(&vip, call.endpoint.protocol, reason);
            reason
        }
    }
}

/// The backend that this socket's last datagram to the VIP went to, if it lives and still is the VIP's.
#[inline(always)]
fn used_last(key: &DatagramKey, vip: &VipEntry) -> Option<(SocketEntry, &'static BackendEntry)> {
    // SAFETY: entries are written whole.
    let entry = *unsafe { DATAGRAMS.get(key) }?;
    let backend = live_backend(entry.backend)?;
    let same = backend.generation == entry.generation && entry.vip == vip.id;
    (same && belongs(entry.backend, backend, vip.id)).then_some((entry, backend))
}

/// Whether a backend stands behind this VIP.
#[inline(always)]
fn belongs(index: u32, backend: &BackendEntry, vip: u32) -> bool {
    if u32::from(backend.vip) == vip {
        return true;
    }
    if backend.flags & backend_flags::SHARED == 0 {
        return false;
    }
    // SAFETY: user space replaces entries whole.
    unsafe { BACKEND_VIPS.get(index) }.is_some_and(|vips| vips.iter().any(|id| u32::from(*id) == vip))
}

/// The way back is a key of its own, and may have been thrown out alone: put it in again.
#[inline(always)]
fn back(cookie: u64, backend: &BackendEntry, entry: &SocketEntry) {
    let key = memory::by_backend(cookie, backend);
    // SAFETY: entries are written whole.
    let right = unsafe { DATAGRAMS.get(key) }.is_some_and(|known| known.vip == entry.vip);
    if !right {
        let _ = DATAGRAMS.insert(key, entry, 0);
    }
}

#[inline(always)]
fn balance<F: Family>(call: &Call<'_, F>, key: &DatagramKey, vip: &VipEntry) -> Result<(), Reason> {
    admit::admit(call, vip)?;
    let (index, backend) = choose::choose(call, vip).ok_or(Reason::SocketNoBackend)?;
    let entry = open::entry(call, vip, index, backend.generation);
    // Without these the next datagram may go elsewhere, and the answer is seen to come from the backend.
    let _ = DATAGRAMS.insert(key, entry, 0);
    let _ = DATAGRAMS.insert(memory::by_backend(key.cookie, backend), entry, 0);
    call.rewrite(&backend.addr, backend.port);
    tell::connected(vip, call.endpoint.protocol, index, backend.generation);
    Ok(())
}

/// A datagram that came from a backend came from its VIP.
#[inline(always)]
pub(crate) fn receive<F: Family>(call: &Call<'_, F>) {
    let key = DatagramKey {
        cookie: call.cookie(),
        addr: call.endpoint.addr,
        port: call.endpoint.port,
        by_vip: 0,
        zero: 0,
    };
    // SAFETY: entries are written whole.
    if let Some(entry) = unsafe { DATAGRAMS.get(key) }
        && call.takes(&entry.addr)
    {
        call.rewrite(&entry.addr, entry.port);
    }
}
