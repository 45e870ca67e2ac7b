//! SYN cookies: while too many SYNs come for a VIP, a listener of this node is asked for each whether it would answer with a
//! cookie; if so, that answer is sent from here, and neither the stack nor a flow table hears of the SYN. What comes back is
//! looked at before it becomes a flow.
//!
//! The kernel's own listener decides and makes the cookie, so that it takes what comes back as it does what it sent itself.
#![allow(unsafe_code, reason = "map values, and programs that are gone over to")]

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::programs::XdpContext;
use lb_common::{
    COOKIE_SECONDS, CookieCount, FlowKey4, FlowKey6, NodeConfig, Origin, Reason, VipEntry, backend_flags, node_flags,
    vip_flags,
};

use crate::choose::of_table;
use crate::family::{Family, V4, V6};
use crate::headers::RST;
use crate::maps::{COOKIE_ASK, COOKIE_COUNTS, COOKIE_PROGRAMS, COOKIE_TIMES, LISTEN_PLACES, Owner, SYN_RATES, node};
use crate::mode::{Explain, Mode, note};
use crate::packet::{Kind, slot_hash};
use crate::track::now;

mod program;
mod reply;
mod socket;

/// What the uplink program ends a packet with about which the program for cookies is to be asked.
pub(crate) const ASK: Reason = Reason::SynCookie;
/// Places in `COOKIE_PROGRAMS`.
const COOKIES: u32 = 0;
const UPLINK: u32 = 1;

/// Bits of [`Ask::how`]: the packet is in the tunnel.
pub(crate) const TUNNELLED: u32 = 1;
/// Another backend may have the flow.
pub(crate) const ELSEWHERE: u32 = 2;
/// Over IPv6.
const SIX: u32 = 4;
/// Only to tell.
const EXPLAIN: u32 = 8;

/// What the uplink program leaves for the program for cookies, on the same CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    vip: u32,
    backend: u32,
    generation: u32,
    /// See `ListenPlace`.
    namespace: i32,
    how: u32,
    /// 1: the answer was that the packet is to go its ordinary way.
    left: u32,
}

/// Whether cookies are wanted at all.
#[inline(always)]
fn is_on() -> bool {
    node().is_some_and(|node| node.flags & node_flags::SYN_COOKIES != 0)
}

/// Goes on in the program for cookies and does not come back, unless that is not there.
#[inline(always)]
pub(crate) fn hand(ctx: &XdpContext) {
    // SAFETY: nothing is held that would have to be given back.
    unsafe { COOKIE_PROGRAMS.tail_call(ctx, COOKIES) };
}

/// Whether the program for cookies has looked at the packet and left it to the uplink program. Says so once.
#[inline(always)]
pub(crate) fn is_left<M: Mode>() -> bool {
    if M::EXPLAIN || !is_on() {
        return false;
    }
    let Some(ask) = COOKIE_ASK.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own value.
    unsafe {
        let left = (*ask).left != 0;
        (*ask).left = 0;
        left
    }
}

