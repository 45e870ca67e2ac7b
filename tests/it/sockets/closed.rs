//! A backend that stops listening is chosen by nobody from that moment on, before the daemon has heard of it; one that
//! listens again is back.

use std::net::{SocketAddr, TcpListener, TcpStream};

use aya::maps::{Array, Map, MapData};
use lb_common::Guard;
use model::Protocol;

use super::connect::listener;
use super::lab::{Lab, OWN, Vip, ip, vip4};

/// Connections of one go: enough to meet each of two backends.
const MANY: usize = 64;

fn told(lab: &mut Lab, backends: &[(SocketAddr, u16)]) {
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, backends)]);
    lab.lb.tell_listeners(true).expect("the kernel lists sockets");
}

/// Opens connections through the VIP; how many reached this listener.
fn reached(listener: &TcpListener, held: &mut Vec<TcpStream>) -> usize {
    for _ in 0..MANY {
        held.push(TcpStream::connect(vip4()).expect("somebody listens"));
    }
    listener.set_nonblocking(true).expect("a listener");
    listener.incoming().map_while(Result::ok).count()
}

#[test]
fn whoever_closes_the_listening_socket_is_out_at_once_and_back_when_it_listens_again() {
    let mut lab = Lab::new();
    let (first, first_at) = listener(vip4(), 1);
    let (second, second_at) = listener(vip4(), 2);
    told(&mut lab, &[(first_at, 1), (second_at, 1)]);
    let mut held = Vec::new();
    let both = reached(&first, &mut held);
    assert!(both > 0 && both < MANY, "{both} of {MANY}");
    drop(second);
    // No word to the daemon: the kernel alone has seen the end.
    assert_eq!(reached(&first, &mut held), MANY, "nobody is given the one that is gone");
    let again = TcpListener::bind(second_at).expect("the port is free again");
    lab.lb.tell_listeners(false).expect("the kernel lists sockets");
    let back = reached(&again, &mut held);
    assert!(back > 0, "it listens again");
    // And its end is seen once more.
    let _ = reached(&first, &mut held);
    drop(again);
    assert_eq!(reached(&first, &mut held), MANY);
}

#[test]
fn a_backend_ends_with_its_last_descriptor_and_the_only_one_is_asked_all_the_same() {
    let mut lab = Lab::new();
    let (first, at) = listener(vip4(), 1);
    told(&mut lab, &[(at, 1)]);
    // As a server does that hands its socket over to its successor.
    let inherited = first.try_clone().expect("a second descriptor");
    drop(first);
    let mut held = Vec::new();
    assert_eq!(reached(&inherited, &mut held), MANY, "a descriptor is left");
    drop(inherited);
    assert!(TcpStream::connect(vip4()).is_err(), "now it refuses");
    let successor = TcpListener::bind(at).expect("the port is free again");
    // The only backend there is: it is asked although it is marked.
    assert_eq!(reached(&successor, &mut held), MANY);
}

#[test]
fn a_socket_that_is_no_backends_is_nobodys_end() {
    let mut lab = Lab::new();
    let (first, at) = listener(vip4(), 1);
    told(&mut lab, &[(at, 1)]);
    let other = TcpListener::bind((at.ip(), 0)).expect("a port");
    drop(other);
    let mut held = Vec::new();
    assert_eq!(reached(&first, &mut held), MANY);
}

#[test]
fn the_port_of_whoever_closes_at_the_nodes_own_address_is_marked_and_unmarked() {
    let mut lab = Lab::configured(|config| config.nat_ports = Some(61_000..=61_999));
    ip(&format!("addr add {OWN}/32 dev lo"));
    let listener = TcpListener::bind((OWN, 0)).expect("a port");
    let at = listener.local_addr().expect("bound");
    told(&mut lab, &[(at, 1)]);
    let data = MapData::from_pin(lab.pins().join("maps/GUARDS")).expect("a pinned map");
    let guards: Array<MapData, Guard> = Map::Array(data).try_into().expect("an array");
    let guard = || guards.get(&u32::from(at.port()), 0).expect("a port");
    assert!(guard().vip() != 0 && !guard().is_over(), "{:?}", guard());
    drop(listener);
    assert!(guard().is_over(), "{:?}", guard());
    let _listener = TcpListener::bind(at).expect("the port is free again");
    lab.lb.tell_listeners(false).expect("the kernel lists sockets");
    assert!(guard().vip() != 0 && !guard().is_over(), "{:?}", guard());
}
