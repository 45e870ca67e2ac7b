//! The difference between two states, checked without a kernel.

use std::net::Ipv4Addr;

use super::*;
use crate::desired::tests::{config, net, snapshot, snapshot_with, view};
use crate::{Mac, Route, SeenDevice, Target, Uplink, desired};

fn three_nodes() -> Desired {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.1.0/24")),
        ("c", [10, 0, 0, 3], Some("9.0.2.0/24")),
    ];
    desired(&snapshot(&nodes), &view(), &config())
}

fn bare() -> Actual {
    Actual {
        loopback_up: false,
        uplink: Uplink {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
        },
        devices: BTreeMap::new(),
        objects: BTreeSet::new(),
        sysctls: [
            (Sysctl::Forward, 0),
            (Sysctl::ReversePathAll, 0),
            (Sysctl::ReversePathUplink, 1),
        ]
        .into(),
    }
}

/// The kernel after everything of `desired` was carried out.
fn fulfilled(desired: &Desired) -> Actual {
    let devices = match &desired.tunnels {
        Tunnels::Exactly(devices) => devices.clone(),
        Tunnels::Keep => BTreeMap::new(),
    };
    let devices = devices.into_iter().zip(3..).map(|((vni, device), index)| {
        let seen = SeenDevice {
            index,
            device: Some(device),
            mtu: 1450,
            up: true,
        };
        (vni, seen)
    });
    Actual {
        loopback_up: true,
        devices: devices.collect(),
        objects: desired.objects.clone(),
        sysctls: desired
            .sysctls
            .iter()
            .map(|sysctl| (*sysctl, sysctl.wanted()))
            .collect(),
        ..bare()
    }
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let wanted = three_nodes();
    let plan = plan(&wanted, &fulfilled(&wanted));
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn a_bare_node_gets_the_device_before_what_needs_it() {
    let wanted = three_nodes();
    let plan = plan(&wanted, &bare());
    assert!(plan.removes.is_empty());
    assert_eq!(plan.adds[0], Op::LoopbackUp);
    assert!(matches!(plan.adds[1], Op::AddDevice(_, 1450)));
    assert!(
        !plan.adds.contains(&Op::SetSysctl(Sysctl::ReversePathAll)),
        "it has the value already"
    );
    let place = |matches: fn(&Object) -> bool| {
        plan.adds
            .iter()
            .position(|op| matches!(op, Op::Add(object) if matches(object)))
            .expect("planned")
    };
    let address = place(|object| matches!(object, Object::Address { .. }));
    let fdb = place(|object| matches!(object, Object::Fdb { .. }));
    let neighbour = place(|object| matches!(object, Object::Neighbour { .. }));
    let route = place(|object| matches!(object, Object::Route(_)));
    assert!(
        address < fdb && fdb < neighbour && neighbour < route,
        "a route comes after what it needs"
    );
}

#[test]
fn every_object_that_vanishes_is_made_again() {
    let wanted = three_nodes();
    for object in &wanted.objects {
        let mut actual = fulfilled(&wanted);
        actual.objects.remove(object);
        let expected = Plan {
            adds: vec![Op::Add(*object)],
            removes: Vec::new(),
        };
        assert_eq!(plan(&wanted, &actual), expected);
    }
}

#[test]
fn a_peer_that_leaves_takes_exactly_its_objects_along() {
    let before = three_nodes();
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.1.0/24")),
    ];
    let after = desired(&snapshot(&nodes), &view(), &config());
    let plan = plan(&after, &fulfilled(&before));
    assert!(plan.adds.is_empty());
    let gone: Vec<Op> = before
        .objects
        .difference(&after.objects)
        .rev_sorted()
        .map(Op::Remove)
        .collect();
    assert_eq!(gone.len(), 4);
    assert_eq!(plan.removes, gone, "routes go before the entries they need");
}

#[test]
fn a_change_is_planned_without_a_look_at_the_kernel_as_with_one() {
    let nodes = |list: &[(&'static str, [u8; 4], Option<&'static str>)]| desired(&snapshot(list), &view(), &config());
    let (a, b, c) = (
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.1.0/24")),
        ("c", [10, 0, 0, 3], Some("9.0.2.0/24")),
    );
    // The same tunnel address behind another underlay address: the FDB's key stays.
    let moved = ("c", [10, 0, 0, 9], Some("9.0.2.0/24"));
    let states = [nodes(&[a, b, c]), nodes(&[a, b]), nodes(&[a, b, moved]), nodes(&[a])];
    for before in &states {
        for after in &states {
            assert_eq!(change(before, after), Some(plan(after, &fulfilled(before))));
        }
    }
    let replaced = change(&states[0], &states[2]).expect("only objects change");
    assert!(
        replaced.adds.len() > replaced.removes.len(),
        "what is replaced is not removed: {replaced:?}"
    );
    let mut other = states[0].clone();
    other.sysctls.clear();
    assert_eq!(change(&states[0], &other), None, "switches have to be read");
    other = states[0].clone();
    other.tunnels = Tunnels::Exactly(BTreeMap::new());
    assert_eq!(change(&states[0], &other), None, "and devices");
    other.tunnels = Tunnels::Keep;
    assert_eq!(change(&other, &other), None, "nothing is known of them");
}

