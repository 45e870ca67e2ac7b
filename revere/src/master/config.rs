//! Settings of the master, `[master]` in the file.

use std::net::SocketAddr;
use std::time::Duration;

use model::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::MasterError;
use super::lead::Member;
use super::publish::Publisher;
use crate::etcd::{Access, EtcdAddress};
use crate::node::ZkAddress;

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
    /// `file`, `memory`, or `etcd://host:port,host:port/prefix` (`etcds://` over TLS).
    pub store: StoreKind,
    /// With etcd, or to be published: `host:port` where others reach this one; empty is `listen`.
    pub advertise: String,
    /// Where ZooKeeper is told who leads, `zk://host:port,host:port/mesos`, as Mesos's masters do; empty for nowhere.
    pub publish: String,
    /// With etcd: how long a leader that is cut off keeps its place.
    pub lease_seconds: u64,
    /// Certificates of authorities (PEM) that sign etcd's; the system's if empty.
    pub etcd_ca: String,
    /// This master's certificate for etcd (PEM); empty for none.
    pub etcd_cert: String,
    /// Its key (PEM).
    pub etcd_key: String,
    /// Its user at etcd; empty for none.
    pub etcd_user: String,
    /// File with the user's password.
    pub etcd_password_file: String,
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
    /// How long an offer to a framework stays out; 0 is for ever.
    pub offer_timeout_seconds: u64,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StoreKind {
    /// `<state_dir>/master.redb`.
    File,
    /// Nowhere: for tests and trials.
    Memory,
    /// In etcd, where other masters can go on with it.
    Etcd(EtcdAddress),
}

impl TryFrom<String> for StoreKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "file" => Ok(Self::File),
            "memory" => Ok(Self::Memory),
            url if EtcdAddress::is_meant(url) => EtcdAddress::parse(url).map(Self::Etcd).ok_or_else(|| {
                "master.store: write etcd://host:port,host:port/prefix (etcds:// over TLS); a user goes into \
                 master.etcd_user and master.etcd_password_file"
                    .to_owned()
            }),
            other => Err(format!(
                "master.store = `{other}` is wrong: write file, memory, or etcd://host:port,host:port/prefix"
            )),
        }
    }
}

impl From<StoreKind> for String {
    fn from(kind: StoreKind) -> Self {
        match kind {
            StoreKind::File => "file".to_owned(),
            StoreKind::Memory => "memory".to_owned(),
            StoreKind::Etcd(address) => address.url(),
        }
    }
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
            advertise: String::new(),
            publish: String::new(),
            lease_seconds: 3,
            etcd_ca: String::new(),
            etcd_cert: String::new(),
            etcd_key: String::new(),
            etcd_user: String::new(),
            etcd_password_file: String::new(),
            cluster: core.cluster,
            framework: core.framework_name,
            overlay: core.overlay.map(|net| net.to_string()).unwrap_or_default(),
            overlay_prefix: core.overlay_prefix,
            agent_timeout_seconds: core.agent_timeout.as_secs(),
            vip_timeout_ms: ms(core.suspect_after),
            lost_share_percent: core.loss_share_percent,
            lost_pause_ms: ms(core.loss_pause),
            offer_timeout_seconds: core.offer_timeout.as_secs(),
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
        // etcd itself grants none below two, with its usual election time.
        if !(2..=300).contains(&self.lease_seconds) {
            let want = "write from 2 to 300 seconds";
            return Err(wrong("lease_seconds", &self.lease_seconds.to_string(), want));
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
            offer_timeout: Duration::from_secs(self.offer_timeout_seconds),
            reregister_timeout: Duration::from_secs(self.reregister_timeout_seconds),
            drain: Duration::from_millis(self.drain_ms),
            grace: Duration::from_millis(self.grace_ms),
            ready_within: Duration::from_millis(self.ready_within_ms),
            ..scheduler::Config::default()
        })
    }

    /// What tells ZooKeeper that `me` leads, if anything is to.
    pub(super) fn publisher(&self, me: &Member) -> Result<Option<Publisher>, MasterError> {
        if self.publish.is_empty() {
            return Ok(None);
        }
        // The address may hold a password, so it is not repeated.
        let address = ZkAddress::parse(&self.publish)
            .ok_or_else(|| wrong("publish", "zk://...", "write zk://host:port,host:port/path"))?;
        Ok(Some(Publisher::new(address, &self.cluster, me)))
    }

    /// This master as others know it; `listens` is its first address.
    pub(super) fn member(&self, listens: Option<&SocketAddr>) -> Result<Member, MasterError> {
        let me = listens.and_then(|listens| Member::new(&self.advertise, *listens));
        me.ok_or_else(|| {
            let want = "others must know where this master is, for its store is in etcd or ZooKeeper is told of it: \
                        write host:port, or an address of this machine into master.listen";
            wrong("advertise", &self.advertise, want)
        })
    }

    /// How etcd is spoken to.
    pub(crate) fn etcd_access(&self) -> Access {
        Access {
            ca: self.etcd_ca.clone().into(),
            certificate: self.etcd_cert.clone().into(),
            key: self.etcd_key.clone().into(),
            user: self.etcd_user.clone(),
            password_file: self.etcd_password_file.clone().into(),
        }
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
        let cases: [(&str, Change); 9] = [
            ("lease_seconds", |c| c.lease_seconds = 1),
            ("lease_seconds", |c| c.lease_seconds = 301),
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

    #[test]
    fn where_it_is_published_is_checked_and_no_password_is_told() {
        let listens = "10.0.0.1:5050".parse().expect("an address");
        let publisher = |publish: &str| {
            let config = Config {
                publish: publish.to_owned(),
                ..Config::default()
            };
            config.publisher(&config.member(Some(&listens)).expect("named"))
        };
        assert!(publisher("").expect("fine").is_none());
        assert!(publisher("zk://me:pw@a:2181,b/mesos").expect("fine").is_some());
        for wrong in ["zk://me:secret@a:2181", "http://a/secret", "zk://a:secret/mesos"] {
            let error = publisher(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with("master.publish = ") && !error.contains("secret"),
                "{error}"
            );
        }
        let error = Config::default()
            .member(Some(&"0.0.0.0:5050".parse().expect("an address")))
            .expect_err("nobody could reach it");
        assert!(error.to_string().contains("write host:port"), "{error}");
    }

    #[test]
    fn a_store_is_written_as_it_is_read() {
        for text in ["file", "memory", "etcd://a:1,b:2/x", "etcds://a:2379/revere"] {
            let kind = StoreKind::try_from(text.to_owned()).expect(text);
            assert_eq!(String::from(kind), text);
        }
        for text in ["", "disk", "zk://a:1", "etcd://a:b", "etcd://me:secret@a:1"] {
            let error = StoreKind::try_from(text.to_owned()).expect_err(text);
            assert!(error.contains("master.store") && !error.contains("secret"), "{error}");
        }
    }
}
