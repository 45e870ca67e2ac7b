//! What differs between IPv4 and IPv6, so that the rest is written once.
#![allow(unsafe_code, reason = "map lookups, and packet memory that the parser checked")]

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    Be16, Be32, Checksum, Endpoint, Endpoint4, FlowKey4, FlowKey6, FlowValue, Ip, NodeConfig, Tag, VipEntry,
};

use crate::cookie::{revere_asks4, revere_asks6, revere_first4, revere_first6};
use crate::fragment::{revere_remember4, revere_remember6};
use crate::headers::{IPV4, IPV6, Ipv4, Ipv6};
use crate::icmp::{ICMP4, ICMP6, revere_error_inside4, revere_error_inside6, revere_error4, revere_error6};
use crate::maps::{FLOWS4, FLOWS6, HALF4, HALF6, OWN6, Owner, VIPS4, VIPS6};
use crate::mode::Mode;
use crate::nat;
use crate::packet::Kind;
use crate::parse::FRAGMENT;
use crate::reply::reset::{revere_reset4, revere_reset6};
use crate::reply::too_big::{revere_too_big4, revere_too_big6};
use crate::settle::{
    revere_arrive4, revere_arrive6, revere_cut_off4, revere_cut_off6, revere_explain_arrive4, revere_explain_arrive6,
    revere_explain_settle4, revere_explain_settle6, revere_settle4, revere_settle6,
};
use crate::shared::{revere_among4, revere_among6, revere_conflict4, revere_conflict6, revere_taken4, revere_taken6};

/// One of the two families.
pub(crate) trait Family: Sized {
    type Addr: Copy + PartialEq + 'static;
    type Header: 'static;
    type Key: Copy;
    const ETHER: Be16;
    const NUMBER: u8;
    /// Its ICMP.
    const ICMP: u8;
    /// Bytes of an IP and a TCP header without options.
    const HEADERS: u16;

