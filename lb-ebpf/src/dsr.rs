//! The tunnel between nodes: wrapping a packet for another node's backend, unwrapping one from a peer.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::programs::XdpContext;
use lb_common::{
    BackendEntry, Be16, Be32, Checksum, ENCAP_LEN, Endpoint, Ip, MARKER_MAC, NodeConfig, OUTER_SOURCE_PORTS, Reason,
    TUNNEL_VNI, backend_flags, node_flags,
};

use crate::maps::{LOCALS, PEERS, live_backend, vip};
use crate::nat;
use crate::parse::{Eth, Frame, IPV4, Ipv4, TCP, Tcp, TcpPacket, UDP, Udp, Vxlan};

const AF_INET: u8 = 2;
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);
/// "A network identifier is there."
const VXLAN_FLAGS: Be32 = Be32::new(0x0800_0000);
const TTL: u8 = 64;

/// Everything in front of the inner IPv4 header. Two-byte packing keeps the fields where the wire has them.
#[repr(C, packed(2))]
struct Outer {
    eth: Eth,
    ip: Ipv4,
    udp: Udp,
    vxlan: Vxlan,
    inner: Eth,
}

const INNER_IP: usize = size_of::<Outer>();
const _: () = assert!(INNER_IP == ENCAP_LEN + size_of::<Eth>());

/// What goes in front of a packet, computed before the frame's head moves.
struct Header {
    eth: Eth,
    own: Be32,
    node: Be32,
    inner_len: u16,
    source_port: u16,
    tunnel_port: Be16,
    backend_addr: [u8; 4],
    backend_port: [u8; 2],
}

/// Sends a packet to the node of its backend.
#[inline(always)]
pub(crate) fn send(
    ctx: &XdpContext,
    node: &NodeConfig,
    packet: &TcpPacket,
    backend: &BackendEntry,
    hash: u32,
) -> Reason {
    let own = node.own.0[3];
    if own.raw() == 0 {
        return Reason::NotConfigured;
    }
    let inner_len = packet.ip().total_len.get();
    let outer_len = inner_len + ENCAP_LEN as u16;
    if outer_len > node.underlay_mtu {
        return Reason::TooBig;
    }
    let peer = backend.node.0[3];
    let mut route = route_request(ctx, own, peer, outer_len);
    // SAFETY: a whole request of the length told.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut route, size_of::<FibLookup>() as i32, 0) };
    match u32::try_from(found) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {}
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => return Reason::NoNeighbour,
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => return Reason::TooBig,
        _ => return Reason::NoRoute,
    }
    let header = Header {
        eth: Eth {
            dst: route.dmac,
            src: route.smac,
            kind: IPV4,
        },
        own,
        node: peer,
        inner_len,
        source_port: OUTER_SOURCE_PORTS + (hash & 0x3fff) as u16,
        tunnel_port: node.tunnel_port,
        backend_addr: backend.addr.0[3].raw().to_ne_bytes(),
        backend_port: backend.port.raw().to_ne_bytes(),
    };
    // SAFETY: the context is this run's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(ENCAP_LEN as i32)) } != 0 {
        return Reason::NoHeadroom;
    }
    let Some(outer) = ctx.at::<Outer>(0) else {
        return Reason::NoHeadroom;
    };
    write(outer, &header);
    if route.ifindex == ctx.ingress_ifindex() as u32 && node.flags & node_flags::REDIRECT == 0 {
        return Reason::TunnelSent;
    }
    // SAFETY: no pointers involved.
    unsafe { bpf_redirect(route.ifindex, 0) };
    Reason::TunnelRedirected
}

#[inline(always)]
fn route_request(ctx: &XdpContext, own: Be32, peer: Be32, outer_len: u16) -> FibLookup {
    // SAFETY: integers and unions of integers, for which zero is a value.
    let mut route: FibLookup = unsafe { core::mem::zeroed() };
    route.family = AF_INET;
    route.l4_protocol = UDP;
    route.ifindex = ctx.ingress_ifindex() as u32;
    route.__bindgen_anon_1.tot_len = outer_len;
    route.__bindgen_anon_3.ipv4_src = own.raw();
    route.__bindgen_anon_4.ipv4_dst = peer.raw();
    route
}

