//! What to change: two set differences, first what is added, then what is removed.

use std::net::{Ipv4Addr, Ipv6Addr};

use model::{Generation, VipAddress};

use crate::{Actual, BackendKey, BackendState, Desired, DesiredVip, Hop, Touched};

/// One change of the kernel's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Attach a hook that somebody took off.
    Attach(String),
    /// Tell the programs this node's address.
    SetOwn(Ipv4Addr),
    /// Tell them its IPv6 address for translated packets, if it has one.
    SetOwn6(Option<Ipv6Addr>),
    /// Tell them how long a packet of the uplinks may be, in bytes.
    SetMtu(u16),
    /// Take tunnel packets of a node.
    PutPeer(Ipv4Addr),
    /// Make or change a backend.
    PutBackend(BackendKey, BackendState),
    /// Tell the programs the way to a backend of this node past the stack; `None`: there is none.
    SetHop(BackendKey, Option<Hop>),
    /// Make a VIP or give it another table; one atomic step for packets.
    PutVip(VipAddress, DesiredVip),
    /// Forget a VIP.
    RemoveVip(VipAddress),
    /// Forget a backend; its flows end.
    RemoveBackend(BackendKey),
    /// Take no more tunnel packets of a node.
    RemovePeer(Ipv4Addr),
}

/// The changes that lead from `Actual` to `Desired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Reached when all is done.
    pub generation: Generation,
    /// Carried out first: hooks, peers, backends, then the VIPs that point at them.
    pub adds: Vec<Op>,
    /// Carried out last: VIPs, then the backends they pointed at, peers.
    pub removes: Vec<Op>,
}

impl Plan {
    /// Whether nothing is to do.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }
}

/// Computes it.
pub fn plan(desired: &Desired, actual: &Actual) -> Plan {
    Plan {
        generation: desired.generation,
        adds: adds(desired, actual),
        removes: removes(desired, actual),
    }
}

fn adds(desired: &Desired, actual: &Actual) -> Vec<Op> {
    let hooks = actual.unattached.iter().cloned().map(Op::Attach);
    let own = desired.own.filter(|own| actual.own != Some(*own)).map(Op::SetOwn);
    let own6 = (actual.told_own6 != actual.own6).then_some(Op::SetOwn6(actual.own6));
    let mtu = (actual.told_mtu != actual.mtu).then_some(Op::SetMtu(actual.mtu));
    let peers = put_peers(desired, actual);
    let backends = desired
        .backends
        .iter()
        .filter_map(|(key, state)| put_backend(key, state, actual));
    // One that is put or removed gets or loses its way with that.
    let hops = actual.backends.iter().filter_map(|(key, state)| {
        let hop = actual.hops.get(key);
        let changed = actual.told_hops.get(key) != hop && desired.backends.get(key) == Some(state);
        changed.then(|| Op::SetHop(*key, hop.copied()))
    });
    let vips = desired
        .vips
        .iter()
        .filter_map(|(address, vip)| put_vip(address, vip, actual));
    hooks
        .chain(own)
        .chain(own6)
        .chain(mtu)
        .chain(peers)
        .chain(backends)
        .chain(hops)
        .chain(vips)
        .collect()
}

fn put_peers<'a>(desired: &'a Desired, actual: &'a Actual) -> impl Iterator<Item = Op> + use<'a> {
    desired.peers.difference(&actual.peers).copied().map(Op::PutPeer)
}

fn remove_peers<'a>(desired: &'a Desired, actual: &'a Actual) -> impl Iterator<Item = Op> + use<'a> {
    actual.peers.difference(&desired.peers).copied().map(Op::RemovePeer)
}

fn put_backend(key: &BackendKey, state: &BackendState, actual: &Actual) -> Option<Op> {
    (actual.backends.get(key) != Some(state)).then(|| Op::PutBackend(*key, state.clone()))
}

fn put_vip(address: &VipAddress, vip: &DesiredVip, actual: &Actual) -> Option<Op> {
    let known = actual.vips.get(address).copied().flatten();
    (known != Some(vip.fingerprint())).then(|| Op::PutVip(*address, vip.clone()))
}

/// The changes among these alone; costs what they cost, however large the rest is.
pub fn plan_touched(desired: &Desired, actual: &Actual, touched: &Touched) -> Plan {
    let mut plan = Plan {
        generation: desired.generation,
        ..Plan::default()
    };
    if touched.nodes {
        plan.adds.extend(put_peers(desired, actual));
    }
    for key in &touched.backends {
        match desired.backends.get(key) {
            Some(state) => plan.adds.extend(put_backend(key, state, actual)),
            None if actual.backends.contains_key(key) => plan.removes.push(Op::RemoveBackend(*key)),
            None => {}
        }
    }
    let mut gone = Vec::new();
    for address in &touched.vips {
        match desired.vips.get(address) {
            Some(vip) => plan.adds.extend(put_vip(address, vip, actual)),
            None if actual.vips.contains_key(address) => gone.push(Op::RemoveVip(*address)),
            None => {}
        }
    }
    // Packets must not find a VIP whose backends went before it.
    plan.removes.splice(0..0, gone);
    if touched.nodes {
        plan.removes.extend(remove_peers(desired, actual));
    }
    plan
}

