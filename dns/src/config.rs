//! What an operator can set about a node's name server.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::TlsFiles;
use crate::access::Client;
use crate::forward::{ForwardError, Forwarding};
use crate::own::OwnRecord;
use crate::zones::SPARTAN;

mod zones;

/// Where the addresses of a task's plain name come from; the first that has any is used whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpSource {
    /// Its agent's address.
    Host,
    /// The addresses that its newest status tells.
    Netinfo,
}

/// Smallest UDP answer every client must take, and the largest for one that says nothing (RFC 1035 section 4.2.1).
pub(crate) const PLAIN_UDP: u16 = 512;
/// A forged question must not be worth its while.
const MAX_AMPLIFICATION: usize = 10;
/// A node runs other things than its name server.
const MAX_DEFAULT_WORKERS: usize = 4;
/// More threads than this on one address are a mistake in the settings.
const MAX_WORKERS: usize = 64;

/// Settings of the name server. All have a default; see [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to answer on, each by UDP and TCP. Port 0 lets the kernel choose one (the same for both).
    pub listen: Vec<SocketAddr>,
    /// Addresses for DNS over TLS, usually port 853; they need `tls`.
    pub listen_tls: Vec<SocketAddr>,
    /// Addresses for DNS over HTTPS, usually port 443; they need `tls`. The path is `/dns-query`.
    pub listen_https: Vec<SocketAddr>,
    /// Certificate and key of both; read again when they change.
    pub tls: Option<TlsFiles>,
    /// Servers that are asked about all names outside the cluster's zones. Empty: such questions are REFUSED.
    pub upstreams: Vec<SocketAddr>,
    /// How they are asked, and which names go to other servers.
    pub forward: Forwarding,
    /// Who may ask about names outside the cluster's zones, besides this node itself by a loopback address. Put the node's
    /// own addresses and its overlay block here.
    pub clients: Vec<IpNet>,
    /// Who may ask about the cluster's zones; empty: anyone.
    pub allow: Vec<IpNet>,
    /// Who may ask nothing and is REFUSED, stronger than `allow` and `clients`.
    pub deny: Vec<IpNet>,
    /// UDP answers a second to each foreign /24 or /56 network; beyond, answers have TC set and no records. 0: no limit.
    pub rate: u32,
    /// The same for each network among `clients`, and this node itself.
    pub client_rate: u32,
    /// Every how manieth answer beyond the limit is sent with TC set; the others are not sent. 0: none is.
    pub slip: u32,
    /// Threads, each with a socket of its own, that answer UDP on each address; 0: one for each CPU, at most 4.
    pub workers: usize,
    /// The zone of task names, `mesos` in `my-service.marathon.mesos`.
    pub domain: String,
    /// The parent of the cluster's other zones, `thisdcos.directory` in `my-service.marathon.l4lb.thisdcos.directory`.
    pub directory: String,
    /// Other names of [`Config::directory`].
    pub directory_aliases: Vec<String>,
    /// The z-base-32 form of the cluster's public key: `<id>.dcos.directory` is then one more name of the parent.
    pub crypto_id: Option<String>,
    /// Further zones that are ours and hold nothing but declared records.
    pub zones: Vec<String>,
    /// Declared records. Each lies in one of our zones.
    pub records: Vec<OwnRecord>,
    /// Blocks of addresses whose reverse names are ours. Others' are asked for upstream.
    pub reverse: Vec<IpNet>,
    /// Where a task's plain name gets its addresses from.
    pub ip_sources: Vec<IpSource>,
    /// This node's public addresses, for `public.thisnode`.
    pub public_addrs: Vec<IpAddr>,
    /// Seconds that VIP names and the names of this node may be cached.
    pub vip_ttl: u32,
    /// Seconds that names in the `mesos` zone may be cached.
    pub mesos_ttl: u32,
    /// Seconds that "no such name" may be cached in any zone: short, since names appear while people wait for them.
    pub negative_ttl: u32,
    /// Addresses of the masters, in the order of their numbers. Until told otherwise the first is the leader.
    pub masters: Vec<SocketAddr>,
    /// Largest UDP answer sent, whatever more the client would take: 1232 bytes pass every path unfragmented.
    pub max_udp_payload: u16,
}

