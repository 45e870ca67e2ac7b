//! Packets whose source this node takes the place of: for backends on nodes without the daemon, and for connections that
//! still come for a backend of this node which has stopped; the latter of IPv4 only.
//!
//! A program of its own for each family, which the uplink program hands such packets over to: few packets come here, and all
//! others are spared its room on the stack and its instructions.
#![allow(unsafe_code, reason = "packet memory, and programs that are gone over to")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Ip, NatKey4, NodeConfig, Reason, backend_flags, node_flags};

use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, IPV6, UDP};
use crate::maps::{GUARDS, NAT6_PROGRAMS, Owner, PEERS, PROGRAMS, count, node, reason, revere_trace};
use crate::mode::Mode;
use crate::opaque::opaque;
use crate::packet::Packet;
use crate::parse::{self, Header};
use crate::route;
use crate::tunnel::receive::strip;
use crate::tunnel::{self, Carried, INNER_IP};
use crate::uplink::action;

mod error;
mod family;
mod flow;
mod heir;
mod leave;
mod parts;

use family::Nat;
pub(crate) use family::Room;

/// What the uplink program ends a packet with that it hands over.
pub(crate) const HAND_OVER: Reason = Reason::NatSent;
const NAT: u32 = 0;

/// Goes on in the program for the packet's family and does not come back, unless that is not there.
#[inline(always)]
pub(crate) fn hand(ctx: &XdpContext) {
    // SAFETY: checked by `at`.
    let six = ctx.at::<Eth>(0).is_some_and(|eth| unsafe { (*eth).kind } == IPV6);
    // SAFETY: nothing is held that would have to be given back.
    unsafe {
        if six {
            NAT6_PROGRAMS.tail_call(ctx, NAT)
        } else {
            PROGRAMS.tail_call(ctx, NAT)
        }
    };
}

/// The end of a packet for a backend whose node runs no daemon. Who only explains is told what its program would say.
#[inline(always)]
pub(crate) fn given<M: Mode, F: Family>() -> Reason {
    if M::EXPLAIN
        && let Some(node) = node()
        && let Err(why) = own::<F>(node)
    {
        return why;
    }
    HAND_OVER
}

/// This node's address towards backends, or why nothing is translated.
#[inline(always)]
fn own<F: Family>(node: &NodeConfig) -> Result<&F::Addr, Reason> {
    if !is_on(node) {
        return Err(Reason::NoRoute);
    }
    F::own(node).ok_or(Reason::NoNatAddress)
}

/// Whether any source is translated here.
#[inline(always)]
pub(crate) fn is_on(node: &NodeConfig) -> bool {
    node.nat_last.raw() != 0
}

/// Whether a packet for this node's own address may be one of ours.
#[inline(always)]
pub(crate) fn concerns(node: &NodeConfig, server: Be32, port: Be16, tcp: bool) -> bool {
    if server != node.own.0[3] || !is_on(node) {
        return false;
    }
    is_reserved(node, port) || (tcp && is_over(port))
}

/// The same for IPv6, where no backend of this node has that address.
#[inline(always)]
pub(crate) fn concerns6(node: &NodeConfig, server: Ip, port: Be16) -> bool {
    is_on(node) && is_reserved(node, port) && V6::own(node) == Some(&server)
}

/// Whether a TCP packet is for a backend of this node that has stopped.
#[inline(always)]
pub(crate) fn is_late(node: &NodeConfig, server: Be32, port: Be16) -> bool {
    server == node.own.0[3] && is_on(node) && is_over(port)
}

#[inline(always)]
fn is_over(port: Be16) -> bool {
    GUARDS.get(u32::from(port.get())).is_some_and(|guard| guard.is_over())
}

#[inline(always)]
fn is_reserved(node: &NodeConfig, port: Be16) -> bool {
    port.get() >= node.nat_first.get() && port.get() <= node.nat_last.get()
}

#[xdp(frags)]
pub(crate) fn revere_nat(ctx: XdpContext) -> u32 {
    end(&ctx, four(&ctx))
}

#[xdp(frags)]
pub(crate) fn revere_nat6(ctx: XdpContext) -> u32 {
    end(&ctx, six(&ctx))
}

#[inline(always)]
fn end(ctx: &XdpContext, reason: Reason) -> u32 {
    count(reason);
    if node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        revere_trace(reason.index(), ctx.ingress_ifindex() as u32);
    }
    action(reason)
}

