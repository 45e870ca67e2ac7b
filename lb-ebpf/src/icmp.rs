//! ICMP errors about balanced flows: turned towards the backend of the flow they quote, or sent on to its node.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Checksum, Reason, Tag, VipEntry, backend_flags};

use crate::choose::of_table;
use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Icmp, Ipv4, Ipv6, TCP, UDP, Udp};
use crate::maps::{Owner, node};
use crate::mode::{Explain, Live};
use crate::nat::{HAND_OVER, concerns, concerns6};
use crate::packet::{Kind, slot_hash, udp_sum};
use crate::tunnel::receive::strip;
use crate::tunnel::send::{Wrap, send};
use crate::tunnel::{INNER_IP, Outer};
use crate::vip::tag;

pub(crate) const ICMP4: u8 = 1;
pub(crate) const ICMP6: u8 = 58;

/// Unreachable (with "fragmentation needed"), time exceeded, parameter problem.
const ERRORS4: [u8; 3] = [3, 11, 12];
const ECHO4: u8 = 8;
/// Unreachable, packet too big, time exceeded, parameter problem.
const ERRORS6: [u8; 4] = [1, 2, 3, 4];
const ECHO6: u8 = 128;

/// What an error quotes, seen from the flow: the VIP sent the quoted packet to the client.
struct Quoted<F: Family> {
    vip: F::Addr,
    client: F::Addr,
    vip_port: Be16,
    client_port: Be16,
    protocol: u8,
}

