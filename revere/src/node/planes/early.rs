//! Names answered in XDP, before the name server's sockets: which answers are there, kept true to the zones served.
//!
//! Off unless `node.dns_xdp` names interfaces. What is not there, or not for whoever asks, the server answers.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dns::{Lookup, Zones};
use lb_userspace::names::{self, Answers, Key, NameMap, NamesError};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::{Kind, copy, whole};
use crate::node::config::Settings;
use crate::node::status::{EarlyState, Status};

/// Between two signs that somebody keeps the answers true.
const SIGN: Duration = Duration::from_secs(1);

/// Seconds for which a sign holds at least; without a standby no names are answered much longer than the daemon lives.
const LEASE: u64 = 3;

/// Every so manieth full pass looks at all answers in the map. Nobody else writes there, so it is rarely worth while.
const RARELY: u32 = 6;

/// The map and what it is true to.
#[derive(Debug)]
pub(in crate::node) struct Early {
    map: NameMap,
    zones: Arc<Zones>,
    /// By the name that services lead to: names whose answers hold its addresses.
    leads: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Full passes until the next look at everything.
    look_in: u32,
    no_room: usize,
    lease: u64,
    status: Arc<Status>,
}

/// Shared with what gives signs of life.
pub(in crate::node) type SharedEarly = Arc<Mutex<Early>>;

impl Early {
    /// Opens it for a server, or takes off what an earlier daemon left when it is switched off.
    pub(in crate::node) fn open(
        settings: &Settings,
        config: &dns::Config,
        server: &dns::Server,
        status: &Arc<Status>,
    ) -> Result<Option<SharedEarly>, NamesError> {
        let node = &settings.config;
        if node.dns_xdp.is_empty() {
            take_off(&node.bpffs);
            return Ok(None);
        }
        let clients = config.unlimited();
        let clients = clients
            .iter()
            .filter_map(|net| model::Ipv4Net::new(net.network(), net.prefix_len()).ok());
        let map = NameMap::open(names::Settings {
            bpffs: node.bpffs.clone(),
            interfaces: node.dns_xdp.clone(),
            servers: server.local_addrs().iter().filter_map(four).collect(),
            clients: clients.collect(),
            recursion: server.recurses(),
            max_payload: config.max_udp_payload,
        })?;
        tracing::info!(interfaces = ?node.dns_xdp, "names are answered in XDP");
        Ok(Some(Arc::new(Mutex::new(Self {
            map,
            zones: Arc::default(),
            leads: HashMap::new(),
            look_in: 0,
            no_room: 0,
            lease: node.dns_standby_seconds.max(LEASE),
            status: Arc::clone(status),
        }))))
    }

    /// Makes the map true to zones that the server serves already.
    pub(super) fn publish(&mut self, zones: &Zones, full: bool) {
        let before = std::mem::replace(&mut self.zones, Arc::new(zones.clone()));
        self.look_in = self.look_in.saturating_sub(u32::from(full));
        let everything = before.is_empty() || self.look_in == 0;
        let changed = if everything {
            self.leads.clear();
            self.zones.iter().map(|(name, _)| Arc::from(name)).collect()
        } else {
            self.zones.changed_since(&before)
        };
        let mut touched: BTreeSet<Arc<str>> = changed.iter().cloned().collect();
        for name in &changed {
            self.lead(&before, name, |names, name| _ = names.remove(name));
            self.lead(&Arc::clone(&self.zones), name, |names, name| {
                _ = names.insert(Arc::clone(name))
            });
            touched.extend(self.leads.get(name).into_iter().flatten().cloned());
        }
        let actual = if everything {
            self.map.observe().map_err(|error| error.to_string())
        } else {
            self.map
                .look(touched.iter().flat_map(|name| keys(name)))
                .map_err(|error| error.to_string())
        };
        match actual {
            Ok(actual) => self.write(&touched, &actual, everything),
            Err(error) => self.fail(&error),
        }
        if let Err(error) = self.map.set_serial(self.zones.serial()) {
            self.fail(&error.to_string());
        }
    }

