//! From a frame to the packet in it.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::Reason;

use crate::bounds::holds;
use crate::family::Family;
use crate::frame::Frame;
use crate::headers::{Extension, Ipv4, Ipv6};
use crate::opaque::opaque;
use crate::packet::{NoPacket, Packet};

/// Extension headers that are walked; RFC 8504 lets hosts refuse more than eight, and more than four are not seen.
const MAX_EXTENSIONS: usize = 6;
/// Bytes of extension headers that are walked.
const MAX_EXTENSION_BYTES: usize = 512;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// An IP header that fits its frame.
pub(crate) struct Header<H> {
    pub(crate) ip: *mut H,
    /// Of what follows the header and all extensions.
    pub(crate) protocol: u8,
    /// Where that begins in the frame.
    pub(crate) offset: usize,
    /// Where the packet ends in the frame.
    pub(crate) end: usize,
}

/// The IPv4 header at an offset of a frame that holds all its packet.
#[inline(always)]
pub(crate) fn ipv4(ctx: &XdpContext, at: usize) -> Result<Header<Ipv4>, Reason> {
    let Some(ip_at) = ctx.at::<Ipv4>(at) else {
        return Err(Reason::Truncated);
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let Some(header_len) = ip.header_len() else {
        return Err(Reason::Truncated);
    };
    let total_len = usize::from(ip.total_len.get());
    if total_len < header_len || !holds(ctx, at + total_len) {
        return Err(Reason::Truncated);
    }
    Ok(Header {
        ip: ip_at,
        protocol: ip.protocol,
        offset: at + header_len,
        end: at + total_len,
    })
}

/// The IPv6 header at an offset, its extensions walked.
#[inline(always)]
pub(crate) fn ipv6(ctx: &XdpContext, at: usize) -> Result<Header<Ipv6>, Reason> {
    let Some(ip_at) = ctx.at::<Ipv6>(at) else {
        return Err(Reason::Truncated);
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let offset = at + size_of::<Ipv6>();
    let end = offset + usize::from(ip.payload_len.get());
    if !ip.is_version_6() || !holds(ctx, end) {
        return Err(Reason::Truncated);
    }
    let mut header = Header {
        ip: ip_at,
        protocol: ip.next,
        offset,
        end,
    };
    if is_extension(ip.next) {
        let walked = opaque(revere_walk(ctx.ctx, offset as u32, ip.next.into()) as u64) as i64;
        if walked < 0 {
            return Err(if walked == DEEP {
                Reason::TooDeep
            } else {
                Reason::Truncated
            });
        }
        header.protocol = walked as u8;
        header.offset = offset + ((walked >> 8) & 0x3ff) as usize;
        if header.offset > end {
            return Err(Reason::Truncated);
        }
    }
    Ok(header)
}

#[inline(always)]
pub(crate) fn is_extension(kind: u8) -> bool {
    matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

const DEEP: i64 = -1;
const SHORT: i64 = -2;

/// What follows all extension headers (eight bits) and their length (ten bits), or one of the two above. A fragment header is
/// taken for what follows unless it comes first and is that of a first part, as everybody sends them: then the walk ends
/// behind it.
///
/// Like every function with a name for the linker the verifier goes through it once, whoever calls it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_walk(ctx: *mut xdp_md, start: u32, first: u32) -> i64 {
    let ctx = &XdpContext::new(ctx);
    let start = start as usize & 0xff;
    let mut walked = 0;
    let mut kind = first as u8;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(kind) {
            return found(kind, walked);
        }
        let Some(extension) = ctx.at::<Extension>(start + walked) else {
            return SHORT;
        };
        // SAFETY: checked by `at`.
        let extension = unsafe { *extension };
        if kind == ROUTING && extension.left != 0 {
            // The address in the header is not the last destination.
            return DEEP;
        }
        if kind == FRAGMENT {
            return if walked == 0 && !extension.is_later() {
                found(extension.next, size_of::<Extension>())
            } else {
                found(kind, walked)
            };
        }
        walked += if kind == AUTHENTICATION {
            (usize::from(extension.len) + 2) * 4
        } else {
            (usize::from(extension.len) + 1) * 8
        };
        if walked > MAX_EXTENSION_BYTES {
            return DEEP;
        }
        kind = extension.next;
    }
    if is_extension(kind) {
        return DEEP;
    }
    found(kind, walked)
}

#[inline(always)]
fn found(kind: u8, walked: usize) -> i64 {
    ((walked as i64) << 8) | i64::from(kind)
}

/// Whether an IPv6 packet is a part that has no ports.
#[inline(always)]
pub(crate) fn is_later(protocol: u8) -> bool {
    protocol == FRAGMENT
}

impl<H> Header<H> {
    /// The TCP or UDP packet behind the header, which lies at `at`.
    #[inline(always)]
    pub(crate) fn packet<F: Family<Header = H>>(&self, ctx: &XdpContext, at: usize) -> Result<Packet<F>, NoPacket> {
        let room = self.end - self.offset;
        Packet::at(ctx, self.ip, self.protocol, self.offset, room, (self.end - at) as u16)
    }
}
