//! Giving a packet to a backend on this node: new destination, and the way back remembered.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use lb_common::{BackendEntry, Be32, Checksum, Endpoint, FlowKey, FlowState, Ip, ReverseValue};

use crate::maps::REVERSE;
use crate::parse::{TCP, TcpPacket};

/// Rewrites the packet for a backend of this node.
#[inline(always)]
pub(crate) fn deliver(packet: &TcpPacket, vip: &Endpoint, backend: &BackendEntry) {
    remember(packet, vip, backend);
    // Words 0 to 2 only say that the address is IPv4.
    let new_addr: Be32 = backend.addr.0[3];
    let old_addr = packet.ip().dst;
    let old_port = packet.tcp().dst;
    let moved = Checksum::new().replace32(old_addr, new_addr);
    let ip_sum = moved.apply(packet.ip().checksum);
    let tcp_sum = moved.replace16(old_port, backend.port).apply(packet.tcp().checksum);
    // SAFETY: checked when the packet was parsed; the frame's head has not moved since.
    unsafe {
        (*packet.ip).dst = new_addr;
        (*packet.ip).checksum = ip_sum;
        (*packet.tcp).dst = backend.port;
        (*packet.tcp).checksum = tcp_sum;
    }
}

/// Remembers which VIP the answers come from. Written only when that changes something.
#[inline(always)]
fn remember(packet: &TcpPacket, vip: &Endpoint, backend: &BackendEntry) {
    let key = FlowKey {
        client: Ip::v4(packet.ip().src),
        server: backend.addr,
        client_port: packet.tcp().src,
        server_port: backend.port,
        protocol: TCP,
        zero: [0; 3],
    };
    if let Some(known) = REVERSE.get_ptr_mut(&key) {
        // SAFETY: the entry stays mapped while the program runs.
        let known = unsafe { &mut *known };
        if known.vip == vip.addr && known.port == vip.port {
            if packet.is_syn() {
                known.state = FlowState::Opening as u32;
            }
            return;
        }
    }
    let value = ReverseValue {
        vip: vip.addr,
        port: vip.port,
        zero: 0,
        state: FlowState::Opening as u32,
    };
    // Without this entry the client gets answers from a stranger and resets; the next packet tries again.
    let _ = REVERSE.insert(&key, &value, 0);
}
