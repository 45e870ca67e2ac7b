//! The answer to a SYN, with the listener's cookie as its number: from the VIP, by the way that answers go.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Checksum, Ip, NodeConfig, Reason, largest_segment, node_flags};

use super::socket::Sockets;
use crate::bounds::whole_len;
use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ACK, ETH_LEN, Eth, Ipv4, Ipv6, SYN, TCP, Tcp};
use crate::parse::{self, Header};
use crate::reply::{TTL, ipv4, turned, words};
use crate::route::{self, Route};
use crate::vip::leave as redirect;

/// TCP's header with one option.
const TCP_LEN: u16 = 24;
const DATA_OFFSET: u8 = 0x60;
/// Segments that the client may send before it hears more: what nobody sends more than (RFC 6928), and little enough to fit the
/// window that the listener will have.
const SEGMENTS: u32 = 10;

/// What of a SYN its answer needs.
#[derive(Clone, Copy)]
pub(super) struct Asked<F: Family> {
    pub(super) client: F::Addr,
    pub(super) server: F::Addr,
    pub(super) tcp: Tcp,
}

#[repr(C, packed(2))]
struct Message<H> {
    eth: Eth,
    ip: H,
    tcp: Tcp,
    mss: [u8; 4],
}

/// What differs between the families.
pub(super) trait Replies: Sockets {
    /// The largest segment of who does not tell.
    const LEAST_SEGMENT: u16;
    fn parse(ctx: &XdpContext, at: usize) -> Option<Header<Self::Header>>;
    fn reply(asked: &Asked<Self>) -> Self::Header;
    fn sum(asked: &Asked<Self>) -> Checksum;
}

impl Replies for V4 {
    const LEAST_SEGMENT: u16 = 536;

    #[inline(always)]
    fn parse(ctx: &XdpContext, at: usize) -> Option<Header<Ipv4>> {
        let header = parse::ipv4(ctx, at).ok()?;
        // SAFETY: checked by the parser.
        let whole = unsafe { !(*header.ip).is_fragment() };
        whole.then_some(header)
    }

    #[inline(always)]
    fn reply(asked: &Asked<Self>) -> Ipv4 {
        // Of the header that was asked only the addresses count.
        let header = Self::header(asked.client, asked.server);
        ipv4(&header, TCP, size_of::<Message<Ipv4>>(), 0)
    }

    #[inline(always)]
    fn sum(asked: &Asked<Self>) -> Checksum {
        Checksum::new().add32(asked.client.raw()).add32(asked.server.raw())
    }
}

impl Replies for V6 {
    const LEAST_SEGMENT: u16 = 1220;

    #[inline(always)]
    fn parse(ctx: &XdpContext, at: usize) -> Option<Header<Ipv6>> {
        let header = parse::ipv6(ctx, at).ok()?;
        // SAFETY: checked by the parser.
        let whole = unsafe { (*header.ip).next != parse::FRAGMENT };
        whole.then_some(header)
    }

    #[inline(always)]
    fn reply(asked: &Asked<Self>) -> Ipv6 {
        Ipv6 {
            version_class_label: Be32::new(0x6000_0000),
            payload_len: Be16::new(TCP_LEN),
            next: TCP,
            hop_limit: TTL,
            src: asked.server,
            dst: asked.client,
        }
    }

    #[inline(always)]
    fn sum(asked: &Asked<Self>) -> Checksum {
        let (client, server): (Ip, Ip) = (asked.client, asked.server);
        words(client).and(words(server))
    }
}

/// Sends it; `None` where that cannot be, and the frame is as it was.
#[inline(always)]
pub(super) fn send<F: Replies>(
    ctx: &XdpContext,
    node: &NodeConfig,
    asked: &Asked<F>,
    cookie: u32,
    tunnelled: bool,
) -> Option<Reason> {
    let len = size_of::<Message<F::Header>>();
    let whole = whole_len(ctx);
    if whole != Frame::len(ctx) {
        return None;
    }
    // SAFETY: checked by `at`.
    let eth = unsafe { *ctx.at::<Eth>(0)? };
    let ingress = ctx.ingress_ifindex() as u32;
    let route = if tunnelled {
        route::to::<F>(ctx, &asked.server, &asked.client, (len - ETH_LEN) as u16, TCP).ok()?
    } else {
        Route {
            ifindex: ingress,
            eth: turned(&eth),
        }
    };
    // The end of the frame stays where it is: nothing of what was in it is in the answer.
    let less = whole as i32 - len as i32;
    // SAFETY: the context is this run's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, less) } != 0 {
        return None;
    }
    let Some(message) = ctx.at::<Message<F::Header>>(0) else {
        return Some(Reason::NoHeadroom);
    };
    write::<F>(
        message,
        &route,
        asked,
        cookie,
        largest_segment(node.underlay_mtu, F::HEADERS),
    );
    if route.ifindex == ingress && node.flags & node_flags::REDIRECT == 0 {
        return Some(Reason::SynCookie);
    }
    redirect(route.ifindex, false);
    Some(Reason::CookieRedirected)
}

#[inline(always)]
fn write<F: Replies>(message: *mut Message<F::Header>, route: &Route, asked: &Asked<F>, cookie: u32, most: u16) {
    let window = (u32::from(most) * SEGMENTS).min(0xffff) as u16;
    let flags = SYN | ACK;
    let [high, low] = most.to_be_bytes();
    let mut tcp = Tcp {
        src: asked.tcp.dst,
        dst: asked.tcp.src,
        sequence: Be32::new(cookie),
        acknowledged: Be32::new(asked.tcp.sequence.get().wrapping_add(1)),
        data_offset: DATA_OFFSET,
        flags,
        window: Be16::new(window),
        checksum: Be16::new(0),
        urgent: Be16::new(0),
    };
    let first = Be16::new(u16::from(DATA_OFFSET) << 8 | u16::from(flags));
    tcp.checksum = F::sum(asked)
        .add16(Be16::new(TCP.into()).raw())
        .add16(Be16::new(TCP_LEN).raw())
        .add16(tcp.src.raw())
        .add16(tcp.dst.raw())
        .add32(tcp.sequence.raw())
        .add32(tcp.acknowledged.raw())
        .add16(first.raw())
        .add16(tcp.window.raw())
        .add16(Be16::new(0x0204).raw())
        .add16(Be16::new(most).raw())
        .finish();
    // SAFETY: checked by `at` after the head moved.
    unsafe {
        (*message).eth = route.eth;
        (*message).ip = F::reply(asked);
        (*message).tcp = tcp;
        (*message).mss = [2, 4, high, low];
    }
}
