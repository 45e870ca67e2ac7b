//! Answers of local backends that leave by an uplink: the VIP goes back in as their source.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use lb_common::{Be16, ENCAP_LEN, FlowKey, FlowState, Ip, MSS_MARGIN, Reason, ReverseValue, node_flags};

use crate::maps::{REVERSE, count, node};
use crate::parse::{ACK, ETH_LEN, Eth, Frame, IPV4, Ipv4, SYN, TCP, Tcp, TcpPacket};

/// "Go on with the next program": what tcx and clsact both understand.
const NEXT: i32 = -1;
/// Bytes of Ethernet, IPv4 and TCP headers without options.
const HEADERS: u32 = 54;
/// How far to look for the MSS. Every system in use sends it first or behind padding; each step costs the verifier.
const MAX_OPTIONS: usize = 6;
const MSS_OPTION: u8 = 2;
const MSS_OPTION_LEN: u8 = 4;

#[classifier]
pub(crate) fn revere_egress(ctx: TcContext) -> i32 {
    let reason = restore(&ctx);
    count(reason);
    if reason != Reason::NotBalanced && node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        info!(&ctx, "egress: reason {}", reason.index());
    }
    if reason == Reason::RestoreFailed {
        TC_ACT_SHOT
    } else {
        NEXT
    }
}

/// What of an answer is needed after its pointers have become invalid.
struct Answer {
    from: Ip,
    port: Be16,
    l4: usize,
    options_end: usize,
    syn_ack: bool,
}

#[inline(always)]
fn restore(ctx: &TcContext) -> Reason {
    if ctx.len() < HEADERS {
        return Reason::NotBalanced;
    }
    // Headers may lie outside the linear part.
    if Frame::len(ctx) < HEADERS as usize && ctx.pull_data(HEADERS).is_err() {
        return Reason::NotBalanced;
    }
    let Some((answer, vip)) = balanced(ctx) else {
        return Reason::NotBalanced;
    };
    if rewrite(ctx, &answer, &vip).is_err() {
        return Reason::RestoreFailed;
    }
    if answer.syn_ack {
        clamp_mss(ctx, &answer);
    }
    Reason::Restored
}

/// The packet, if it answers a balanced flow, and its VIP.
#[inline(always)]
fn balanced(ctx: &TcContext) -> Option<(Answer, ReverseValue)> {
    let eth = ctx.at::<Eth>(0)?;
    // SAFETY: checked by `at`.
    if unsafe { (*eth).kind } != IPV4 {
        return None;
    }
    let ip_at = ctx.at::<Ipv4>(ETH_LEN)?;
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    if ip.protocol != TCP || ip.is_fragment() {
        return None;
    }
    let l4 = ETH_LEN + ip.header_len()?;
    let packet = TcpPacket {
        ip: ip_at,
        tcp: ctx.at::<Tcp>(l4)?,
    };
    let tcp = packet.tcp();
    let key = FlowKey {
        client: Ip::v4(ip.dst),
        server: Ip::v4(ip.src),
        client_port: tcp.dst,
        server_port: tcp.src,
        protocol: TCP,
        zero: [0; 3],
    };
    let known = REVERSE.get_ptr_mut(&key)?;
    // SAFETY: the entry stays mapped while the program runs.
    let known = unsafe { &mut *known };
    if packet.is_end() {
        known.state = FlowState::Closing as u32;
    }
    let answer = Answer {
        from: key.server,
        port: tcp.src,
        l4,
        options_end: l4 + usize::from(tcp.data_offset >> 4) * 4,
        syn_ack: tcp.flags & (SYN | ACK) == SYN | ACK,
    };
    Some((answer, *known))
}

/// The helpers know checksums that the device is still to finish; plain arithmetic would break those.
#[inline(always)]
fn rewrite(ctx: &TcContext, answer: &Answer, vip: &ReverseValue) -> Result<(), i64> {
    let (old, new) = (answer.from.0[3].raw(), vip.vip.0[3].raw());
    let sum = answer.l4 + 16;
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | 4;
    ctx.l4_csum_replace(sum, old.into(), new.into(), pseudo)?;
    ctx.l4_csum_replace(sum, answer.port.raw().into(), vip.port.raw().into(), 2)?;
    ctx.l3_csum_replace(ETH_LEN + 10, old.into(), new.into(), 4)?;
    ctx.store(ETH_LEN + 12, &new, 0)?;
    ctx.store(answer.l4, &vip.port.raw(), 0)
}

/// Lets the client send only segments that still fit the fabric once a node has wrapped them.
#[inline(always)]
fn clamp_mss(ctx: &TcContext, answer: &Answer) {
    let Some(node) = node() else { return };
    let most = node.underlay_mtu.saturating_sub(40 + ENCAP_LEN as u16 + MSS_MARGIN);
    let mut at = answer.l4 + 20;
    for _ in 0..MAX_OPTIONS {
        if at + 4 > answer.options_end {
            return;
        }
        let Ok([kind, len, high, low]) = ctx.load::<[u8; 4]>(at) else {
            return;
        };
        if kind == 0 {
            return;
        }
        if kind == 1 {
            at += 1;
            continue;
        }
        if kind == MSS_OPTION && len == MSS_OPTION_LEN {
            lower_mss(ctx, answer, at, u16::from_be_bytes([high, low]), most);
            return;
        }
        if len < 2 {
            return;
        }
        at += usize::from(len);
    }
}

#[inline(always)]
fn lower_mss(ctx: &TcContext, answer: &Answer, at: usize, offered: u16, most: u16) {
    if offered <= most {
        return;
    }
    let (old, new) = (Be16::new(offered).raw(), Be16::new(most).raw());
    // An option at an odd offset is summed with its bytes the other way round.
    let odd = (at - answer.l4) % 2 == 1;
    let (sum_old, sum_new) = if odd {
        (old.swap_bytes(), new.swap_bytes())
    } else {
        (old, new)
    };
    if ctx
        .l4_csum_replace(answer.l4 + 16, sum_old.into(), sum_new.into(), 2)
        .is_ok()
    {
        // The checksum already fits the new value; a failed store makes the client throw the packet away.
        let _ = ctx.store(at + 2, &new, 0);
    }
}
