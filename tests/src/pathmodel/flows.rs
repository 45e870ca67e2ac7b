//! Flows as earlier packets left them. Times are left out: the model has no clock.

use std::collections::BTreeMap;

use lb_common::{Be16, FlowState, FlowValue, FragmentValue, Ip, flow_flags};

use super::parse::{FIN, RST};
use super::tables::Owner;

/// A client's port at a VIP; the family is part of it, for each has maps of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// 4 or 6.
    pub family: u8,
    /// The client.
    pub client: Ip,
    /// Its port.
    pub port: Be16,
    /// The VIP's id.
    pub vip: u16,
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// `FLOWS4`, `FLOWS6`.
    Flows,
    /// `HALF4`, `HALF6`.
    Half,
}

/// What the parts of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartKey {
    /// 4 or 6.
    pub family: u8,
    /// Who sends it.
    pub src: Ip,
    /// To whom.
    pub dst: Ip,
    /// The sender's number.
    pub id: u32,
    /// Of IPv4; 0 for IPv6.
    pub protocol: u8,
    /// Whether a backend sends it.
    pub answer: bool,
}

/// Both tables.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// More than the first packet was seen.
    pub flows: BTreeMap<Key, FlowValue>,
    /// Only the first packet was.
    pub half: BTreeMap<Key, FlowValue>,
    /// Where first parts of packets went: by direction (an answer's is true), protocol (of IPv4) and what the parts have in
    /// common.
    pub parts: BTreeMap<PartKey, FragmentValue>,
    /// What the last packet may have changed.
    pub touched: Vec<(Store, Key)>,
}

impl Flows {
    /// An entry.
    #[must_use]
    pub fn get(&self, store: Store, key: &Key) -> Option<&FlowValue> {
        match store {
            Store::Flows => self.flows.get(key),
            Store::Half => self.half.get(key),
        }
    }

    pub(super) fn put(&mut self, store: Store, key: Key, value: FlowValue) {
        self.touched.push((store, key));
        match store {
            Store::Flows => self.flows.insert(key, value),
            Store::Half => self.half.insert(key, value),
        };
    }

    pub(super) fn remove_half(&mut self, key: &Key) {
        self.touched.push((Store::Half, *key));
        self.half.remove(key);
    }

    /// A flow counts as over from now on.
    pub(super) fn close(&mut self, key: &Key) {
        if let Some(mut flow) = self.flows.get(key).copied() {
            flow.state = FlowState::Closed as u8;
            self.put(Store::Flows, *key, flow);
        }
    }

    /// A packet of a flow went by, with these TCP flags, sent by the side whose FIN bit this is.
    pub(super) fn follow(&mut self, store: Store, key: &Key, tcp: u8, fin: u8) {
        if let Some(before) = self.get(store, key).copied() {
            self.put(store, *key, followed(before, tcp, fin));
        }
    }
}

/// A flow's first entry.
pub(super) fn met(owner: &Owner, state: FlowState, flags: u8) -> FlowValue {
    FlowValue {
        backend: owner.index,
        generation: owner.entry.generation,
        seen: 0,
        state: state as u8,
        flags,
        port: Be16::new(0),
    }
}

/// The state after a packet: a RST ends a flow, a FIN of each side ends it, one FIN begins its end.
pub(super) fn followed(mut flow: FlowValue, tcp: u8, fin: u8) -> FlowValue {
    let closed = FlowState::Closed as u8;
    if tcp & RST != 0 {
        flow.state = closed;
    } else if tcp & FIN != 0 && flow.state != closed {
        flow.flags |= fin;
        let sides = [flow_flags::FIN_CLIENT, flow_flags::FIN_BACKEND];
        let both = sides.iter().all(|side| flow.flags & side != 0);
        flow.state = if both { closed } else { FlowState::Closing as u8 };
    }
    flow
}

/// Whether a flow has begun to end.
pub(super) fn ending(flow: &FlowValue) -> bool {
    [FlowState::Closing as u8, FlowState::Closed as u8].contains(&flow.state)
}
