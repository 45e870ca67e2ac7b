//! The XDP program: a plain question for a name in the map becomes its answer and goes back; all else goes to the server.
#![allow(unsafe_code, reason = "packet and scratch memory is reached by checked pointers")]

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail, bpf_xdp_store_bytes};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, NAME_BODY, NAME_WORDS, NameAnswer, NameConfig, NameCount, NameKey, seconds};

use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, Ipv4, Udp};
use crate::maps::{NAME_CONFIG, NAMES, Scratch, count, scratch};
use crate::question::{DNS, Dns, Edns, IP, L4, Left, NAME, Question, addressed, bounded, read};

/// Largest answer to a client that tells none.
const PLAIN: u16 = 512;
/// Bytes of an OPT record without options.
const OPT: usize = 11;

#[xdp]
pub(crate) fn revere_names(ctx: XdpContext) -> u32 {
    match answered(&ctx) {
        Ok(what) => {
            count(what);
            XDP_TX
        }
        Err(End::Left(Left::Foreign)) => XDP_PASS,
        Err(End::Left(Left::Server(why))) => {
            count(why);
            XDP_PASS
        }
        Err(End::Spoilt) => {
            count(NameCount::NoRoom);
            XDP_DROP
        }
    }
}

/// Why no answer goes back.
enum End {
    /// The packet is as it came.
    Left(Left),
    /// It is not; this happens to no packet, but the verifier wants to know.
    Spoilt,
}

const PASSED: End = End::Left(Left::Server(NameCount::Passed));

#[inline(always)]
fn answered(ctx: &XdpContext) -> Result<NameCount, End> {
    let Some(config) = NAME_CONFIG.get(0) else {
        return Err(End::Left(Left::Foreign));
    };
    // SAFETY: a helper without arguments.
    let now = seconds(unsafe { bpf_ktime_get_ns() });
    let (len, has_opt) = addressed(ctx, config, now).map_err(End::Left)?;
    let scratch = scratch().ok_or(PASSED)?;
    let question = read(ctx, scratch, len, has_opt).ok_or(PASSED)?;
    if !find(scratch) {
        return Err(PASSED);
    }
    // SAFETY: this CPU's own; copied a moment ago.
    let answer = unsafe { &(*scratch).answer };
    let body = bounded(u64::from(answer.len), NAME_BODY).ok_or(PASSED)?;
    let name_len = question.name_len;
    let opt = if question.edns.is_some() { OPT } else { 0 };
    let frame = NAME + name_len + 4 + body + opt;
    // The frame is as long as its packet says.
    let change = frame as i32 - (NAME + len) as i32;
    // SAFETY: a helper; every pointer into the packet is made anew after it.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, change) } != 0 {
        return Err(End::Left(Left::Server(NameCount::NoRoom)));
    }
    write_records(ctx, config, answer, &question, name_len, body).ok_or(End::Spoilt)?;
    write_headers(ctx, config, answer, frame, opt != 0).ok_or(End::Spoilt)?;
    Ok(if answer.count == NameCount::NoData as u16 {
        NameCount::NoData
    } else {
        NameCount::Answered
    })
}

/// Words of an answer, and how many of them are its tag and its key.
const WORDS: usize = size_of::<NameAnswer>() / 8;
const KEY_WORDS: usize = 1 + size_of::<NameKey>() / 8;

/// Copies the answer to the scratch's key there, but for tag and key. The room of an answer that is taken away is used
/// again at once, so what was copied must be the answer to this question, and whole.
#[inline(always)]
fn find(scratch: *mut Scratch) -> bool {
    // SAFETY: the scratch is this CPU's own; the map's value may change meanwhile, which is what is looked for afterwards.
    unsafe {
        let key = &(*scratch).key;
        let Some(held) = NAMES.get_ptr(key) else {
            return false;
        };
        let tag = (&raw const (*held).tag).read_volatile();
        // Word by word: what the compiler makes of a copy is a loop over bytes.
        let (from, to) = (held.cast::<u64>(), (&raw mut (*scratch).answer).cast::<u64>());
        for index in KEY_WORDS..WORDS {
            to.add(index).write_volatile(from.add(index).read_volatile());
        }
        let mut differs = key.kind ^ (&raw const (*held).key.kind).read_volatile();
        for index in 0..NAME_WORDS {
            differs |= key.name[index] ^ (&raw const (*held).key.name[index]).read_volatile();
        }
        differs == 0 && (&raw const (*held).tag).read_volatile() == tag
    }
}

