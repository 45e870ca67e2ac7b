//! Counts and the flow log of socket calls.
#![allow(
    unsafe_code,
    reason = "map values are shared with other CPUs and user space, clocks are helpers"
)]

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lb_common::{Be16, Endpoint, FlowEvent, FlowEventKind, Ip, Reason, VipEntry, node_flags};

use crate::atomic;
use crate::maps::{BACKEND_STATS, EVENTS, EVENTS_LOST, VIP_STATS, node};

/// A socket was given a backend.
#[inline(always)]
pub(crate) fn connected(vip: &VipEntry, endpoint: &Endpoint, backend: u32, generation: u32) {
    if let Some(stats) = VIP_STATS.get_ptr_mut(vip.id) {
        // SAFETY: the map lives while the program runs.
        atomic::add(unsafe { &raw mut (*stats).connects }, 1);
    }
    if let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
        // SAFETY: the map lives while the program runs.
        atomic::add(unsafe { &raw mut (*stats).flows }, 1);
    }
    log(
        vip,
        endpoint,
        backend,
        generation,
        Reason::SocketBalanced,
        FlowEventKind::Connected,
    );
}

/// A call was refused.
#[inline(always)]
pub(crate) fn refused(vip: &VipEntry, endpoint: &Endpoint, reason: Reason) {
    if let Some(stats) = VIP_STATS.get_ptr_mut(vip.id) {
        // SAFETY: the map lives while the program runs.
        atomic::add(unsafe { &raw mut (*stats).drops }, 1);
    }
    log(vip, endpoint, u32::MAX, 0, reason, FlowEventKind::Refused);
}

#[inline(always)]
fn log(vip: &VipEntry, endpoint: &Endpoint, backend: u32, generation: u32, reason: Reason, kind: FlowEventKind) {
    if node().is_none_or(|node| node.flags & node_flags::FLOW_LOG == 0) {
        return;
    }
    let event = FlowEvent {
        // SAFETY: no pointers involved.
        at: unsafe { bpf_ktime_get_ns() },
        client: Ip::default(),
        vip: vip.id,
        backend,
        generation,
        reason: reason.index(),
        port: Be16::default(),
        protocol: endpoint.protocol,
        kind: kind as u8,
        zero: [0; 12],
    };
    if EVENTS.output::<FlowEvent>(event, 0).is_err()
        && let Some(lost) = EVENTS_LOST.get_ptr_mut(0)
    {
        atomic::add(lost, 1);
    }
}
