//! The difference between two states, checked without a kernel.

use std::net::Ipv4Addr;

use super::*;
use crate::desired::tests::{config, net, snapshot, view};
use crate::{Route, SeenDevice, Target, Uplink, desired};

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
        device: None,
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
    let device = match &desired.tunnel {
        Tunnel::Present(device) => Some(SeenDevice {
            index: 3,
            device: Some(device.clone()),
            mtu: 1450,
            up: true,
        }),
        _ => None,
    };
    Actual {
        loopback_up: true,
        device,
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
fn a_peer_that_moves_is_replaced_and_not_deleted() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    let entry = *wanted
        .objects
        .iter()
        .find(|object| matches!(object, Object::Fdb { .. }))
        .expect("a peer");
    let Object::Fdb { mac, .. } = entry else {
        panic!("found above")
    };
    actual.objects.remove(&entry);
    actual.objects.insert(Object::Fdb {
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
            .device
            .as_mut()
            .and_then(|seen| seen.device.as_mut())
            .expect("a device");
        change(seen);
        let plan = plan(&wanted, &actual);
        assert_eq!(plan.adds[0], Op::RemoveDevice);
        assert!(matches!(plan.adds[1], Op::AddDevice(..)));
        assert!(plan.removes.is_empty());
        for object in wanted.objects.iter().filter(|object| object.needs_device()) {
            assert!(plan.adds.contains(&Op::Add(*object)));
        }
    }
}

#[test]
fn mtu_and_state_are_mended_in_place() {
    let wanted = three_nodes();
    let mut actual = fulfilled(&wanted);
    actual.uplink.mtu = 9000;
    actual.device.as_mut().expect("a device").up = false;
    assert_eq!(plan(&wanted, &actual).adds, [Op::SetMtu(8950), Op::DeviceUp]);
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
    assert_eq!(plan.removes.last(), Some(&Op::RemoveDevice));
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