    fn vip(addr: Self::Addr, port: Be16, protocol: u8) -> Option<&'static VipEntry>;
    fn in_range(node: &NodeConfig, addr: Self::Addr) -> bool;
    /// See `nat`.
    fn is_translated(node: &NodeConfig, server: Self::Addr, kind: Kind) -> bool;
    /// What translated packets leave with, and where answers to them come.
    fn own(node: &NodeConfig) -> Option<&Self::Addr>;
    fn key(client: Self::Addr, port: Be16, vip: u16) -> Self::Key;
    fn flow(key: &Self::Key) -> Option<&'static mut FlowValue>;
    fn half(key: &Self::Key) -> Option<&'static mut FlowValue>;
    fn insert_flow(key: &Self::Key, value: &FlowValue);
    /// Fails when there is one and `flags` say that there must be none.
    fn insert_half(key: &Self::Key, value: &FlowValue, flags: u64) -> Result<(), i32>;
    fn remove_half(key: &Self::Key);
    /// Client and its port, out of a key.
    fn source(key: &Self::Key) -> (Self::Addr, Be16);
    /// See `settle`.
    fn settle<M: Mode>(entry: &VipEntry, key: &Self::Key, kind: u32) -> u64;
    /// See `settle`.
    fn arrive<M: Mode>(key: &Self::Key, kind: u32, wanted: u32, alternate: u32) -> u64;
    /// See `icmp`.
    fn error(ctx: *mut xdp_md, how: u64) -> u32;
    /// See `icmp`.
    fn error_inside(ctx: *mut xdp_md, how: u64) -> u32;
    /// See `settle`.
    fn cut_off(key: &Self::Key, flags: u32, kind: u32) -> bool;
    /// Whether what has ports is the first part of a packet.
    fn is_first(header: &Self::Header) -> bool;
    /// See `fragment`.
    fn remember(ctx: *mut xdp_md, at: usize, vip: u32, owner: &Owner, ports: u32);
    /// See `reply::reset`.
    fn reset(ctx: *mut xdp_md, explain: bool) -> u32;
    /// See `reply::too_big`.
    fn too_big(ctx: *mut xdp_md, how: u32) -> u32;
    /// Whether the client's port reaches a backend through another VIP than the key's.
    fn conflict(key: &Self::Key, index: u32) -> bool;
    /// See `cookie`.
    fn asks_first(entry: &VipEntry, key: &Self::Key, kind: u32, how: u32) -> bool;
    /// See `cookie`.
    fn asks(key: &Self::Key, kind: u32, index: u32, how: u32) -> bool;
    /// Whether a flow holds a backend.
    fn taken(key: &Self::Key, index: u32) -> bool;
    /// The VIP through which a client reaches a shared backend of this node, 0 if through none.
    fn among(client: Self::Addr, port: Be16, index: u32, flags: u8) -> u32;
    fn src(header: &Self::Header) -> Self::Addr;
    fn dst(header: &Self::Header) -> Self::Addr;
    /// Whether it can be the address of one host on a network.
    fn is_one_host(addr: Self::Addr) -> bool;
    fn widen(addr: Self::Addr) -> Ip;
    #[inline(always)]
    fn narrow(addr: &Ip) -> Self::Addr {
        *Self::within(addr)
    }
    /// The same where it stands.
    fn within(addr: &Ip) -> &Self::Addr;
    fn tag(addr: Self::Addr, port: Be16, protocol: u8) -> Tag;
    /// The change to a sum over both addresses.
    fn moved(old: Self::Addr, new: Self::Addr) -> Checksum;
    /// Whether the packet may take another hop.
    fn may_hop(header: &Self::Header) -> bool;
    /// Puts a new destination in; `hop` takes one off the hops left.
    fn redirect(header: &mut Self::Header, new: Self::Addr, moved: Checksum, hop: bool);
    /// Puts a new source in; `redirect` is told what that changes.
    fn set_src(header: &mut Self::Header, new: Self::Addr);
}

pub(crate) struct V4;

impl Family for V4 {
    type Addr = Be32;
    type Header = Ipv4;
    type Key = FlowKey4;
    const ETHER: Be16 = IPV4;
    const NUMBER: u8 = 4;
    const ICMP: u8 = ICMP4;
    const HEADERS: u16 = 40;

