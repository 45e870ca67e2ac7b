//! A packet for a VIP: which backend it belongs to, and which way there.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_common::{BackendEntry, Reason, Tag, VipEntry, backend_flags, vip_flags};

use crate::choose::Choice;
use crate::family::Family;
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth};
use crate::maps::{Owner, reason};
use crate::mode::{Explain, Live, Mode, note};
use crate::packet::{Kind, Packet, slot_hash};
use crate::reply::too_big;
use crate::tunnel::send::{self, Wrap};
use crate::{cookie, nat, settle, stats, track};

#[inline(always)]
pub(crate) fn forward<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, entry: &VipEntry) -> Reason {
    let (id, len) = (entry.id, packet.len);
    note::<M>(|decision| decision.vip = id);
    let reason = give::<M, F>(ctx, packet, entry, id);
    // The program that is asked counts it, or this one when it comes back.
    if reason != cookie::ASK {
        stats::ended::<M>(id, len, reason);
    }
    reason
}

#[inline(always)]
fn give<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, entry: &VipEntry, id: u32) -> Reason {
    let key = F::key(packet.client(), packet.source, id as u16);
    let settled = match track::under_way::<M, F>(&key, packet.kind) {
        Some(owner) => Ok(Choice::sure(owner)),
        None if cookie::asks_first::<M, F>(entry, &key, packet.kind) => Err(cookie::ASK),
        None => settle::settled::<M, F>(entry, &key, packet.kind),
    };
    let Choice { owner, alternate } = match settled {
        Ok(choice) => choice,
        Err(end) => return refuse::<M, F>(ctx, packet.kind, entry, end),
    };
    note::<M>(|decision| {
        decision.backend = owner.index;
        decision.generation = owner.backend.generation;
    });
    stats::given::<M>(owner.index, packet.len);
    if !M::EXPLAIN && F::is_first(packet.ip()) {
        F::remember(ctx.ctx, ETH_LEN, id, &owner, packet.ports());
    }
    if owner.is(backend_flags::LOCAL) {
        return deliver::<M, F>(ctx, packet, owner.backend);
    }
    if owner.is(backend_flags::BARE) {
        return nat::given::<M, F>();
    }
    let own = tag::<F>(&owner);
    let wrap = Wrap {
        hash: slot_hash::<F>(packet.client(), packet.source, packet.kind, entry),
        len: packet.len,
        kind: F::ETHER,
        tag: own,
        alternate: match alternate {
            sure if sure == owner.index => own,
            other => Owner::at(other).map_or(Tag(0), |other| tag::<F>(&other)),
        },
        redirect: false,
    };
    let sent = send::send::<M>(ctx, owner.backend, &wrap);
    if sent.reason == Reason::TooBig {
        let how = if M::EXPLAIN {
            sent.mtu | too_big::EXPLAIN
        } else {
            sent.mtu
        };
        return reason(F::too_big(ctx.ctx, how));
    }
    sent.reason
}

/// The end of a packet without a backend: the client of a VIP that resets hears it.
#[inline(always)]
fn refuse<M: Mode, F: Family>(ctx: &XdpContext, kind: Kind, entry: &VipEntry, end: Reason) -> Reason {
    let deserted = end == Reason::NoBackend && entry.flags & vip_flags::RESET != 0 && kind.can_be_reset();
    if deserted || end == Reason::ResetReplied {
        return reason(F::reset(ctx.ctx, M::EXPLAIN));
    }
    end
}

/// What the cluster knows a backend by.
#[inline(always)]
pub(crate) fn tag<F: Family>(owner: &Owner) -> Tag {
    F::tag(
        F::narrow(&owner.backend.addr),
        owner.backend.port,
        owner.backend.protocol,
    )
}

/// Gives the packet to a backend of this node.
#[inline(always)]
fn deliver<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, backend: &BackendEntry) -> Reason {
    let past_stack = hops::<F>(backend, packet.ip(), packet.len);
    packet.redirect(F::narrow(&backend.addr), backend.port, past_stack);
    onward::<M>(ctx, backend, past_stack)
}

/// Whether a packet of so many bytes goes to its backend past the stack.
#[inline(always)]
pub(crate) fn hops<F: Family>(backend: &BackendEntry, ip: &F::Header, len: u16) -> bool {
    backend.ifindex != 0 && len <= backend.mtu && F::may_hop(ip)
}

/// What bears its backend's address already leaves by the stack or past it.
#[inline(always)]
pub(crate) fn onward<M: Mode>(ctx: &XdpContext, backend: &BackendEntry, past_stack: bool) -> Reason {
    if !past_stack {
        return Reason::LocalBackend;
    }
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::LocalBackend;
    };
    // SAFETY: checked by `at`.
    unsafe {
        (*eth).src = (*eth).dst;
        (*eth).dst = backend.mac;
    }
    past::<M>(backend.ifindex);
    Reason::LocalRedirected
}

/// As `past`, where the mode is known as a value.
#[inline(always)]
pub(crate) fn leave(ifindex: u32, explain: bool) {
    if explain {
        past::<Explain>(ifindex);
    } else {
        past::<Live>(ifindex);
    }
}

/// Makes the packet leave on an interface.
#[inline(always)]
pub(crate) fn past<M: Mode>(ifindex: u32) {
    note::<M>(|decision| decision.ifindex = ifindex);
    if !M::EXPLAIN {
        // SAFETY: no pointers involved. It only notes the interface down; the verdict comes from the program.
        unsafe { bpf_redirect(ifindex, 0) };
    }
}
