//! A daemon that finds the maps of layout 1: flows go on, the hooks are never without a program, and what cannot be taken over is left
//! as it was.

use std::net::Ipv4Addr;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, MapData};
use lb_common::{LAYOUT_VERSION, SlotPair};
use lb_userspace::{Lb, OpenError, Reason, observe};

use crate::packets::frame::{ACK, SYN, Spec, addr, port};
use crate::packets::lab::{CLIENT, LOCAL, Lab, OWN, PEER, REMOTE, VIP, config};

/// Clients, each with a flow to one of two backends in turn, whatever its hash says.
const CLIENTS: u16 = 64;

const INNER_IP: usize = 64;

/// Takes no more connections, so that no slot names it, and has one.
const DRAINING: (Ipv4Addr, u16) = (OWN, 31_009);
const STAYS: (Ipv4Addr, u16) = (CLIENT.0, 42_000);

fn v4(addr: Ipv4Addr) -> [u8; 16] {
    addr.to_ipv6_mapped().octets()
}

fn bytes<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    parts.concat().try_into().expect("as long as the layout says")
}

fn backend(at: (Ipv4Addr, u16), flags: u8, generation: u32) -> [u8; 40] {
    let port = at.1.to_be_bytes();
    bytes(&[&v4(at.0), &v4(at.0), &port, &[6, flags], &generation.to_ne_bytes()])
}

fn flow_key(client: (Ipv4Addr, u16), server: (Ipv4Addr, u16)) -> [u8; 40] {
    let (from, to) = (client.1.to_be_bytes(), server.1.to_be_bytes());
    bytes(&[&v4(client.0), &v4(server.0), &from, &to, &[6, 0, 0, 0]])
}

fn array<V: Pod>(folder: &Path, name: &str, values: &[V]) {
    let rooms = u32::try_from(values.len()).expect("few");
    let mut map: Array<MapData, V> = Array::create(rooms, 0).expect("a map");
    for (index, value) in (0..).zip(values) {
        map.set(index, *value, 0).expect("written");
    }
    map.pin(folder.join(name)).expect("pinned");
}

fn hash<K: Pod, V: Pod>(folder: &Path, name: &str, entries: &[(K, V)]) {
    let mut map: HashMap<MapData, K, V> = HashMap::create(1024, 0).expect("a map");
    for (key, value) in entries {
        map.insert(*key, *value, 0).expect("written");
    }
    map.pin(folder.join(name)).expect("pinned");
}

fn of(number: u16) -> (Ipv4Addr, u16) {
    (CLIENT.0, 41_000 + number)
}

/// Index of the backend that the client's flow has: of those whose client opened no flow here but by the tunnel, the local one.
fn chosen(number: u16) -> u32 {
    u32::from(number % 2)
}

/// The daemon goes; its pinned maps are those of an older one from here on. Its hooks stay.
fn age(lab: Lab, version: u32) -> (crate::packets::lab::Folder, u32) {
    let Lab { lb, uplink, folder } = lab;
    drop(lb);
    let maps = folder.path().join("bpf/maps");
    for entry in std::fs::read_dir(&maps).expect("pins") {
        std::fs::remove_file(entry.expect("a pin").path()).expect("removed");
    }
    array(&maps, "LAYOUT", &[version]);
    array(&maps, "NODE", &[bytes::<32>(&[&v4(OWN), &[0; 16]])]);
    array(
        &maps,
        "BACKENDS",
        &[
            backend(LOCAL, 7, 5),
            backend(REMOTE, 3, 9),
            backend((PEER, 1), 0, 2),
            backend(DRAINING, 5, 1),
        ],
    );
    array(&maps, "SLOTS", &[SlotPair([9, 9]), SlotPair([0, 1]), SlotPair([1, 0])]);
    let vip: [u8; 20] = bytes(&[&v4(VIP.0), &VIP.1.to_be_bytes(), &[6, 0]]);
    hash(&maps, "VIPS", &[(vip, [2_u64 << 32 | 3, 77])]);
    hash(&maps, "PEERS", &[(v4(PEER), 0_u32)]);
    // Two thirds by the way there, the rest by the way back.
    let there = (0..CLIENTS).filter(|number| number % 3 != 0 || chosen(*number) == 1);
    let there: Vec<_> = there
        .map(|number| {
            let generation = if chosen(number) == 0 { 5 } else { 9 };
            (flow_key(of(number), VIP), [chosen(number), generation, 2, 0])
        })
        .collect();
    let there: Vec<_> = there
        .into_iter()
        .chain([(flow_key(STAYS, VIP), [3, 1, 2, 0])])
        .collect();
    hash(&maps, "FLOWS", &there);
    let back = (0..CLIENTS).filter(|number| number % 3 == 0 && chosen(*number) == 0);
    let back: Vec<_> = back
        .map(|number| {
            let value: [u8; 24] = bytes(&[&v4(VIP.0), &VIP.1.to_be_bytes(), &[0, 0], &2_u32.to_ne_bytes()]);
            (flow_key(of(number), LOCAL), value)
        })
        .collect();
    assert!(!back.is_empty());
    hash(&maps, "REVERSE", &back);
    let original: [u8; 20] = bytes(&[&v4(VIP.0), &VIP.1.to_be_bytes(), &[0, 0]]);
    hash(&maps, "ORIGINALS", &[(4711_u64, original)]);
    (folder, uplink)
}

