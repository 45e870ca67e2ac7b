//! What a VIP asks of new connections: allowed sources, a rate, a number.
#![allow(unsafe_code, reason = "map values are shared with user space, clocks are helpers")]

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::{Ip, Reason, VipEntry, vip_flags};

use super::call::Call;
use crate::maps::{SOCKET_RATES, SOURCES4, SOURCES6, VIP_OPTIONS, node};

/// Whether this call may open a connection; if not, why.
#[inline(always)]
pub(crate) fn admit(call: &Call<'_>, vip: &VipEntry) -> Result<(), Reason> {
    if vip.flags & vip_flags::LIMITED == 0 {
        return Ok(());
    }
    let Some(options) = VIP_OPTIONS.get(vip.id) else {
        return Ok(());
    };
    if options.sources != 0 && !allowed(call, vip.id) {
        return Err(Reason::SocketSourceRefused);
    }
    if options.max_flows != 0 && options.open >= options.max_flows {
        return Err(Reason::SocketLimited);
    }
    if options.rate != 0
        && let Some(bucket) = SOCKET_RATES.get_ptr_mut(vip.id)
    {
        // SAFETY: the map lives while the program runs. Two CPUs at once may take the same token; the rate is then off by
        // that one, which costs less than a lock in every call.
        let taken = unsafe { (*bucket).take(bpf_ktime_get_coarse_ns(), options.rate, options.burst) };
        if !taken {
            return Err(Reason::SocketLimited);
        }
    }
    Ok(())
}

/// The route, and with it the source, is chosen only after this hook: a socket that is bound to no address counts as its
/// node.
#[inline(always)]
fn allowed(call: &Call<'_>, vip: u32) -> bool {
    let Some(source) = call.bound().or_else(|| node().map(|node| node.own)) else {
        return false;
    };
    match source.as_v4() {
        Some(v4) => SOURCES4.get(Key::new(64, [vip, v4.raw()])).is_some(),
        None => {
            let Ip([a, b, c, d]) = source;
            SOURCES6
                .get(Key::new(160, [vip, a.raw(), b.raw(), c.raw(), d.raw()]))
                .is_some()
        }
    }
}
