//! Packets in parts: the first one is balanced like any other and noted down, the others follow it.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers; map lookups")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::{
    BackendEntry, Be16, Be32, FragmentKey4, FragmentKey6, FragmentValue, Ip, Reason, Tag, backend_flags, flow_hash,
    fragment_ways::REQUEST,
};

use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Extension, Ipv4, Ipv6};
use crate::maps::{FRAGMENTS4, FRAGMENTS6, Owner, node};
use crate::mode::Live;
use crate::nat::{self, HAND_OVER};
use crate::parse::FRAGMENT;
use crate::stats;
use crate::tunnel::INNER_IP;
use crate::tunnel::receive::unwrap;
use crate::tunnel::send::{Wrap, send};
use crate::vip::{hops, onward, tag};

/// The two families' parts.
pub(crate) trait Parts: Family {
    type PartKey;

    /// The IP header at `at`, and the length from there on that it tells.
    fn len(ctx: &XdpContext, at: usize) -> Option<(u16, &'static mut Self::Header)>;
    /// What its part has in common with the others, and the protocol. `None` where the packet's number stands in no usual
    /// place.
    fn part(ctx: &XdpContext, at: usize, ip: &Self::Header, way: u8) -> Option<(Self::PartKey, u8)>;
    fn part_key(src: Self::Addr, dst: Self::Addr, id: u32, protocol: u8, way: u8) -> Self::PartKey;
    fn set_way(key: &mut Self::PartKey, way: u8);
    fn first(key: &Self::PartKey) -> Option<FragmentValue>;
    fn note_first(key: &Self::PartKey, value: &FragmentValue);
}

impl Parts for V4 {
    type PartKey = FragmentKey4;

    #[inline(always)]
    fn len(ctx: &XdpContext, at: usize) -> Option<(u16, &'static mut Ipv4)> {
        // SAFETY: checked by `at`.
        let ip = unsafe { &mut *ctx.at::<Ipv4>(at)? };
        Some((ip.total_len.get(), ip))
    }

    #[inline(always)]
    fn part(_ctx: &XdpContext, _at: usize, ip: &Ipv4, way: u8) -> Option<(FragmentKey4, u8)> {
        let key = Self::part_key(ip.src, ip.dst, ip.id.raw().into(), ip.protocol, way);
        Some((key, ip.protocol))
    }

    #[inline(always)]
    fn part_key(src: Be32, dst: Be32, id: u32, protocol: u8, way: u8) -> FragmentKey4 {
        FragmentKey4 {
            src,
            dst,
            id: Be16::from_raw(id as u16),
            protocol,
            way,
        }
    }

    #[inline(always)]
    fn set_way(key: &mut FragmentKey4, way: u8) {
        key.way = way;
    }

    #[inline(always)]
    fn first(key: &FragmentKey4) -> Option<FragmentValue> {
        // SAFETY: written whole, and its words are copied.
        unsafe { FRAGMENTS4.get(key) }.copied()
    }

    #[inline(always)]
    fn note_first(key: &FragmentKey4, value: &FragmentValue) {
        // Without it the other parts are dropped, and the sender sends all of it again.
        let _ = FRAGMENTS4.insert(key, value, 0);
    }
}

impl Parts for V6 {
    type PartKey = FragmentKey6;

    #[inline(always)]
    fn len(ctx: &XdpContext, at: usize) -> Option<(u16, &'static mut Ipv6)> {
        // SAFETY: checked by `at`.
        let ip = unsafe { &mut *ctx.at::<Ipv6>(at)? };
        Some((ip.payload_len.get() + size_of::<Ipv6>() as u16, ip))
    }

    #[inline(always)]
    fn part(ctx: &XdpContext, at: usize, ip: &Ipv6, way: u8) -> Option<(FragmentKey6, u8)> {
        if ip.next != FRAGMENT {
            return None;
        }
        // SAFETY: checked by `at`.
        let extension = unsafe { *ctx.at::<Extension>(at + size_of::<Ipv6>())? };
        let key = Self::part_key(ip.src, ip.dst, u32::from_ne_bytes(extension.rest), 0, way);
        Some((key, extension.next))
    }

    #[inline(always)]
    fn part_key(src: Ip, dst: Ip, id: u32, _protocol: u8, way: u8) -> FragmentKey6 {
        FragmentKey6 {
            src,
            dst,
            id: Be32::from_raw(id),
            way: way.into(),
        }
    }

    #[inline(always)]
    fn set_way(key: &mut FragmentKey6, way: u8) {
        key.way = way.into();
    }

    #[inline(always)]
    fn first(key: &FragmentKey6) -> Option<FragmentValue> {
        // SAFETY: written whole, and its words are copied.
        unsafe { FRAGMENTS6.get(key) }.copied()
    }

