//! A backend of this node stops to listen: its process closed the socket, or died. The kernel calls this before it takes the
//! socket off its port, so nobody is given a backend that would refuse.
#![allow(
    unsafe_code,
    reason = "the hook's context, and map values that are shared with user space"
)]

use aya_ebpf::programs::SockContext;
use lb_common::backend_flags;

use crate::maps::{BACKENDS, GUARDS, LISTENERS};

/// `TCP_LISTEN` of the kernel.
const LISTEN: u32 = 10;

/// The last descriptor of a socket was closed.
#[inline(always)]
pub(super) fn closed(ctx: &SockContext, cookie: u64) {
    // SAFETY: the kernel gives a whole structure and turns the read into a checked one.
    let state = unsafe { (&raw const (*ctx.sock).state).read_volatile() };
    if state != LISTEN {
        return;
    }
    // SAFETY: user space replaces entries whole.
    let Some(entry) = (unsafe { LISTENERS.get(cookie) }).copied() else {
        return;
    };
    if let Some(backend) = BACKENDS.get_ptr_mut(entry.backend) {
        // SAFETY: user space writes entries whole, and looks again at what it finds marked.
        let backend = unsafe { &mut *backend };
        if backend.generation == entry.generation && backend.flags & backend_flags::LIVE != 0 {
            backend.flags = backend.flags & !backend_flags::OPEN | backend_flags::GONE;
        }
    }
    if entry.guard != 0
        && let Some(guard) = GUARDS.get_ptr_mut(entry.guard)
    {
        // SAFETY: one word.
        unsafe {
            if (*guard).vip() != 0 {
                *guard = (*guard).over();
            }
        }
    }
    let _ = LISTENERS.remove(cookie);
}
