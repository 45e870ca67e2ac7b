//! The node's numbers, in OpenMetrics text.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What `/metrics` is served as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One label: why, or of which kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// The word.
    pub kind: &'static str,
}

/// Labels of packet counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Packet {
    /// `xdp`, `egress` or `socket`.
    pub hook: &'static str,
    /// Why the packet or call ended as it did.
    pub reason: &'static str,
}

/// Which plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Plane {
    /// `overlay`, `lb` or `dns`.
    pub plane: &'static str,
}

/// Every metric of a node. Counters that live elsewhere (kernel maps, the name server) are copied in before each answer.
#[derive(Default)]
pub struct Metrics {
    /// Packets and calls by reason.
    pub packets: Family<Packet, Counter>,
    /// What became of SYNs for which a cookie was asked, and of cookies that came back.
    pub syn_cookies: Family<Kind, Counter>,
    /// Answers of the name server by kind.
    pub dns_answers: Family<Kind, Counter>,
    /// What happened to questions for other servers.
    pub dns_forward: Family<Kind, Counter>,
    /// What became of questions that XDP looked at.
    pub dns_xdp: Family<Kind, Counter>,
    /// Answers that found no room there.
    pub dns_xdp_no_room: Gauge,
    /// Tasks of this node by state.
    pub tasks: Family<Kind, Gauge>,
    /// Generation of the service table.
    pub generation: Gauge,
    /// Generation each plane has reached.
    pub plane_generation: Family<Plane, Gauge>,
    /// Flows that the last sweep left.
    pub flows: Gauge,
    /// Flows taken out of the flow tables, by why.
    pub flows_swept: Family<Kind, Counter>,
    /// Operations of a plane that failed.
    pub plane_failures: Family<Plane, Counter>,
    /// Operations that undid what somebody else had changed.
    pub repairs: Family<Plane, Counter>,
    /// Connections to the task stream that were lost or refused.
    pub stream_failures: Counter,
    /// Times that the stream began.
    pub stream_starts: Counter,
    /// Of these, times that it went on where the last one had ended, without a new snapshot.
    pub stream_resumed: Counter,
    /// Records read.
    pub stream_records: Counter,
    /// Bytes read.
    pub stream_bytes: Counter,
    /// Malformed things of the stream that were left out.
    pub decode_rejects: Family<Kind, Counter>,
    /// Things of the current picture that are left out.
    pub table_rejects: Family<Kind, Gauge>,
    /// Names served, and what of the zones is left out or in conflict.
    pub zones: Family<Kind, Gauge>,
    /// Services of the current picture.
    pub services: Gauge,
    /// Seconds since the picture was last known to be true.
    pub snapshot_age_seconds: Gauge,
    /// 1 while the stream stands.
    pub master_connected: Gauge,
    /// 1 while the agent's connection stands.
    pub agent_connected: Gauge,
    /// 1 while a second process holds the name server's sockets.
    pub names_standby: Gauge,
    registry: Registry,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All metrics at zero, under the prefix `revere_node`.
    pub fn new() -> Self {
        let mut metrics = Self::default();
        let mut registry = Registry::with_prefix("revere_node");
        let r = &mut registry;
        register_packets(r, &metrics);
        register_names(r, &metrics);
        r.register("tasks", "Tasks on this node by state", metrics.tasks.clone());
        r.register(
            "generation",
            "Generation of the service table",
            metrics.generation.clone(),
        );
        r.register(
            "plane_generation",
            "Generation that a plane has reached",
            metrics.plane_generation.clone(),
        );
        r.register(
            "plane_failures",
            "Operations of a plane that failed",
            metrics.plane_failures.clone(),
        );
        r.register(
            "repairs",
            "Operations that undid a foreign change",
            metrics.repairs.clone(),
        );
        metrics.register_stream(r);
        r.register(
            "table_rejects",
            "Things left out of the current picture",
            metrics.table_rejects.clone(),
        );
        metrics.register_zones(r);
        r.register("services", "VIPs in the current picture", metrics.services.clone());
        r.register(
            "snapshot_age_seconds",
            "Time since the picture was last known to be true",
            metrics.snapshot_age_seconds.clone(),
        );
        r.register(
            "master_connected",
            "Whether the task stream stands",
            metrics.master_connected.clone(),
        );
        r.register(
            "agent_connected",
            "Whether the agent is registered",
            metrics.agent_connected.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    fn register_stream(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "stream_failures",
                "Task stream connections lost or refused",
                &self.stream_failures,
            ),
            ("stream_starts", "Task streams begun", &self.stream_starts),
            (
                "stream_resumed",
                "Task streams that went on where the last one had ended",
                &self.stream_resumed,
            ),
            ("stream_records", "Records of the task stream", &self.stream_records),
            ("stream_bytes", "Bytes of the task stream", &self.stream_bytes),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "decode_rejects",
            "Malformed things left out of the stream",
            self.decode_rejects.clone(),
        );
    }

    fn register_zones(&self, registry: &mut Registry) {
        registry.register(
            "names_standby",
            "Whether a second process would answer names if this one ended",
            self.names_standby.clone(),
        );
        registry.register(
            "zones",
            "Names served, records left out, names in conflict, addresses without a reverse name",
            self.zones.clone(),
        );
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Makes a counter show a number that is counted elsewhere; it never goes back.
pub fn copy(counter: &Counter, value: u64) {
    let inner: &AtomicU64 = counter.inner();
    inner.fetch_max(value, Ordering::Relaxed);
}

/// A number for a gauge.
pub fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn register_packets(r: &mut Registry, metrics: &Metrics) {
    r.register(
        "packets",
        "Packets and socket calls by hook and reason",
        metrics.packets.clone(),
    );
    r.register(
        "syn_cookies",
        "SYNs for which a listener was asked for a cookie, and what came back",
        metrics.syn_cookies.clone(),
    );
    r.register("flows", "Flows in the flow tables", metrics.flows.clone());
    r.register(
        "flows_swept",
        "Flows taken out of the flow tables",
        metrics.flows_swept.clone(),
    );
}

fn register_names(r: &mut Registry, metrics: &Metrics) {
    r.register("dns_answers", "Answers of the name server", metrics.dns_answers.clone());
    r.register(
        "dns_forward",
        "What happened to questions for upstream name servers",
        metrics.dns_forward.clone(),
    );
    r.register(
        "dns_xdp",
        "Questions answered in XDP, and those it left to the name server",
        metrics.dns_xdp.clone(),
    );
    r.register(
        "dns_xdp_no_room",
        "Answers that the map of XDP had no room for",
        metrics.dns_xdp_no_room.clone(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics() {
        let metrics = Metrics::new();
        let packet = Packet {
            hook: "xdp",
            reason: "not_vip",
        };
        copy(&metrics.packets.get_or_create(&packet), 7);
        copy(&metrics.packets.get_or_create(&packet), 5);
        let text = metrics.text().expect("text");
        assert!(
            text.contains("revere_node_packets_total{hook=\"xdp\",reason=\"not_vip\"} 7\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
