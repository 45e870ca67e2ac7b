//! Why a task has its state, in Mesos' words.

/// Reasons that this program gives, and those of a real Mesos that it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The task's own process ended with a failure.
    CommandExecutorFailed,
    /// It went over its memory limit.
    ContainerLimitationMemory,
    /// It went over its disk limit.
    ContainerLimitationDisk,
    /// Its container could not be made: an image, a volume, something to fetch, a namespace.
    ContainerLaunchFailed,
    /// It was ended while its container was being made.
    TaskKilledDuringLaunch,
    /// Its definition cannot be carried out.
    TaskInvalid,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::CommandExecutorFailed,
        Self::ContainerLimitationMemory,
        Self::ContainerLimitationDisk,
        Self::ContainerLaunchFailed,
        Self::TaskKilledDuringLaunch,
        Self::TaskInvalid,
    ];

    /// The name in `TaskStatus.Reason` of mesos.proto.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandExecutorFailed => "REASON_COMMAND_EXECUTOR_FAILED",
            Self::ContainerLimitationMemory => "REASON_CONTAINER_LIMITATION_MEMORY",
            Self::ContainerLimitationDisk => "REASON_CONTAINER_LIMITATION_DISK",
            Self::ContainerLaunchFailed => "REASON_CONTAINER_LAUNCH_FAILED",
            Self::TaskKilledDuringLaunch => "REASON_TASK_KILLED_DURING_LAUNCH",
            Self::TaskInvalid => "REASON_TASK_INVALID",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("REASON_GC_ERROR"), None);
    }
}
