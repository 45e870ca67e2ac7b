//! Flows over time: opening, closing, ports used again, backends that go, limits.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData};
use lb_common::{FlowState, Reason, TableRange, VipOptions, backend_flags, vip_flags};
use tests::pathmodel::Store;

use super::build::{ACK, FIN, Frame, Peer, RST, SYN, TCP, UDP, at};
use super::node::{Node, ip};
use crate::packets::fuzz::kernel::open;

const LOCAL: u8 = backend_flags::LOCAL;

fn client() -> Peer {
    at("192.0.2.9", 40_000)
}

fn vip() -> Peer {
    at("198.18.2.3", 80)
}

fn backends() -> [Peer; 2] {
    [at("10.0.0.5", 8080), at("10.0.0.6", 8080)]
}

/// The state of the one flow, in one of the tables.
fn state(node: &Node, store: Store) -> Option<u8> {
    let key = tests::pathmodel::Key {
        family: 4,
        client: ip(client().0),
        port: lb_common::Be16::new(client().1),
        vip: 1,
    };
    node.kernel.flow(store, &key).map(|flow| flow.state)
}

fn two_backends(protocol: u8) -> Node {
    let mut node = Node::new();
    let [first, second] = backends();
    node.backend(first, protocol, LOCAL);
    node.backend(second, protocol, LOCAL);
    node.vip(vip(), protocol, &[0], &[]);
    node.tables.backends[1].vip = 1;
    node.load();
    node
}

#[test]
fn a_connection_opens_closes_and_its_ports_are_used_again_elsewhere() {
    let mut node = two_backends(TCP);
    let [first, second] = backends();
    let enter = |node: &mut Node, flags: u8, backend: Peer| {
        let run = node.enters(&Frame::tcp(client(), vip(), flags).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client(), backend, flags).build());
    };
    let leave = |node: &mut Node, flags: u8, backend: Peer| {
        let run = node.leaves(&Frame::tcp(backend, client(), flags).build(), Reason::Restored);
        assert_eq!(run.frame, Frame::tcp(vip(), client(), flags).build());
    };
    enter(&mut node, SYN, first);
    assert_eq!(state(&node, Store::Half), Some(FlowState::Opening as u8));
    assert_eq!(
        state(&node, Store::Flows),
        None,
        "a SYN alone takes no room among flows"
    );
    leave(&mut node, SYN | ACK, first);
    node.turn(vip(), TCP, 1);
    enter(&mut node, SYN, first);
    enter(&mut node, ACK, first);
    assert_eq!(state(&node, Store::Half), None);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Established as u8));
    enter(&mut node, SYN, first);
    enter(&mut node, FIN | ACK, first);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Closing as u8));
    leave(&mut node, FIN | ACK, first);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Closed as u8));
    enter(&mut node, ACK, first);
    enter(&mut node, SYN, second);
    leave(&mut node, SYN | ACK, second);
    leave(&mut node, ACK, first);
    enter(&mut node, ACK, second);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Established as u8));
    enter(&mut node, RST, second);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Closed as u8));
}

#[test]
fn datagrams_of_one_packet_leave_the_flow_table_alone() {
    let mut node = two_backends(UDP);
    let [first, _] = backends();
    for store in [Store::Half, Store::Flows, Store::Flows] {
        let run = node.enters(&Frame::udp(client(), vip()).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::udp(client(), first).build());
        assert_eq!(state(&node, store), Some(FlowState::Datagram as u8));
    }
    assert_eq!(state(&node, Store::Half), None);
}

#[test]
fn flows_of_a_backend_that_is_gone_choose_anew() {
    for protocol in [TCP, UDP] {
        let mut node = two_backends(protocol);
        let [first, second] = backends();
        let frame = |to| Frame {
            protocol,
            ..Frame::tcp(client(), to, if protocol == TCP { ACK } else { 0 })
        };
        for _ in 0..2 {
            let run = node.enters(&frame(vip()).build(), Reason::LocalBackend);
            assert_eq!(run.frame, frame(first).build());
        }
        node.tables.backends[0].generation += 1;
        let tables = node.tables.clone();
        node.kernel.set_backend(&tables, 0);
        node.kernel.set_slots(0, [1, 1]);
        let run = node.enters(&frame(vip()).build(), Reason::LocalBackend);
        assert_eq!(run.frame, frame(second).build());
    }
}

/// This node did not see the end of a flow (its packets came by another way); its backend takes no more connections.
#[test]
fn a_new_flow_with_the_ports_of_one_to_a_draining_backend_is_all_its_own() {
    let mut node = two_backends(TCP);
    let [first, second] = backends();
    for flags in [SYN, ACK] {
        let run = node.enters(&Frame::tcp(client(), vip(), flags).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client(), first, flags).build());
    }
    node.tables.backends[0].flags &= !backend_flags::OPEN;
    let tables = node.tables.clone();
    node.kernel.set_backend(&tables, 0);
    let run = node.enters(&Frame::tcp(client(), vip(), ACK).build(), Reason::LocalBackend);
    assert_eq!(run.frame, Frame::tcp(client(), first, ACK).build());
    node.turn(vip(), TCP, 1);
    for flags in [SYN, ACK] {
        let run = node.enters(&Frame::tcp(client(), vip(), flags).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client(), second, flags).build());
    }
    let run = node.leaves(&Frame::tcp(second, client(), SYN | ACK).build(), Reason::Restored);
    assert_eq!(run.frame, Frame::tcp(vip(), client(), SYN | ACK).build());
}

