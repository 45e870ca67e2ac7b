//! Which capabilities a container keeps.

use model::{Parameter, Privilege};

/// Names by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those that Docker leaves a container.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// Every capability.
pub(super) const ALL: u64 = (1 << NAMES.len()) - 1;

fn bit(name: &str) -> Option<u64> {
    let number = NAMES.iter().position(|known| *known == name)?;
    Some(1 << number)
}

/// As bits: Docker's default, or all, with what the parameters add and drop in their order.
pub(super) fn set(parameters: &[Parameter], privilege: Privilege) -> Result<u64, String> {
    let mut set = match privilege {
        Privilege::Full => ALL,
        Privilege::Confined => DEFAULT
            .iter()
            .filter_map(|name| bit(name))
            .fold(0, |set, bit| set | bit),
    };
    for parameter in parameters {
        let (Parameter::CapAdd(name) | Parameter::CapDrop(name)) = parameter else {
            continue;
        };
        let bits = if name == "ALL" { Some(ALL) } else { bit(name) };
        let bits = bits.ok_or_else(|| format!("there is no capability {name}"))?;
        if matches!(parameter, Parameter::CapAdd(_)) {
            set |= bits;
        } else {
            set &= !bits;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers() {
        // What /proc/1/status shows in a container of Docker's.
        assert_eq!(set(&[], Privilege::Confined), Ok(0xa804_25fb));
        assert_eq!(set(&[], Privilege::Full), Ok(0x1ff_ffff_ffff));
    }

    #[test]
    fn parameters_add_and_drop_in_order() {
        let add = |name: &str| Parameter::CapAdd(name.to_owned());
        let drop = |name: &str| Parameter::CapDrop(name.to_owned());
        let of = |parameters: &[Parameter]| set(parameters, Privilege::Confined);
        assert_eq!(of(&[drop("ALL"), add("NET_ADMIN")]), Ok(1 << 12));
        assert_eq!(of(&[add("NET_ADMIN"), drop("ALL")]), Ok(0));
        assert!(of(&[add("FLY")]).expect_err("none").contains("FLY"));
    }
}
