//! Which port of this node a translated flow has, and how far it has come.
#![allow(unsafe_code, reason = "helpers, and entries that are shared with other CPUs")]

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::{Be16, Be32, FlowState, FlowValue, NatKey4, NodeConfig, flow_flags};

use crate::family::V4;
use crate::maps::{NAT4, NAT4_BACK, Owner, node};
use crate::mode::Live;
use crate::packet::Kind;
use crate::track::{self, CLOSED};

/// Ports that are tried.
const TRIES: u32 = 16;

#[inline(always)]
fn known(tuple: &NatKey4) -> Option<&'static mut FlowValue> {
    // SAFETY: the entry stays mapped while the program runs; its fields are plain words.
    NAT4.get_ptr_mut(tuple).map(|value| unsafe { &mut *value })
}

/// Whether a packet opens a flow anew that has ended under the same ports.
#[inline(always)]
fn is_over(flow: &FlowValue, kind: Kind) -> bool {
    kind.is_syn() && flow.state == CLOSED
}

/// The backend of a flow that is known.
#[inline(always)]
pub(super) fn owner(tuple: &NatKey4, kind: Kind) -> Option<Owner> {
    let flow = known(tuple)?;
    if is_over(flow, kind) {
        return None;
    }
    Owner::of_flow(flow)
}

/// The flow's port, a new one if it has none. `None`: all that were tried are in use.
#[inline(always)]
pub(super) fn port(tuple: &NatKey4, kind: Kind, owner: &Owner, to: (Be32, Be16)) -> Option<Be16> {
    if let Some(flow) = known(tuple)
        && flow.backend == owner.index
        && flow.generation == owner.backend.generation
        && !is_over(flow, kind)
    {
        track::follow::<Live, V4>(flow, kind.flags, flow_flags::FIN_CLIENT);
        return Some(flow.port);
    }
    let port = match revere_nat_port(tuple, to.0.raw(), to.1.raw().into()) {
        0 => return None,
        port => Be16::from_raw(port as u16),
    };
    let state = if kind.is_tcp() {
        FlowState::Established
    } else {
        FlowState::Datagram
    };
    let value = FlowValue {
        port,
        ..track::met(owner, state, flow_flags::TRANSLATED)
    };
    // Without the entry the next packet gets another port; the client's connection then ends.
    NAT4.insert(tuple, value, BPF_ANY.into()).ok()?;
    Some(port)
}

/// Takes down that the backend answered.
#[inline(always)]
pub(super) fn answered(tuple: &NatKey4, kind: Kind) {
    if let Some(flow) = known(tuple) {
        track::follow::<Live, V4>(flow, kind.flags, flow_flags::FIN_BACKEND);
    }
}

/// A free port towards a backend, in network order, 0 if none was found. Like every function with a name for the linker the
/// verifier goes through it once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_nat_port(tuple: *const NatKey4, addr: u32, port: u32) -> u32 {
    let Some(node) = node() else { return 0 };
    if tuple.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    // A copy: before Linux 6.2 a lookup takes no key out of a caller's memory.
    let tuple = unsafe { *tuple };
    let to = (Be32::from_raw(addr), Be16::from_raw(port as u16));
    free_port(node, &tuple, to).map_or(0, |port| port.raw().into())
}

/// Tries ports from a random one on. Towards another backend the same port may be in use.
#[inline(always)]
fn free_port(node: &NodeConfig, tuple: &NatKey4, to: (Be32, Be16)) -> Option<Be16> {
    let (first, last) = (u32::from(node.nat_first.get()), u32::from(node.nat_last.get()));
    let many = last.checked_sub(first)? + 1;
    // SAFETY: no pointers involved.
    let start = unsafe { bpf_get_prandom_u32() } % many;
    for more in 0..TRIES {
        let port = Be16::new((first + (start + more) % many) as u16);
        let back = NatKey4::new(to, (node.own.0[3], port), tuple.protocol);
        if NAT4_BACK.insert(back, tuple, BPF_NOEXIST.into()).is_ok() {
            return Some(port);
        }
        // SAFETY: a copy of an entry that is replaced whole.
        let holder = unsafe { NAT4_BACK.get(back) }.copied();
        if let Some(holder) = holder
            && known(&holder).is_none_or(|flow| flow.state == CLOSED || flow.port != port)
            && NAT4_BACK.insert(back, tuple, BPF_ANY.into()).is_ok()
        {
            let _ = NAT4.remove(holder);
            return Some(port);
        }
    }
    None
}