#[inline(always)]
fn four(ctx: &XdpContext) -> Reason {
    // One way for the verifier, not two.
    let at = match start(ctx) {
        Ok(at) => opaque(at as u64) as usize & 0x7f,
        Err(reason) => return reason,
    };
    let met = match parse::ipv4(ctx, at).and_then(|header| Met::<V4>::new(header, at)) {
        Ok(met) => met,
        Err(reason) => return reason,
    };
    match met.kind(ctx) {
        Kind::Later => met.later(ctx),
        Kind::Icmp => error::turn4(ctx, &met),
        Kind::Answer => met.answer(ctx),
        Kind::Request => met.request(ctx),
        Kind::Other => Reason::NotVip,
    }
}

/// Each way is a function for itself, which begins anew: the stack has no room for all at once.
#[inline(always)]
fn six(ctx: &XdpContext) -> Reason {
    let met = match met6(ctx) {
        Ok(met) => met,
        Err(reason) => return reason,
    };
    reason(match met.kind(ctx) {
        Kind::Later => revere_nat_later6(ctx.ctx),
        Kind::Icmp => revere_nat_error6(ctx.ctx),
        Kind::Answer => revere_nat_answer6(ctx.ctx),
        Kind::Request => revere_nat_request6(ctx.ctx),
        Kind::Other => return Reason::NotVip,
    })
}

#[inline(always)]
fn met6(ctx: &XdpContext) -> Result<Met<V6>, Reason> {
    parse::ipv6(ctx, ETH_LEN).and_then(|header| Met::new(header, ETH_LEN))
}