#[inline(always)]
fn write(outer: *mut Outer, header: &Header) {
    let udp_len = header.inner_len + 30;
    let mut ip = Ipv4 {
        version_len: 0x45,
        tos: 0,
        total_len: Be16::new(udp_len + 20),
        id: Be16::new(0),
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol: UDP,
        checksum: Be16::new(0),
        src: header.own,
        dst: header.node,
    };
    ip.checksum = header_sum(&ip);
    let [a, b, c, d] = header.backend_addr;
    let [p, q] = header.backend_port;
    // SAFETY: checked by `at` after the head moved.
    unsafe {
        (*outer).eth = header.eth;
        (*outer).ip = ip;
        (*outer).udp = Udp {
            src: Be16::new(header.source_port),
            dst: header.tunnel_port,
            len: Be16::new(udp_len),
            checksum: Be16::new(0),
        };
        (*outer).vxlan = Vxlan {
            flags: VXLAN_FLAGS,
            vni: Be32::new(TUNNEL_VNI << 8),
        };
        (*outer).inner = Eth {
            dst: MARKER_MAC,
            src: [a, b, c, d, p, q],
            kind: IPV4,
        };
    }
}

#[inline(always)]
fn header_sum(ip: &Ipv4) -> Be16 {
    let first = Be16::new(u16::from(ip.version_len) << 8);
    let life = Be16::new((u16::from(ip.ttl) << 8) | u16::from(ip.protocol));
    Checksum::new()
        .add16(first.raw())
        .add16(ip.total_len.raw())
        .add16(ip.fragment.raw())
        .add16(life.raw())
        .add32(ip.src.raw())
        .add32(ip.dst.raw())
        .finish()
}

/// A UDP packet for this node: `None` when it is not of our tunnel.
#[inline(always)]
pub(crate) fn receive(ctx: &XdpContext, node: &NodeConfig) -> Option<Reason> {
    let outer = ctx.at::<Outer>(0)?;
    // SAFETY: checked by `at`.
    let (udp_port, vxlan, inner, source) =
        unsafe { ((*outer).udp.dst, (*outer).vxlan, (*outer).inner, (*outer).ip.src) };
    if udp_port != node.tunnel_port || vxlan.vni.get() >> 8 != TUNNEL_VNI {
        return None;
    }
    // SAFETY: a lookup; the value is not read.
    if unsafe { PEERS.get(Ip::v4(source)) }.is_none() {
        return Some(Reason::TunnelNotPeer);
    }
    if inner.dst != MARKER_MAC || inner.kind != IPV4 {
        return Some(Reason::TunnelMalformed);
    }
    let Some(packet) = inner_packet(ctx) else {
        return Some(Reason::TunnelMalformed);
    };
    Some(unwrap(ctx, outer, &packet, inner.src))
}

#[inline(always)]
fn inner_packet(ctx: &XdpContext) -> Option<TcpPacket> {
    let ip_at = ctx.at::<Ipv4>(INNER_IP)?;
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let header_len = ip.header_len()?;
    let total_len = usize::from(ip.total_len.get());
    let whole = total_len >= header_len + size_of::<Tcp>() && INNER_IP + total_len <= ctx.len();
    if !whole || ip.protocol != TCP || ip.is_fragment() {
        return None;
    }
    let tcp = ctx.at::<Tcp>(INNER_IP + header_len)?;
    Some(TcpPacket { ip: ip_at, tcp })
}

#[inline(always)]
fn unwrap(ctx: &XdpContext, outer: *mut Outer, packet: &TcpPacket, [a, b, c, d, p, q]: [u8; 6]) -> Reason {
    let endpoint = Endpoint::new(Ip::v4(packet.ip().dst), packet.tcp().dst, TCP);
    if vip(&endpoint).is_none() {
        return Reason::TunnelNotVip;
    }
    let addr = Ip::v4(Be32::from_raw(u32::from_ne_bytes([a, b, c, d])));
    let wanted = Endpoint::new(addr, Be16::from_raw(u16::from_ne_bytes([p, q])), TCP);
    // SAFETY: user space replaces entries whole; one word is read.
    let local = unsafe { LOCALS.get(wanted) }.copied();
    let Some(backend) = local.and_then(live_backend) else {
        return Reason::TunnelNotLocal;
    };
    if backend.flags & backend_flags::LOCAL == 0 {
        return Reason::TunnelNotLocal;
    }
    nat::deliver(packet, &endpoint, backend);
    // SAFETY: both checked by `at`; the head moves only below.
    unsafe {
        // The stack takes only frames for its own link address.
        (*outer).inner = (*outer).eth;
    }
    // SAFETY: the context is this run's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, ENCAP_LEN as i32) } != 0 {
        return Reason::NoHeadroom;
    }
    Reason::TunnelDelivered
}
