//! SYNs answered with a cookie of the backend's own listener, and what becomes of what comes back.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, TcpListener, TcpStream};

use lb_common::{FlowState, Reason, backend_flags, node_flags};
use lb_userspace::CookieCount;
use tests::pathmodel::{Key, Store};

use super::build::{ACK, FIN, Frame, Peer, SYN, TCP, at};
use super::node::{Node, ip};
use super::tunnel::{wrapped, wrapped_for};
use crate::packets::frame::checksum;
use crate::packets::fuzz::kernel::set_cookies;
use crate::packets::lab;
use crate::packets::lab::OWN;

const LOCAL: u8 = backend_flags::LOCAL;
/// `tcp_syncookies`: each SYN is answered with a cookie; only where there is no room; never.
const EACH: u8 = 2;
const FULL: u8 = 1;
const NEVER: u8 = 0;
/// 1500 bytes less the tunnel's 50, some for options, and the headers.
const SEGMENT4: u16 = 1400;
const SEGMENT6: u16 = 1380;

/// A node with a VIP for each family whose backend listens; the client, the VIP and the backend of each.
struct Flood {
    node: Node,
    parties: [[Peer; 3]; 2],
    listener: Option<TcpListener>,
}

/// `previous`: the table before has another backend, on another node.
fn flooded(setting: u8, previous: bool) -> Flood {
    let mut node = Node::new();
    set_cookies(setting);
    node.tables.node.flags = node_flags::SYN_COOKIES;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let parties = [
        [at("192.168.7.50", 40_000), at("198.18.2.3", 80), (OWN.into(), port)],
        [at("2001:db8::9", 40_000), at("fd01:c::5", 80), at("fd00::7", port)],
    ];
    let far = [at("192.168.7.2", 31_000), at("fd00:9::7", 31_000)];
    let mut places = BTreeMap::new();
    for ([_, vip, backend], far) in parties.into_iter().zip(far) {
        let index = node.backend(backend, TCP, LOCAL);
        places.insert(index, 7);
        let before = node.backend(far, TCP, 0);
        let before: &[u32] = if previous { &[before] } else { &[] };
        node.vip(vip, TCP, &[index], before);
    }
    node.load();
    node.kernel.set_places(&places);
    Flood {
        node,
        parties,
        listener: Some(listener),
    }
}

impl Flood {
    fn count(&self, what: CookieCount) -> u64 {
        let counts = self.node.kernel.lb.cookie_counts().expect("counts can be read");
        counts.into_iter().find(|(of, _)| *of == what).expect("all are told").1
    }

    fn entry(&self, store: Store, (addr, port): Peer, vip: u16) -> Option<u8> {
        let key = Key {
            family: if addr.is_ipv4() { 4 } else { 6 },
            client: ip(addr),
            port: lb_common::Be16::new(port),
            vip,
        };
        self.node.kernel.flow(store, &key).map(|flow| flow.state)
    }

    /// A SYN gets a cookie, in exactly this frame.
    fn cookie(&mut self, client: Peer, vip: Peer, syn: &[u8], reason: Reason) -> u32 {
        let run = self.node.enters(syn, reason);
        let (at, segment) = if client.0.is_ipv4() {
            (34, SEGMENT4)
        } else {
            (54, SEGMENT6)
        };
        let word: [u8; 4] = run.frame[at + 4..at + 8].try_into().expect("four bytes");
        let cookie = u32::from_be_bytes(word);
        let [high, low] = segment.to_be_bytes();
        let expected = Frame {
            numbers: [cookie, 2],
            options: vec![2, 4, high, low],
            payload: Vec::new(),
            window: segment * 10,
            macs: turned(),
            ..Frame::tcp(vip, client, SYN | ACK)
        };
        assert_eq!(run.frame, expected.build());
        cookie
    }
}

fn turned() -> [u8; 12] {
    let [a, b] = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]];
    [a, b].concat().try_into().expect("two addresses")
}

