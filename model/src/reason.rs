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
    /// The task group as a whole cannot be carried out.
    TaskGroupInvalid,
    /// It was to use offers that were no longer there.
    InvalidOffers,
    /// Told because somebody asked, not because anything happened.
    Reconciliation,
    /// Its framework is gone.
    FrameworkRemoved,
    /// Its agent is gone or out of reach.
    AgentRemoved,
    /// Its agent was taken out by an operator.
    AgentRemovedByOperator,
    /// Its agent came back.
    AgentReregistered,
    /// Its agent came back without it.
    AgentRestarted,
    /// Its agent is being emptied.
    AgentDraining,
    /// Its health check has another result.
    TaskHealthCheckStatusUpdated,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::CommandExecutorFailed,
        Self::ContainerLimitationMemory,
        Self::ContainerLimitationDisk,
        Self::ContainerLaunchFailed,
        Self::TaskKilledDuringLaunch,
        Self::TaskInvalid,
        Self::TaskGroupInvalid,
        Self::InvalidOffers,
        Self::Reconciliation,
        Self::FrameworkRemoved,
        Self::AgentRemoved,
        Self::AgentRemovedByOperator,
        Self::AgentReregistered,
        Self::AgentRestarted,
        Self::AgentDraining,
        Self::TaskHealthCheckStatusUpdated,
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
            Self::TaskGroupInvalid => "REASON_TASK_GROUP_INVALID",
            Self::InvalidOffers => "REASON_INVALID_OFFERS",
            Self::Reconciliation => "REASON_RECONCILIATION",
            Self::FrameworkRemoved => "REASON_FRAMEWORK_REMOVED",
            Self::AgentRemoved => "REASON_AGENT_REMOVED",
            Self::AgentRemovedByOperator => "REASON_AGENT_REMOVED_BY_OPERATOR",
            Self::AgentReregistered => "REASON_AGENT_REREGISTERED",
            Self::AgentRestarted => "REASON_AGENT_RESTARTED",
            Self::AgentDraining => "REASON_AGENT_DRAINING",
            Self::TaskHealthCheckStatusUpdated => "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
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
