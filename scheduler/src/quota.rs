//! Quotas: how much roles may have at most, and how much is kept for them.

use model::Resources;

/// An amount of each kind, where one is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpus_milli: Option<u64>,
    /// MiB of memory.
    pub mem_mb: Option<u64>,
    /// MiB of disk.
    pub disk_mb: Option<u64>,
}

impl Amounts {
    /// The same with `absent` where nothing is given.
    pub fn or(&self, absent: u64) -> Resources {
        Resources {
            cpus_milli: self.cpus_milli.unwrap_or(absent),
            mem_mb: self.mem_mb.unwrap_or(absent),
            disk_mb: self.disk_mb.unwrap_or(absent),
        }
    }

    /// As limits: without a number there is none.
    pub fn as_limits(&self) -> Resources {
        self.or(u64::MAX)
    }

    /// As guarantees: without a number nothing is kept.
    pub fn as_guarantees(&self) -> Resources {
        self.or(0)
    }
}

/// The quota of one top-level role; of everything below it too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The role.
    pub role: String,
    /// Kept for it, whoever else asks.
    pub guarantees: Amounts,
    /// Never more than this.
    pub limits: Amounts,
}

impl Quota {
    /// Whether it says nothing: then the role has none.
    pub fn is_empty(&self) -> bool {
        self.guarantees.as_guarantees() == Resources::default() && self.limits == Amounts::default()
    }
}

/// The role at the top of a role's path.
pub(crate) fn top(role: &str) -> &str {
    role.split_once('/').map_or(role, |(top, _)| top)
}

/// The less of each kind.
pub(crate) fn least(one: &Resources, other: &Resources) -> Resources {
    Resources {
        cpus_milli: one.cpus_milli.min(other.cpus_milli),
        mem_mb: one.mem_mb.min(other.mem_mb),
        disk_mb: one.disk_mb.min(other.disk_mb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_limits_nothing_and_keeps_nothing() {
        let amounts = Amounts {
            cpus_milli: Some(500),
            ..Amounts::default()
        };
        assert_eq!(
            (amounts.as_limits().cpus_milli, amounts.as_limits().mem_mb),
            (500, u64::MAX)
        );
        assert_eq!(amounts.as_guarantees().mem_mb, 0);
        let none = Quota {
            guarantees: Amounts {
                mem_mb: Some(0),
                ..Amounts::default()
            },
            ..Quota::default()
        };
        assert!(none.is_empty());
        // A limit of nothing is one.
        let closed = Quota {
            limits: none.guarantees,
            ..Quota::default()
        };
        assert!(!closed.is_empty());
        assert_eq!((top("a/b/c"), top("a")), ("a", "a"));
    }
}