    fn write(&mut self, touched: &BTreeSet<Arc<str>>, actual: &Answers, everything: bool) {
        let prepared = touched.iter().flat_map(|name| self.zones.prepared(name));
        let desired: Answers = prepared
            .filter_map(|one| names::entry(&one.name, one.kind, one.counts, &one.body, one.serial_at))
            .collect();
        let report = names::apply(&mut self.map, &names::plan(&desired, actual));
        if everything {
            self.look_in = RARELY;
            self.no_room = 0;
        }
        self.no_room += report.no_room;
        if let Some((error, count)) = report.failed {
            self.fail(&format!("{count} answers could not be written: {error}"));
        }
        let state = EarlyState {
            interfaces: self.map.settings().interfaces.clone(),
            no_room: self.no_room,
        };
        self.status.change(|facts| facts.dns_xdp = Some(state));
    }

    /// What the map holds may be wrong now: nothing is answered from it until a look at everything has worked out.
    fn fail(&mut self, error: &str) {
        tracing::warn!("names in XDP: {error}; the server answers alone until it works out");
        self.look_in = 0;
        self.until(0);
    }

    /// Remembers, or forgets, which names a name's services lead to.
    fn lead(&mut self, zones: &Zones, name: &Arc<str>, change: impl Fn(&mut BTreeSet<Arc<str>>, &Arc<str>)) {
        let Lookup::Name(found) = zones.lookup(name) else {
            return;
        };
        for srv in found.srvs {
            let names = self.leads.entry(Arc::clone(&srv.target)).or_default();
            change(names, name);
            if names.is_empty() {
                self.leads.remove(&srv.target);
            }
        }
    }

    fn until(&mut self, until: u64) {
        if let Err(error) = self.map.answer_until(u32::try_from(until).unwrap_or(u32::MAX)) {
            tracing::warn!("names in XDP: {error}");
        }
    }

    /// A sign of life; and hooks that somebody took off come back.
    fn tend(&mut self) {
        // Before a first picture, or after a failure, there is nothing to vouch for.
        if self.look_in > 0 {
            self.until(lb_userspace::monotonic_seconds() + self.lease);
        }
        match self.map.restore() {
            Ok(back) if back.is_empty() => {}
            Ok(back) => tracing::warn!(?back, "somebody took this off; it is back"),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Nothing is answered from now on: the server ends for good.
    pub(in crate::node) fn end(&mut self) {
        self.until(0);
    }

    /// For the metrics.
    pub(in crate::node) fn count(&self) {
        let metrics = &self.status.metrics;
        for (what, count) in self.map.counts().into_iter().flatten() {
            copy(&metrics.dns_xdp.get_or_create(&Kind { kind: what.as_str() }), count);
        }
        metrics
            .dns_xdp_no_room
            .set(whole(u64::try_from(self.no_room).unwrap_or(u64::MAX)));
    }
}

/// Gives signs of life, for ever.
pub(in crate::node) async fn tend(early: SharedEarly) {
    let mut pause = interval(SIGN);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        early.lock().tend();
    }
}

/// Takes off what an earlier daemon left.
pub(in crate::node) fn take_off(bpffs: &Path) {
    if let Err(error) = names::remove(bpffs) {
        tracing::warn!("{error}");
    }
}

/// Stops what an earlier daemon left from answering.
pub(in crate::node) fn silence(bpffs: &Path) {
    if let Err(error) = names::silence(bpffs) {
        tracing::warn!("{error}");
    }
}

fn keys(name: &str) -> Vec<Key> {
    let Some((wire, kinds)) = dns::questions(name) else {
        return Vec::new();
    };
    kinds.into_iter().filter_map(|kind| Key::new(&wire, kind)).collect()
}

fn four(addr: &SocketAddr) -> Option<SocketAddrV4> {
    match addr {
        SocketAddr::V4(addr) => Some(*addr),
        SocketAddr::V6(_) => None,
    }
}
