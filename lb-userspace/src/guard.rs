//! Backends of this node that stop: which sockets they listen on, so that the kernel tells the programs at once, and what
//! becomes of connections that others still open to them.
//!
//! A backend that listens at this node's own address has a guard at its port. When its socket is closed, the release hook marks the
//! backend gone and its guard over, before the port refuses anybody; what still comes goes to another backend of its VIP
//! (`revere_nat`). This half tells the hook the sockets, takes marks back where somebody listens again, and
//! takes guards down when nothing comes for them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use aya::maps::MapError;
use lb_common::{BackendEntry, Guard, ListenerEntry, backend_flags};
use model::Protocol;

use crate::sock_destroy::listening;
use crate::{BackendKey, Lb, clock, raw};

/// Seconds for which a guard stays at least once its backend has stopped: nodes that are cut off from their master hear late.
const STAYS: u64 = 60;

/// What is known of guards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    /// Backends of this node that others may reach by TCP: by key, with their index and VIP.
    pub(crate) here: BTreeMap<BackendKey, Place>,
    /// Ports whose guard is over, and when to look at them again (seconds of the monotonic clock).
    over: BTreeMap<u16, u64>,
    /// Sockets told to the hook.
    told: BTreeSet<u64>,
    /// Backends whose listeners may be asked for cookies, by index; `None` until they were looked at.
    pub(crate) places: Option<BTreeSet<u32>>,
    /// The network namespaces of backends' addresses, as `ListenPlace` has them; forgotten with each full look.
    pub(crate) namespaces: BTreeMap<IpAddr, Option<i32>>,
    /// Whether `here` changed since the sockets were looked at last.
    stale: bool,
    /// Whether what an earlier daemon left was looked at.
    inherited: bool,
}

/// Where a backend is in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    /// The number of its (first) VIP.
    pub(crate) vip: u16,
    /// Whether it is to take new connections as soon as somebody listens.
    pub(crate) open: bool,
}

impl Place {
    fn of(index: u32, entry: &BackendEntry) -> Self {
        Self {
            index,
            generation: entry.generation,
            vip: entry.vip,
            open: entry.flags & (backend_flags::OPEN | backend_flags::GONE) != 0,
        }
    }
}

/// A backend is there, or is another one by now; `entry` is what the map has.
pub(crate) fn put(lb: &mut Lb, key: &BackendKey, index: u32, entry: &BackendEntry, open: bool) -> Result<(), MapError> {
    if entry.flags & backend_flags::LOCAL == 0 || key.protocol != Protocol::Tcp {
        return remove(lb, key);
    }
    let place = Place {
        open,
        ..Place::of(index, entry)
    };
    let guards = &mut lb.book.guards;
    if guards.here.insert(*key, place) != Some(place) {
        guards.stale = true;
    }
    if guarded(lb, key) && entry.flags & backend_flags::GONE == 0 {
        lb.book.guards.over.remove(&key.port);
        lb.maps.guards.set(u32::from(key.port), Guard::new(place.vip), 0)?;
    }
    Ok(())
}

/// A backend is gone: whoever has not heard of it still comes.
pub(crate) fn remove(lb: &mut Lb, key: &BackendKey) -> Result<(), MapError> {
    if lb.book.guards.here.remove(key).is_none() {
        return Ok(());
    }
    lb.book.guards.stale = true;
    if !guarded(lb, key) {
        return Ok(());
    }
    let port = u32::from(key.port);
    let guard = lb.maps.guards.get(&port, 0)?;
    lb.book.guards.over.insert(key.port, clock::seconds() + STAYS);
    lb.maps.guards.set(port, guard.over(), 0)
}

/// Whether connections to this backend come to this node's own address, where the uplink program sees them.
fn guarded(lb: &Lb, key: &BackendKey) -> bool {
    let own = lb.maps.node.get(&0, 0).ok().map(|node| IpAddr::from(node.own));
    lb.config.nat_ports.is_some() && own == Some(key.addr)
}

/// After a full look at the maps: takes over what was known, and what an earlier daemon left.
pub(crate) fn adopt(lb: &mut Lb, mut known: Guards, backends: &BTreeMap<BackendKey, (u32, BackendEntry)>) {
    let here = backends
        .iter()
        .filter(|(key, (_, entry))| key.protocol == Protocol::Tcp && entry.flags & backend_flags::LOCAL != 0);
    let here = here.map(|(key, (index, entry))| {
        let place = Place::of(*index, entry);
        let before = known
            .here
            .get(key)
            .filter(|before| before.index == place.index && before.generation == place.generation);
        let open = before.map_or(place.open, |before| before.open);
        (*key, Place { open, ..place })
    });
    let here: BTreeMap<BackendKey, Place> = here.collect();
    known.stale |= known.here != here;
    known.namespaces.clear();
    known.here = here;
    if !std::mem::replace(&mut known.inherited, true) {
        let until = clock::seconds() + STAYS;
        let ports: BTreeSet<u16> = known.here.keys().map(|key| key.port).collect();
        match inherited(lb) {
            Ok(found) => known.over.extend(found.difference(&ports).map(|port| (*port, until))),
            Err(error) => tracing::warn!("guards of an earlier daemon stay: could not read the map GUARDS: {error}"),
        }
    }
    lb.book.guards = known;
}

