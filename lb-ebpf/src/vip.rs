//! A packet for a VIP: which backend it belongs to, and which way there.
#![allow(unsafe_code, reason = "flow entries are shared with other CPUs")]

use aya_ebpf::programs::XdpContext;
use lb_common::{
    BackendEntry, Endpoint, FlowKey, FlowState, FlowValue, Ip, NodeConfig, Reason, VipEntry, backend_flags, flow_hash,
};

use crate::maps::{FLOWS, backend_of_slot, live_backend};
use crate::parse::{TCP, TcpPacket};
use crate::{dsr, nat};

#[inline(always)]
pub(crate) fn forward(
    ctx: &XdpContext,
    node: &NodeConfig,
    packet: &TcpPacket,
    vip: &Endpoint,
    entry: &VipEntry,
) -> Reason {
    let client = Ip::v4(packet.ip().src);
    let hash = flow_hash(&client, packet.tcp().src, packet.tcp().dst, TCP);
    let key = FlowKey {
        client,
        server: vip.addr,
        client_port: packet.tcp().src,
        server_port: packet.tcp().dst,
        protocol: TCP,
        zero: [0; 3],
    };
    let backend = match known(&key, packet) {
        Some(backend) => backend,
        None => match choose(&key, packet, entry, hash) {
            Some(backend) => backend,
            None => return Reason::NoBackend,
        },
    };
    if backend.flags & backend_flags::LOCAL != 0 {
        nat::deliver(packet, vip, backend);
        Reason::LocalBackend
    } else {
        dsr::send(ctx, node, packet, backend, hash)
    }
}

/// The backend of a flow seen before, unless it is gone or the flow is a new one with an old one's ports.
#[inline(always)]
fn known(key: &FlowKey, packet: &TcpPacket) -> Option<&'static BackendEntry> {
    let flow = FLOWS.get_ptr_mut(key)?;
    // SAFETY: the entry stays mapped while the program runs; its fields are plain words.
    let flow = unsafe { &mut *flow };
    let backend = live_backend(flow.backend)?;
    if backend.generation != flow.generation {
        return None;
    }
    if packet.is_syn() {
        if flow.state == FlowState::Closing as u32 || backend.flags & backend_flags::OPEN == 0 {
            return None;
        }
    } else if packet.is_end() {
        flow.state = FlowState::Closing as u32;
    } else if flow.state == FlowState::Opening as u32 {
        flow.state = FlowState::Established as u32;
    }
    Some(backend)
}

/// The table's backend for the flow; remembered, so that a later table does not move it.
#[inline(always)]
fn choose(key: &FlowKey, packet: &TcpPacket, entry: &VipEntry, hash: u32) -> Option<&'static BackendEntry> {
    let len = entry.len();
    if len == 0 {
        return None;
    }
    // Multiply and shift takes the hash into 0..len without a division.
    let slot = entry.offset() + ((u64::from(hash) * u64::from(len)) >> 32) as u32;
    let (index, backend) = backend_of_slot(slot)?;
    let state = if packet.is_syn() {
        FlowState::Opening
    } else if packet.is_end() {
        FlowState::Closing
    } else {
        FlowState::Established
    };
    let value = FlowValue {
        backend: index,
        generation: backend.generation,
        state: state as u32,
        zero: 0,
    };
    // A flow that could not be remembered still gets the table's backend.
    let _ = FLOWS.insert(key, &value, 0);
    Some(backend)
}