/// Whether the program for cookies is to look at a packet first that came by the uplink and whose flow is not under way.
#[inline(always)]
pub(crate) fn asks_first<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind) -> bool {
    let how = if M::EXPLAIN { EXPLAIN } else { 0 };
    is_on() && !is_left::<M>() && F::asks_first(entry, key, kind.packed(), how)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_first4(entry: *const VipEntry, key: *const FlowKey4, kind: u32, how: u32) -> u32 {
    first::<V4>(entry, key, kind, how).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_first6(entry: *const VipEntry, key: *const FlowKey6, kind: u32, how: u32) -> u32 {
    first::<V6>(entry, key, kind, how).into()
}

/// Of the table's backend, if that is one of this node. VIPs with limits have guards of their own.
#[inline(always)]
fn first<F: Family>(entry: *const VipEntry, key: *const F::Key, packed: u32, how: u32) -> bool {
    if entry.is_null() || key.is_null() {
        return false;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything shorter.
    let (table, previous, flags) = unsafe { ((*entry).table, (*entry).previous, (*entry).flags) };
    let kind = Kind::unpacked(packed);
    if !kind.is_tcp() || kind.flags & RST != 0 || flags & vip_flags::LIMITED != 0 {
        return false;
    }
    // SAFETY: as above.
    let (client, source) = F::source(unsafe { &*key });
    // SAFETY: as above.
    let hash = slot_hash::<F>(client, source, kind, unsafe { &*entry });
    let Some(owner) = of_table(table, hash) else {
        return false;
    };
    let mut how = how;
    if kind.is_syn() {
        if owner.is(backend_flags::GONE) {
            return false;
        }
    } else if of_table(previous, hash).is_some_and(|before| before.index != owner.index) {
        // A backend of this node that sent a cookie has the flow all the same.
        how |= ELSEWHERE;
    }
    // SAFETY: as above.
    let asks = F::asks(unsafe { &*key }, packed, owner.index, how);
    if asks && how & EXPLAIN != 0 {
        note::<Explain>(|decision| {
            decision.hash = hash;
            decision.slot = table.slot(hash).unwrap_or(u32::MAX);
            decision.origin = Origin::Table as u8;
            decision.backend = owner.index;
            decision.generation = owner.backend.generation;
        });
    }
    asks
}

/// Whether the program for cookies is to look at a packet first that a peer sent for a backend of this node, of no known flow.
#[inline(always)]
pub(crate) fn asks<M: Mode, F: Family>(key: &F::Key, kind: Kind, owner: &Owner, how: u32) -> bool {
    let how = if M::EXPLAIN { how | EXPLAIN } else { how };
    is_on() && F::asks(key, kind.packed(), owner.index, how)
}

/// 1 if so. Like every function with a name for the linker the verifier goes through it once.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_asks4(key: *const FlowKey4, kind: u32, index: u32, how: u32) -> u32 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    // A copy: before Linux 6.2 a lookup takes no key out of a caller's memory.
    let key = unsafe { *key };
    wanted::<V4>(&key, key.vip, Kind::unpacked(kind), index, how).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_asks6(key: *const FlowKey6, kind: u32, index: u32, how: u32) -> u32 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let key = unsafe { *key };
    wanted::<V6>(&key, key.vip, Kind::unpacked(kind), index, how | SIX).into()
}

#[inline(always)]
fn wanted<F: Family>(key: &F::Key, vip: u16, kind: Kind, index: u32, how: u32) -> bool {
    // Whose ports are known is no stranger; floods come from ports that are not.
    if !kind.is_tcp() || kind.flags & RST != 0 || F::flow(key).is_some() || F::half(key).is_some() {
        return false;
    }
    let (Some(node), Some(owner)) = (node(), Owner::at(index)) else {
        return false;
    };
    // What tells the VIPs of a shared backend apart is the flow of a SYN.
    if !owner.is(backend_flags::LOCAL) || owner.is(backend_flags::SHARED) {
        return false;
    }
    let vip = u32::from(vip);
    let due = if kind.is_syn() {
        is_flooded(node, vip, how)
    } else {
        was_sent(vip)
    };
    due && leave_word(&owner, vip, how)
}

/// Whether more SYNs come for the VIP than go to its listeners unasked.
#[inline(always)]
fn is_flooded(node: &NodeConfig, vip: u32, how: u32) -> bool {
    let rate = node.syn_threshold;
    if rate == 0 {
        return true;
    }
    let Some(bucket) = SYN_RATES.get_ptr_mut(vip) else {
        return false;
    };
    // SAFETY: this CPU's own value; the clock takes no pointers.
    unsafe {
        let mut after = *bucket;
        let has = after.take(bpf_ktime_get_coarse_ns(), rate, rate);
        if how & EXPLAIN == 0 {
            *bucket = after;
        }
        !has
    }
}

/// Whether a cookie of this VIP may still come back.
#[inline(always)]
fn was_sent(vip: u32) -> bool {
    let last = COOKIE_TIMES.get(vip).copied().unwrap_or(0);
    last != 0 && now().wrapping_sub(last) <= COOKIE_SECONDS
}

/// Tells the program for cookies what it has to know. Not if nobody knows where the backend listens.
#[inline(always)]
fn leave_word(owner: &Owner, vip: u32, how: u32) -> bool {
    let index = owner.index;
    // SAFETY: two words, copied.
    let place = unsafe { LISTEN_PLACES.get(index) }.copied();
    let Some(place) = place.filter(|place| place.generation == owner.backend.generation) else {
        return false;
    };
    if how & EXPLAIN != 0 {
        return true;
    }
    let Some(ask) = COOKIE_ASK.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own value; nothing else runs on it until the packet's end.
    unsafe {
        *ask = Ask {
            vip,
            backend: index,
            generation: place.generation,
            namespace: place.namespace,
            how,
            left: 0,
        };
    }
    true
}

/// Notes down that a cookie of this VIP is on its way.
#[inline(always)]
fn note_sent(vip: u32) {
    if let Some(last) = COOKIE_TIMES.get_ptr_mut(vip) {
        let now = now();
        // SAFETY: one word, the same for all CPUs of this second.
        unsafe {
            if *last != now {
                *last = now;
            }
        }
    }
}

#[inline(always)]
fn count(what: CookieCount) {
    if let Some(counter) = COOKIE_COUNTS.get_ptr_mut(what.index()) {
        // SAFETY: this CPU's own value.
        unsafe { *counter += 1 };
    }
}