/// What acknowledges no cookie: those next to one are cookies too, for other segment sizes.
fn wrong(cookie: u32) -> u32 {
    cookie.wrapping_add(1 << 20)
}

fn back(client: Peer, vip: Peer, flags: u8, acknowledged: u32) -> Frame {
    Frame {
        numbers: [2, acknowledged],
        ..Frame::tcp(client, vip, flags)
    }
}

#[test]
fn a_syn_gets_the_listeners_cookie_and_only_what_brings_it_back_becomes_a_flow() {
    let mut flood = flooded(EACH, false);
    for (vip_id, [client, vip, backend]) in (1..).zip(flood.parties) {
        for options in [vec![], vec![2, 4, 5, 0xb4], vec![1, 1, 2, 4, 2, 0, 3, 3, 7, 1, 1, 0]] {
            for payload in [0, 5, 400] {
                let syn = Frame {
                    options: options.clone(),
                    payload: vec![7; payload],
                    ..Frame::tcp(client, vip, SYN)
                };
                let cookie = flood.cookie(client, vip, &syn.build(), Reason::SynCookie);
                let stores = [Store::Flows, Store::Half].map(|store| flood.entry(store, client, vip_id));
                assert_eq!(stores, [None, None], "nothing is remembered of a SYN");
                for wrong in [wrong(cookie), cookie ^ 0x8000_0000, 0] {
                    flood
                        .node
                        .enters(&back(client, vip, ACK, wrong).build(), Reason::BadCookie);
                }
            }
        }
        let cookie = flood.cookie(client, vip, &Frame::tcp(client, vip, SYN).build(), Reason::SynCookie);
        let answer = back(client, vip, ACK, cookie.wrapping_add(1));
        let run = flood.node.enters(&answer.build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame { to: backend, ..answer }.build());
        let established = Some(FlowState::Established as u8);
        assert_eq!(flood.entry(Store::Flows, client, vip_id), established);
        // It is known now: whatever it brings.
        flood
            .node
            .enters(&back(client, vip, ACK, 0).build(), Reason::LocalBackend);
    }
    assert_eq!(flood.count(CookieCount::Accepted), 2);
    assert_eq!(flood.count(CookieCount::Sent), 2 * 10);
    assert_eq!(flood.count(CookieCount::Refused), 2 * 27);
}

#[test]
fn on_a_veth_cookies_leave_by_redirect_and_a_cookie_may_come_back_with_an_end() {
    let mut flood = flooded(EACH, false);
    flood.node.tables.node.flags |= node_flags::REDIRECT;
    flood.node.kernel.set_node(&flood.node.tables);
    for (vip_id, [client, vip, _]) in (1..).zip(flood.parties) {
        let syn = Frame::tcp(client, vip, SYN).build();
        let cookie = flood.cookie(client, vip, &syn, Reason::CookieRedirected);
        let end = back(client, vip, ACK | FIN, cookie.wrapping_add(1));
        flood.node.enters(&end.build(), Reason::LocalBackend);
        let closing = Some(FlowState::Closing as u8);
        assert_eq!(flood.entry(Store::Flows, client, vip_id), closing);
    }
}

#[test]
fn a_listener_with_room_or_without_cookies_gets_the_syn() {
    for setting in [FULL, NEVER] {
        let mut flood = flooded(setting, false);
        for (vip_id, [client, vip, backend]) in (1..).zip(flood.parties) {
            let syn = Frame::tcp(client, vip, SYN);
            let run = flood.node.enters(&syn.build(), Reason::LocalBackend);
            assert_eq!(run.frame, Frame { to: backend, ..syn }.build());
            let opening = Some(FlowState::Opening as u8);
            assert_eq!(flood.entry(Store::Half, client, vip_id), opening);
        }
        assert_eq!(flood.count(CookieCount::NotNeeded), 2, "{setting}");
        assert_eq!(flood.count(CookieCount::Sent), 0, "{setting}");
    }
    let mut flood = flooded(EACH, false);
    flood.listener.take();
    for [client, vip, _] in flood.parties {
        let syn = Frame::tcp(client, vip, SYN).build();
        flood.node.enters(&syn, Reason::LocalBackend);
    }
    assert_eq!(flood.count(CookieCount::NotPossible), 2, "nobody listens");
}

