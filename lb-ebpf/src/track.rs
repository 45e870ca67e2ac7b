//! Flows: which backend a known one belongs to, and how far it has come.
#![allow(unsafe_code, reason = "flow entries are shared with other CPUs; helpers")]

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::{FlowState, FlowValue, Origin, backend_flags, flow_flags, seconds};

use crate::family::Family;
use crate::headers::{FIN, RST};
use crate::maps::Owner;
use crate::mode::{Mode, note};
use crate::packet::Kind;

pub(crate) const CLOSING: u8 = FlowState::Closing as u8;
pub(crate) const CLOSED: u8 = FlowState::Closed as u8;

/// Seconds after both ends of a flow in which what comes is a last acknowledgement of it. What comes later is of another connection with
/// the same ports, which was opened by another node. What this node has not seen the end of, it doubts after as long a silence.
const LAST_WORDS: u32 = 10;

/// A flow seen before.
pub(crate) struct Known {
    pub(crate) owner: Owner,
    /// Its ports may be another one's by now.
    pub(crate) doubtful: bool,
}

impl Known {
    #[inline(always)]
    fn sure(owner: Owner) -> Self {
        Self { owner, doubtful: false }
    }
}

/// Seconds since boot.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: no pointers involved.
    seconds(unsafe { bpf_ktime_get_coarse_ns() })
}

/// A flow that has just been met.
#[inline(always)]
pub(crate) fn met(owner: &Owner, state: FlowState, flags: u8) -> FlowValue {
    FlowValue {
        backend: owner.index,
        generation: owner.backend.generation,
        seen: now(),
        state: state as u8,
        flags,
        port: lb_common::Be16::new(0),
    }
}

/// The backend of a flow under way: the way that nearly all packets take.
#[inline(always)]
pub(crate) fn under_way<M: Mode, F: Family>(key: &F::Key, kind: Kind) -> Option<Owner> {
    let flow = F::flow(key)?;
    let owner = Owner::of_flow(flow)?;
    if kind.is_syn() || is_closing(flow) || owner.resets() || is_doubtful(flow, &owner, kind) {
        return None;
    }
    follow::<M, F>(flow, kind.flags, flow_flags::FIN_CLIENT);
    note::<M>(|decision| {
        decision.origin = Origin::Flow as u8;
        decision.state = flow.state;
    });
    Some(owner)
}

/// The backend of any flow seen before, unless it is gone or the flow is a new one with an old one's ports.
#[inline(always)]
pub(crate) fn known<M: Mode, F: Family>(key: &F::Key, kind: Kind) -> Option<Known> {
    if let Some(flow) = F::flow(key)
        && let Some(owner) = Owner::of_flow(flow)
    {
        let closing = is_closing(flow);
        let mut doubtful = false;
        if kind.is_syn() {
            if closing {
                return None;
            }
            if !owner.is(backend_flags::OPEN) {
                over::<M>(flow);
                return None;
            }
        } else if closing && let Some(newer) = half::<M, F>(key, kind) {
            return Some(Known::sure(newer));
        } else if flow.state == CLOSED && now().wrapping_sub(flow.seen) > LAST_WORDS {
            return None;
        } else {
            doubtful = is_doubtful(flow, &owner, kind);
            if doubtful && !M::EXPLAIN {
                flow.flags |= flow_flags::DOUBTFUL;
            }
            follow::<M, F>(flow, kind.flags, flow_flags::FIN_CLIENT);
        }
        note::<M>(|decision| {
            decision.origin = Origin::Flow as u8;
            decision.state = flow.state;
        });
        return Some(Known { owner, doubtful });
    }
    if kind.is_syn() {
        None
    } else {
        half::<M, F>(key, kind).map(Known::sure)
    }
}

/// Whether the flow's ports may be another one's by now: packets of a client may come by any node, so this one need not have seen a
/// flow end, nor the next one begin. What it sees both ways of, or has a backend for, it has seen.
#[inline(always)]
fn is_doubtful(flow: &FlowValue, owner: &Owner, kind: Kind) -> bool {
    kind.is_tcp()
        && owner.backend.flags & (backend_flags::LOCAL | backend_flags::BARE) == 0
        && (flow.flags & flow_flags::DOUBTFUL != 0 || now().wrapping_sub(flow.seen) > LAST_WORDS)
}

/// A new flow has the ports of one that this node has not seen the end of: what follows belongs to the new one.
#[inline(always)]
pub(crate) fn supersede<M: Mode, F: Family>(key: &F::Key) {
    if let Some(flow) = F::flow(key) {
        over::<M>(flow);
    }
}

#[inline(always)]
fn over<M: Mode>(flow: &mut FlowValue) {
    if !M::EXPLAIN {
        flow.state = CLOSED;
    }
}

/// Whether a connection goes on without its backend, which is gone or ends what it has. A new one with the same ports does
/// not.
#[inline(always)]
pub(crate) fn is_cut_off<F: Family>(key: &F::Key) -> bool {
    let Some(flow) = F::flow(key) else { return false };
    if flow.state == CLOSED || Owner::of_flow(flow).is_some_and(|owner| !owner.resets()) {
        return false;
    }
    let newer = F::half(key).and_then(|half| Owner::of_flow(half));
    newer.is_none_or(|owner| owner.resets())
}

#[inline(always)]
fn is_closing(flow: &FlowValue) -> bool {
    flow.state == CLOSING || flow.state == CLOSED
}

/// The backend of a half-open flow, which from now on is an established one.
#[inline(always)]
fn half<M: Mode, F: Family>(key: &F::Key, kind: Kind) -> Option<Owner> {
    let half = F::half(key)?;
    let owner = Owner::of_flow(half)?;
    note::<M>(|decision| {
        decision.origin = Origin::Half as u8;
        decision.state = half.state;
    });
    if !M::EXPLAIN && kind.flags & RST == 0 {
        let state = if kind.is_tcp() {
            FlowState::Established
        } else {
            FlowState::Datagram
        };
        let mut value = met(&owner, state, half.flags);
        follow_state(&mut value, kind.flags, flow_flags::FIN_CLIENT);
        F::insert_flow(key, &value);
        F::remove_half(key);
    }
    Some(owner)
}

/// The entry of a flow to a certain backend, half-open or not.
#[inline(always)]
pub(crate) fn of_backend<F: Family>(key: &F::Key, index: u32) -> Option<&'static mut FlowValue> {
    if let Some(flow) = F::flow(key)
        && flow.backend == index
    {
        return Some(flow);
    }
    F::half(key).filter(|half| half.backend == index)
}

/// Takes down that a packet of the flow went by; writes only what changes.
#[inline(always)]
pub(crate) fn follow<M: Mode, F: Family>(flow: &mut FlowValue, tcp_flags: u8, fin: u8) {
    if M::EXPLAIN {
        return;
    }
    let now = now();
    if flow.seen != now {
        flow.seen = now;
    }
    follow_state(flow, tcp_flags, fin);
}

#[inline(always)]
fn follow_state(flow: &mut FlowValue, tcp_flags: u8, fin: u8) {
    const BOTH: u8 = flow_flags::FIN_CLIENT | flow_flags::FIN_BACKEND;
    if tcp_flags & RST != 0 {
        flow.state = CLOSED;
    } else if tcp_flags & FIN != 0 && flow.state != CLOSED {
        let flags = flow.flags | fin;
        flow.flags = flags;
        flow.state = if flags & BOTH == BOTH { CLOSED } else { CLOSING };
    }
}
