//! The largest segment that a client may send, in the answer to its SYN.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use lb_common::Be16;

/// How far to look. Every system in use sends it first or behind padding; each step costs the verifier.
const MAX_OPTIONS: usize = 6;
const MSS_OPTION: u8 = 2;
const MSS_OPTION_LEN: u8 = 4;
const HEADER: usize = 20;
const SUM: usize = 16;

/// Lets the client send only segments that still fit the fabric once a node has wrapped them.
#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_clamp(ctx: *mut __sk_buff, l4: u32, options_end: u32, most: u32) -> u32 {
    clamp(&TcContext::new(ctx), l4 as usize, options_end as usize, most as u16);
    0
}

#[inline(always)]
fn clamp(ctx: &TcContext, l4: usize, options_end: usize, most: u16) {
    let mut at = l4 + HEADER;
    for _ in 0..MAX_OPTIONS {
        if at + 4 > options_end {
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
            lower(ctx, l4, at, u16::from_be_bytes([high, low]), most);
            return;
        }
        if len < 2 {
            return;
        }
        at += usize::from(len);
    }
}

#[inline(always)]
fn lower(ctx: &TcContext, l4: usize, at: usize, offered: u16, most: u16) {
    if offered <= most {
        return;
    }
    let (old, new) = (Be16::new(offered).raw(), Be16::new(most).raw());
    // An option at an odd offset is summed with its bytes the other way round.
    let odd = (at - l4) % 2 == 1;
    let (sum_old, sum_new) = if odd {
        (old.swap_bytes(), new.swap_bytes())
    } else {
        (old, new)
    };
    if ctx.l4_csum_replace(l4 + SUM, sum_old.into(), sum_new.into(), 2).is_ok() {
        // The checksum already fits the new value; a failed store makes the client throw the packet away.
        let _ = ctx.store(at + 2, &new, 0);
    }
}