#[test]
fn who_is_known_and_who_cannot_be_asked_goes_the_ordinary_way() {
    let mut flood = flooded(EACH, false);
    for [client, vip, _] in flood.parties {
        let syn = Frame::tcp(client, vip, SYN).build();
        for (flags, reason) in [
            (0, Reason::LocalBackend),
            // The same SYN again, of a flow that is half open.
            (node_flags::SYN_COOKIES, Reason::LocalBackend),
        ] {
            flood.node.tables.node.flags = flags;
            flood.node.kernel.set_node(&flood.node.tables);
            flood.node.enters(&syn, reason);
        }
        // Before any cookie was sent nobody looks for one.
        let other = (client.0, 40_001);
        flood
            .node
            .enters(&back(other, vip, ACK, 9).build(), Reason::LocalBackend);
        // Parts, and what begins and ends at once.
        let third = (client.0, 40_002);
        flood
            .node
            .enters(&Frame::tcp(third, vip, SYN | FIN).build(), Reason::LocalBackend);
    }
    // Another owner of the index: nobody knows where that one listens.
    let mut flood = flooded(EACH, false);
    for backend in &mut flood.node.tables.backends {
        backend.generation += 1;
    }
    for index in 0..flood.node.tables.backends.len() {
        flood.node.kernel.set_backend(&flood.node.tables, index);
    }
    for [client, vip, _] in flood.parties {
        flood
            .node
            .enters(&Frame::tcp(client, vip, SYN).build(), Reason::LocalBackend);
    }
}

#[test]
fn below_the_rate_nobody_is_asked_above_it_each() {
    for (rate, all) in [(1_000_000, true), (1, false)] {
        let mut flood = flooded(EACH, false);
        flood.node.tables.node.syn_threshold = rate;
        flood.node.kernel.set_node(&flood.node.tables);
        let [client, vip, _] = flood.parties[0];
        for port in 0..200 {
            let syn = Frame::tcp((client.0, 1024 + port), vip, SYN).build();
            let run = flood.node.kernel.run(crate::packets::fuzz::grammar::Way::In, &syn);
            run.expect("a frame that the kernel takes");
        }
        let sent = flood.count(CookieCount::Sent);
        // One a second is let through unasked; two hundred take no hundred seconds.
        let right = if all { sent == 0 } else { (100..200).contains(&sent) };
        assert!(right, "{sent} of 200 at {rate} a second");
    }
}

#[test]
fn a_right_cookie_comes_before_the_previous_backend_and_a_wrong_one_goes_there() {
    let mut flood = flooded(EACH, true);
    flood.node.tables.node.flags |= node_flags::REDIRECT;
    flood.node.kernel.set_node(&flood.node.tables);
    for [client, vip, _] in flood.parties {
        let syn = Frame::tcp(client, vip, SYN).build();
        let cookie = flood.cookie(client, vip, &syn, Reason::CookieRedirected);
        let other = (client.0, 40_009);
        flood.node.enters(
            &back(other, vip, ACK, cookie.wrapping_add(1)).build(),
            Reason::TunnelRedirected,
        );
        let right = back(client, vip, ACK, cookie.wrapping_add(1)).build();
        flood.node.enters(&right, Reason::LocalBackend);
    }
    assert_eq!(flood.count(CookieCount::Elsewhere), 2);
}