/// Bits of `how`; below them, for a packet in the tunnel, the link address that names the backend.
pub(crate) const EXPLAIN: u64 = 1 << 48;
const TUNNELLED: u64 = 1 << 49;

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_error4(ctx: *mut xdp_md, how: u64) -> u32 {
    let ctx = &XdpContext::new(ctx);
    let dst = ctx.at::<Ipv4>(ETH_LEN);
    // SAFETY: checked by `at`.
    let dst = dst.map(|ip| unsafe { (*ip).dst });
    let ended = four::<ETH_LEN>(ctx, how & EXPLAIN);
    ended.unwrap_or_else(|| other::<V4>(dst)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_error6(ctx: *mut xdp_md, how: u64) -> u32 {
    let ctx = &XdpContext::new(ctx);
    let dst = ctx.at::<Ipv6>(ETH_LEN);
    // SAFETY: checked by `at`.
    let dst = dst.map(|ip| unsafe { (*ip).dst });
    let ended = six::<ETH_LEN>(ctx, how & EXPLAIN);
    ended.unwrap_or_else(|| other::<V6>(dst)).index()
}

/// An error in the tunnel. Apart from the above, for the stacks of all callers together are small.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_error_inside4(ctx: *mut xdp_md, how: u64) -> u32 {
    let ended = four::<INNER_IP>(&XdpContext::new(ctx), how | TUNNELLED);
    ended.unwrap_or(Reason::TunnelMalformed).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_error_inside6(ctx: *mut xdp_md, how: u64) -> u32 {
    let ended = six::<INNER_IP>(&XdpContext::new(ctx), how | TUNNELLED);
    ended.unwrap_or(Reason::TunnelMalformed).index()
}

/// What quotes no flow of ours.
#[inline(always)]
fn other<F: Family>(dst: Option<F::Addr>) -> Reason {
    match (node(), dst) {
        (Some(node), Some(dst)) if F::in_range(node, dst) => Reason::VipProtocol,
        _ => Reason::NotVip,
    }
}

#[inline(always)]
fn four<const AT: usize>(ctx: &XdpContext, how: u64) -> Option<Reason> {
    let at_icmp = AT + size_of::<Ipv4>();
    let at_quote = at_icmp + size_of::<Icmp>();
    let ip = ctx.at::<Ipv4>(AT)?;
    let icmp = ctx.at::<Icmp>(at_icmp)?;
    // SAFETY: checked by `at`.
    let (ip, icmp) = unsafe { (&mut *ip, &mut *icmp) };
    if ip.version_len != 0x45 {
        return None;
    }
    if icmp.kind == ECHO4 && V4::in_range(node()?, ip.dst) {
        return Some(Reason::Echo);
    }
    if !ERRORS4.contains(&icmp.kind) {
        return None;
    }
    // SAFETY: checked by `at`.
    let quote = unsafe { &mut *ctx.at::<Ipv4>(at_quote)? };
    let first = quote.fragment.raw() & Be16::new(0x1fff).raw() == 0;
    let header_len = quote.header_len().filter(|_| first && quote.src == ip.dst)?;
    // SAFETY: checked by `at`: eight bytes are all that a quote must have.
    let ports = unsafe { &mut *ctx.at::<Udp>(at_quote + header_len)? };
    let quoted = Quoted::<V4> {
        vip: quote.src,
        client: quote.dst,
        vip_port: ports.src,
        client_port: ports.dst,
        protocol: quote.protocol,
    };
    let here_only = how & TUNNELLED == 0 && header_len == size_of::<Ipv4>();
    if here_only && concerns(node()?, quoted.vip, quoted.vip_port, quoted.protocol == TCP) {
        return Some(HAND_OVER);
    }
    let entry = entry(&quoted)?;
    let owner = match owner(&quoted, entry, how) {
        Ok(owner) => owner,
        Err(reason) => return Some(reason),
    };
    // Its node has nobody who would take it out of the tunnel.
    if owner.is(backend_flags::BARE) {
        return Some(if here_only { HAND_OVER } else { Reason::ErrorUnknown });
    }
    let len = ip.total_len.get();
    if how & TUNNELLED == 0 && !owner.is(backend_flags::LOCAL) {
        return Some(elsewhere::<V4>(ctx, &quoted, entry, &owner, len, how));
    }
    let addr = V4::narrow(&owner.backend.addr);
    let moved = V4::moved(quote.src, addr);
    let (old, new) = (quote.checksum, moved.apply(quote.checksum));
    let change = moved.replace16(old, new);
    quote.checksum = new;
    quote.src = addr;
    icmp.checksum = source(ports, quoted.protocol, moved, change, owner.backend.port).apply(icmp.checksum);
    ip.checksum = moved.apply(ip.checksum);
    ip.dst = addr;
    Some(here(ctx, how))
}

#[inline(always)]
fn six<const AT: usize>(ctx: &XdpContext, how: u64) -> Option<Reason> {
    let at_icmp = AT + size_of::<Ipv6>();
    let at_quote = at_icmp + size_of::<Icmp>();
    let ip = ctx.at::<Ipv6>(AT)?;
    let icmp = ctx.at::<Icmp>(at_icmp)?;
    // SAFETY: checked by `at`.
    let (ip, icmp) = unsafe { (&mut *ip, &mut *icmp) };
    // Behind extension headers it is left to the stack.
    if ip.next != ICMP6 {
        return None;
    }
    if icmp.kind == ECHO6 && V6::in_range(node()?, ip.dst) {
        return Some(Reason::Echo);
    }
    if !ERRORS6.contains(&icmp.kind) {
        return None;
    }
    // SAFETY: checked by `at`.
    let quote = unsafe { &mut *ctx.at::<Ipv6>(at_quote)? };
    if !quote.is_version_6() || quote.src != ip.dst {
        return None;
    }
    // SAFETY: checked by `at`.
    let ports = unsafe { &mut *ctx.at::<Udp>(at_quote + size_of::<Ipv6>())? };
    let quoted = Quoted::<V6> {
        vip: quote.src,
        client: quote.dst,
        vip_port: ports.src,
        client_port: ports.dst,
        protocol: quote.next,
    };
    let here_only = how & TUNNELLED == 0;
    if here_only && concerns6(node()?, quoted.vip, quoted.vip_port) {
        return Some(HAND_OVER);
    }
    let entry = entry(&quoted)?;
    let owner = match owner(&quoted, entry, how) {
        Ok(owner) => owner,
        Err(reason) => return Some(reason),
    };
    if owner.is(backend_flags::BARE) {
        return Some(if here_only { HAND_OVER } else { Reason::ErrorUnknown });
    }
    let len = ip.payload_len.get() + size_of::<Ipv6>() as u16;
    if how & TUNNELLED == 0 && !owner.is(backend_flags::LOCAL) {
        return Some(elsewhere::<V6>(ctx, &quoted, entry, &owner, len, how));
    }
    let addr = owner.backend.addr;
    let moved = V6::moved(quote.src, addr);
    quote.src = addr;
    // Twice: in the quote, and in the pseudo-header of the error itself.
    let twice = moved.and(moved);
    icmp.checksum = source(ports, quoted.protocol, moved, twice, owner.backend.port).apply(icmp.checksum);
    ip.dst = addr;
    Some(here(ctx, how))
}

#[inline(always)]
fn entry<F: Family>(quoted: &Quoted<F>) -> Option<&'static VipEntry> {
    if quoted.protocol != TCP && quoted.protocol != UDP {
        return None;
    }
    F::vip(quoted.vip, quoted.vip_port, quoted.protocol)
}

/// The backend of the flow: as it is known, else as the table says.
#[inline(always)]
fn owner<F: Family>(quoted: &Quoted<F>, entry: &VipEntry, how: u64) -> Result<Owner, Reason> {
    if how & TUNNELLED != 0 {
        let [_, _, mac @ ..] = how.to_be_bytes();
        return Owner::of_tag(Tag::from_mac(mac, quoted.protocol, F::NUMBER))
            .filter(|owner| owner.is(backend_flags::LOCAL))
            .ok_or(Reason::TunnelNotLocal);
    }
    let key = F::key(quoted.client, quoted.client_port, entry.id as u16);
    if let Some(flow) = F::flow(&key)
        && let Some(owner) = Owner::of_flow(flow)
    {
        return Ok(owner);
    }
    if let Some(half) = F::half(&key)
        && let Some(owner) = Owner::of_flow(half)
    {
        return Ok(owner);
    }
    of_table(entry.table, hash(quoted, entry)).ok_or(Reason::ErrorUnknown)
}

#[inline(always)]
fn hash<F: Family>(quoted: &Quoted<F>, entry: &VipEntry) -> u32 {
    let kind = Kind {
        protocol: quoted.protocol,
        flags: 0,
        dest: quoted.vip_port,
    };
    slot_hash::<F>(quoted.client, quoted.client_port, kind, entry)
}

/// A new source port in the quote, and all that changes in the sum of the error; `change` so far.
#[inline(always)]
fn source(ports: &mut Udp, protocol: u8, moved: Checksum, change: Checksum, port: Be16) -> Checksum {
    let mut change = change.replace16(ports.src, port);
    if protocol == UDP {
        let old = ports.checksum;
        let new = udp_sum(old, moved.replace16(ports.src, port).apply(old));
        change = change.replace16(old, new);
        ports.checksum = new;
    }
    ports.src = port;
    change
}

/// To the node of the backend, which turns it.
#[inline(always)]
fn elsewhere<F: Family>(
    ctx: &XdpContext,
    quoted: &Quoted<F>,
    entry: &VipEntry,
    owner: &Owner,
    len: u16,
    how: u64,
) -> Reason {
    let wrap = Wrap {
        hash: hash(quoted, entry),
        len,
        kind: F::ETHER,
        tag: tag::<F>(owner),
        alternate: Tag(0),
        redirect: false,
    };
    // Nobody is told of an error about an error.
    let sent = if how & EXPLAIN != 0 {
        send::<Explain>(ctx, owner.backend, &wrap)
    } else {
        send::<Live>(ctx, owner.backend, &wrap)
    };
    sent.reason
}

/// The stack gives it to the backend.
#[inline(always)]
fn here(ctx: &XdpContext, how: u64) -> Reason {
    if how & TUNNELLED != 0 {
        let Some(outer) = ctx.at::<Outer>(0) else {
            return Reason::NoHeadroom;
        };
        // SAFETY: checked by `at`; the head moves only below.
        unsafe {
            (*outer).inner.dst = (*outer).eth.dst;
            (*outer).inner.src = (*outer).eth.src;
        }
        if !strip(ctx) {
            return Reason::NoHeadroom;
        }
    }
    Reason::ErrorDelivered
}
