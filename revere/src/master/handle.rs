//! The way to the driver: inputs in a bounded queue, answers back.

use model::{AgentId, FrameworkId, TaskId, TaskStatus};
use scheduler::{
    AgentCall, Command, CommandError, Force, FrameworkCall, FrameworkEvent, FrameworkRefusal, FrameworkSpec,
    HoldingChange, InstanceId, MaintenanceCall, Quota, Registration, Reply, StreamId, Subscription,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use crate::wire::MasterMessage;

/// Inputs waiting for the driver; senders wait when it is full, so that a flood slows its source.
pub(super) const INPUT_QUEUE: usize = 1024;

/// Tells an agent's connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId(pub(super) u64);

/// A look at the state, by one who may begin to follow what comes.
pub(super) type Look = Box<dyn FnOnce(&mut Core) + Send>;

/// What the driver takes.
pub(super) enum Input {
    Command {
        command: Command,
        answer: oneshot::Sender<Answer>,
    },
    Look(Look),
    /// An event that the core knows nothing of.
    Tell {
        kind: &'static str,
        data: Value,
        to: Hearers,
    },
    /// A framework joins or comes back.
    Subscribe {
        framework: Option<FrameworkId>,
        spec: Box<FrameworkSpec>,
        suppressed: Vec<String>,
        sender: mpsc::Sender<FrameworkEvent>,
        answer: oneshot::Sender<Result<Result<Subscription, String>, Gone>>,
    },
    Framework {
        framework: FrameworkId,
        stream: StreamId,
        call: FrameworkCall,
        answer: oneshot::Sender<Result<Result<(), FrameworkRefusal>, Gone>>,
    },
    /// A framework's stream has ended.
    StreamEnd(StreamId),
    /// An operator says something of agents or roles.
    Operator {
        call: OperatorCall,
        answer: oneshot::Sender<Result<Result<(), String>, Gone>>,
    },
    /// An operator ends a framework; the answer is whether there was one.
    Teardown {
        framework: FrameworkId,
        answer: oneshot::Sender<Result<bool, Gone>>,
    },
    Register {
        link: LinkId,
        registration: Box<Registration>,
        sender: mpsc::Sender<MasterMessage>,
        answer: oneshot::Sender<AgentId>,
    },
    Status {
        link: LinkId,
        agent: AgentId,
        sequence: u64,
        task: TaskId,
        status: TaskStatus,
    },
    Heartbeat {
        link: LinkId,
        agent: AgentId,
    },
    VolumesGone {
        link: LinkId,
        agent: AgentId,
        owner: InstanceId,
    },
    Disconnect {
        link: LinkId,
        agent: AgentId,
    },
}

/// Who is told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearers {
    /// Readers of every master.
    All,
    /// Those of this one.
    Own,
}

/// What an operator says.
#[derive(Debug)]
pub(super) enum OperatorCall {
    Agent(AgentId, AgentCall),
    /// Roles and their weights.
    Weights(Vec<(String, f64)>),
    Quotas(Force, Vec<Quota>),
    Maintenance(MaintenanceCall),
    Holdings(AgentId, HoldingChange),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Gone {
    /// The driver has ended.
    #[error("the master is shutting down")]
    Ended,
    /// Nothing was done.
    #[error("nothing was changed, because the change could not be kept: {0}; try again later")]
    NotTaken(String),
    /// Too many ask for the same.
    #[error("{0} readers wait for a state already; try again later")]
    Crowded(usize),
    /// It may have been done.
    #[error("the change was begun, and whether it will be kept is not known yet: {0}; look before you repeat it")]
    Unknown(String),
}

/// What becomes of a command.
pub(super) type Answer = Result<Result<Reply, CommandError>, Gone>;

/// Sends inputs to the driver.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    inputs: mpsc::Sender<Input>,
}

impl Handle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(INPUT_QUEUE);
        (Self { inputs }, receiver)
    }

    pub(super) async fn send(&self, input: Input) -> Result<(), Gone> {
        self.inputs.send(input).await.map_err(|_| Gone::Ended)
    }

    /// Tells readers of Marathon's events, unless the driver is overburdened: no event is worth a wait.
    pub(super) fn tell(&self, to: Hearers, kind: &'static str, data: Value) {
        let _ = self.inputs.try_send(Input::Tell { kind, data, to });
    }

    /// Answers once the change is durable.
    pub(super) async fn command(&self, command: Command) -> Answer {
        let (answer, reply) = oneshot::channel();
        self.send(Input::Command { command, answer }).await?;
        reply.await.unwrap_or(Err(Gone::Ended))
    }

    /// Runs `look` on the state between two inputs. It must be short.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        self.follow(|core| look(core)).await
    }

    /// The same, for who begins to follow what comes.
    pub(super) async fn follow<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, reply) = oneshot::channel();
        let look: Look = Box::new(move |core| {
            // The asker may have gone away meanwhile.
            let _ = answer.send(look(core));
        });
        self.send(Input::Look(look)).await?;
        reply.await.map_err(|_| Gone::Ended)
    }
}
