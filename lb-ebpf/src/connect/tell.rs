//! Counts and the flow log of socket calls.
#![allow(
    unsafe_code,
    reason = "map values are shared with other CPUs and user space, clocks are helpers"
)]

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lb_common::{Be16, FlowEvent, FlowEventKind, Ip, Reason, VipEntry, node_flags};

use crate::atomic;
use crate::maps::{BACKEND_STATS, EVENTS, EVENTS_LOST, VIP_STATS, node};

/// A socket was given a backend.
#[inline(always)]
pub(crate) fn connected(vip: &VipEntry, protocol: u8, backend: u32, generation: u32) {
    let kind = FlowEventKind::Connected;
    let _ = revere_tell(
        vip.id,
        backend,
        generation,
        word(Reason::SocketBalanced, kind, protocol),
    );
}

/// A call was refused.
#[inline(always)]
pub(crate) fn refused(vip: &VipEntry, protocol: u8, reason: Reason) {
    let _ = revere_tell(vip.id, u32::MAX, 0, word(reason, FlowEventKind::Refused, protocol));
}

#[inline(always)]
fn word(reason: Reason, kind: FlowEventKind, protocol: u8) -> u32 {
    reason.index() << 16 | (kind as u32) << 8 | u32::from(protocol)
}

/// A function for itself, of numbers only: the verifier walks it once per program instead of once per way to it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_tell(vip: u32, backend: u32, generation: u32, word: u32) -> u32 {
    let balanced = backend != u32::MAX;
    if let Some(stats) = VIP_STATS.get_ptr_mut(vip) {
        // SAFETY: the map lives while the program runs.
        let counter = unsafe {
            if balanced {
                &raw mut (*stats).connects
            } else {
                &raw mut (*stats).drops
            }
        };
        atomic::add(counter, 1);
    }
    if balanced && let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
        // SAFETY: the map lives while the program runs.
        atomic::add(unsafe { &raw mut (*stats).flows }, 1);
    }
    if node().is_none_or(|node| node.flags & node_flags::FLOW_LOG == 0) {
        return 0;
    }
    let event = FlowEvent {
        // SAFETY: no pointers involved.
        at: unsafe { bpf_ktime_get_ns() },
        client: Ip::default(),
        vip,
        backend,
        generation,
        reason: word >> 16,
        port: Be16::default(),
        protocol: word as u8,
        kind: (word >> 8) as u8,
        zero: [0; 12],
    };
    if EVENTS.output::<FlowEvent>(event, 0).is_err()
        && let Some(lost) = EVENTS_LOST.get_ptr_mut(0)
    {
        atomic::add(lost, 1);
    }
    1
}
