//! The flow tables from user space: counting, listing, and sweeping out what has ended.
//!
//! The tables are of a fixed size and the kernel evicts what was used least lately, so nothing here is needed to go on; it
//! keeps ended flows from pushing out live ones, and knows how many are open.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
use lb_common::{BackendEntry, Be16, FlowKey4, FlowKey6, FlowState, FlowValue, Ip, NatKey4, NatKey6, backend_flags};

use crate::{Lb, raw};

/// Seconds after its last packet for which a flow is kept, by how far it has come. Established flows stay until the kernel
/// needs their room: nobody knows how long two ends want to be silent.
const OPENING: u32 = 60;
/// One end may send for long after the other has closed; what it sends counts as a packet.
const CLOSING: u32 = 3600;
/// Last acknowledgements and what was sent twice.
const CLOSED: u32 = 60;
const DATAGRAM: u32 = 180;

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The number of its VIP.
    pub vip: u16,
    /// What the table says of it.
    pub value: FlowValue,
    /// Whether it is among the half-open ones.
    pub half: bool,
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Flows that stay and have not closed, by number of the VIP.
    pub open: BTreeMap<u16, u32>,
    /// Flows that stay.
    pub kept: u64,
    /// Flows taken out because their time was over.
    pub ended: u64,
    /// Flows taken out because their backend is gone.
    pub orphaned: u64,
}

impl Sweep {
    fn keep(&mut self, vip: u16, value: &FlowValue) {
        self.kept += 1;
        if is_open(value) {
            *self.open.entry(vip).or_default() += 1;
        }
    }
}

/// The flow tables could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not walk through the map {map}: {source}")]
pub struct FlowsError {
    map: &'static str,
    source: io::Error,
}

/// The flow tables, apart from the rest: a walk takes a while and must not hold anybody up.
#[derive(Debug)]
pub struct FlowTables {
    flows4: OwnedFd,
    flows6: OwnedFd,
    half4: OwnedFd,
    half6: OwnedFd,
    nat4: [OwnedFd; 2],
    nat6: [OwnedFd; 2],
    backends: OwnedFd,
}

impl Lb {
    /// Opens the flow tables once more.
    pub fn flow_tables(&self) -> Result<FlowTables, FlowsError> {
        let open = |map: &'static str| {
            let pin = self.config.bpffs.join("maps").join(map);
            raw::obj_get(&pin).map_err(|source| FlowsError { map, source })
        };
        Ok(FlowTables {
            flows4: open("FLOWS4")?,
            flows6: open("FLOWS6")?,
            half4: open("HALF4")?,
            half6: open("HALF6")?,
            nat4: [open("NAT4")?, open("NAT4_BACK")?],
            nat6: [open("NAT6")?, open("NAT6_BACK")?],
            backends: open("BACKENDS")?,
        })
    }
}

/// A key of either family.
trait FlowKey: Pod {
    fn client(&self) -> IpAddr;
    fn port(&self) -> u16;
    fn vip(&self) -> u16;
}

impl FlowKey for FlowKey4 {
    fn client(&self) -> IpAddr {
        IpAddr::from(Ip::v4(self.client))
    }

    fn port(&self) -> u16 {
        self.port.get()
    }

    fn vip(&self) -> u16 {
        self.vip
    }
}

impl FlowKey for FlowKey6 {
    fn client(&self) -> IpAddr {
        IpAddr::from(self.client)
    }

    fn port(&self) -> u16 {
        self.port.get()
    }

    fn vip(&self) -> u16 {
        self.vip
    }
}

/// One direction of a translated flow of either family.
trait NatKey: Pod + PartialEq {
    fn dest_port(&self) -> Be16;
}

impl NatKey for NatKey4 {
    fn dest_port(&self) -> Be16 {
        self.dest_port
    }
}

impl NatKey for NatKey6 {
    fn dest_port(&self) -> Be16 {
        self.dest_port
    }
}

