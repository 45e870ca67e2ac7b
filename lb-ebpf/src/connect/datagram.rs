//! Unconnected datagrams: a socket keeps to one backend per VIP while that lives, and sees the VIP answer.
#![allow(unsafe_code, reason = "map values are shared with other CPUs and user space")]

use lb_common::{BackendEntry, DatagramKey, Reason, SocketEntry, VipEntry};

use super::call::{Call, Family};
use super::{admit, choose, in_range, memory, open, tell};
use crate::maps::{DATAGRAMS, live_backend, vip_of};

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
    if let Some((entry, backend)) = used_last(&key) {
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

/// The backend that this socket's last datagram to the VIP went to, if it lives.
#[inline(always)]
fn used_last(key: &DatagramKey) -> Option<(SocketEntry, &'static BackendEntry)> {
    // SAFETY: entries are written whole.
    let entry = *unsafe { DATAGRAMS.get(key) }?;
    let backend = live_backend(entry.backend).filter(|backend| backend.generation == entry.generation)?;
    Some((entry, backend))
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
