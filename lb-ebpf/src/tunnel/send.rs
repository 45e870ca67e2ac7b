//! Wrapping a packet for another node's backend.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
    xdp_md,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_xdp_adjust_head};
use aya_ebpf::programs::XdpContext;
use lb_common::{
    BackendEntry, Be16, Be32, ENCAP_LEN, NodeConfig, Reason, TUNNEL_VERSION, TUNNEL_VNI, Tag, node_flags,
    outer_source_port,
};

use crate::frame::Frame;
use crate::headers::{Eth, IPV4, Ipv4, UDP, Udp, Vxlan};
use crate::maps::{node, reason};
use crate::mode::{Mode, note};
use crate::tunnel::Outer;
use crate::vip::leave;

pub(crate) const AF_INET: u8 = 2;
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);
/// "A network identifier is there."
const VXLAN_FLAGS: Be32 = Be32::new(0x0800_0000);
const TTL: u8 = 64;
/// What the outer UDP header counts besides the inner packet: itself, VXLAN, Ethernet.
const UDP_REST: u16 = 30;

/// What the header in front of a packet is made of.
pub(crate) struct Wrap {
    pub(crate) hash: u32,
    /// Of the packet, from its IP header on.
    pub(crate) len: u16,
    pub(crate) kind: Be16,
    pub(crate) tag: Tag,
    /// See `TUNNEL_VERSION`.
    pub(crate) alternate: Tag,
    /// Leave by redirect even on the interface the packet came from.
    pub(crate) redirect: bool,
}

/// What `revere_send` returns: a reason's number, and above it an MTU.
const REASON: u32 = 0xff;
const MTU: u32 = 16;
const KIND: u32 = 32;
const REDIRECT: u64 = 1 << 62;
const EXPLAIN: u64 = 1 << 63;

/// How it went.
pub(crate) struct Sent {
    pub(crate) reason: Reason,
    /// With [`Reason::TooBig`]: how long the packet may be.
    pub(crate) mtu: u32,
}

/// Sends a packet to the node of its backend. Pointers into the frame are invalid afterwards.
#[inline(always)]
pub(crate) fn send<M: Mode>(ctx: &XdpContext, backend: &BackendEntry, wrap: &Wrap) -> Sent {
    // Five numbers are all that a function can take that the verifier goes through only once.
    let mut packed = u64::from(wrap.len) | u64::from(wrap.hash & 0x3fff) << 16 | u64::from(wrap.kind.raw()) << KIND;
    if wrap.redirect {
        packed |= REDIRECT;
    }
    if M::EXPLAIN {
        packed |= EXPLAIN;
    }
    note::<M>(|decision| decision.node = backend.node);
    let peer = backend.node.0[3];
    let sent = revere_send(ctx.ctx, peer.raw(), wrap.tag.0, wrap.alternate.0, packed);
    Sent {
        reason: reason(sent & REASON),
        mtu: sent >> MTU,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_send(ctx: *mut xdp_md, peer: u32, tag: u64, alternate: u64, packed: u64) -> u32 {
    let Some(node) = node() else {
        return Reason::NotConfigured.index();
    };
    let wrap = Wrap {
        hash: (packed >> 16) as u32 & 0x3fff,
        len: packed as u16,
        kind: Be16::from_raw((packed >> KIND) as u16),
        tag: Tag(tag),
        alternate: Tag(alternate),
        redirect: packed & REDIRECT != 0,
    };
    let explain = packed & EXPLAIN != 0;
    wrapped(&XdpContext::new(ctx), node, Be32::from_raw(peer), &wrap, explain)
}

#[inline(always)]
fn wrapped(ctx: &XdpContext, node: &NodeConfig, peer: Be32, wrap: &Wrap, explain: bool) -> u32 {
    let own = node.own.0[3];
    if own.raw() == 0 {
        return Reason::NotConfigured.index();
    }
    let outer_len = u32::from(wrap.len) + ENCAP_LEN as u32;
    if outer_len > u32::from(node.underlay_mtu) {
        return too_big(node.underlay_mtu);
    }
    let mut words = MaybeUninit::uninit();
    let route = route_request(&mut words);
    route.family = AF_INET;
    route.l4_protocol = UDP;
    route.ifindex = ctx.ingress_ifindex() as u32;
    route.__bindgen_anon_1.tot_len = outer_len as u16;
    route.__bindgen_anon_3.ipv4_src = own.raw();
    route.__bindgen_anon_4.ipv4_dst = peer.raw();
    // SAFETY: a whole request of the length told.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), route, size_of::<FibLookup>() as i32, 0) };
    match u32::try_from(found) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {}
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => return Reason::NoNeighbour.index(),
        // SAFETY: integers; the kernel has written the MTU there.
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => return too_big(unsafe { route.__bindgen_anon_1.mtu_result }),
        _ => return Reason::NoRoute.index(),
    }
    // SAFETY: the context is this run's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(ENCAP_LEN as i32)) } != 0 {
        return Reason::NoHeadroom.index();
    }
    let Some(outer) = ctx.at::<Outer>(0) else {
        return Reason::NoHeadroom.index();
    };
    let eth = Eth {
        dst: route.dmac,
        src: route.smac,
        kind: IPV4,
    };
    write(outer, eth, node, peer, wrap);
    let same = route.ifindex == ctx.ingress_ifindex() as u32 && node.flags & node_flags::REDIRECT == 0;
    if explain || wrap.redirect || !same {
        leave(route.ifindex, explain);
    }
    let sent = if same && !wrap.redirect {
        Reason::TunnelSent
    } else {
        Reason::TunnelRedirected
    };
    sent.index()
}