    #[inline(always)]
    fn vip(addr: Be32, port: Be16, protocol: u8) -> Option<&'static VipEntry> {
        // SAFETY: user space replaces entries whole, and the words that matter are read as ones.
        unsafe { VIPS4.get(Endpoint4::new(addr, port, protocol)) }
    }

    #[inline(always)]
    fn in_range(node: &NodeConfig, addr: Be32) -> bool {
        addr.raw() & node.vip_mask.raw() == node.vip_network.raw()
    }

    #[inline(always)]
    fn is_translated(node: &NodeConfig, server: Be32, kind: Kind) -> bool {
        nat::concerns(node, server, kind.dest, kind.is_tcp())
    }

    #[inline(always)]
    fn own(node: &NodeConfig) -> Option<&Be32> {
        Some(&node.own.0[3])
    }

    #[inline(always)]
    fn key(client: Be32, port: Be16, vip: u16) -> FlowKey4 {
        FlowKey4 { client, port, vip }
    }

    #[inline(always)]
    fn flow(key: &FlowKey4) -> Option<&'static mut FlowValue> {
        // SAFETY: the entry stays mapped while the program runs; its fields are plain words.
        FLOWS4.get_ptr_mut(key).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn half(key: &FlowKey4) -> Option<&'static mut FlowValue> {
        // SAFETY: as above.
        HALF4.get_ptr_mut(key).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn insert_flow(key: &FlowKey4, value: &FlowValue) {
        // A flow that could not be remembered still gets the table's backend.
        let _ = FLOWS4.insert(key, value, 0);
    }

    #[inline(always)]
    fn insert_half(key: &FlowKey4, value: &FlowValue, flags: u64) -> Result<(), i32> {
        HALF4.insert(key, value, flags)
    }

    #[inline(always)]
    fn remove_half(key: &FlowKey4) {
        // Another CPU may have been faster.
        let _ = HALF4.remove(key);
    }

    #[inline(always)]
    fn source(key: &FlowKey4) -> (Be32, Be16) {
        (key.client, key.port)
    }

    #[inline(always)]
    fn settle<M: Mode>(entry: &VipEntry, key: &FlowKey4, kind: u32) -> u64 {
        if M::EXPLAIN {
            revere_explain_settle4(entry, key, kind)
        } else {
            revere_settle4(entry, key, kind)
        }
    }

    #[inline(always)]
    fn arrive<M: Mode>(key: &FlowKey4, kind: u32, wanted: u32, alternate: u32) -> u64 {
        if M::EXPLAIN {
            revere_explain_arrive4(key, kind, wanted, alternate)
        } else {
            revere_arrive4(key, kind, wanted, alternate)
        }
    }

    #[inline(always)]
    fn error(ctx: *mut xdp_md, how: u64) -> u32 {
        revere_error4(ctx, how)
    }

    #[inline(always)]
    fn error_inside(ctx: *mut xdp_md, how: u64) -> u32 {
        revere_error_inside4(ctx, how)
    }

    #[inline(always)]
    fn cut_off(key: &FlowKey4, flags: u32, kind: u32) -> bool {
        revere_cut_off4(key, flags, kind) != 0
    }

    #[inline(always)]
    fn is_first(header: &Ipv4) -> bool {
        header.has_more()
    }

    #[inline(always)]
    fn remember(ctx: *mut xdp_md, at: usize, vip: u32, owner: &Owner, ports: u32) {
        revere_remember4(
            ctx,
            (at as u32) << 16 | vip,
            owner.index,
            owner.backend.generation,
            ports,
        );
    }

    #[inline(always)]
    fn reset(ctx: *mut xdp_md, explain: bool) -> u32 {
        revere_reset4(ctx, explain.into())
    }

    #[inline(always)]
    fn too_big(ctx: *mut xdp_md, how: u32) -> u32 {
        revere_too_big4(ctx, how)
    }

    #[inline(always)]
    fn conflict(key: &FlowKey4, index: u32) -> bool {
        revere_conflict4(key.client.raw(), key.port.raw().into(), key.vip.into(), index) != 0
    }

    #[inline(always)]
    fn asks_first(entry: &VipEntry, key: &FlowKey4, kind: u32, how: u32) -> bool {
        revere_first4(entry, key, kind, how) != 0
    }

    #[inline(always)]
    fn asks(key: &FlowKey4, kind: u32, index: u32, how: u32) -> bool {
        revere_asks4(key, kind, index, how) != 0
    }

    #[inline(always)]
    fn taken(key: &FlowKey4, index: u32) -> bool {
        revere_taken4(key.client.raw(), key.port.raw().into(), key.vip.into(), index) != 0
    }

    #[inline(always)]
    fn among(client: Be32, port: Be16, index: u32, flags: u8) -> u32 {
        revere_among4(client.raw(), port.raw().into(), index, flags.into())
    }

    #[inline(always)]
    fn src(header: &Ipv4) -> Be32 {
        header.src
    }

    #[inline(always)]
    fn dst(header: &Ipv4) -> Be32 {
        header.dst
    }

    #[inline(always)]
    fn is_one_host(addr: Be32) -> bool {
        let first = addr.get() >> 24;
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn widen(addr: Be32) -> Ip {
        Ip::v4(addr)
    }

    #[inline(always)]
    fn within(addr: &Ip) -> &Be32 {
        &addr.0[3]
    }

    #[inline(always)]
    fn tag(addr: Be32, port: Be16, protocol: u8) -> Tag {
        Tag::v4(addr, port, protocol)
    }

    #[inline(always)]
    fn moved(old: Be32, new: Be32) -> Checksum {
        Checksum::new().replace32(old, new)
    }

    #[inline(always)]
    fn may_hop(header: &Ipv4) -> bool {
        header.ttl > 1
    }

    #[inline(always)]
    fn redirect(header: &mut Ipv4, new: Be32, moved: Checksum, hop: bool) {
        let mut change = moved;
        if hop {
            let word = |ttl: u8| Be16::new((u16::from(ttl) << 8) | u16::from(header.protocol));
            change = change.replace16(word(header.ttl), word(header.ttl - 1));
            header.ttl -= 1;
        }
        header.checksum = change.apply(header.checksum);
        header.dst = new;
    }

    #[inline(always)]
    fn set_src(header: &mut Ipv4, new: Be32) {
        header.src = new;
    }
}

