//! The difference between desired and actual, as operations in the order in which they are safe.

use std::collections::BTreeSet;
use std::fmt;

use crate::desired::ENCAPSULATION;
use crate::object::Key;
use crate::{Actual, Desired, Device, Link, Object, Sysctl, Tunnel};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bring `lo` up: a new network namespace has it down, and addresses on it don't answer then.
    LoopbackUp,
    /// Delete the VXLAN device and with it everything on it.
    RemoveDevice,
    /// Make the VXLAN device, with this MTU, and bring it up.
    AddDevice(Device, u32),
    /// Set the VXLAN device's MTU.
    SetMtu(u32),
    /// Bring the VXLAN device up.
    DeviceUp,
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
            Self::RemoveDevice => f.write_str("remove the VXLAN device"),
            Self::AddDevice(device, mtu) => write!(f, "add the VXLAN device {} mtu {mtu}", device.mac),
            Self::SetMtu(mtu) => write!(f, "set the VXLAN device's mtu to {mtu}"),
            Self::DeviceUp => f.write_str("bring the VXLAN device up"),
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

/// Two set differences, preceded by what must happen to the device.
///
/// Recreating the device is the one change that can't be made before it is broken: the kernel allows one VXLAN device
/// for a VNI and port, and the name is ours. It stands in `adds`, because everything after it needs it.
pub fn plan(desired: &Desired, actual: &Actual) -> Plan {
    let mut plan = Plan::default();
    if !actual.loopback_up {
        plan.adds.push(Op::LoopbackUp);
    }
    let fate = plan_device(desired, actual, &mut plan);
    plan_sysctls(desired, actual, fate, &mut plan);
    let remain: BTreeSet<Object> = actual
        .objects
        .iter()
        .filter(|object| fate != Fate::New || !object.needs_device())
        .copied()
        .collect();
    let wanted_keys: BTreeSet<Key> = desired.objects.iter().map(Object::key).collect();
    plan.adds
        .extend(desired.objects.difference(&remain).copied().map(Op::Add));
    // An object whose key another one takes over is replaced by that add; deleting it would delete the new one.
    let stale = remain
        .iter()
        .rev()
        .filter(|object| !wanted_keys.contains(&object.key()) && may_remove(object, fate));
    plan.removes.extend(stale.copied().map(Op::Remove));
    if fate == Fate::Gone && actual.device.is_some() {
        plan.removes.push(Op::RemoveDevice);
    }
    plan
}

/// What this pass does to the VXLAN device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It and all that belongs to it are left alone.
    Untouched,
    /// It stays, its objects are reconciled.
    Kept,
    /// It is made anew, so nothing on it exists.
    New,
    /// It is (to be) gone.
    Gone,
}

fn plan_device(desired: &Desired, actual: &Actual, plan: &mut Plan) -> Fate {
    let wanted = match &desired.tunnel {
        Tunnel::Keep => return Fate::Untouched,
        Tunnel::Absent => return Fate::Gone,
        Tunnel::Present(device) => device,
    };
    let mtu = actual.uplink.mtu.saturating_sub(ENCAPSULATION);
    match &actual.device {
        Some(seen) if seen.device.as_ref() == Some(wanted) => {
            if seen.mtu != mtu {
                plan.adds.push(Op::SetMtu(mtu));
            }
            if !seen.up {
                plan.adds.push(Op::DeviceUp);
            }
            Fate::Kept
        }
        seen => {
            if seen.is_some() {
                plan.adds.push(Op::RemoveDevice);
            }
            plan.adds.push(Op::AddDevice(wanted.clone(), mtu));
            Fate::New
        }
    }
}

fn plan_sysctls(desired: &Desired, actual: &Actual, fate: Fate, plan: &mut Plan) {
    for &sysctl in &desired.sysctls {
        // A new device starts from the namespace's default, whatever the old one had.
        let fresh = sysctl == Sysctl::ReversePathDevice && fate == Fate::New;
        if fresh || actual.sysctls.get(&sysctl) != Some(&sysctl.wanted()) {
            plan.adds.push(Op::SetSysctl(sysctl));
        }
    }
}

fn may_remove(object: &Object, fate: Fate) -> bool {
    match fate {
        Fate::Kept | Fate::New => true,
        // Only what is surely not part of the tunnel.
        Fate::Untouched => matches!(
            object,
            Object::Address {
                link: Link::Loopback,
                ..
            }
        ),
        // What hangs on the device goes with it.
        Fate::Gone => !object.needs_device(),
    }
}

#[cfg(test)]
mod tests;
