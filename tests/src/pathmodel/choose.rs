//! Which backend a packet belongs to.

use lb_common::{
    FlowState, FlowValue, Reason, Tag, VipEntry, affinity_hash, backend_flags, flow_flags, flow_hash, vip_flags,
};

use super::Model;
use super::flows::{Key, Store, ending, followed, met};
use super::parse::{FIN, Packet, RST};
use super::tables::Owner;

/// Slots looked at when a shared backend cannot be had.
const TRIES: u32 = 4;

impl Model {
    pub(super) fn hash(packet: &Packet, entry: &VipEntry) -> u32 {
        let client = packet.network.from;
        if entry.flags & vip_flags::AFFINITY == 0 {
            flow_hash(&client, packet.source, packet.dest, packet.network.protocol)
        } else {
            affinity_hash(&client)
        }
    }

    /// The owner of a flow that is known, and what the packet makes of it.
    pub(super) fn known(&mut self, packet: &Packet, key: &Key) -> Option<(Owner, bool)> {
        let flow = self.flows.flows.get(key).copied();
        let owned = flow.and_then(|flow| Some((flow, self.tables.owner(&flow)?)));
        let Some((flow, owner)) = owned else {
            return if packet.is_syn() {
                None
            } else {
                self.promoted(packet, key).map(|owner| (owner, false))
            };
        };
        if packet.is_syn() {
            // The ports of a flow that is over, or whose backend takes no more: a new flow.
            if !ending(&flow) && !owner.is(backend_flags::OPEN) {
                self.flows.close(key);
                return None;
            }
            return (!ending(&flow)).then_some((owner, false));
        }
        if ending(&flow)
            && let Some(newer) = self.promoted(packet, key)
        {
            return Some((newer, false));
        }
        self.flows
            .follow(Store::Flows, key, packet.flags, flow_flags::FIN_CLIENT);
        let elsewhere = !owner.is(backend_flags::LOCAL) && !owner.is(backend_flags::BARE);
        let doubtful = packet.is_tcp() && elsewhere && flow.flags & flow_flags::DOUBTFUL != 0;
        Some((owner, doubtful))
    }

    /// Who has a flow if its known backend has not: the one before or the table's, if it is on another node.
    pub(super) fn instead(&self, packet: &Packet, entry: &VipEntry, known: &Owner) -> Tag {
        let hash = Self::hash(packet, entry);
        [entry.previous, entry.table]
            .into_iter()
            .filter_map(|table| self.tables.slot(table, hash))
            .find(|other| other.index != known.index && !other.is(backend_flags::LOCAL))
            .map_or_else(|| known.tag(), |other| other.tag())
    }

    /// Whether the flow has lost its backend and no newer one has taken its ports.
    pub(super) fn is_cut_off(&self, key: &Key) -> bool {
        let going = |flow: Option<&FlowValue>| {
            let owner = flow.and_then(|flow| self.tables.owner(flow));
            owner.is_some_and(|owner| {
                owner.is(backend_flags::OPEN | backend_flags::GONE) || !owner.is(backend_flags::RESET)
            })
        };
        let flow = self.flows.flows.get(key);
        flow.is_some_and(|flow| flow.state != FlowState::Closed as u8)
            && !going(flow)
            && !going(self.flows.half.get(key))
    }

    /// The owner of a half-open flow, which the packet makes a whole one.
    fn promoted(&mut self, packet: &Packet, key: &Key) -> Option<Owner> {
        let half = *self.flows.half.get(key)?;
        let owner = self.tables.owner(&half)?;
        if packet.flags & RST == 0 {
            let state = if packet.is_tcp() {
                FlowState::Established
            } else {
                FlowState::Datagram
            };
            let value = followed(met(&owner, state, half.flags), packet.flags, flow_flags::FIN_CLIENT);
            self.flows.put(Store::Flows, *key, value);
            self.flows.remove_half(key);
        }
        Some(owner)
    }

    /// The owner of a packet of no known flow, and the tag of who else may know it: its own where there is no doubt.
    pub(super) fn choose(&mut self, packet: &Packet, entry: &VipEntry, key: &Key) -> Result<(Owner, Tag), Reason> {
        let hash = Self::hash(packet, entry);
        if packet.is_syn() || !packet.is_tcp() {
            let slot = entry.table.slot(hash).ok_or(Reason::NoBackend)?;
            let mut owner = self.tables.at(slot).ok_or(Reason::NoBackend)?;
            if owner.is(backend_flags::GONE) {
                return Err(Reason::BackendGone);
            }
            if owner.is(backend_flags::SHARED) {
                owner = self.free(entry, key, owner, slot)?;
            }
            let owner = self.opened(packet, key, owner, 0);
            return Ok((owner, owner.tag()));
        }
        self.stray(packet, entry, key, hash)
    }