/// Puts the records behind the question.
#[inline(always)]
fn write_records(
    ctx: &XdpContext,
    config: &NameConfig,
    answer: &NameAnswer,
    question: &Question,
    name_len: usize,
    body: usize,
) -> Option<()> {
    let at = NAME + name_len + 4;
    store(ctx, at, (&raw const answer.body).cast(), body)?;
    if answer.serial_at != 0 {
        store(
            ctx,
            at + usize::from(answer.serial_at),
            (&raw const config.serial).cast(),
            4,
        )?;
    }
    if let Some(edns) = question.edns {
        let record = opt(config, edns);
        store(ctx, at + body, (&raw const record).cast(), OPT)?;
    }
    Some(())
}

#[inline(always)]
fn opt(config: &NameConfig, edns: Edns) -> [u8; OPT] {
    let mut payload = edns.payload;
    if payload > config.max_payload {
        payload = config.max_payload;
    }
    if payload < PLAIN {
        payload = PLAIN;
    }
    let [high, low] = payload.to_be_bytes();
    [0, 0, 41, high, low, 0, 0, edns.flags & 0x80, 0, 0, 0]
}

#[inline(always)]
fn store(ctx: &XdpContext, at: usize, from: *const c_void, len: usize) -> Option<()> {
    // SAFETY: a helper that checks its bounds in the packet; `from` has `len` bytes, which the verifier checks.
    let stored = unsafe { bpf_xdp_store_bytes(ctx.ctx, at as u32, from.cast_mut(), len as u32) };
    (stored == 0).then_some(())
}

/// Turns all headers around.
#[inline(always)]
fn write_headers(
    ctx: &XdpContext,
    config: &NameConfig,
    answer: &NameAnswer,
    frame: usize,
    has_opt: bool,
) -> Option<()> {
    let (eth, ip) = (ctx.at::<Eth>(0)?, ctx.at::<Ipv4>(IP)?);
    let (udp, dns) = (ctx.at::<Udp>(L4)?, ctx.at::<Dns>(DNS)?);
    // SAFETY: checked by `at`, and nothing else points there.
    let (eth, ip, udp, dns) = unsafe { (&mut *eth, &mut *ip, &mut *udp, &mut *dns) };
    let (src, dst) = (eth.src, eth.dst);
    (eth.src, eth.dst) = (dst, src);
    let (src, dst) = (ip.src, ip.dst);
    (ip.src, ip.dst) = (dst, src);
    let len = frame - ETH_LEN;
    ip.total_len = Be16::new(len as u16);
    ip.tos = 0;
    ip.id = Be16::new(0);
    // Don't fragment, as every answer of the server's that goes by the shortest way.
    ip.fragment = Be16::new(0x4000);
    ip.ttl = 64;
    ip.checksum = ip.sum();
    let (src, dst) = (udp.src, udp.dst);
    (udp.src, udp.dst) = (dst, src);
    udp.len = Be16::new((len - 20) as u16);
    // None, which IPv4 allows; the way is inside of this machine.
    udp.checksum = Be16::new(0);
    dns.flags = [0x84 | dns.flags[0] & 0x01, config.recursion as u8 | dns.flags[1] & 0x10];
    let [answers, authorities, additionals] = answer.counts;
    dns.counts = [
        Be16::new(1),
        Be16::new(answers),
        Be16::new(authorities),
        Be16::new(additionals + u16::from(has_opt)),
    ];
    Some(())
}