/// The reason, and what would fit of an MTU once wrapped.
#[inline(always)]
fn too_big(mtu: u16) -> u32 {
    Reason::TooBig.index() | u32::from(mtu.saturating_sub(ENCAP_LEN as u16)) << MTU
}

/// Words of a route request.
const REQUEST: usize = size_of::<FibLookup>() / 8;
const _: () = assert!(REQUEST * 8 == size_of::<FibLookup>() && align_of::<FibLookup>() <= 8);

/// A request of zeros. They are written one by one: the compiler would call a function for them, and the stack of this deepest
/// way through the programs has no room for one more, as Linux 6.1 counts it.
#[inline(always)]
pub(crate) fn route_request(words: &mut MaybeUninit<[u64; REQUEST]>) -> &mut FibLookup {
    let start = words.as_mut_ptr().cast::<u64>();
    for word in 0..REQUEST {
        // SAFETY: inside the array.
        unsafe { start.add(word).write_volatile(0) };
    }
    // SAFETY: as long and as aligned; integers and unions of integers, for which zero is a value.
    unsafe { &mut *start.cast::<FibLookup>() }
}

#[inline(always)]
fn write(outer: *mut Outer, eth: Eth, node: &NodeConfig, peer: Be32, wrap: &Wrap) {
    let udp_len = wrap.len + UDP_REST;
    let mut ip = Ipv4 {
        version_len: 0x45,
        tos: 0,
        total_len: Be16::new(udp_len + 20),
        id: Be16::new(0),
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol: UDP,
        checksum: Be16::new(0),
        src: node.own.0[3],
        dst: peer,
    };
    ip.checksum = ip.sum();
    // SAFETY: checked by `at` after the head moved.
    unsafe {
        (*outer).eth = eth;
        (*outer).ip = ip;
        (*outer).udp = Udp {
            src: Be16::new(outer_source_port(wrap.hash)),
            dst: node.tunnel_port,
            len: Be16::new(udp_len),
            checksum: Be16::new(0),
        };
        (*outer).vxlan = Vxlan {
            flags: VXLAN_FLAGS,
            vni: Be32::new((TUNNEL_VNI << 8) | TUNNEL_VERSION as u32),
        };
        (*outer).inner = Eth {
            dst: wrap.alternate.to_mac(),
            src: wrap.tag.to_mac(),
            kind: wrap.kind,
        };
    }
}