fn pins(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a pin").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Each flow's next packet goes to the backend it had.
fn all_go_on(lab: &Lab) {
    for number in 0..CLIENTS {
        let (reason, run) = lab.xdp(&Spec::new(of(number), VIP, ACK).build());
        let to = match reason {
            Reason::LocalBackend => (addr(&run.frame, 14 + 16), port(&run.frame, 14 + 22)),
            Reason::TunnelSent | Reason::TunnelRedirected => {
                assert_eq!(addr(&run.frame, 14 + 16), PEER);
                assert_eq!(addr(&run.frame, INNER_IP + 16), VIP.0, "what is inside is as it came");
                REMOTE
            }
            other => panic!("client {number}: {other:?}"),
        };
        let wanted = if chosen(number) == 0 { LOCAL } else { REMOTE };
        assert_eq!(to, wanted, "client {number}");
    }
}

/// The one flow of the backend that takes no more.
fn the_last_one_goes_on(lab: &Lab) {
    let (reason, run) = lab.xdp(&Spec::new(STAYS, VIP, ACK).build());
    assert_eq!(reason, Reason::LocalBackend);
    assert_eq!((addr(&run.frame, 14 + 16), port(&run.frame, 14 + 22)), DRAINING);
}

fn reopened(folder: crate::packets::lab::Folder, uplink: u32) -> Lab {
    let (mut lb, opened) = Lb::open(config(folder.path())).expect("takes over");
    assert!(opened.attached.is_empty(), "no hook was ever off: {opened:?}");
    assert!(observe(&mut lb).expect("can be read").unattached.is_empty());
    Lab { lb, uplink, folder }
}

#[test]
fn flows_of_an_older_layout_go_on() {
    let (folder, uplink) = age(Lab::new(), 1);
    let mut lab = reopened(folder, uplink);
    let layout: Array<MapData, u32> = crate::packets::fuzz::kernel::open(&lab.folder, "LAYOUT");
    assert_eq!(layout.get(&0, 0).expect("a version"), LAYOUT_VERSION);
    assert!(!lab.folder.path().join("bpf/maps-old").exists(), "nothing is left over");
    all_go_on(&lab);
    the_last_one_goes_on(&lab);
    let (reason, _) = lab.xdp(&Spec::new((CLIENT.0, 60_000), VIP, SYN).build());
    assert!(
        matches!(
            reason,
            Reason::LocalBackend | Reason::TunnelRedirected | Reason::TunnelSent
        ),
        "new flows are taken before the master was heard: {reason:?}"
    );
    // What the scheduler says then is the same, and moves nothing.
    lab.set(&[(LOCAL, 1), (REMOTE, 1)]);
    all_go_on(&lab);
}

#[test]
fn a_migration_that_broke_off_begins_anew() {
    let (folder, uplink) = age(Lab::new(), 1);
    let bpf = folder.path().join("bpf");
    std::fs::rename(bpf.join("maps"), bpf.join("maps-old")).expect("renamed");
    std::fs::create_dir(bpf.join("maps")).expect("a folder");
    array(&bpf.join("maps"), "LAYOUT", &[LAYOUT_VERSION]);
    // Of a size that could not be used.
    array(&bpf.join("maps"), "NODE", &[0_u8]);
    let lab = reopened(folder, uplink);
    all_go_on(&lab);
    assert!(!bpf.join("maps-old").exists());
}

#[test]
fn what_a_migration_that_ended_left_is_cleared_away() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let (reason, _) = lab.xdp(&Spec::new(of(1), VIP, SYN).build());
    assert_eq!(reason, Reason::LocalBackend);
    let Lab { lb, uplink, folder } = lab;
    drop(lb);
    let old = folder.path().join("bpf/maps-old");
    std::fs::create_dir(&old).expect("a folder");
    array(&old, "VIPS", &[0_u8]);
    let lab = reopened(folder, uplink);
    assert!(!old.exists());
    let (reason, _) = lab.xdp(&Spec::new(of(1), VIP, ACK).build());
    assert_eq!(reason, Reason::LocalBackend, "the maps in use are those that were");
}

