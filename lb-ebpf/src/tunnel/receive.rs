//! Unwrapping a packet from a peer.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::{BackendEntry, ENCAP_LEN, Ip, Origin, Reason, TUNNEL_VERSION, Tag, VipEntry, backend_flags};

use crate::choose::NOBODY;
use crate::family::{Family, V4, V6};
use crate::fragment::{revere_later_inside4, revere_later_inside6};
use crate::frame::Frame;
use crate::headers::{Eth, IPV4, IPV6};
use crate::maps::{Owner, PEERS, reason};
use crate::mode::{Explain, Live, Mode, note};
use crate::packet::{Packet, slot_hash};
use crate::tunnel::send::{Wrap, send};
use crate::tunnel::{INNER_IP, Outer};
use crate::vip::{hops, past, tag};
use crate::{icmp, parse, settle};

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_receive(ctx: *mut xdp_md) -> u32 {
    receive::<Live>(&XdpContext::new(ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_receive_explain(ctx: *mut xdp_md) -> u32 {
    receive::<Explain>(&XdpContext::new(ctx)).index()
}

/// A packet of our tunnel.
#[inline(always)]
fn receive<M: Mode>(ctx: &XdpContext) -> Reason {
    let Some(outer) = ctx.at::<Outer>(0) else {
        return Reason::TunnelMalformed;
    };
    // SAFETY: checked by `at`.
    let (vni, inner, source) = unsafe { ((*outer).vxlan.vni.get(), (*outer).inner, (*outer).ip.src) };
    // SAFETY: a lookup; the value is not read.
    if unsafe { PEERS.get(Ip::v4(source)) }.is_none() {
        return Reason::TunnelNotPeer;
    }
    if vni & 0xff != u32::from(TUNNEL_VERSION) {
        return Reason::TunnelMalformed;
    }
    if inner.kind == IPV4 {
        four::<M>(ctx, &inner)
    } else if inner.kind == IPV6 {
        six::<M>(ctx, &inner)
    } else {
        Reason::TunnelMalformed
    }
}

#[inline(always)]
fn four<M: Mode>(ctx: &XdpContext, names: &Eth) -> Reason {
    let Ok(header) = parse::ipv4(ctx, INNER_IP) else {
        return Reason::TunnelMalformed;
    };
    // SAFETY: checked by the parser.
    let ip = unsafe { &*header.ip };
    if ip.is_later() {
        if M::EXPLAIN {
            return Reason::Fragment;
        }
        return reason(revere_later_inside4(ctx.ctx));
    }
    if ip.is_fragment() && header.protocol == V4::ICMP {
        return Reason::TunnelMalformed;
    }
    inside::<M, V4>(ctx, names, &header)
}

#[inline(always)]
fn six<M: Mode>(ctx: &XdpContext, names: &Eth) -> Reason {
    let Ok(header) = parse::ipv6(ctx, INNER_IP) else {
        return Reason::TunnelMalformed;
    };
    if parse::is_later(header.protocol) {
        if M::EXPLAIN {
            return Reason::Fragment;
        }
        return reason(revere_later_inside6(ctx.ctx));
    }
    inside::<M, V6>(ctx, names, &header)
}

#[inline(always)]
fn inside<M: Mode, F: Family>(ctx: &XdpContext, names: &Eth, header: &parse::Header<F::Header>) -> Reason {
    if header.protocol == F::ICMP {
        return error::<M, F>(ctx, names);
    }
    let Ok(packet) = header.packet::<F>(ctx, INNER_IP) else {
        return Reason::TunnelMalformed;
    };
    let kind = packet.kind;
    let Some(&entry) = F::vip(packet.server(), kind.dest, kind.protocol) else {
        return Reason::TunnelNotVip;
    };
    let named = |mac: [u8; 6]| Tag::from_mac(mac, kind.protocol, F::NUMBER);
    let Some(wanted) = Owner::of_tag(named(names.src)).filter(|owner| owner.is(backend_flags::LOCAL)) else {
        return Reason::TunnelNotLocal;
    };
    note::<M>(|decision| {
        decision.vip = entry.id;
        decision.origin = Origin::Tunnel as u8;
    });
    let key = F::key(packet.client(), packet.source, entry.id as u16);
    let last = names.dst == names.src;
    let alternate = if last {
        wanted.index
    } else if names.dst == [0; 6] {
        NOBODY
    } else {
        Owner::of_tag(named(names.dst)).map_or(NOBODY, |owner| owner.index)
    };
    let owner = match settle::arrived::<M, F>(&key, kind, &wanted, alternate) {
        Ok(owner) => owner,
        Err(reason) => return reason,
    };
    note::<M>(|decision| {
        decision.backend = owner.index;
        decision.generation = owner.backend.generation;
    });
    if owner.is(backend_flags::LOCAL) {
        if !M::EXPLAIN && F::is_first(packet.ip()) {
            F::remember(ctx.ctx, INNER_IP, entry.id, &owner, packet.ports());
        }
        return deliver::<M, F>(ctx, &packet, owner.backend);
    }
    // Two nodes must not send a packet to and fro.
    if last {
        return Reason::TunnelNotLocal;
    }
    second_chance::<M, F>(ctx, &packet, &entry, &owner)
}

/// An ICMP error about a flow of a backend of this node.
#[inline(always)]
fn error<M: Mode, F: Family>(ctx: &XdpContext, names: &Eth) -> Reason {
    let [a, b, c, d, e, f] = names.src;
    let mut how = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    if M::EXPLAIN {
        how |= icmp::EXPLAIN;
    }
    reason(F::error_inside(ctx.ctx, how))
}

/// Gives the inner packet to a backend of this node.
#[inline(always)]
fn deliver<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, backend: &BackendEntry) -> Reason {
    let past_stack = hops::<F>(backend, packet.ip(), packet.len);
    packet.redirect(F::narrow(&backend.addr), backend.port, past_stack);
    unwrap::<M, F>(ctx, backend, past_stack)
}

/// The inner packet, which bears its backend's address already, leaves by the stack or past it.
#[inline(always)]
pub(crate) fn unwrap<M: Mode, F: Family>(ctx: &XdpContext, backend: &BackendEntry, past_stack: bool) -> Reason {
    let Some(outer) = ctx.at::<Outer>(0) else {
        return Reason::NoHeadroom;
    };
    // SAFETY: checked by `at`; the head moves only below.
    unsafe {
        let eth = if past_stack {
            Eth {
                dst: backend.mac,
                src: (*outer).eth.dst,
                kind: F::ETHER,
            }
        } else {
            // The stack takes only frames for its own link address.
            Eth {
                kind: F::ETHER,
                ..(*outer).eth
            }
        };
        (*outer).inner = eth;
    }
    if !strip(ctx) {
        return Reason::NoHeadroom;
    }
    if past_stack {
        past::<M>(backend.ifindex);
        Reason::TunnelDeliveredRedirected
    } else {
        Reason::TunnelDelivered
    }
}

/// Sends the packet on to the node of the backend that had the flow before, which then has the last word.
#[inline(always)]
fn second_chance<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, entry: &VipEntry, owner: &Owner) -> Reason {
    let tag = tag::<F>(owner);
    let wrap = Wrap {
        hash: slot_hash::<F>(packet.client(), packet.source, packet.kind, entry),
        len: packet.len,
        kind: F::ETHER,
        tag,
        alternate: tag,
        redirect: true,
    };
    note::<M>(|decision| decision.origin = Origin::Alternate as u8);
    if !strip(ctx) {
        return Reason::NoHeadroom;
    }
    match send::<M>(ctx, owner.backend, &wrap).reason {
        Reason::TunnelSent | Reason::TunnelRedirected => Reason::SecondChance,
        other => other,
    }
}

/// Takes the outer headers away.
#[inline(always)]
pub(crate) fn strip(ctx: &XdpContext) -> bool {
    // SAFETY: the context is this run's own.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, ENCAP_LEN as i32) == 0 }
}