#[test]
fn a_peer_that_moves_is_replaced_and_not_deleted() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    let entry = *wanted
        .objects
        .iter()
        .find(|object| matches!(object, Object::Fdb { .. }))
        .expect("a peer");
    let Object::Fdb { vni, mac, .. } = entry else {
        panic!("found above")
    };
    actual.objects.remove(&entry);
    actual.objects.insert(Object::Fdb {
        vni,
        mac,
        node: Ipv4Addr::new(10, 9, 9, 9),
    });
    assert_eq!(
        plan(&wanted, &actual),
        Plan {
            adds: vec![Op::Add(entry)],
            removes: Vec::new()
        }
    );
}

#[test]
fn a_device_with_other_properties_is_made_anew_with_all_that_hung_on_it() {
    let wanted = three_nodes();
    let changes: [fn(&mut Device); 3] = [
        |device| device.vni = 7,
        |device| device.port = 4789,
        |device| device.learning = true,
    ];
    for change in changes {
        let mut actual = fulfilled(&wanted);
        let seen = actual
            .devices
            .get_mut(&1024)
            .and_then(|seen| seen.device.as_mut())
            .expect("a device");
        change(seen);
        let plan = plan(&wanted, &actual);
        assert_eq!(plan.adds[0], Op::RemoveDevice(1024));
        assert!(matches!(plan.adds[1], Op::AddDevice(..)));
        assert!(plan.removes.is_empty());
        for object in wanted.objects.iter().filter(|object| object.device().is_some()) {
            assert!(plan.adds.contains(&Op::Add(*object)));
        }
    }
}

#[test]
fn mtu_and_state_are_mended_in_place() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    actual.uplink.mtu = 9000;
    actual.devices.get_mut(&1024).expect("a device").up = false;
    assert_eq!(
        plan(&wanted, &actual).adds,
        [Op::SetMtu(1024, 8950), Op::DeviceUp(1024)]
    );
}

#[test]
fn a_node_that_restarts_before_it_hears_from_the_master_keeps_its_tunnel() {
    let actual = fulfilled(&three_nodes());
    let wanted = desired(&snapshot(&[]), &view(), &config());
    let plan = plan(&wanted, &actual);
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn a_node_that_loses_its_subnet_takes_everything_down() {
    let actual = fulfilled(&three_nodes());
    let wanted = desired(&snapshot(&[("a", [10, 0, 0, 1], None)]), &view(), &config());
    let plan = plan(&wanted, &actual);
    assert!(plan.adds.is_empty());
    assert_eq!(plan.removes.last(), Some(&Op::RemoveDevice(1024)));
    let rest: Vec<&Op> = plan.removes.iter().filter(|op| matches!(op, Op::Remove(_))).collect();
    assert_eq!(rest.len(), 2, "the rule and the last-resort route: {rest:?}");
}

#[test]
fn a_route_of_ours_in_another_table_goes_away() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    let old = Object::Route(Route {
        table: 7,
        to: net("9.0.1.0/24"),
        metric: 0,
        target: Target::Other,
    });
    actual.objects.insert(old);
    assert_eq!(
        plan(&wanted, &actual),
        Plan {
            adds: Vec::new(),
            removes: vec![Op::Remove(old)]
        }
    );
}

#[test]
fn a_network_that_is_removed_takes_exactly_its_own_along() {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.1.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.2.0/24")),
    ];
    let both = desired(&snapshot_with(&nodes, "blue,4097,10.64.0.0/16,24,"), &view(), &config());
    let one = desired(&snapshot(&nodes), &view(), &config());
    let plan = plan(&one, &fulfilled(&both));
    assert!(plan.adds.is_empty(), "{plan:?}");
    let fixed = both
        .objects
        .difference(&one.objects)
        .filter(|object| object.device().is_none());
    let mut removes: Vec<Op> = fixed.rev_sorted().map(Op::Remove).collect();
    removes.push(Op::RemoveDevice(4097));
    assert_eq!(plan.removes, removes, "the device takes the rest");
    assert_eq!(removes.len(), 5, "rule, last-resort route, two bars, device");
}

#[test]
fn a_device_that_only_bears_such_a_name_is_left_alone() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    let mut foreign = actual.devices[&1024].clone();
    foreign.index = 9;
    let device = foreign.device.as_mut().expect("a device");
    (device.vni, device.mac) = (77, Mac([2, 0, 0, 0, 0, 1]));
    actual.devices.insert(77, foreign);
    actual.objects.insert(Object::Address {
        link: Link::Device(77),
        addr: Ipv4Addr::new(192, 0, 2, 1),
        prefix: 24,
    });
    let plan = plan(&wanted, &actual);
    assert!(plan.is_empty(), "{plan:?}");
}

/// Largest first, the order in which a plan removes.
trait RevSorted: Iterator {
    fn rev_sorted(self) -> impl Iterator<Item = Object>;
}

impl<'a, I: Iterator<Item = &'a Object>> RevSorted for I {
    fn rev_sorted(self) -> impl Iterator<Item = Object> {
        let sorted: BTreeSet<Object> = self.copied().collect();
        sorted.into_iter().rev()
    }
}
