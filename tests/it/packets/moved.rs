//! What a VIP's table says of the time before: the backend that a slot's flows belong to, read where the programs read it.

use std::net::Ipv4Addr;

use aya::maps::{Array, HashMap, MapData};
use lb_common::{Be16, Be32, Endpoint4, SlotPair, TableRange, VipEntry};

use lb_userspace::monotonic_seconds;

use crate::packets::fuzz::kernel::open;
use crate::packets::lab::{Lab, PEER, VIP};

/// Enough for a table in which some slots have three owners in three tables.
const BACKENDS: u16 = 60;

fn backends(ports: impl Iterator<Item = u16>) -> Vec<((Ipv4Addr, u16), u16)> {
    ports.map(|port| ((PEER, 31_000 + port), 1)).collect()
}

fn entry(lab: &Lab) -> VipEntry {
    let vips: HashMap<MapData, Endpoint4, VipEntry> = open(&lab.folder, "VIPS4");
    let key = Endpoint4::new(Be32::new(u32::from(VIP.0)), Be16::new(VIP.1), 6);
    vips.get(&key, 0).expect("the VIP")
}

/// Indices of the owners.
fn owners(lab: &Lab, range: TableRange) -> Vec<u32> {
    let slots: Array<MapData, SlotPair> = open(&lab.folder, "SLOTS");
    let of = |slot: u32| {
        let pair = slots.get(&(slot / 2), 0).expect("a slot").0;
        pair[usize::from(slot % 2 == 1)]
    };
    (range.offset()..range.offset() + range.len()).map(of).collect()
}

/// The monotonic second, once so many more have passed.
fn after(seconds: u64) -> u64 {
    let from = monotonic_seconds();
    loop {
        let now = monotonic_seconds();
        if now >= from + seconds {
            return now;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_slot_names_whose_flows_it_has_though_one_backend_went_and_another_came_at_once() {
    // The first table counts for longer than the second, however slow this machine is.
    for seconds in [2, 8, 32] {
        let mut lab = Lab::configured(|config| config.slots = 1 << 20);
        lab.set(&backends(0..BACKENDS));
        let first = owners(&lab, entry(&lab).table);
        let gone = first[0];
        let rest = |extra: u16| (0..BACKENDS + extra).filter(move |port| u32::from(*port) != gone);
        let from = after(seconds);
        lab.set(&backends(rest(0)));
        let second = owners(&lab, entry(&lab).table);
        lab.set(&backends(rest(1)));
        if monotonic_seconds() - from + 1 >= seconds {
            continue;
        }
        let now = entry(&lab);
        let tables = [first, second, owners(&lab, now.table), owners(&lab, now.previous)];
        return told(&tables, gone);
    }
    panic!("two changes of a table took 32 s");
}

/// Of first, second and third table, and of what the third says of the time before.
fn told([first, second, third, before]: &[Vec<u32>; 4], gone: u32) {
    assert_eq!([first.len(), second.len(), before.len()], [third.len(); 3]);
    let (mut thrice, mut moved) = (0, 0);
    for slot in 0..third.len() {
        let [old, middle, new] = [first[slot], second[slot], third[slot]];
        if old != gone && old != new {
            assert_eq!(before[slot], old, "slot {slot}: {old}, {middle}, {new}");
            moved += 1;
            thrice += usize::from(middle != old && middle != new);
        } else if old == gone && middle != new {
            assert_eq!(before[slot], middle, "slot {slot}: the dead one, {middle}, {new}");
        }
    }
    assert!(moved > 100 && thrice > 0, "{moved} slots moved, {thrice} twice");
}