#[test]
fn a_connection_that_the_kernel_has_is_no_strangers() {
    let mut flood = flooded(EACH, true);
    lab::ip("link set lo up");
    let [client, vip, backend] = flood.parties[0];
    let syn = Frame::tcp((client.0, 39_999), vip, SYN).build();
    flood.cookie((client.0, 39_999), vip, &syn, Reason::SynCookie);
    // The VIP's client is a socket of this very namespace, so that there is a connection to find.
    lab::ip(&format!("addr add {}/32 dev lo", client.0));
    lab::ip(&format!(
        "route replace local {}/32 dev lo src {} table local",
        backend.0, client.0
    ));
    let stream = TcpStream::connect(backend).expect("it listens");
    let from = stream.local_addr().expect("bound");
    assert_eq!(from.ip(), client.0, "the client's address");
    let data = back((from.ip(), from.port()), vip, ACK, 77).build();
    flood.node.enters(&data, Reason::LocalBackend);
    assert_eq!(flood.count(CookieCount::Known), 1);
}

#[test]
fn what_came_through_the_tunnel_is_answered_straight_to_the_client() {
    let mut flood = flooded(EACH, false);
    lab::ip("neigh replace 192.168.7.50 lladdr 02:00:00:00:00:32 dev up0 nud permanent");
    let [client, vip, backend] = flood.parties[0];
    let syn = Frame::tcp(client, vip, SYN).build();
    let tunnelled = wrapped_for(backend, &syn);
    let run = flood.node.enters(&tunnelled, Reason::SynCookie);
    let cookie = u32::from_be_bytes(run.frame[38..42].try_into().expect("four bytes"));
    let mut macs = [2, 0, 0, 0, 0, 0x32].to_vec();
    macs.extend(flood.node.kernel.mac);
    let expected = Frame {
        numbers: [cookie, 2],
        options: vec![2, 4, 5, 0x78],
        payload: Vec::new(),
        window: SEGMENT4 * 10,
        macs: macs.try_into().expect("two addresses"),
        ..Frame::tcp(vip, client, SYN | ACK)
    };
    assert_eq!(run.frame, expected.build());
    assert_eq!(checksum(&run.frame[14..34]), 0);
    let refused = wrapped_for(backend, &back(client, vip, ACK, wrong(cookie)).build());
    flood.node.enters(&refused, Reason::BadCookie);
    // Somebody else may have the flow that is none of ours.
    let far = super::tunnel::tag(at("192.168.7.2", 31_000));
    let other = wrapped(50_000, far, backend, &back(client, vip, ACK, wrong(cookie)).build());
    flood.node.enters(&other, Reason::SecondChance);
    let mut flood = flooded(EACH, false);
    lab::ip("neigh replace 192.168.7.50 lladdr 02:00:00:00:00:32 dev up0 nud permanent");
    let tunnelled = wrapped_for(backend_of(&flood), &syn);
    let run = flood.node.enters(&tunnelled, Reason::SynCookie);
    let cookie = u32::from_be_bytes(run.frame[38..42].try_into().expect("four bytes"));
    let right = back(client, vip, ACK, cookie.wrapping_add(1)).build();
    let run = flood
        .node
        .enters(&wrapped_for(backend_of(&flood), &right), Reason::TunnelDelivered);
    let expected = Frame {
        to: backend_of(&flood),
        ..back(client, vip, ACK, cookie.wrapping_add(1))
    };
    assert_eq!(run.frame[14..], expected.build()[14..]);
    assert_eq!(flood.entry(Store::Flows, client, 1), Some(FlowState::Established as u8));
    // No way to this client is known: the stack answers it.
    let [client, vip, backend] = flood.parties[1];
    let syn = wrapped_for(backend, &Frame::tcp(client, vip, SYN).build());
    flood.node.enters(&syn, Reason::TunnelDelivered);
    assert_eq!(flood.count(CookieCount::NotPossible), 1);
}

fn backend_of(flood: &Flood) -> Peer {
    flood.parties[0][2]
}