/// Ports with a guard, in a few calls: there are as many elements as ports.
fn inherited(lb: &Lb) -> io::Result<BTreeSet<u16>> {
    let map = raw::obj_get(&lb.config.bpffs.join("maps/GUARDS"))?;
    let mut found = BTreeSet::new();
    raw::walk(map.as_fd(), 1, |port: &u32, guards: &[Guard]| {
        if guards.iter().any(|guard| *guard != Guard::default()) {
            found.extend(u16::try_from(*port));
        }
    })?;
    Ok(found)
}

impl Lb {
    /// Tells the release hook the sockets that this node's backends listen on, if those may have changed; `always`: looks even
    /// if not. Marks of backends on whose port somebody listens again are taken back.
    pub fn tell_listeners(&mut self, always: bool) -> Result<(), ListenersError> {
        let gone = || self.book.guards.here.values().any(|place| self.is_gone(place));
        if !self.book.guards.stale && (self.book.guards.here.is_empty() || !(always || gone())) {
            return Ok(());
        }
        let sockets = listening().map_err(ListenersError::List)?;
        let here = self.book.guards.here.clone();
        let (mut told, mut listening) = (BTreeSet::new(), BTreeSet::new());
        for (key, place) in &here {
            let cookies = at(&sockets, key);
            // Where several listen, the end of one is not the end of all.
            if let [cookie] = cookies[..] {
                let entry = ListenerEntry {
                    backend: place.index,
                    generation: place.generation,
                    guard: if guarded(self, key) { u32::from(key.port) } else { 0 },
                };
                if self.maps.listeners.get(&cookie, 0).ok() != Some(entry) {
                    self.maps
                        .listeners
                        .insert(cookie, entry, 0)
                        .map_err(failed("LISTENERS"))?;
                }
                told.insert(cookie);
            }
            if cookies.is_empty() {
                continue;
            }
            listening.insert(*key);
            if self.is_gone(place) {
                self.revive(key, place).map_err(failed("BACKENDS"))?;
            }
        }
        for cookie in self.book.guards.told.difference(&told) {
            // The hook takes out what was closed.
            let _ = self.maps.listeners.remove(cookie);
        }
        self.book.guards.told = told;
        self.tell_places(&here, &listening).map_err(failed("LISTEN_PLACES"))?;
        self.book.guards.stale = false;
        Ok(())
    }

    fn is_gone(&self, place: &Place) -> bool {
        let entry = self.maps.backends.get(&place.index, 0);
        entry.is_ok_and(|entry| entry.generation == place.generation && entry.flags & backend_flags::GONE != 0)
    }

    /// Somebody listens on the backend's port again.
    fn revive(&mut self, key: &BackendKey, place: &Place) -> Result<(), MapError> {
        let mut entry = self.maps.backends.get(&place.index, 0)?;
        entry.flags &= !(backend_flags::GONE | backend_flags::OPEN);
        if place.open {
            entry.flags |= backend_flags::OPEN;
        }
        self.maps.backends.set(place.index, entry, 0)?;
        put(self, key, place.index, &entry, place.open)
    }

    /// Takes down guards whose time is over by `now` (seconds of the monotonic clock) and that have no flows any more.
    pub(crate) fn expire_guards(&mut self, now: u64) -> Result<(), MapError> {
        let over = &self.book.guards.over;
        let due: Vec<u16> = over
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(port, _)| *port)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let own = self.maps.node.get(&0, 0)?.own;
        let mut used = BTreeSet::new();
        for key in self.maps.nat4.keys() {
            let key = key?;
            if own.as_v4() == Some(key.dest) {
                used.insert(key.dest_port.get());
            }
        }
        for port in due {
            if used.contains(&port) {
                self.book.guards.over.insert(port, now + STAYS);
                continue;
            }
            self.book.guards.over.remove(&port);
            self.maps.guards.set(u32::from(port), Guard::default(), 0)?;
        }
        Ok(())
    }
}

/// Cookies of those sockets that take connections to this address and port.
fn at(sockets: &[(SocketAddr, u64)], key: &BackendKey) -> Vec<u64> {
    let takes = |addr: IpAddr| addr.is_unspecified() || addr.to_canonical() == key.addr;
    let those = sockets.iter().filter(|(at, _)| at.port() == key.port && takes(at.ip()));
    those.map(|(_, cookie)| *cookie).collect()
}

/// The hook could not be told who listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// The kernel does not list sockets.
    #[error("could not list the listening sockets of this node: {0}")]
    List(io::Error),
    /// A map refused.
    #[error("could not write map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
}

fn failed(map: &'static str) -> impl Fn(MapError) -> ListenersError {
    move |source| ListenersError::Map { map, source }
}