/// What is to become of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Ended,
    Orphaned,
}

fn fate(value: &FlowValue, now: u32, generations: &[u32]) -> Fate {
    let backend = usize::try_from(value.backend)
        .ok()
        .and_then(|index| generations.get(index));
    if backend != Some(&value.generation) {
        return Fate::Orphaned;
    }
    let limit = match value.state {
        state if state == FlowState::Opening as u8 => OPENING,
        state if state == FlowState::Closing as u8 => CLOSING,
        state if state == FlowState::Closed as u8 => CLOSED,
        state if state == FlowState::Datagram as u8 => DATAGRAM,
        _ => return Fate::Stays,
    };
    // A packet may have come after the clock was read.
    if now.saturating_sub(value.seen) > limit {
        Fate::Ended
    } else {
        Fate::Stays
    }
}

fn is_open(value: &FlowValue) -> bool {
    value.state != FlowState::Closing as u8 && value.state != FlowState::Closed as u8
}

impl FlowTables {
    /// Every flow, each table in the order of its own.
    pub fn each(&self, mut each: impl FnMut(Flow)) -> Result<(), FlowsError> {
        for (map, fd, half) in [("FLOWS4", &self.flows4, false), ("HALF4", &self.half4, true)] {
            list::<FlowKey4>(map, fd, half, &mut each)?;
        }
        for (map, fd, half) in [("FLOWS6", &self.flows6, false), ("HALF6", &self.half6, true)] {
            list::<FlowKey6>(map, fd, half, &mut each)?;
        }
        Ok(())
    }

    /// Takes out what has ended by `now` (seconds of the monotonic clock) and counts the rest. A flow that is in use is
    /// never taken out, not even one that comes again, with the ports of one that has ended, while this looks.
    pub fn sweep(&self, now: u32) -> Result<Sweep, FlowsError> {
        self.sweep_around(now, &mut || {})
    }

    /// The same; `meanwhile` is called between looking and taking out, once for each table.
    pub fn sweep_around(&self, now: u32, meanwhile: &mut dyn FnMut()) -> Result<Sweep, FlowsError> {
        let mut sweep = Sweep::default();
        for (map, fd) in [("FLOWS4", &self.flows4), ("HALF4", &self.half4)] {
            self.sweep_one::<FlowKey4>(map, fd, now, meanwhile, &mut sweep)?;
        }
        for (map, fd) in [("FLOWS6", &self.flows6), ("HALF6", &self.half6)] {
            self.sweep_one::<FlowKey6>(map, fd, now, meanwhile, &mut sweep)?;
        }
        self.sweep_translated::<NatKey4>(&self.nat4, now)
            .map_err(|source| FlowsError { map: "NAT4", source })?;
        self.sweep_translated::<NatKey6>(&self.nat6, now)
            .map_err(|source| FlowsError { map: "NAT6", source })?;
        Ok(sweep)
    }

    /// Translated flows that have ended, then ports that no flow has any more.
    fn sweep_translated<K: NatKey>(&self, [flows, back]: &[OwnedFd; 2], now: u32) -> io::Result<()> {
        let generations = self.generations().map_err(|error| error.source)?;
        let mut over = Vec::new();
        raw::walk(flows.as_fd(), 1, |key: &K, values: &[FlowValue]| {
            over.extend(
                values
                    .iter()
                    .filter(|value| fate(value, now, &generations) != Fate::Stays)
                    .map(|value| (*key, *value)),
            );
        })?;
        for (key, value) in &over {
            raw::take_unchanged(flows.as_fd(), key, value)?;
        }
        let mut ports = Vec::new();
        raw::walk(back.as_fd(), 1, |key: &K, flows: &[K]| {
            ports.extend(flows.iter().map(|flow| (*key, *flow)));
        })?;
        // The port is there a moment before its flow: only what has none now, after all ports were read, never had one.
        for (port, flow) in &ports {
            let holder: Option<FlowValue> = raw::lookup(flows.as_fd(), flow)?;
            if holder.is_none_or(|value| value.port != port.dest_port()) {
                raw::take_unchanged(back.as_fd(), port, flow)?;
            }
        }
        Ok(())
    }