pub(crate) struct V6;

impl Family for V6 {
    type Addr = Ip;
    type Header = Ipv6;
    type Key = FlowKey6;
    const ETHER: Be16 = IPV6;
    const NUMBER: u8 = 6;
    const ICMP: u8 = ICMP6;
    const HEADERS: u16 = 60;

    #[inline(always)]
    fn vip(addr: Ip, port: Be16, protocol: u8) -> Option<&'static VipEntry> {
        // SAFETY: user space replaces entries whole, and the words that matter are read as ones.
        unsafe { VIPS6.get(Endpoint::new(addr, port, protocol)) }
    }

    #[inline(always)]
    fn in_range(node: &NodeConfig, addr: Ip) -> bool {
        let network = node.vip6_network;
        network[0].raw() != 0 && addr.0[0] == network[0] && addr.0[1] == network[1]
    }

    #[inline(always)]
    fn is_translated(node: &NodeConfig, server: Ip, kind: Kind) -> bool {
        nat::concerns6(node, server, kind.dest)
    }

    #[inline(always)]
    fn own(_node: &NodeConfig) -> Option<&Ip> {
        // Addresses that packets are routed to begin with something.
        OWN6.get(0).filter(|own| own.0[0].raw() != 0)
    }

    #[inline(always)]
    fn key(client: Ip, port: Be16, vip: u16) -> FlowKey6 {
        FlowKey6 { client, port, vip }
    }

    #[inline(always)]
    fn flow(key: &FlowKey6) -> Option<&'static mut FlowValue> {
        // SAFETY: the entry stays mapped while the program runs; its fields are plain words.
        FLOWS6.get_ptr_mut(key).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn half(key: &FlowKey6) -> Option<&'static mut FlowValue> {
        // SAFETY: as above.
        HALF6.get_ptr_mut(key).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn insert_flow(key: &FlowKey6, value: &FlowValue) {
        // A flow that could not be remembered still gets the table's backend.
        let _ = FLOWS6.insert(key, value, 0);
    }

    #[inline(always)]
    fn insert_half(key: &FlowKey6, value: &FlowValue, flags: u64) -> Result<(), i32> {
        HALF6.insert(key, value, flags)
    }

    #[inline(always)]
    fn remove_half(key: &FlowKey6) {
        // Another CPU may have been faster.
        let _ = HALF6.remove(key);
    }

    #[inline(always)]
    fn source(key: &FlowKey6) -> (Ip, Be16) {
        (key.client, key.port)
    }

    #[inline(always)]
    fn settle<M: Mode>(entry: &VipEntry, key: &FlowKey6, kind: u32) -> u64 {
        if M::EXPLAIN {
            revere_explain_settle6(entry, key, kind)
        } else {
            revere_settle6(entry, key, kind)
        }
    }

    #[inline(always)]
    fn arrive<M: Mode>(key: &FlowKey6, kind: u32, wanted: u32, alternate: u32) -> u64 {
        if M::EXPLAIN {
            revere_explain_arrive6(key, kind, wanted, alternate)
        } else {
            revere_arrive6(key, kind, wanted, alternate)
        }
    }

    #[inline(always)]
    fn error(ctx: *mut xdp_md, how: u64) -> u32 {
        revere_error6(ctx, how)
    }

    #[inline(always)]
    fn error_inside(ctx: *mut xdp_md, how: u64) -> u32 {
        revere_error_inside6(ctx, how)
    }

    #[inline(always)]
    fn cut_off(key: &FlowKey6, flags: u32, kind: u32) -> bool {
        revere_cut_off6(key, flags, kind) != 0
    }

    #[inline(always)]
    fn is_first(header: &Ipv6) -> bool {
        header.next == FRAGMENT
    }

    #[inline(always)]
    fn remember(ctx: *mut xdp_md, at: usize, vip: u32, owner: &Owner, ports: u32) {
        revere_remember6(
            ctx,
            (at as u32) << 16 | vip,
            owner.index,
            owner.backend.generation,
            ports,
        );
    }

    #[inline(always)]
    fn reset(ctx: *mut xdp_md, explain: bool) -> u32 {
        revere_reset6(ctx, explain.into())
    }

    #[inline(always)]
    fn too_big(ctx: *mut xdp_md, how: u32) -> u32 {
        revere_too_big6(ctx, how)
    }

    #[inline(always)]
    fn conflict(key: &FlowKey6, index: u32) -> bool {
        revere_conflict6(key, index) != 0
    }

    #[inline(always)]
    fn asks_first(entry: &VipEntry, key: &FlowKey6, kind: u32, how: u32) -> bool {
        revere_first6(entry, key, kind, how) != 0
    }

    #[inline(always)]
    fn asks(key: &FlowKey6, kind: u32, index: u32, how: u32) -> bool {
        revere_asks6(key, kind, index, how) != 0
    }

    #[inline(always)]
    fn taken(key: &FlowKey6, index: u32) -> bool {
        revere_taken6(key, index) != 0
    }

    #[inline(always)]
    fn among(client: Ip, port: Be16, index: u32, flags: u8) -> u32 {
        revere_among6(&Self::key(client, port, 0), index, flags.into())
    }

    #[inline(always)]
    fn src(header: &Ipv6) -> Ip {
        header.src
    }

    #[inline(always)]
    fn dst(header: &Ipv6) -> Ip {
        header.dst
    }

    #[inline(always)]
    fn is_one_host(addr: Ip) -> bool {
        addr.0[0].get() >> 24 != 0xff && (addr.0[0].raw() | addr.0[1].raw() | addr.0[2].raw() | addr.0[3].raw()) != 0
    }

    #[inline(always)]
    fn widen(addr: Ip) -> Ip {
        addr
    }

    #[inline(always)]
    fn within(addr: &Ip) -> &Ip {
        addr
    }

    #[inline(always)]
    fn tag(addr: Ip, port: Be16, protocol: u8) -> Tag {
        Tag::v6(&addr, port, protocol)
    }

    #[inline(always)]
    fn moved(old: Ip, new: Ip) -> Checksum {
        Checksum::new()
            .replace32(old.0[0], new.0[0])
            .replace32(old.0[1], new.0[1])
            .replace32(old.0[2], new.0[2])
            .replace32(old.0[3], new.0[3])
    }

    #[inline(always)]
    fn may_hop(header: &Ipv6) -> bool {
        header.hop_limit > 1
    }

    #[inline(always)]
    fn redirect(header: &mut Ipv6, new: Ip, _moved: Checksum, hop: bool) {
        header.dst = new;
        if hop {
            header.hop_limit -= 1;
        }
    }

    #[inline(always)]
    fn set_src(header: &mut Ipv6, new: Ip) {
        header.src = new;
    }
}
