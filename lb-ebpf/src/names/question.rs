//! Reads a plain question: the same that the server's short way takes (`dns/src/wire.rs`), as far as names are short.
#![allow(unsafe_code, reason = "packet and scratch memory is reached by checked pointers")]

use aya_ebpf::helpers::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use lb_common::{
    Be16, NAME_LABELS, NAME_QUESTION, NAME_ROOM, NAME_WORDS, NameConfig, NameCount, name_part, small_letters,
};

use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, IPV4, Ipv4, UDP, Udp};
use crate::maps::Scratch;
use crate::opaque::opaque;

pub(crate) const IP: usize = ETH_LEN;
pub(crate) const L4: usize = IP + 20;
pub(crate) const DNS: usize = L4 + 8;
/// Where the question's name begins.
pub(crate) const NAME: usize = DNS + 12;

/// Words for a question; more than the longest takes, so that what is read behind its end lies in the scratch too.
pub(crate) const QUESTION_WORDS: usize = 32;

/// The header of a message.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Dns {
    pub(crate) id: Be16,
    pub(crate) flags: [u8; 2],
    /// Questions, answers, authorities, additionals.
    pub(crate) counts: [Be16; 4],
}

/// A plain question whose key is in the scratch.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    /// Bytes of its name.
    pub(crate) name_len: usize,
    /// What its OPT record says.
    pub(crate) edns: Option<Edns>,
}

#[derive(Clone, Copy)]
pub(crate) struct Edns {
    pub(crate) payload: u16,
    /// Only the bit DO, as it came.
    pub(crate) flags: u8,
}

/// Why nothing is answered here.
pub(crate) enum Left {
    /// Not for the name server.
    Foreign,
    /// The server's.
    Server(NameCount),
}

const PASSED: Left = Left::Server(NameCount::Passed);

/// Whether the frame is a UDP packet for the server, whole, from a client that is answered here; the bytes after the
/// header of its message, which is checked.
#[inline(always)]
pub(crate) fn addressed(ctx: &XdpContext, config: &NameConfig, now: u32) -> Result<(usize, bool), Left> {
    let (Some(eth), Some(ip), Some(udp)) = (ctx.at::<Eth>(0), ctx.at::<Ipv4>(IP), ctx.at::<Udp>(L4)) else {
        return Err(Left::Foreign);
    };
    // SAFETY: checked by `at`.
    let (eth, ip, udp) = unsafe { (&*eth, &*ip, &*udp) };
    if eth.kind != IPV4 || ip.version_len != 0x45 || ip.protocol != UDP || ip.is_fragment() {
        return Err(Left::Foreign);
    }
    if !config.serves(ip.dst, udp.dst) {
        return Err(Left::Foreign);
    }
    if now >= config.until {
        return Err(Left::Server(NameCount::Stale));
    }
    let len = usize::from(ip.total_len.get());
    let Some(dns) = ctx.at::<Dns>(DNS) else {
        return Err(PASSED);
    };
    if len != usize::from(udp.len.get()) + 20 || ctx.len() != ETH_LEN + len || !config.answers(ip.src) {
        return Err(PASSED);
    }
    // SAFETY: checked by `at`.
    let dns = unsafe { &*dns };
    let none = Be16::new(0);
    // A question, and of the flags RD, AD and CD at most.
    let plain = dns.flags[0] & 0xfe == 0 && dns.flags[1] & 0xcf == 0;
    let one = dns.counts[0] == Be16::new(1) && dns.counts[1] == none && dns.counts[2] == none;
    let has_opt = dns.counts[3] == Be16::new(1);
    if !plain || !one || !(has_opt || dns.counts[3] == none) || udp.src == none {
        return Err(PASSED);
    }
    Ok((len - (NAME - ETH_LEN), has_opt))
}

/// Reads a question of `len` bytes; leaves its key in the scratch.
#[inline(always)]
pub(crate) fn read(ctx: &XdpContext, scratch: *mut Scratch, len: usize, has_opt: bool) -> Option<Question> {
    let len = bounded(len as u64, NAME_QUESTION)?;
    // SAFETY: the scratch is longer than any `len`, and this CPU's own.
    let loaded = unsafe { bpf_xdp_load_bytes(ctx.ctx, NAME as u32, (&raw mut (*scratch).question).cast(), len as u32) };
    if loaded != 0 {
        return None;
    }
    let name_len = name_len(scratch)?;
    let kind = pair(scratch, name_len);
    let after = name_len + 4;
    if pair(scratch, name_len + 2) != 1 || after > len {
        return None;
    }
    // OPT, transfers and other questions about the server's state are no questions about records: nobody has them here.
    let edns = match has_opt {
        true => Some(opt(scratch, after, len)?),
        false if after == len => None,
        false => return None,
    };
    for index in 0..NAME_WORDS {
        // SAFETY: inside the scratch.
        unsafe {
            let word = (*scratch).question[index];
            (*scratch).key.name[index] = small_letters(word) & name_part(index, name_len);
        }
    }
    // SAFETY: this CPU's own.
    unsafe { (*scratch).key.kind = u64::from(kind) };
    Some(Question { name_len, edns })
}

/// The same number if it is neither zero nor above `most`. Linux 6.1 knows of a number only what was asked of its very register,
/// and of two questions the compiler makes one about the number less the lower bound: so that is the register.
#[inline(always)]
pub(crate) fn bounded(number: u64, most: usize) -> Option<usize> {
    let less = opaque(number.wrapping_sub(1));
    (less < most as u64).then(|| less as usize + 1)
}

/// Bytes of the uncompressed name at the beginning, root label included.
#[inline(always)]
fn name_len(scratch: *const Scratch) -> Option<usize> {
    let mut at = 0;
    for _ in 0..NAME_LABELS {
        let length = usize::from(byte(scratch, at));
        if length == 0 {
            return Some(at + 1);
        }
        if length > 63 {
            return None;
        }
        at += 1 + length;
        if at >= NAME_ROOM {
            return None;
        }
    }
    None
}

/// An OPT record of version 0 without unknown flags that ends the message, and holds at most a cookie.
#[inline(always)]
fn opt(scratch: *const Scratch, at: usize, len: usize) -> Option<Edns> {
    let options = at + 11;
    let root = byte(scratch, at) == 0 && pair(scratch, at + 1) == 41;
    let flags = byte(scratch, at + 7);
    let version_0 = pair(scratch, at + 5) == 0 && flags & 0x7f == 0 && byte(scratch, at + 8) == 0;
    let length = usize::from(pair(scratch, at + 9));
    if !root || !version_0 || options + length != len {
        return None;
    }
    if length != 0 {
        let data = usize::from(pair(scratch, options + 2));
        let cookie = pair(scratch, options) == 10 && data + 4 == length && (data == 8 || (16..=40).contains(&data));
        if !cookie {
            return None;
        }
    }
    Some(Edns {
        payload: pair(scratch, at + 3),
        flags,
    })
}

/// A byte of the question.
#[inline(always)]
fn byte(scratch: *const Scratch, at: usize) -> u8 {
    const LAST: u64 = (QUESTION_WORDS * 8 - 1) as u64;
    let at = (opaque(at as u64) & LAST) as usize;
    // SAFETY: masked to the scratch.
    unsafe { *(&raw const (*scratch).question).cast::<u8>().add(at) }
}

/// Two bytes of it, in the host's order.
#[inline(always)]
fn pair(scratch: *const Scratch, at: usize) -> u16 {
    u16::from(byte(scratch, at)) << 8 | u16::from(byte(scratch, at + 1))
}
