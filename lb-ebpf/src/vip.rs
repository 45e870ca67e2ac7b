//! A packet for a VIP: which backend it belongs to, and which way there.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_common::{BackendEntry, NodeConfig, Reason, Tag, VipEntry, backend_flags, vip_flags};

use crate::choose::{self, Choice};
use crate::family::Family;
use crate::frame::Frame;
use crate::headers::Eth;
use crate::mode::{Mode, note};
use crate::packet::Packet;
use crate::tunnel::send::{self, Wrap};
use crate::{stats, track};

#[inline(always)]
pub(crate) fn forward<M: Mode, F: Family>(
    ctx: &XdpContext,
    node: &NodeConfig,
    packet: &Packet<F>,
    // A copy: the room of an entry that is removed is used again at once.
    entry: VipEntry,
) -> Reason {
    let (id, len) = (entry.id, packet.len);
    note::<M>(|decision| decision.vip = id);
    let reason = give::<M, F>(ctx, node, packet, &entry);
    stats::ended::<M>(id, len, reason);
    reason
}

#[inline(always)]
fn give<M: Mode, F: Family>(ctx: &XdpContext, node: &NodeConfig, packet: &Packet<F>, entry: &VipEntry) -> Reason {
    let key = F::key(packet.client(), packet.source, entry.id as u16);
    let (owner, alternate) = match track::known::<M, F>(packet, &key) {
        Some(owner) => (owner, Tag(0)),
        None => match choose::choose::<M, F>(node, packet, entry, &key) {
            Ok(Choice { owner, alternate }) => (owner, alternate),
            Err(reason) => return reason,
        },
    };
    note::<M>(|decision| {
        decision.backend = owner.index;
        decision.generation = owner.backend.generation;
    });
    stats::given::<M>(owner.index, packet.len);
    if owner.is(backend_flags::LOCAL) {
        return deliver::<M, F>(ctx, packet, owner.backend);
    }
    if owner.is(backend_flags::BARE) {
        return Reason::NoRoute;
    }
    let wrap = Wrap {
        hash: packet.hash(entry.flags & vip_flags::AFFINITY != 0),
        len: packet.len,
        kind: F::ETHER,
        tag: F::tag(
            F::narrow(&owner.backend.addr),
            owner.backend.port,
            owner.backend.protocol,
        ),
        alternate,
        redirect: false,
    };
    send::send::<M>(ctx, owner.backend, &wrap)
}

/// Gives the packet to a backend of this node.
#[inline(always)]
fn deliver<M: Mode, F: Family>(ctx: &XdpContext, packet: &Packet<F>, backend: &BackendEntry) -> Reason {
    let past_stack = backend.ifindex != 0 && F::may_hop(packet.ip());
    packet.redirect(F::narrow(&backend.addr), backend.port, past_stack);
    if !past_stack {
        return Reason::LocalBackend;
    }
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::LocalBackend;
    };
    // SAFETY: checked by `at`.
    unsafe {
        (*eth).dst = backend.mac;
        (*eth).src = backend.from_mac;
    }
    past::<M>(backend.ifindex);
    Reason::LocalRedirected
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