#[test]
fn what_cannot_be_taken_over_stays_as_it_was() {
    let (folder, _) = age(Lab::new(), 1);
    let bpf = folder.path().join("bpf");
    std::fs::remove_file(bpf.join("maps/VIPS")).expect("removed");
    let before = pins(&bpf.join("maps"));
    let error = Lb::open(config(folder.path())).expect_err("a map is missing");
    assert!(matches!(error, OpenError::Migrate { .. }), "{error}");
    assert!(error.to_string().contains("stay in use"), "{error}");
    assert_eq!(pins(&bpf.join("maps")), before);
    assert!(!bpf.join("maps-old").exists());
}

/// Two pins of links change places.
fn exchanged(bpf: &Path, one: &str, other: &str) {
    let link = |name: &str| bpf.join("links").join(name);
    std::fs::rename(link(one), bpf.join("links/aside")).expect("renamed");
    std::fs::rename(link(other), link(one)).expect("renamed");
    std::fs::rename(bpf.join("links/aside"), link(other)).expect("renamed");
}

#[test]
fn where_no_hook_could_be_swapped_the_old_maps_are_back() {
    let (folder, _) = age(Lab::new(), 1);
    let bpf = folder.path().join("bpf");
    let before = pins(&bpf.join("maps"));
    // The first hook's link is of another kind.
    exchanged(&bpf, "egress-up0", "xdp-up0");
    Lb::open(config(folder.path())).expect_err("a link that takes no such program");
    assert_eq!(pins(&bpf.join("maps")), before);
    assert!(!bpf.join("maps-old").exists());
}

#[test]
fn where_a_hook_was_swapped_its_maps_stay() {
    let (folder, uplink) = age(Lab::new(), 1);
    let bpf = folder.path().join("bpf");
    exchanged(&bpf, "sock_release", "sendmsg4");
    Lb::open(config(folder.path())).expect_err("a link that takes no such program");
    assert!(
        !bpf.join("maps-old").exists(),
        "the next start goes on from the new maps"
    );
    exchanged(&bpf, "sock_release", "sendmsg4");
    let lab = reopened(folder, uplink);
    all_go_on(&lab);
}

#[test]
fn what_a_newer_release_left_halfway_is_put_back() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let (reason, _) = lab.xdp(&Spec::new(of(1), VIP, SYN).build());
    assert_eq!(reason, Reason::LocalBackend);
    let Lab { lb, uplink, folder } = lab;
    drop(lb);
    let bpf = folder.path().join("bpf");
    std::fs::rename(bpf.join("maps"), bpf.join("maps-old")).expect("renamed");
    std::fs::create_dir(bpf.join("maps")).expect("a folder");
    array(&bpf.join("maps"), "LAYOUT", &[LAYOUT_VERSION + 1]);
    let lab = reopened(folder, uplink);
    assert!(!bpf.join("maps-old").exists());
    let (reason, _) = lab.xdp(&Spec::new(of(1), VIP, ACK).build());
    assert_eq!(reason, Reason::LocalBackend, "with the flows there were");
}

#[test]
fn maps_without_a_version_are_refused_in_words_that_fit() {
    let (folder, _) = age(Lab::new(), 1);
    std::fs::remove_file(folder.path().join("bpf/maps/LAYOUT")).expect("removed");
    let error = Lb::open(config(folder.path())).expect_err("of no version");
    assert!(error.to_string().contains("tell no layout version"), "{error}");
}

#[test]
fn maps_of_a_newer_layout_are_refused() {
    let (folder, _) = age(Lab::new(), LAYOUT_VERSION + 1);
    let before = pins(&folder.path().join("bpf/maps"));
    let error = Lb::open(config(folder.path())).expect_err("from the future");
    let text = error.to_string();
    assert!(
        text.contains(&format!("layout version {}", LAYOUT_VERSION + 1)),
        "{text}"
    );
    assert!(text.contains("start the Revere that made them"), "{text}");
    assert_eq!(pins(&folder.path().join("bpf/maps")), before);
}
