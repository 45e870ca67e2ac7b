//! Takes from a process what a container may not do; to be called last before exec.

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use seccompiler::{BpfProgram, apply_filter};

use super::{capability, seccomp};
use crate::plan::ContainerPlan;

/// The system call filters of a container, made before it forks.
pub(crate) fn filters(plan: &ContainerPlan) -> Result<Vec<BpfProgram>, String> {
    if plan.seccomp {
        seccomp::filters(plan.capabilities)
    } else {
        Ok(Vec::new())
    }
}

/// User, capabilities, no new privileges, system call filter, in the order in which each still allows the next.
pub(crate) fn confine(plan: &ContainerPlan, filters: &[BpfProgram]) -> Result<(), String> {
    let told = |tried: &str, error: &dyn std::fmt::Display| format!("cannot {tried}: {error}");
    let kept = CapabilitySet::from_bits_retain(plan.capabilities);
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if capability::ALL & (1 << number) == 0 || kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // A kernel that does not know it does not give it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(told("drop a capability", &error)),
        }
    }
    let identity = &plan.identity;
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(|error| told("set the user's groups", &error))?;
    setgid(Gid::from_raw(identity.gid)).map_err(|error| told("set the user's main group", &error))?;
    setuid(Uid::from_raw(identity.uid)).map_err(|error| told("switch to the user", &error))?;
    if identity.uid == 0 {
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        // Bits that the kernel does not know are refused; it has none of them.
        let known = rustix::thread::capabilities(None).map_err(|error| told("read the capabilities", &error))?;
        let sets = CapabilitySets {
            effective: sets.effective & known.permitted,
            permitted: sets.permitted & known.permitted,
            ..sets
        };
        set_capabilities(None, sets).map_err(|error| told("set the capabilities", &error))?;
    }
    clear_ambient_capability_set().map_err(|error| told("clear the ambient capabilities", &error))?;
    if !plan.privileged {
        set_no_new_privs(true).map_err(|error| told("forbid new privileges", &error))?;
    }
    for filter in filters {
        apply_filter(filter).map_err(|error| told("set the system call filter", &error))?;
    }
    Ok(())
}
