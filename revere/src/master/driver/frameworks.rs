//! What frameworks say and are told, on its way through the driver.

use scheduler::{FrameworkEvent, FrameworkRefusal, StreamId, Subscription, Timestamp};
use tokio::sync::oneshot;

use super::super::handle::{Gone, Input, OperatorCall};
use super::{After, Driver};

/// What waits until it is durable.
pub(in crate::master) enum Told {
    Subscribed(
        oneshot::Sender<Result<Result<Subscription, String>, Gone>>,
        Result<Subscription, String>,
    ),
    Called(
        oneshot::Sender<Result<Result<(), FrameworkRefusal>, Gone>>,
        Result<(), FrameworkRefusal>,
    ),
    Operated(oneshot::Sender<Result<Result<(), String>, Gone>>, Result<(), String>),
    TornDown(oneshot::Sender<Result<bool, Gone>>, bool),
    Event(StreamId, FrameworkEvent),
}

/// A call that is not taken because nothing can be kept now. `None`: it was one, and its asker knows.
pub(super) fn refuse(input: Input, why: &str) -> Option<Input> {
    let gone = || Gone::NotTaken(why.to_owned());
    // Each asker may have gone away meanwhile.
    match input {
        Input::Subscribe { answer, .. } => drop(answer.send(Err(gone()))),
        Input::Framework { answer, .. } => drop(answer.send(Err(gone()))),
        Input::Teardown { answer, .. } => drop(answer.send(Err(gone()))),
        Input::Operator { answer, .. } => drop(answer.send(Err(gone()))),
        other => return Some(other),
    }
    None
}

impl Driver {
    pub(super) fn take_framework(&mut self, now: Timestamp, input: Input) {
        let told = match input {
            Input::Subscribe {
                framework,
                spec,
                suppressed,
                sender,
                answer,
            } => {
                let joined = self.core.scheduler.handle_subscribe(now, framework, *spec, suppressed);
                if let Ok(subscription) = &joined {
                    tracing::info!(framework = %subscription.framework, "framework subscribed");
                    self.streams.add(subscription.stream, sender);
                }
                Told::Subscribed(answer, joined)
            }
            Input::Framework {
                framework,
                stream,
                call,
                answer,
            } => {
                let taken = self.core.scheduler.handle_framework(now, &framework, stream, call);
                Told::Called(answer, taken)
            }
            Input::StreamEnd(stream) => return self.end_stream(now, stream),
            Input::Operator { call, answer } => {
                let core = &mut self.core.scheduler;
                let taken = match call {
                    OperatorCall::Agent(agent, call) => core.handle_agent_call(now, &agent, call),
                    OperatorCall::Quotas(force, quotas) => core.handle_quotas(now, force, quotas),
                    OperatorCall::Holdings(agent, change) => core.handle_holdings(now, &agent, change),
                    OperatorCall::Maintenance(call) => core.handle_maintenance(now, call),
                    OperatorCall::Weights(weights) => weights
                        .into_iter()
                        .try_for_each(|(role, weight)| core.handle_weight(now, &role, weight)),
                };
                Told::Operated(answer, taken)
            }
            Input::Teardown { framework, answer } => {
                let known = self.core.scheduler.teardown(now, &framework);
                Told::TornDown(answer, known)
            }
            _ => return,
        };
        self.batch.after.push(After::Framework(told));
    }

    fn end_stream(&mut self, now: Timestamp, stream: StreamId) {
        self.streams.remove(stream);
        self.core.scheduler.handle_stream_end(now, stream);
    }

    /// It is durable. What a framework that reads too slowly misses it is told again once it is back.
    pub(super) fn finish_framework(&mut self, told: Told) {
        match told {
            Told::Subscribed(answer, joined) => drop(answer.send(Ok(joined))),
            Told::Called(answer, taken) => drop(answer.send(Ok(taken))),
            Told::TornDown(answer, known) => drop(answer.send(Ok(known))),
            Told::Operated(answer, taken) => drop(answer.send(Ok(taken))),
            Told::Event(stream, event) => {
                if !self.streams.send(stream, event) {
                    tracing::warn!("a framework's stream is closed: its reader is gone or too slow");
                    self.end_stream(self.core.now, stream);
                }
            }
        }
    }

    /// Whether it will be durable is not known; events wait for that.
    pub(super) fn doubt(told: Told, why: &str) -> Option<Told> {
        let gone = || Gone::Unknown(why.to_owned());
        match told {
            Told::Subscribed(answer, _) => drop(answer.send(Err(gone()))),
            Told::Called(answer, _) => drop(answer.send(Err(gone()))),
            Told::TornDown(answer, _) => drop(answer.send(Err(gone()))),
            Told::Operated(answer, _) => drop(answer.send(Err(gone()))),
            event @ Told::Event(..) => return Some(event),
        }
        None
    }

    /// This master may not lead any more: its frameworks find who does.
    pub(super) fn end_streams(&mut self) {
        for stream in self.streams.ids() {
            self.end_stream(self.core.now, stream);
        }
    }
}
