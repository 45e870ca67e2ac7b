//! Settings of the master, `[master]` in the file.

use std::time::Duration;

use model::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::MasterError;

/// `[master]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the API that nodes and people use.
    pub listen: String,
    /// Second address with the same API, Marathon's port; empty for none.
    pub marathon_listen: String,
    /// Directory of the store.
    pub state_dir: String,
    /// `file` or `memory`.
    pub store: StoreKind,
    /// Prefix of agent and framework ids; one per cluster.
    pub cluster: String,
    /// Framework name; VIP and task names end in it.
    pub framework: String,
    /// Block that nodes get their overlay subnets from; empty for no overlay.
    pub overlay: String,
    /// Prefix length of a node's subnet.
    pub overlay_prefix: u8,
    /// Silence after which a node counts as unreachable.
    pub agent_timeout_seconds: u64,
    /// Silence after which a node's tasks take no new connections where other instances can; 0 is never.
    pub vip_timeout_ms: u64,
    /// Share of the nodes in percent that may be given up at the usual pace; beyond it, one a minute.
    pub lost_share_percent: u8,
    /// Shortest time between two nodes that are given up.
    pub lost_pause_ms: u64,
    /// How long nodes may take to come back after a restart of the master.
    pub reregister_timeout_seconds: u64,
    /// Time in TASK_KILLING before SIGTERM for tasks with a VIP.
    pub drain_ms: u64,
    /// Time from SIGTERM to SIGKILL where the app says nothing.
    pub grace_ms: u64,
    /// How long a task may stay STARTING before it counts as unhealthy.
    pub ready_within_ms: u64,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// `<state_dir>/master.redb`.
    File,
    /// Nowhere: for tests and trials.
    Memory,
}

impl Default for Config {
    fn default() -> Self {
        let core = scheduler::Config::default();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            listen: "0.0.0.0:5050".to_owned(),
            marathon_listen: "0.0.0.0:8080".to_owned(),
            state_dir: "/var/lib/revere/master".to_owned(),
            store: StoreKind::File,
            cluster: core.cluster,
            framework: core.framework_name,
            overlay: core.overlay.map(|net| net.to_string()).unwrap_or_default(),
            overlay_prefix: core.overlay_prefix,
            agent_timeout_seconds: core.agent_timeout.as_secs(),
            vip_timeout_ms: ms(core.suspect_after),
            lost_share_percent: core.loss_share_percent,
            lost_pause_ms: ms(core.loss_pause),
            reregister_timeout_seconds: core.reregister_timeout.as_secs(),
            drain_ms: ms(core.drain),
            grace_ms: ms(core.grace),
            ready_within_ms: ms(core.ready_within),
        }
    }
}

impl Config {
    /// The core's settings.
    pub fn core(&self) -> Result<scheduler::Config, MasterError> {
        for (key, value) in [("cluster", &self.cluster), ("framework", &self.framework)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
            if value.is_empty() || !value.chars().all(plain) {
                let want = "write letters, digits, hyphens, underscores or dots; it is part of ids and names";
                return Err(wrong(key, value, want));
            }
        }
        if self.lost_share_percent > 100 {
            let want = "write a share of the nodes in percent, from 0 (one at a time) to 100";
            return Err(wrong("lost_share_percent", &self.lost_share_percent.to_string(), want));
        }
        // Nodes say every second that they live; a shorter time would suspect all of them all the time.
        if (1..2_000).contains(&self.vip_timeout_ms) {
            let want = "write 0 for never, or at least 2000: nodes say every second that they live";
            return Err(wrong("vip_timeout_ms", &self.vip_timeout_ms.to_string(), want));
        }
        let overlay = self.overlay_net()?;
        Ok(scheduler::Config {
            framework_name: self.framework.clone(),
            cluster: self.cluster.clone(),
            overlay,
            overlay_prefix: self.overlay_prefix,
            agent_timeout: Duration::from_secs(self.agent_timeout_seconds),
            suspect_after: Duration::from_millis(self.vip_timeout_ms),
            loss_share_percent: self.lost_share_percent,
            loss_pause: Duration::from_millis(self.lost_pause_ms),
            reregister_timeout: Duration::from_secs(self.reregister_timeout_seconds),
            drain: Duration::from_millis(self.drain_ms),
            grace: Duration::from_millis(self.grace_ms),
            ready_within: Duration::from_millis(self.ready_within_ms),
            ..scheduler::Config::default()
        })
    }

    /// The block of the overlay, which must be large enough to cut a node's subnet from.
    fn overlay_net(&self) -> Result<Option<Ipv4Net>, MasterError> {
        if self.overlay.is_empty() {
            return Ok(None);
        }
        let net: Ipv4Net = self
            .overlay
            .parse()
            .map_err(|error: model::NetError| wrong("overlay", &self.overlay, &format!("{error}; write 9.0.0.0/8")))?;
        // A /30 has the node's own address and one for a task.
        if !(net.prefix()..=30).contains(&self.overlay_prefix) {
            let want = format!(
                "write the length of a node's subnet, from {} (that of master.overlay) to 30",
                net.prefix()
            );
            return Err(wrong("overlay_prefix", &self.overlay_prefix.to_string(), &want));
        }
        Ok(Some(net))
    }
}

fn wrong(key: &'static str, value: &str, want: &str) -> MasterError {
    MasterError::Setting {
        key,
        value: value.to_owned(),
        want: want.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_their_key() {
        assert!(Config::default().core().is_ok());
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 7] = [
            ("lost_share_percent", |c| c.lost_share_percent = 101),
            ("vip_timeout_ms", |c| c.vip_timeout_ms = 500),
            ("overlay", |c| c.overlay = "9.0.0.1/8".into()),
            ("overlay_prefix", |c| c.overlay_prefix = 99),
            ("overlay_prefix", |c| c.overlay_prefix = 4),
            ("framework", |c| c.framework = String::new()),
            ("cluster", |c| c.cluster = "a b".into()),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.core().expect_err(key).to_string();
            assert!(error.starts_with(&format!("master.{key} = ")), "{error}");
        }
    }
}
