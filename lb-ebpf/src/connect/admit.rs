//! What a VIP asks of new connections: allowed sources, a rate, a number.
#![allow(unsafe_code, reason = "map values are shared with user space, clocks are helpers")]

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::{Be32, Ip, Reason, VipEntry, vip_flags};

use super::call::{Call, Family};
use crate::maps::{SOCKET_RATES, SOURCES4, SOURCES6, VIP_OPTIONS, node};

/// Whether this call may open a connection; if not, why.
#[inline(always)]
pub(crate) fn admit<F: Family>(call: &Call<'_, F>, vip: &VipEntry) -> Result<(), Reason> {
    if vip.flags & vip_flags::LIMITED == 0 {
        return Ok(());
    }
    // The route, and with it the source, is chosen only after this hook: a socket that is bound to no address counts as
    // its node.
    let source = call.bound().or_else(|| node().map(|node| node.own)).unwrap_or_default();
    match ask(vip.id, &source, false) {
        Ok(()) => Ok(()),
        Err(Reason::SourceRefused) => Err(Reason::SocketSourceRefused),
        Err(_) => Err(Reason::SocketLimited),
    }
}

const ADMITTED: u32 = 0;
const RATE: u32 = 1;
const NUMBER: u32 = 2;
const SOURCE: u32 = 3;
/// Set in the VIP's number by whoever only asks what would be.
const EXPLAIN: u32 = 1 << 31;

/// Whether a VIP takes a new connection from a source; if not, why (in the words of the uplink).
#[inline(always)]
pub(crate) fn ask(vip: u32, source: &Ip, explain: bool) -> Result<(), Reason> {
    let [a, b, c, d] = source.0.map(Be32::raw);
    match revere_admit(if explain { vip | EXPLAIN } else { vip }, a, b, c, d) {
        ADMITTED => Ok(()),
        RATE => Err(Reason::RateLimited),
        NUMBER => Err(Reason::FlowLimit),
        _ => Err(Reason::SourceRefused),
    }
}

/// A function for itself, of numbers only: the verifier walks it once per program instead of once per way from it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_admit(vip: u32, a: u32, b: u32, c: u32, d: u32) -> u32 {
    let explain = vip & EXPLAIN != 0;
    let vip = vip & !EXPLAIN;
    let Some(options) = VIP_OPTIONS.get(vip) else {
        return ADMITTED;
    };
    if options.sources != 0 && !allowed(vip, Ip([a, b, c, d].map(Be32::from_raw))) {
        return SOURCE;
    }
    if options.max_flows != 0 && options.open >= options.max_flows {
        return NUMBER;
    }
    if options.rate != 0
        && !explain
        && let Some(bucket) = SOCKET_RATES.get_ptr_mut(vip)
    {
        // SAFETY: the map lives while the program runs. Two CPUs at once may take the same token; the rate is then off by
        // that one, which costs less than a lock in every call.
        let taken = unsafe { (*bucket).take(bpf_ktime_get_coarse_ns(), options.rate, options.burst) };
        if !taken {
            return RATE;
        }
    }
    ADMITTED
}

#[inline(always)]
fn allowed(vip: u32, source: Ip) -> bool {
    match source.as_v4() {
        Some(v4) => SOURCES4.get(Key::new(64, [vip, v4.raw()])).is_some(),
        None => {
            let [a, b, c, d] = source.0.map(Be32::raw);
            SOURCES6.get(Key::new(160, [vip, a, b, c, d])).is_some()
        }
    }
}
