//! Which port of this node a translated flow has, and how far it has come.
#![allow(unsafe_code, reason = "helpers")]

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::{Be16, FlowState, FlowValue, NodeConfig, flow_flags};

use super::family::{Nat, Room};
use crate::family::{V4, V6};
use crate::maps::{Owner, node};
use crate::mode::Live;
use crate::packet::Kind;
use crate::track::{self, CLOSED};

/// Ports that are tried.
const TRIES: u32 = 16;

/// Whether a packet opens a flow anew that has ended under the same ports.
#[inline(always)]
fn is_over(flow: &FlowValue, kind: Kind) -> bool {
    kind.is_syn() && flow.state == CLOSED
}

/// The backend of a flow that is known.
#[inline(always)]
pub(super) fn owner<F: Nat>(tuple: &F::Tuple, kind: Kind) -> Option<Owner> {
    let flow = F::known(tuple)?;
    if is_over(flow, kind) {
        return None;
    }
    Owner::of_flow(flow)
}

/// The port of the room's flow, a new one if it has none. `None`: all that were tried are in use.
#[inline(always)]
pub(super) fn port<F: Nat>(room: &Room<F::Tuple>, kind: Kind, owner: &Owner) -> Option<Be16> {
    if let Some(flow) = F::known(&room.tuple)
        && flow.backend == owner.index
        && flow.generation == owner.backend.generation
        && !is_over(flow, kind)
    {
        track::follow::<Live, F>(flow, kind.flags, flow_flags::FIN_CLIENT);
        return Some(flow.port);
    }
    let port = match F::free_port(owner.index) {
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
    F::put(&room.tuple, &value).then_some(port)
}

/// Takes down that the backend answered.
#[inline(always)]
pub(super) fn answered<F: Nat>(tuple: &F::Tuple, kind: Kind) {
    if let Some(flow) = F::known(tuple) {
        track::follow::<Live, F>(flow, kind.flags, flow_flags::FIN_BACKEND);
    }
}

/// A free port for the room's flow towards a backend by its index, in network order, 0 if none was found. Like every function
/// with a name for the linker the verifier goes through it once.
#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_nat_port(backend: u32) -> u32 {
    free_port::<V4>(backend).map_or(0, |port| port.raw().into())
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_nat_port6(backend: u32) -> u32 {
    free_port::<V6>(backend).map_or(0, |port| port.raw().into())
}

#[inline(always)]
fn free_port<F: Nat>(backend: u32) -> Option<Be16> {
    let (node, owner, room) = (node()?, Owner::at(backend)?, F::room()?);
    let to = (F::within(&owner.backend.addr), owner.backend.port);
    let own = (F::own(node)?, Be16::new(0));
    F::put_tuple(&mut room.back, to, own, F::protocol(&room.tuple));
    search::<F>(node)
}

/// Tries ports from a random one on, each put into the way back.
#[inline(always)]
fn search<F: Nat>(node: &NodeConfig) -> Option<Be16> {
    let (first, last) = (u32::from(node.nat_first.get()), u32::from(node.nat_last.get()));
    let many = last.checked_sub(first)? + 1;
    // SAFETY: no pointers involved.
    let start = unsafe { bpf_get_prandom_u32() } % many;
    for more in 0..TRIES {
        let port = Be16::new((first + (start + more) % many) as u16);
        if F::take(port.raw().into()) != 0 {
            return Some(port);
        }
    }
    None
}

/// Takes a port, in network order, for the room's flow: 1 if it could be had.
#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_nat_take(port: u32) -> u32 {
    take::<V4>(Be16::from_raw(port as u16)).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_nat_take6(port: u32) -> u32 {
    take::<V6>(Be16::from_raw(port as u16)).into()
}

/// Towards another backend the same port may be in use.
#[inline(always)]
fn take<F: Nat>(port: Be16) -> bool {
    let Some(room) = F::room() else { return false };
    F::set_port(&mut room.back, port);
    if F::hold(&room.back, &room.tuple, BPF_NOEXIST) {
        return true;
    }
    if F::asked(&room.back, &mut room.holder)
        && F::known(&room.holder).is_none_or(|flow| flow.state == CLOSED || flow.port != port)
        && F::hold(&room.back, &room.tuple, BPF_ANY)
    {
        F::forget(&room.holder);
        return true;
    }
    false
}