fn removes(desired: &Desired, actual: &Actual) -> Vec<Op> {
    let vips = actual.vips.keys().filter(|address| !desired.vips.contains_key(address));
    let backends = actual.backends.keys().filter(|key| !desired.backends.contains_key(key));
    vips.copied()
        .map(Op::RemoveVip)
        .chain(backends.copied().map(Op::RemoveBackend))
        .chain(remove_peers(desired, actual))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use model::Protocol;
    use std::net::IpAddr;

    fn key(port: u16) -> BackendKey {
        BackendKey {
            addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            port,
            protocol: Protocol::Tcp,
        }
    }

    fn vip(port: u16) -> VipAddress {
        VipAddress {
            addr: IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)),
            port,
            protocol: Protocol::Tcp,
        }
    }

    fn state(vips: &[u16]) -> BackendState {
        BackendState {
            node: Ipv4Addr::new(10, 0, 0, 1),
            local: true,
            weight: 1,
            reset: false,
            vips: vips.iter().map(|port| vip(*port)).collect(),
        }
    }

    fn wanted(port: u16) -> DesiredVip {
        let member = Member {
            weight: 1,
            node: Ipv4Addr::new(10, 0, 0, 1),
            local: true,
        };
        DesiredVip {
            members: [(key(port), member)].into(),
            ..DesiredVip::default()
        }
    }

    #[test]
    fn backends_come_before_and_go_after_the_vips_that_use_them() {
        let mut desired = Desired::default();
        desired.vips.insert(vip(1), wanted(1));
        desired.backends.insert(key(1), state(&[1]));
        let mut actual = Actual::default();
        actual.vips.insert(vip(2), Some(7));
        actual.backends.insert(key(2), state(&[2]));
        let touched = Touched {
            vips: [vip(1), vip(2)].into(),
            backends: [key(1), key(2)].into(),
            nodes: true,
        };
        let [joined, left] = [2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        desired.peers.insert(joined);
        actual.peers.insert(left);
        let plan = plan(&desired, &actual);
        assert_eq!(
            plan,
            plan_touched(&desired, &actual, &touched),
            "both ways see the same"
        );
        assert!(
            matches!(plan.adds[..], [Op::PutPeer(peer), Op::PutBackend(..), Op::PutVip(..)] if peer == joined),
            "{plan:?}"
        );
        assert_eq!(
            plan.removes,
            [Op::RemoveVip(vip(2)), Op::RemoveBackend(key(2)), Op::RemovePeer(left)]
        );
    }

    #[test]
    fn the_way_to_a_backend_that_stays_follows_the_kernels() {
        let hop = |ifindex| Hop {
            ifindex,
            mac: [2; 6],
            mtu: 1450,
        };
        let (mut desired, mut actual) = (Desired::default(), Actual::default());
        for port in 1..=5 {
            desired.backends.insert(key(port), state(&[]));
            actual.backends.insert(key(port), state(&[]));
        }
        desired.backends.remove(&key(5));
        actual.told_hops = [(key(1), hop(1)), (key(2), hop(2)), (key(3), hop(3)), (key(5), hop(5))].into();
        actual.hops = [(key(1), hop(1)), (key(2), hop(9)), (key(4), hop(4))].into();
        let found = plan(&desired, &actual);
        assert_eq!(
            found.adds,
            [
                Op::SetHop(key(2), Some(hop(9))),
                Op::SetHop(key(3), None),
                Op::SetHop(key(4), Some(hop(4)))
            ]
        );
        actual.note(&found);
        assert!(plan(&desired, &actual).is_empty(), "{actual:?}");
    }

    #[test]
    fn what_is_as_wanted_is_left_alone_and_damage_is_repaired() {
        let mut desired = Desired::default();
        let wanted = wanted(1);
        desired.vips.insert(vip(1), wanted.clone());
        desired.backends.insert(key(1), state(&[1]));
        let mut actual = Actual::default();
        actual.vips.insert(vip(1), Some(wanted.fingerprint()));
        actual.backends.insert(key(1), state(&[1]));
        assert!(plan(&desired, &actual).is_empty());
        actual.vips.insert(vip(1), None);
        actual.unattached.insert("xdp-eth0".into());
        assert_eq!(
            plan(&desired, &actual).adds,
            [Op::Attach("xdp-eth0".into()), Op::PutVip(vip(1), wanted)]
        );
    }
}
