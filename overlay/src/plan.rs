//! The difference between desired and actual, as operations in the order in which they are safe.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::desired::ENCAPSULATION;
use crate::object::Key;
use crate::{Actual, Desired, Device, Link, Object, Sysctl, Tunnels};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bring `lo` up: a new network namespace has it down, and addresses on it don't answer then.
    LoopbackUp,
    /// Delete the VXLAN device of that network and with it everything on it.
    RemoveDevice(u32),
    /// Make a VXLAN device, with this MTU, and bring it up.
    AddDevice(Device, u32),
    /// Set the MTU of the VXLAN device of that network.
    SetMtu(u32, u32),
    /// Bring the VXLAN device of that network up.
    DeviceUp(u32),
    /// Write a kernel switch.
    SetSysctl(Sysctl),
    /// Make an object, in place of another with the same key.
    Add(Object),
    /// Delete an object.
    Remove(Object),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopbackUp => f.write_str("bring lo up"),
            Self::RemoveDevice(vni) => write!(f, "remove the VXLAN device of network {vni}"),
            Self::AddDevice(device, mtu) => {
                let Device { vni, mac, .. } = device;
                write!(f, "add the VXLAN device {mac} of network {vni}, mtu {mtu}")
            }
            Self::SetMtu(vni, mtu) => write!(f, "set the mtu of the VXLAN device of network {vni} to {mtu}"),
            Self::DeviceUp(vni) => write!(f, "bring the VXLAN device of network {vni} up"),
            Self::SetSysctl(sysctl) => write!(f, "set {sysctl:?} to {}", sysctl.wanted()),
            Self::Add(object) => write!(f, "add {object}"),
            Self::Remove(object) => write!(f, "remove {object}"),
        }
    }
}

/// Adds come first, so that nothing that stays reachable is unreachable in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Makes and changes, in order.
    pub adds: Vec<Op>,
    /// Deletions, in order.
    pub removes: Vec<Op>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }
}

/// Two set differences, preceded by what must happen to the devices.
///
/// Recreating a device is the one change that can't be made before it is broken: the kernel allows one VXLAN device
/// for a VNI and port, and the name is ours. It stands in `adds`, because everything after it needs it.
pub fn plan(desired: &Desired, actual: &Actual) -> Plan {
    let mut plan = Plan::default();
    if !actual.loopback_up {
        plan.adds.push(Op::LoopbackUp);
    }
    let fates = plan_devices(desired, actual, &mut plan);
    let fate = |object: &Object| match object.device() {
        Some(vni) => fates.get(&vni).copied().unwrap_or(Fate::Gone),
        None => Fate::Kept,
    };
    plan_sysctls(desired, actual, &fates, &mut plan);
    let remain: BTreeSet<Object> = actual
        .objects
        .iter()
        .filter(|object| fate(object) != Fate::New)
        .copied()
        .collect();
    let wanted_keys: BTreeSet<Key> = desired.objects.iter().map(Object::key).collect();
    plan.adds
        .extend(desired.objects.difference(&remain).copied().map(Op::Add));
    let keep_tunnels = desired.tunnels == Tunnels::Keep;
    // An object whose key another one takes over is replaced by that add; deleting it would delete the new one. What
    // hangs on a device goes with it. Without a picture only what is surely not part of a tunnel goes.
    let stale = remain.iter().rev().filter(|object| {
        !wanted_keys.contains(&object.key()) && fate(object) == Fate::Kept && (!keep_tunnels || on_loopback(object))
    });
    plan.removes.extend(stale.copied().map(Op::Remove));
    let gone = fates.iter().filter(|(_, fate)| **fate == Fate::Gone);
    plan.removes.extend(gone.map(|(vni, _)| Op::RemoveDevice(*vni)));
    plan
}

/// The same where the kernel holds what `before` wanted: costs what the change costs, not what the kernel's tables do to read.
/// None where the devices or switches change too, for which the kernel has to be looked at.
pub fn change(before: &Desired, desired: &Desired) -> Option<Plan> {
    let same = before.tunnels == desired.tunnels && before.sysctls == desired.sysctls;
    if !same || desired.tunnels == Tunnels::Keep {
        return None;
    }
    let adds: Vec<Object> = desired.objects.difference(&before.objects).copied().collect();
    // What has the key of one that is gone takes its place.
    let replaced: BTreeSet<Key> = adds.iter().map(Object::key).collect();
    let gone: Vec<Object> = before.objects.difference(&desired.objects).copied().collect();
    let stale = gone
        .into_iter()
        .rev()
        .filter(|object| !replaced.contains(&object.key()));
    Some(Plan {
        removes: stale.map(Op::Remove).collect(),
        adds: adds.into_iter().map(Op::Add).collect(),
    })
}

/// What this pass does to a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays, its objects are reconciled.
    Kept,
    /// It is made anew, so nothing on it exists.
    New,
    /// It goes, with all that is on it.
    Gone,
    /// It and all that belongs to it are left alone.
    Untouched,
}

fn plan_devices(desired: &Desired, actual: &Actual, plan: &mut Plan) -> BTreeMap<u32, Fate> {
    let wanted = match &desired.tunnels {
        Tunnels::Keep => return actual.devices.keys().map(|vni| (*vni, Fate::Untouched)).collect(),
        Tunnels::Exactly(devices) => devices,
    };
    let mut fates = BTreeMap::new();
    for (vni, seen) in actual.devices.iter().filter(|(vni, _)| !wanted.contains_key(vni)) {
        // Only the name is ours: somebody else's device.
        let ours = seen.device.as_ref().is_some_and(|device| device.is_of(*vni));
        fates.insert(*vni, if ours { Fate::Gone } else { Fate::Untouched });
    }
    let mtu = actual.uplink.mtu.saturating_sub(ENCAPSULATION);
    for (vni, device) in wanted {
        let seen = actual.devices.get(vni);
        let fate = match seen {
            Some(seen) if seen.device.as_ref() == Some(device) => {
                if seen.mtu != mtu {
                    plan.adds.push(Op::SetMtu(*vni, mtu));
                }
                if !seen.up {
                    plan.adds.push(Op::DeviceUp(*vni));
                }
                Fate::Kept
            }
            _ => {
                if seen.is_some() {
                    plan.adds.push(Op::RemoveDevice(*vni));
                }
                plan.adds.push(Op::AddDevice(device.clone(), mtu));
                Fate::New
            }
        };
        fates.insert(*vni, fate);
    }
    fates
}

fn plan_sysctls(desired: &Desired, actual: &Actual, fates: &BTreeMap<u32, Fate>, plan: &mut Plan) {
    for &sysctl in &desired.sysctls {
        // A new device starts from the namespace's default, whatever the old one had.
        let fresh = matches!(sysctl, Sysctl::ReversePathDevice(vni) if fates.get(&vni) == Some(&Fate::New));
        if fresh || actual.sysctls.get(&sysctl) != Some(&sysctl.wanted()) {
            plan.adds.push(Op::SetSysctl(sysctl));
        }
    }
}

fn on_loopback(object: &Object) -> bool {
    matches!(
        object,
        Object::Address {
            link: Link::Loopback,
            ..
        }
    )
}

#[cfg(test)]
mod tests;