#[inline(always)]
fn go(ctx: *mut xdp_md, way: impl FnOnce(&Met<V6>, &XdpContext) -> Reason) -> u32 {
    let ctx = &XdpContext::new(ctx);
    met6(ctx).map_or_else(|reason| reason, |met| way(&met, ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_nat_later6(ctx: *mut xdp_md) -> u32 {
    go(ctx, Met::later)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_nat_error6(ctx: *mut xdp_md) -> u32 {
    go(ctx, |met, ctx| error::turn6(ctx, met))
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_nat_answer6(ctx: *mut xdp_md) -> u32 {
    go(ctx, Met::answer)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_nat_request6(ctx: *mut xdp_md) -> u32 {
    go(ctx, Met::request)
}

/// Where the packet begins: behind the link header, or in the overlay's tunnel, as the uplink program has seen.
#[inline(always)]
fn start(ctx: &XdpContext) -> Result<usize, Reason> {
    let outer = parse::ipv4(ctx, ETH_LEN)?;
    if outer.protocol != UDP {
        return Ok(ETH_LEN);
    }
    let Some(node) = node() else {
        return Err(Reason::NotConfigured);
    };
    // SAFETY: checked by the parser.
    let source = unsafe { (*outer.ip).src };
    if tunnel::carried(ctx, node) != Carried::Late {
        return Ok(ETH_LEN);
    }
    // SAFETY: a lookup; the value is not read.
    if unsafe { PEERS.get(Ip::v4(source)) }.is_none() {
        return Err(Reason::TunnelNotPeer);
    }
    Ok(INNER_IP)
}

/// For a VIP, and the uplink program has found a backend whose node runs no daemon.
#[inline(always)]
fn bare<F: Nat>(packet: &Packet<F>) -> Result<Owner, Reason> {
    let kind = packet.kind;
    let entry = F::vip(packet.server(), kind.dest, kind.protocol).ok_or(Reason::NotVip)?;
    let key = F::key(packet.client(), packet.source, entry.id as u16);
    // What is of no flow was begun elsewhere, and its backend knows it by another port.
    let flow = F::flow(&key).or_else(|| F::half(&key)).ok_or(Reason::NoBackend)?;
    let owner = Owner::of_flow(flow).filter(|owner| owner.is(backend_flags::BARE));
    owner.ok_or(Reason::NoBackend)
}

/// For a backend of this node that has stopped: what another node sent before it heard of that.
#[inline(always)]
fn late(packet: &Packet<V4>, tuple: &NatKey4) -> Result<Owner, Reason> {
    if !packet.kind.is_syn() {
        return Err(Reason::LatePacket);
    }
    heir::choose(tuple, packet.kind).ok_or(Reason::LatePacket)
}

/// What a packet is to this program.
enum Kind {
    /// A part that has no ports.
    Later,
    Icmp,
    /// For a port of ours.
    Answer,
    /// Any other with ports.
    Request,
    Other,
}

/// A packet that was handed over.
struct Met<F: Nat> {
    node: &'static NodeConfig,
    /// This node's address.
    own: &'static F::Addr,
    header: Header<F::Header>,
    /// Where it begins.
    at: usize,
}

impl<F: Nat> Met<F> {
    #[inline(always)]
    fn new(header: Header<F::Header>, at: usize) -> Result<Self, Reason> {
        let node = node().ok_or(Reason::NotConfigured)?;
        let own = own::<F>(node)?;
        Ok(Self { node, own, header, at })
    }

    /// Whether it is for this node's address.
    #[inline(always)]
    fn is_own(&self) -> bool {
        // SAFETY: checked by the parser.
        F::dst(unsafe { &*self.header.ip }) == *self.own
    }

    #[inline(always)]
    fn kind(&self, ctx: &XdpContext) -> Kind {
        if F::is_later(&self.header) {
            return Kind::Later;
        }
        if self.header.protocol == F::ICMP {
            return Kind::Icmp;
        }
        match self.header.packet::<F>(ctx, self.at) {
            Ok(packet) if self.is_own() && is_reserved(self.node, packet.kind.dest) => Kind::Answer,
            Ok(_) => Kind::Request,
            Err(_) => Kind::Other,
        }
    }

    #[inline(always)]
    fn later(&self, ctx: &XdpContext) -> Reason {
        let other = if self.is_own() {
            Reason::NotVip
        } else {
            Reason::Fragment
        };
        parts::later(ctx, self).unwrap_or(other)
    }

    /// For a VIP, or for a backend of this node that has stopped.
    #[inline(always)]
    fn request(&self, ctx: &XdpContext) -> Reason {
        let (Ok(packet), Some(room)) = (self.header.packet::<F>(ctx, self.at), F::room()) else {
            return Reason::NotVip;
        };
        put_tuple::<F>(&mut room.tuple, &packet);
        let owner = match flow::owner::<F>(&room.tuple, packet.kind) {
            Some(owner) => Ok(owner),
            None if self.is_own() => F::stranger(&packet, &room.tuple),
            None => bare::<F>(&packet),
        };
        match owner {
            Ok(owner) => self.send(ctx, &packet, room, owner),
            Err(reason) => reason,
        }
    }

    /// To the backend, in this node's name.
    #[inline(always)]
    fn send(&self, ctx: &XdpContext, packet: &Packet<F>, room: &Room<F::Tuple>, owner: Owner) -> Reason {
        if !F::may_hop(packet.ip()) {
            return Reason::NoRoute;
        }
        let Some(port) = flow::port::<F>(room, packet.kind, &owner) else {
            return Reason::NoNatPort;
        };
        let to = (F::within(&owner.backend.addr), owner.backend.port);
        match route::to::<F>(ctx, self.own, to.0, packet.len, packet.kind.protocol) {
            Ok(route) => {
                packet.translate((self.own, port), to);
                if self.at != ETH_LEN && !strip(ctx) {
                    return Reason::NoHeadroom;
                }
                leave::by(ctx, self.node, &route, Reason::NatSent)
            }
            Err(no) if no.reason == Reason::TooBig && self.at == ETH_LEN => reason(F::too_big(ctx.ctx, no.mtu.into())),
            Err(no) => no.reason,
        }
    }

    /// From a backend to a port of ours: the client's.
    #[inline(always)]
    fn answer(&self, ctx: &XdpContext) -> Reason {
        let (Ok(packet), Some(room)) = (self.header.packet::<F>(ctx, self.at), F::room()) else {
            return Reason::NotVip;
        };
        put_tuple::<F>(&mut room.back, &packet);
        if !F::asked(&room.back, &mut room.tuple) {
            return Reason::NotVip;
        }
        if !F::may_hop(packet.ip()) {
            return Reason::NoRoute;
        }
        flow::answered::<F>(&room.tuple, packet.kind);
        if F::is_first(packet.ip()) {
            parts::note_answer::<F>(ctx, packet.ip(), &room.tuple);
        }
        let (client, server) = F::ends(&room.tuple);
        let found = route::to::<F>(ctx, server.0, client.0, packet.len, packet.kind.protocol);
        packet.translate(server, client);
        match found {
            Ok(route) if route.ifindex == ctx.ingress_ifindex() as u32 => {
                leave::by(ctx, self.node, &route, Reason::NatRestored)
            }
            // To a client of this node, or by an interface that takes nothing from here.
            _ => Reason::NatRestoredPass,
        }
    }
}

#[inline(always)]
fn put_tuple<F: Nat>(tuple: &mut F::Tuple, packet: &Packet<F>) {
    let (source, dest) = ((&packet.client(), packet.source), (&packet.server(), packet.kind.dest));
    F::put_tuple(tuple, source, dest, packet.kind.protocol);
}