    fn sweep_one<K: FlowKey>(
        &self,
        map: &'static str,
        fd: &OwnedFd,
        now: u32,
        meanwhile: &mut dyn FnMut(),
        sweep: &mut Sweep,
    ) -> Result<(), FlowsError> {
        let failed = |source| FlowsError { map, source };
        let generations = self.generations()?;
        let mut over = Vec::new();
        let walked = raw::walk(fd.as_fd(), 1, |key: &K, values: &[FlowValue]| {
            for value in values {
                if fate(value, now, &generations) == Fate::Stays {
                    sweep.keep(key.vip(), value);
                } else {
                    over.push((*key, *value));
                }
            }
        });
        walked.map_err(failed)?;
        meanwhile();
        // A backend may have come, and flows to it, after the first look at the backends.
        let generations = self.generations()?;
        for (key, value) in over {
            let fate = fate(&value, now, &generations);
            if fate == Fate::Stays || !raw::take_unchanged(fd.as_fd(), &key, &value).map_err(failed)? {
                sweep.keep(key.vip(), &value);
            } else if fate == Fate::Ended {
                sweep.ended += 1;
            } else {
                sweep.orphaned += 1;
            }
        }
        Ok(())
    }

    /// Generations of live backends by index; 0 is nobody's.
    fn generations(&self) -> Result<Vec<u32>, FlowsError> {
        let mut generations = Vec::new();
        let walked = raw::walk(self.backends.as_fd(), 1, |_: &u32, entries: &[BackendEntry]| {
            let live = entries.first().filter(|entry| entry.flags & backend_flags::LIVE != 0);
            generations.push(live.map_or(0, |entry| entry.generation));
        });
        let map = "BACKENDS";
        walked.map_err(|source| FlowsError { map, source })?;
        Ok(generations)
    }
}

fn list<K: FlowKey>(
    map: &'static str,
    fd: &OwnedFd,
    half: bool,
    each: &mut impl FnMut(Flow),
) -> Result<(), FlowsError> {
    let walked = raw::walk(fd.as_fd(), 1, |key: &K, values: &[FlowValue]| {
        for value in values {
            each(Flow {
                client: key.client(),
                port: key.port(),
                vip: key.vip(),
                value: *value,
                half,
            });
        }
    });
    walked.map_err(|source| FlowsError { map, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_end_by_their_state_and_live_ones_never() {
        let flow = |state: FlowState, seen: u32| FlowValue {
            backend: 1,
            generation: 7,
            seen,
            state: state as u8,
            ..FlowValue::default()
        };
        let generations = [0, 7];
        let at = |value: &FlowValue, now| fate(value, now, &generations);
        for (state, limit) in [
            (FlowState::Opening, OPENING),
            (FlowState::Closing, CLOSING),
            (FlowState::Closed, CLOSED),
            (FlowState::Datagram, DATAGRAM),
        ] {
            let value = flow(state, 1000);
            assert_eq!(at(&value, 1000 + limit), Fate::Stays, "{state:?}");
            assert_eq!(at(&value, 1001 + limit), Fate::Ended, "{state:?}");
            assert_eq!(
                at(&value, 990),
                Fate::Stays,
                "a packet that came after the clock was read"
            );
        }
        assert_eq!(at(&flow(FlowState::Established, 0), u32::MAX), Fate::Stays);
        let mut stranger = flow(FlowState::Established, 1000);
        stranger.generation = 6;
        assert_eq!(at(&stranger, 1000), Fate::Orphaned);
        stranger.backend = 9;
        assert_eq!(at(&stranger, 1000), Fate::Orphaned);
    }
}