    #[inline(always)]
    fn note_first(key: &FragmentKey6, value: &FragmentValue) {
        // As above.
        let _ = FRAGMENTS6.insert(key, value, 0);
    }
}

/// Notes down where the first part went. `place`: the number of the VIP and, above it, where the IP header lies.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_remember4(
    ctx: *mut xdp_md,
    place: u32,
    index: u32,
    generation: u32,
    ports: u32,
) -> u32 {
    remember::<V4>(&XdpContext::new(ctx), place, index, generation, ports);
    0
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_remember6(
    ctx: *mut xdp_md,
    place: u32,
    index: u32,
    generation: u32,
    ports: u32,
) -> u32 {
    remember::<V6>(&XdpContext::new(ctx), place, index, generation, ports);
    0
}

#[inline(always)]
fn remember<F: Parts>(ctx: &XdpContext, place: u32, index: u32, generation: u32, ports: u32) {
    let at = (place >> 16) as usize & 0x7f;
    let Some((_, ip)) = F::len(ctx, at) else {
        return;
    };
    if let Some((key, protocol)) = F::part(ctx, at, ip, REQUEST) {
        let port = |raw: u32| Be16::from_raw(raw as u16);
        // Not that of a VIP with affinity: among several ways through the fabric its later parts may take another one.
        let hash = flow_hash(&F::widen(F::src(ip)), port(ports >> 16), port(ports), protocol);
        let first = FragmentValue {
            backend: index,
            generation,
            vip: place as u16,
            hash: (hash & 0x3fff) as u16,
        };
        F::note_first(&key, &first);
    }
}

/// Where the first part of an answer came from.
#[inline(always)]
pub(crate) fn value(owner: &Owner, vip: u16) -> FragmentValue {
    FragmentValue {
        backend: owner.index,
        generation: owner.backend.generation,
        vip,
        hash: 0,
    }
}

/// A later part that came in by the uplink: the number of a reason.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_later4(ctx: *mut xdp_md) -> u32 {
    later::<V4>(&XdpContext::new(ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_later6(ctx: *mut xdp_md) -> u32 {
    later::<V6>(&XdpContext::new(ctx)).index()
}

/// One that came through the tunnel.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_later_inside4(ctx: *mut xdp_md) -> u32 {
    later_inside::<V4>(&XdpContext::new(ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_later_inside6(ctx: *mut xdp_md) -> u32 {
    later_inside::<V6>(&XdpContext::new(ctx)).index()
}

#[inline(always)]
fn later<F: Parts>(ctx: &XdpContext) -> Reason {
    let Some((len, ip)) = F::len(ctx, ETH_LEN) else {
        return Reason::Truncated;
    };
    let Some((first, owner)) = first::<F>(ctx, ETH_LEN, ip) else {
        return match node() {
            Some(node) if F::in_range(node, F::dst(ip)) => Reason::Fragment,
            Some(node) if nat::is_on(node) && F::own(node) == Some(&F::dst(ip)) => HAND_OVER,
            _ => Reason::NotVip,
        };
    };
    stats::given::<Live>(owner.index, len);
    let reason = if owner.is(backend_flags::LOCAL) {
        let past_stack = readdress::<F>(ip, owner.backend, len);
        onward::<Live>(ctx, owner.backend, past_stack)
    } else if owner.is(backend_flags::BARE) {
        HAND_OVER
    } else {
        elsewhere::<F>(ctx, &first, &owner, len)
    };
    stats::ended::<Live>(first.vip.into(), len, reason);
    reason
}

#[inline(always)]
fn later_inside<F: Parts>(ctx: &XdpContext) -> Reason {
    let Some((len, ip)) = F::len(ctx, INNER_IP) else {
        return Reason::TunnelMalformed;
    };
    // A first part that was sent on to another node is not noted down: the stack of a program has no room for that way.
    let Some((_, owner)) = first::<F>(ctx, INNER_IP, ip).filter(|(_, owner)| owner.is(backend_flags::LOCAL)) else {
        return Reason::Fragment;
    };
    let past_stack = readdress::<F>(ip, owner.backend, len);
    unwrap::<Live, F>(ctx, owner.backend, past_stack)
}

/// Where the first part went, if that is still there.
#[inline(always)]
fn first<F: Parts>(ctx: &XdpContext, at: usize, ip: &F::Header) -> Option<(FragmentValue, Owner)> {
    let first = F::first(&F::part(ctx, at, ip, REQUEST)?.0)?;
    let owner = Owner::at(first.backend).filter(|owner| owner.backend.generation == first.generation)?;
    Some((first, owner))
}

/// Gives the part its backend's address: ports and checksum were in the first one. Whether it goes past the stack.
#[inline(always)]
fn readdress<F: Family>(ip: &mut F::Header, backend: &BackendEntry, len: u16) -> bool {
    let past_stack = hops::<F>(backend, ip, len);
    let addr = F::narrow(&backend.addr);
    F::redirect(ip, addr, F::moved(F::dst(ip), addr), past_stack);
    past_stack
}

#[inline(always)]
fn elsewhere<F: Family>(ctx: &XdpContext, first: &FragmentValue, owner: &Owner, len: u16) -> Reason {
    let wrap = Wrap {
        hash: first.hash.into(),
        len,
        kind: F::ETHER,
        tag: tag::<F>(owner),
        alternate: Tag(0),
        redirect: false,
    };
    // Nobody is told that a later part is too big (RFC 1812, 4.3.2.7).
    send::<Live>(ctx, owner.backend, &wrap).reason
}
