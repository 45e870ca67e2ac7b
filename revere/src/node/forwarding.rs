//! Settings of questions about names outside the cluster, from text to what the name server takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NodeError;
use super::config::{addresses, wrong};

/// `[node.dns_forward]`: which names go to which servers, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsForward {
    /// Servers by suffix, the longest counts: `"corp.example" = ["10.1.0.53", "10.1.1.53:5353"]`. No servers: the names
    /// never leave the node.
    pub zones: BTreeMap<String, Vec<String>>,
    /// Upstream servers asked at once.
    pub parallel: usize,
    /// Whether letters of random case are sent, which forgers must guess.
    pub mix_case: bool,
    /// MiB of replies kept; 0 keeps none.
    pub cache_mb: u64,
    /// Hours that a reply serves past its end while no server answers; 0 switches that off.
    pub stale_hours: u64,
}

impl Default for DnsForward {
    fn default() -> Self {
        let forwarding = dns::Forwarding::default();
        Self {
            zones: BTreeMap::new(),
            parallel: forwarding.parallel,
            mix_case: forwarding.case == dns::CaseMixing::On,
            cache_mb: forwarding.cache_bytes >> 20,
            stale_hours: forwarding.stale.as_secs() / 3600,
        }
    }
}

impl DnsForward {
    /// With the host ports that tasks may listen on, which questions must not be sent from.
    pub(super) fn checked(&self, task_ports: &[(u16, u16)]) -> Result<dns::Forwarding, NodeError> {
        const KEY: &str = "dns_forward.zones";
        let mut zones = Vec::new();
        for (suffix, texts) in &self.zones {
            let name = suffix.trim_end_matches('.').to_ascii_lowercase();
            zones.push(dns::ForwardZone {
                suffix: name,
                upstreams: addresses(KEY, texts)?.unwrap_or_default(),
            });
        }
        if self.stale_hours > 24 * 365 {
            let hours = self.stale_hours.to_string();
            return Err(wrong("dns_forward.stale_hours", &hours, "write at most a year"));
        }
        Ok(dns::Forwarding {
            zones,
            parallel: self.parallel,
            case: if self.mix_case {
                dns::CaseMixing::On
            } else {
                dns::CaseMixing::Off
            },
            cache_bytes: self.cache_mb.saturating_mul(1 << 20),
            stale: Duration::from_secs(self.stale_hours * 3600),
            reserved_ports: task_ports.to_vec(),
        })
    }
}

/// Name servers of this machine, without those that are the node's own: it may have written itself into resolv.conf.
pub(super) fn upstreams_of(system: Vec<SocketAddr>, listen: &[SocketAddr]) -> Vec<SocketAddr> {
    system.into_iter().filter(|addr| !dns::is_own(listen, addr)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_rules() {
        let text = "parallel = 3\nmix_case = false\n[zones]\n\"Corp.Example.\" = [\"10.1.0.53\", \"10.1.1.53:5353\"]\n\"kept\" = []\n";
        let forward: DnsForward = toml::from_str(text).expect("parses");
        let checked = forward.checked(&[(31_000, 32_000)]).expect("good");
        assert_eq!(checked.zones[0].suffix, "corp.example");
        assert_eq!(checked.zones[0].upstreams[0], SocketAddr::from(([10, 1, 0, 53], 53)));
        assert_eq!(checked.zones[0].upstreams[1].port(), 5353);
        assert!(checked.zones[1].upstreams.is_empty());
        assert_eq!((checked.parallel, checked.case), (3, dns::CaseMixing::Off));
        assert_eq!(checked.cache_bytes, dns::Forwarding::default().cache_bytes);
        assert_eq!(
            DnsForward::default().checked(&[(31_000, 32_000)]).expect("good"),
            dns::Forwarding::default()
        );
        let bad: DnsForward = toml::from_str("[zones]\na = [\"here\"]").expect("parses");
        let error = bad.checked(&[]).expect_err("no address").to_string();
        assert!(error.contains("node.dns_forward.zones"), "{error}");
    }

    #[test]
    fn the_nodes_own_addresses_are_left_out() {
        let listen = ["198.51.100.1:53", "10.0.0.7:53"].map(|addr| addr.parse().expect("an address"));
        let system = ["198.51.100.1:53", "10.0.0.7:53", "10.0.0.2:53"].map(|addr| addr.parse().expect("an address"));
        assert_eq!(upstreams_of(system.to_vec(), &listen), [system[2]]);
    }
}