impl Default for Config {
    /// The node service address of DC/OS, its TTLs, no upstream.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([198, 51, 100, 1], 53))],
            listen_tls: Vec::new(),
            listen_https: Vec::new(),
            tls: None,
            upstreams: Vec::new(),
            forward: Forwarding::default(),
            clients: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            rate: 50,
            client_rate: 0,
            slip: 1,
            workers: 0,
            domain: "mesos".to_owned(),
            directory: "thisdcos.directory".to_owned(),
            directory_aliases: vec!["thisdcos.global".to_owned()],
            crypto_id: None,
            zones: Vec::new(),
            records: Vec::new(),
            reverse: default_reverse(),
            ip_sources: vec![IpSource::Netinfo, IpSource::Host],
            public_addrs: Vec::new(),
            vip_ttl: 5,
            mesos_ttl: 60,
            negative_ttl: 5,
            masters: Vec::new(),
            max_udp_payload: 1232,
        }
    }
}

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to listen on.
    #[error("the name server has no address to listen on: set at least one, for example 198.51.100.1:53")]
    NoListen,
    /// A zone is not a lower-case domain name, or too long.
    #[error("`{0}` can't be a zone: write a lower-case domain name such as mesos, at most 39 characters long")]
    Domain(String),
    /// A zone lies in another that has its own use.
    #[error("`{0}` can't be a zone of its own: it overlaps with `{1}`; choose another, such as mesos")]
    DomainTaken(String, String),
    /// A block of addresses with host bits, or of all addresses.
    #[error(
        "`{0}` can't be a block with reverse names: write its first address and a length from 1, such as 11.0.0.0/8"
    )]
    Reverse(IpNet),
    /// A declared record in nobody's zone.
    #[error("the record `{0}` lies in none of our zones; declare its zone too")]
    Outside(OwnRecord),
    /// An alias beside other records of the name, at a zone's own name, or in a circle.
    #[error("the record `{0}`: {1}")]
    Alias(OwnRecord, &'static str),
    /// A question would go round in circles.
    #[error("upstream name server {0} is this server itself: questions would never end; name another server or none")]
    Loop(SocketAddr),
    /// Encrypted transports without a certificate.
    #[error(
        "the name server can't listen for TLS without a certificate: set certificate and key, or no address for TLS and HTTPS"
    )]
    NoCertificate,
    /// More threads than make sense.
    #[error(
        "the name server can't run {0} threads on each address: set 1 to {MAX_WORKERS}, or 0 to choose by the CPUs"
    )]
    Workers(usize),
    /// Rules and servers for other names.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

impl Config {
    /// Checks what can be checked without touching the system.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        self.check_zones()?;
        self.check_records()?;
        if self.tls.is_none() && !(self.listen_tls.is_empty() && self.listen_https.is_empty()) {
            return Err(ConfigError::NoCertificate);
        }
        if self.workers > MAX_WORKERS {
            return Err(ConfigError::Workers(self.workers));
        }
        self.forward.check(&self.upstreams, &self.own_zones())?;
        let mut upstreams = self.forward.servers(&self.upstreams);
        match upstreams.find(|upstream| self.listen.contains(upstream)) {
            Some(upstream) => Err(ConfigError::Loop(*upstream)),
            None => Ok(()),
        }
    }

    /// The zones that no other server is asked about.
    pub(crate) fn own_zones(&self) -> Vec<&str> {
        let set = [&self.domain, &self.directory]
            .into_iter()
            .chain(&self.directory_aliases);
        let set = set.chain(&self.zones).map(String::as_str);
        set.chain([SPARTAN, "localhost", "zk"]).collect()
    }

    /// Longest answer to a UDP question of `asked` bytes. Foreign clients, whose addresses may be forged, get no more than
    /// [`MAX_AMPLIFICATION`] times what they sent; the rest comes by TCP.
    pub(crate) fn udp_room(&self, client: Client, payload: Option<u16>, asked: usize) -> usize {
        let limit = usize::from(self.udp_limit(payload));
        match client {
            Client::Own => limit,
            Client::Other | Client::Denied => limit.min(asked * MAX_AMPLIFICATION),
        }
    }

    /// Largest UDP answer to a client that says it takes `payload` bytes, or says nothing.
    pub(crate) fn udp_limit(&self, payload: Option<u16>) -> u16 {
        payload.unwrap_or(PLAIN_UDP).min(self.max_udp_payload).max(PLAIN_UDP)
    }

    /// Threads for each address.
    pub(crate) fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MAX_DEFAULT_WORKERS)),
            workers => workers,
        }
    }
}

/// DC/OS's blocks of VIPs and of the overlay.
fn default_reverse() -> Vec<IpNet> {
    let block = |first: u8| ipnet::Ipv4Net::new_assert([first, 0, 0, 0].into(), 8);
    vec![block(11).into(), block(9).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_faults_are_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(with(|c| c.listen.clear()), Err(ConfigError::NoListen));
        assert_eq!(
            with(|c| c.listen_tls = c.listen.clone()),
            Err(ConfigError::NoCertificate)
        );
        assert_eq!(with(|c| c.workers = 65), Err(ConfigError::Workers(65)));
        assert!(matches!(
            with(|c| c.upstreams = c.listen.clone()),
            Err(ConfigError::Loop(_))
        ));
    }
}