    /// A packet that opens nothing: the table's backend, or the one before it.
    fn stray(&mut self, packet: &Packet, entry: &VipEntry, key: &Key, hash: u32) -> Result<(Owner, Tag), Reason> {
        let current = self.tables.slot(entry.table, hash);
        let before = self.tables.slot(entry.previous, hash);
        let other = |one: &Owner, other: &Owner| one.index != other.index;
        let (owner, alternate, previous) = match (current, before) {
            (None, None) => return Err(Reason::NoBackend),
            (None, Some(before)) => (before, Tag(0), true),
            // A local backend's flows all pass here: it never had this one.
            (Some(now), Some(before)) if other(&now, &before) && now.is(backend_flags::LOCAL) => (before, Tag(0), true),
            (Some(now), Some(before)) if other(&now, &before) => (now, before.tag(), false),
            (Some(now), _) => (now, Tag(0), false),
        };
        if previous || owner.is(backend_flags::LOCAL) {
            self.adopted(packet, key, &owner, if previous { flow_flags::PREVIOUS } else { 0 });
        }
        Ok((owner, alternate))
    }

    /// A new flow is remembered among the half-open ones. A repeated first packet stays with its backend while that takes
    /// connections.
    pub(super) fn opened(&mut self, packet: &Packet, key: &Key, owner: Owner, flags: u8) -> Owner {
        if let Some(before) = self.flows.half.get(key)
            && let Some(same) = self.tables.owner(before)
            && same.is(backend_flags::OPEN)
            && (flags & flow_flags::TUNNELLED == 0 || same.is(backend_flags::LOCAL))
        {
            return same;
        }
        let state = if packet.is_tcp() {
            FlowState::Opening
        } else {
            FlowState::Datagram
        };
        self.flows.put(Store::Half, *key, met(&owner, state, flags));
        owner
    }

    /// A flow met in its middle is remembered as a whole one, unless this is its end.
    pub(super) fn adopted(&mut self, packet: &Packet, key: &Key, owner: &Owner, flags: u8) {
        if packet.flags & RST != 0 {
            return;
        }
        let value = if packet.flags & FIN == 0 {
            met(owner, FlowState::Established, flags)
        } else {
            met(owner, FlowState::Closing, flags | flow_flags::FIN_CLIENT)
        };
        self.flows.put(Store::Flows, *key, value);
    }

    /// A backend whose answers to this client port cannot be confused.
    fn free(&self, entry: &VipEntry, key: &Key, first: Owner, slot: u32) -> Result<Owner, Reason> {
        if !self.conflict(key, first.index) {
            return Ok(first);
        }
        let (offset, len) = (entry.table.offset(), entry.table.len());
        (1..TRIES)
            .map(|step| offset + (slot - offset + step) % len)
            .filter_map(|slot| self.tables.at(slot))
            .find(|owner| {
                let taken = owner.is(backend_flags::SHARED) && self.conflict(key, owner.index);
                owner.index != first.index && !taken
            })
            .ok_or(Reason::TupleConflict)
    }

    /// Whether the client's port reaches this backend through another VIP already.
    pub(super) fn conflict(&self, key: &Key, index: u32) -> bool {
        let Some(owner) = self.tables.live(index) else {
            return false;
        };
        let local = owner.is(backend_flags::LOCAL);
        self.vips_of(index).into_iter().filter(|id| *id != key.vip).any(|id| {
            let other = Key { vip: id, ..*key };
            let uses = |flow: Option<&FlowValue>| {
                flow.is_some_and(|flow| {
                    let begun = flow.state < FlowState::Closing as u8 || flow.state == FlowState::Datagram as u8;
                    // Of a backend elsewhere only one side's end is seen.
                    flow.backend == index && (begun || local && flow.state == FlowState::Closing as u8)
                })
            };
            uses(self.flows.flows.get(&other)) || uses(self.flows.half.get(&other))
        })
    }

    /// The VIPs of a shared backend.
    pub(super) fn vips_of(&self, index: u32) -> Vec<u16> {
        let listed = self.tables.backend_vips.get(&index);
        listed
            .map(|ids| ids.iter().copied().take_while(|id| *id != 0).collect())
            .unwrap_or_default()
    }
}
