//! What the node knows about itself, for `/health`, `/metrics` and people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{AgentId, Generation, Ipv4Net};
use parking_lot::Mutex;
use serde::Serialize;

use crate::metrics::{Kind, Metrics, Plane, whole};

/// Unix time in milliseconds.
pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The planes, in the order in which adds run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PlaneName {
    Overlay,
    Lb,
    Dns,
}

impl PlaneName {
    pub(super) const ALL: [Self; 3] = [Self::Overlay, Self::Lb, Self::Dns];

    pub(super) fn label(self) -> Plane {
        Plane {
            plane: match self {
                Self::Overlay => "overlay",
                Self::Lb => "lb",
                Self::Dns => "dns",
            },
        }
    }
}

/// How one plane fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct PlaneState {
    /// Whether this node runs it.
    pub(super) on: bool,
    /// The generation it holds whole.
    pub(super) generation: u64,
    /// What failed in the last pass; empty when all is well.
    pub(super) failures: Vec<String>,
}

/// A moment by the monotonic clock, and how old the picture was then.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsOf {
    at: Instant,
    age: Duration,
}

impl AsOf {
    /// Now, with a picture of that age.
    pub(super) fn aged(age: Duration) -> Self {
        Self {
            at: Instant::now(),
            age,
        }
    }
}

/// Names answered in XDP.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct EarlyState {
    /// On whose questions it looks.
    pub(super) interfaces: Vec<String>,
    /// Answers that found no room: the server gives them.
    pub(super) no_room: usize,
}

/// All of it; a copy is what `/health` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Facts {
    /// Whether the task stream stands.
    pub(super) master_connected: bool,
    /// The master whose stream it is.
    pub(super) master: Option<String>,
    /// Whether the agent takes tasks from a master at all.
    pub(super) agent_on: bool,
    /// Whether the agent is registered.
    pub(super) agent_connected: bool,
    /// This node's id.
    pub(super) agent: Option<String>,
    /// This node's overlay block.
    pub(super) subnet: Option<String>,
    /// Generation of the service table; `None` while nothing is known at all.
    pub(super) generation: Option<u64>,
    /// Unix time in milliseconds at which the picture was last known to be true.
    pub(super) as_of_ms: Option<u64>,
    /// The same by the clock that never jumps, which the age is taken from.
    #[serde(skip)]
    pub(super) as_of: Option<AsOf>,
    /// Whether the picture comes from the disk and no master has confirmed it since the start.
    pub(super) from_disk: bool,
    /// By plane, in the order of [`PlaneName::ALL`].
    pub(super) planes: [PlaneState; 3],
    /// Where names are answered in XDP, if they are.
    pub(super) dns_xdp: Option<EarlyState>,
    /// Why no SYN cookies are sent from the uplinks though they are wanted.
    pub(super) cookies_hindered: Option<String>,
    /// Why IPv6 packets for backends on nodes without Revere are dropped, if there are such backends.
    pub(super) nat6_hindered: Option<String>,
    /// What the picture leaves out, a sentence each; the first few.
    pub(super) left_out: Vec<String>,
    /// The last error of the stream or the agent's connection.
    pub(super) last_error: Option<String>,
}

/// Facts and metrics, shared by all tasks of the daemon. No lock is held across an await.
#[derive(Debug)]
pub(super) struct Status {
    facts: Mutex<Facts>,
    pub(super) metrics: Metrics,
}

impl Status {
    pub(super) fn new() -> Self {
        Self {
            facts: Mutex::default(),
            metrics: Metrics::new(),
        }
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock());
    }

    /// The stream begins.
    pub(super) fn stream_up(&self, master: &str) {
        self.metrics.stream_starts.inc();
        self.metrics.master_connected.set(1);
        self.change(|facts| {
            facts.master_connected = true;
            facts.master = Some(master.to_owned());
            facts.from_disk = false;
            facts.as_of_ms = Some(unix_ms());
            facts.as_of = Some(AsOf::aged(Duration::ZERO));
        });
    }

    /// The stream says something, be it a heartbeat: the picture is true now.
    pub(super) fn stream_alive(&self) {
        self.metrics.stream_records.inc();
        self.change(|facts| {
            if facts.master_connected {
                facts.as_of_ms = Some(unix_ms());
                facts.as_of = Some(AsOf::aged(Duration::ZERO));
            }
        });
    }

    pub(super) fn stream_down(&self, error: &str) {
        self.metrics.stream_failures.inc();
        self.metrics.master_connected.set(0);
        self.change(|facts| {
            facts.master_connected = false;
            facts.last_error = Some(error.to_owned());
        });
    }

    pub(super) fn agent_up(&self, agent: &AgentId, subnet: Option<Ipv4Net>) {
        self.metrics.agent_connected.set(1);
        self.change(|facts| {
            facts.agent_connected = true;
            facts.agent = Some(agent.to_string());
            facts.subnet = subnet.map(|net| net.to_string());
        });
    }

    pub(super) fn agent_down(&self, error: &str) {
        self.metrics.agent_connected.set(0);
        self.change(|facts| {
            facts.agent_connected = false;
            facts.last_error = Some(error.to_owned());
        });
    }

    /// New zones are served.
    pub(super) fn zones(&self, zones: &dns::Zones) {
        let counts = zones.counts();
        for (kind, count) in [
            ("names", zones.len()),
            ("too_long", counts.too_long),
            ("conflicts", counts.conflicts),
            ("ambiguous", counts.ambiguous),
        ] {
            let count = whole(u64::try_from(count).unwrap_or(u64::MAX));
            self.metrics.zones.get_or_create_owned(&Kind { kind }).set(count);
        }
    }

    /// A plane finished a pass.
    pub(super) fn plane(&self, name: PlaneName, generation: Generation, failures: Vec<String>) {
        let failed = u64::try_from(failures.len()).unwrap_or(u64::MAX);
        self.metrics.plane_failures.get_or_create(&name.label()).inc_by(failed);
        for failure in &failures {
            tracing::warn!(plane = ?name, "{failure}");
        }
        self.change(|facts| {
            let plane = &mut facts.planes[name as usize];
            if failures.is_empty() {
                plane.generation = generation.0;
                self.metrics
                    .plane_generation
                    .get_or_create(&name.label())
                    .set(whole(generation.0));
            }
            plane.failures = failures;
        });
    }

    /// Age of the picture.
    pub(super) fn age_ms(facts: &Facts) -> Option<u64> {
        let age = facts.as_of.map(|as_of| as_of.age.saturating_add(as_of.at.elapsed()))?;
        Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}
