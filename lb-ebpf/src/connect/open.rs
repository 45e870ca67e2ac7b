//! `connect`, also the one inside a `sendto` with `MSG_FASTOPEN`, and `getpeername`.

use lb_common::{Reason, SocketEntry, VipEntry};

use super::call::{Call, Family};
use super::{admit, choose, in_range, memory, tell};
use crate::maps::{DATAGRAMS, vip_of};

/// A call to a VIP goes to a backend.
#[inline(always)]
pub(crate) fn open<F: Family>(call: &Call<'_, F>) -> Reason {
    let cookie = call.cookie();
    // Whatever this socket was connected to before, it is not any more; a failed connect is forgotten here, too.
    memory::forget(cookie);
    let Some(vip) = vip_of(&call.endpoint) else {
        return if in_range(&call.endpoint.addr) {
            Reason::SocketUnknownVip
        } else {
            Reason::SocketOther
        };
    };
    match balance(call, cookie, &vip) {
        Ok(()) => Reason::SocketBalanced,
        Err(reason) => {
            tell::refused(&vip, call.endpoint.protocol, reason);
            reason
        }
    }
}

#[inline(always)]
fn balance<F: Family>(call: &Call<'_, F>, cookie: u64, vip: &VipEntry) -> Result<(), Reason> {
    admit::admit(call, vip)?;
    let (index, backend) = choose::choose(call, vip).ok_or(Reason::SocketNoBackend)?;
    let mut entry = entry(call, vip, index, backend.generation);
    memory::remember(cookie, &mut entry);
    if entry.protocol == memory::UDP {
        // For `recvfrom`, which names the sender even of a connected socket.
        let _ = DATAGRAMS.insert(memory::by_backend(cookie, backend), entry, 0);
    }
    call.rewrite(&backend.addr, backend.port);
    tell::connected(vip, call.endpoint.protocol, index, backend.generation);
    Ok(())
}

/// What is remembered of a call.
#[inline(always)]
pub(crate) fn entry<F: Family>(call: &Call<'_, F>, vip: &VipEntry, backend: u32, generation: u32) -> SocketEntry {
    SocketEntry {
        addr: call.endpoint.addr,
        port: call.endpoint.port,
        protocol: call.endpoint.protocol,
        counted: 0,
        backend,
        generation,
        vip: vip.id,
    }
}

/// The peer of a socket that was connected to a VIP is the VIP.
#[inline(always)]
pub(crate) fn peer<F: Family>(call: &Call<'_, F>) {
    if let Some(known) = memory::remembered(call.cookie())
        && call.takes(&known.addr)
    {
        call.rewrite(&known.addr, known.port);
    }
}
