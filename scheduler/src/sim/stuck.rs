//! A store that several masters share and that does not answer for a while: the core of the one that leads goes on ahead
//! of it, and what is not kept waits, or is lost when another master takes over. Each master's clock is its own.

use model::AgentId;

use crate::{Effect, Timestamp};

use super::world::{Bug, Event, Message, World};

/// Longest time without an answer, in milliseconds.
const SILENT: u64 = 40_000;
/// By how much at most a master's clock is fast.
const FAST: u64 = 4_000;

/// What waits for the store, in order, and what is to be acknowledged after it: agent, connection, message.
#[derive(Default)]
pub(super) struct Held {
    pub(super) stuck: bool,
    effects: Vec<Effect>,
    acknowledgements: Vec<(usize, u64, Message)>,
}

impl World {
    /// The time by the leading master's clock.
    pub(super) fn master_now(&self) -> Timestamp {
        Timestamp(self.now + self.fast)
    }

    /// Another one of the masters leads.
    pub(super) fn next_master(&mut self) {
        self.fast = self.random.below(FAST);
    }

    /// The store stops answering.
    pub(super) fn store_sticks(&mut self) {
        if self.held.stuck || self.core.is_none() {
            return;
        }
        self.note("store sticks");
        self.held.stuck = true;
        let silent = self.random.below(SILENT);
        self.after(silent, Event::StoreAnswers);
    }

    /// It answers, and takes what waited; the master may die in between.
    pub(super) fn store_answers(&mut self) {
        if !self.held.stuck {
            return;
        }
        self.note("store answers");
        let held = std::mem::take(&mut self.held);
        for effect in held.effects {
            if self.bad_luck(400) {
                self.wanted_unsure = true;
                return self.master_down();
            }
            self.carry(effect);
        }
        for (agent, connection, message) in held.acknowledgements {
            self.send_down(agent, connection, message);
        }
    }

    /// The master is gone, and with it what it could not keep.
    pub(super) fn held_is_lost(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.wanted_unsure |= !held.effects.is_empty();
    }

    /// One effect now, or when the store answers. What the stream tells does not wait for it.
    pub(super) fn carry_or_hold(&mut self, effect: Effect) {
        let early = self.bug == Some(Bug::EarlyOrder) && matches!(effect, Effect::Launch { .. });
        if self.held.stuck && !early && !matches!(effect, Effect::Emit(_)) {
            self.held.effects.push(effect);
        } else {
            self.carry(effect);
        }
    }

    /// An agent registers anew: what waits to be sent over its earlier connection is void.
    pub(super) fn forget_orders(&mut self, agent: &AgentId) {
        self.held.effects.retain(|effect| match effect {
            Effect::Launch { agent: to, .. }
            | Effect::LaunchPod { agent: to, .. }
            | Effect::Kill { agent: to, .. }
            | Effect::RemoveVolumes { agent: to, .. } => to != agent,
            _ => true,
        });
    }

    /// Tells an agent that what it said is kept, once it is.
    pub(super) fn acknowledge(&mut self, agent: usize, connection: u64, message: Message) {
        if self.held.stuck {
            self.held.acknowledgements.push((agent, connection, message));
        } else {
            self.send_down(agent, connection, message);
        }
    }
}