#[test]
fn limits_hold_new_flows_and_let_known_ones_through() {
    let mut node = two_backends(TCP);
    node.entry(vip(), TCP).flags = vip_flags::LIMITED;
    node.load();
    let mut options: Array<MapData, VipOptions> = open(&node.kernel.folder, "VIP_OPTIONS");
    let mut set = |change: fn(&mut VipOptions)| {
        let mut wanted = VipOptions::default();
        change(&mut wanted);
        options.set(1, wanted, 0).expect("options");
    };
    let syn = |port: u16| Frame::tcp((client().0, port), vip(), SYN).build();
    set(|options| (options.rate, options.burst) = (1, 2));
    node.enters(&syn(1001), Reason::LocalBackend);
    node.enters(&syn(1002), Reason::LocalBackend);
    node.enters(&syn(1003), Reason::RateLimited);
    node.enters(&syn(1002), Reason::LocalBackend);
    node.enters(
        &Frame::tcp((client().0, 1001), vip(), ACK).build(),
        Reason::LocalBackend,
    );
    set(|options| (options.max_flows, options.open) = (5, 5));
    node.enters(&syn(1004), Reason::FlowLimit);
    set(|options| options.sources = 1);
    node.enters(&syn(1005), Reason::SourceRefused);
    let mut sources: LpmTrie<MapData, [u32; 2], u8> = open(&node.kernel.folder, "SOURCES4");
    let network = u32::from_ne_bytes([192, 0, 2, 0]);
    sources.insert(&Key::new(32 + 24, [1, network]), 1, 0).expect("a range");
    node.enters(&syn(1005), Reason::LocalBackend);
    let elsewhere = Frame::tcp(at("192.0.3.9", 1005), vip(), SYN).build();
    node.enters(&elsewhere, Reason::SourceRefused);
}

#[test]
fn a_vip_without_backends_drops_and_explaining_leaves_nothing() {
    let mut node = two_backends(TCP);
    let uplink = node.kernel.uplink;
    let syn = Frame::tcp(client(), vip(), SYN).build();
    let (run, decision) = node.kernel.lb.explain(&syn, uplink).expect("explains");
    assert_eq!(run.frame, Frame::tcp(client(), backends()[0], SYN).build());
    assert_eq!(
        (decision.reason, decision.vip, decision.backend, decision.generation),
        (Reason::LocalBackend.index(), 1, 0, 7)
    );
    assert_eq!((state(&node, Store::Half), state(&node, Store::Flows)), (None, None));
    node.kernel.same_counts();
    node.entry(vip(), TCP).table = TableRange::default();
    node.load();
    assert_eq!(node.enters(&syn, Reason::NoBackend).action, 1);
}

/// A sweep looks at a table first and takes out afterwards; packets do not wait for it.
#[test]
fn a_sweep_leaves_a_flow_alone_that_comes_again_while_it_looks() {
    let mut node = two_backends(TCP);
    let [first, _] = backends();
    let enter = |node: &mut Node, flags: u8| {
        let run = node.enters(&Frame::tcp(client(), vip(), flags).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client(), first, flags).build());
    };
    let tables = node.kernel.lb.flow_tables().expect("flow tables");
    let later = || u32::try_from(lb_userspace::monotonic_seconds()).expect("not so old") + 100;
    for again in [true, false] {
        for flags in [SYN, ACK, RST] {
            enter(&mut node, flags);
        }
        assert_eq!(state(&node, Store::Flows), Some(FlowState::Closed as u8));
        let mut meanwhile = || {
            if again {
                enter(&mut node, SYN);
                enter(&mut node, ACK);
            }
        };
        // The same packets come once for each table.
        let swept = tables.sweep_around(later(), &mut meanwhile).expect("a sweep");
        let left = again.then_some(FlowState::Established as u8);
        assert_eq!(state(&node, Store::Flows), left);
        assert_eq!(swept.ended, u64::from(!again), "{swept:?}");
    }
}

#[test]
fn a_sweep_leaves_flows_to_a_backend_alone_that_came_while_it_looked() {
    let mut node = two_backends(TCP);
    node.tables.backends[0].flags = 0;
    let gone = node.tables.clone();
    node.tables.backends[0].flags = backend_flags::LIVE | backend_flags::OPEN | LOCAL;
    node.tables.backends[0].generation += 1;
    let back = node.tables.clone();
    node.kernel.set_backend(&back, 0);
    node.enters(&Frame::tcp(client(), vip(), SYN).build(), Reason::LocalBackend);
    node.kernel.set_backend(&gone, 0);
    let tables = node.kernel.lb.flow_tables().expect("flow tables");
    let now = u32::try_from(lb_userspace::monotonic_seconds()).expect("not so old");
    let mut come = || node.kernel.set_backend(&back, 0);
    let swept = tables.sweep_around(now, &mut come).expect("a sweep");
    assert_eq!(
        (swept.orphaned, state(&node, Store::Half)),
        (0, Some(FlowState::Opening as u8))
    );
}

#[test]
fn what_comes_long_after_the_end_is_of_another_connection_with_the_same_ports() {
    let mut node = two_backends(TCP);
    let [first, second] = backends();
    let enter = |node: &mut Node, flags: u8, backend: Peer| {
        let run = node.enters(&Frame::tcp(client(), vip(), flags).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client(), backend, flags).build());
    };
    for flags in [SYN, ACK, FIN | ACK] {
        enter(&mut node, flags, first);
    }
    node.leaves(&Frame::tcp(first, client(), FIN | ACK).build(), Reason::Restored);
    node.turn(vip(), TCP, 1);
    // The last acknowledgement.
    enter(&mut node, ACK, first);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Closed as u8));
    node.kernel.silence(11);
    // Another node has seen it begin, with the backend that the table names now.
    enter(&mut node, ACK, second);
    enter(&mut node, ACK, second);
    assert_eq!(state(&node, Store::Flows), Some(FlowState::Established as u8));
}
