//! What is remembered of sockets, and the count of open connections by backend.
#![allow(unsafe_code, reason = "map values are shared with other CPUs and user space")]

use lb_common::{BackendEntry, DatagramKey, SocketEntry};

use crate::atomic;
use crate::maps::{BACKENDS, DATAGRAMS, OPEN_SOCKETS, SOCKETS};

/// Remembers a connected socket and counts it. The socket's old entry has been forgotten.
#[inline(always)]
pub(crate) fn remember(cookie: u64, entry: &mut SocketEntry) {
    entry.counted = 1;
    // A socket that finds no room shows the backend as its peer and is not counted; it works all the same.
    if SOCKETS.insert(cookie, &*entry, 0).is_ok()
        && let Some(open) = OPEN_SOCKETS.get_ptr_mut(entry.backend)
    {
        atomic::add(open, 1);
    }
}

/// What a connected socket asked for.
#[inline(always)]
pub(crate) fn remembered(cookie: u64) -> Option<&'static SocketEntry> {
    // SAFETY: only the socket's own calls, which the kernel lets in one at a time, change its entry.
    unsafe { SOCKETS.get(cookie) }
}

/// The socket is closed, or connects anew: exactly once for each `remember`, since the entry goes with it.
#[inline(always)]
pub(crate) fn forget(cookie: u64) {
    let _ = revere_forget(cookie);
}

/// A function for itself, of numbers only: the verifier walks it once per program instead of once per way from it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_forget(cookie: u64) -> u32 {
    let Some(entry) = remembered(cookie).copied() else {
        return 0;
    };
    if SOCKETS.remove(cookie).is_err() {
        return 0;
    }
    // An index that went to another backend was counted from 0 again.
    let Some(backend) = BACKENDS
        .get(entry.backend)
        .filter(|backend| backend.generation == entry.generation)
    else {
        return 0;
    };
    if entry.counted != 0
        && let Some(open) = OPEN_SOCKETS.get_ptr_mut(entry.backend)
    {
        atomic::add(open, -1);
    }
    if entry.protocol == UDP {
        let _ = DATAGRAMS.remove(by_backend(cookie, backend));
    }
    1
}

pub(crate) const UDP: u8 = 17;

/// Key of the way back.
#[inline(always)]
pub(crate) fn by_backend(cookie: u64, backend: &BackendEntry) -> DatagramKey {
    DatagramKey {
        cookie,
        addr: backend.addr,
        port: backend.port,
        by_vip: 0,
        zero: 0,
    }
}
