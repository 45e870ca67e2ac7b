//! Settings of a node, `[node]` in the file, and their checked form.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use model::{Ipv4Net, Resources, Vip6Range, VipRange};
use serde::{Deserialize, Serialize};

use super::NodeError;
use super::facts;
use super::forwarding::DnsForward;
use super::masters::{Source, SourceKind};
use super::naming::DnsNames;
use super::resolver::{ResolverFile, Resolving};
use super::translation::Translation;
use crate::mesos::client::{Access, Client, TokenScheme};
use crate::mesos::decode::Encoding;

/// `[node]`. An empty text, list or zero means: find it out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// URLs of the masters (any of them will do, the leader is found from there), or one zk:// address.
    pub master: Vec<String>,
    /// Underlay address of this node; by default the one that packets to the master leave with.
    pub ip: String,
    /// Name it registers under; by default its address.
    pub hostname: String,
    /// Directory of everything it keeps.
    pub state_dir: PathBuf,
    /// CPUs it offers.
    pub cpus: f64,
    /// MiB of memory it offers.
    pub mem_mb: u64,
    /// MiB of disk it offers.
    pub disk_mb: u64,
    /// Host ports it offers.
    pub ports: Vec<String>,
    /// Text attributes.
    pub attributes: BTreeMap<String, String>,
    /// Fault domain, `@region` in constraints; may be empty.
    pub region: String,
    /// Fault domain within the region, `@zone`; may be empty.
    pub zone: String,
    /// Role of all it offers: `*` for every app, or a name (DC/OS's public agents: `slave_public`) for those apps only
    /// whose `acceptedResourceRoles` have it.
    pub role: String,
    /// Interfaces that packets from outside come in by; by default the one that bears `ip`.
    pub uplinks: Vec<String>,
    /// Interfaces with clients that the socket hooks do not reach, such as virtual machines: names, or the beginning of
    /// names and a `*`.
    pub local_interfaces: Vec<String>,
    /// Directory of the pinned maps and links.
    pub bpffs: PathBuf,
    /// Name of the node's cgroup in each hierarchy.
    pub cgroup: String,
    /// cgroup v2 directory whose processes reach VIPs by the connect hook; by default the root.
    pub hook_cgroup: PathBuf,
    /// `auto`, `native` or `generic` XDP.
    pub xdp: XdpMode,
    /// Whether to serve names.
    pub dns: bool,
    /// Addresses of the name server; by default 198.51.100.1 and `ip`, port 53.
    pub dns_listen: Vec<String>,
    /// Addresses for DNS over TLS; port 853 unless told.
    pub dns_tls_listen: Vec<String>,
    /// Addresses for DNS over HTTPS, path /dns-query; port 443 unless told.
    pub dns_https_listen: Vec<String>,
    /// PEM file with the certificate of both, and those that lead to its authority.
    pub dns_certificate: PathBuf,
    /// PEM file with its key.
    pub dns_key: PathBuf,
    /// Name servers for all other names; by default those of /etc/resolv.conf.
    pub dns_upstreams: Vec<String>,
    /// Networks, besides this node and its overlay block, that may ask the name server about all names.
    pub dns_clients: Vec<String>,
    /// Networks that may ask about the cluster's names; empty: all.
    pub dns_allow: Vec<String>,
    /// Networks that may ask nothing.
    pub dns_deny: Vec<String>,
    /// UDP answers a second to each foreign /24 or /56; 0: no limit.
    pub dns_rate: u32,
    /// The same for each network of the node's own clients.
    pub dns_client_rate: u32,
    /// Every how manieth answer over the limit goes out with TC set; 0: none.
    pub dns_slip: u32,
    /// Threads on each address of the name server; 0: one for each CPU, at most 4.
    pub dns_workers: usize,
    /// Interfaces on which plain questions of this node's own clients are answered in XDP, before the name server; `lo` is
    /// where programs of this machine ask. Empty: none.
    pub dns_xdp: Vec<String>,
    /// Name servers for certain names, and how all are asked.
    pub dns_forward: DnsForward,
    /// What the zones are called, and own records.
    pub dns_names: DnsNames,
    /// How long names are still answered, from the last picture, by a second process when the daemon is gone; 0: not at all.
    pub dns_standby_seconds: u64,
    /// Resolver file of this machine to write, usually /etc/resolv.conf; empty: none is touched.
    pub resolv_conf: PathBuf,
    /// Search domains of that file and of the containers'; by default those of the machine's own file.
    pub resolv_search: Vec<String>,
    /// Address of the node's own API.
    pub api_listen: String,
    /// Address of Mesos-DNS's HTTP API; empty for none.
    pub mesos_dns_listen: String,
    /// Address of dcos-net's REST API; empty for none.
    pub dcos_net_listen: String,
    /// Block of VIP addresses.
    pub vip_range: String,
    /// Block of IPv6 addresses for named VIPs, DC/OS's is fd01:c::/64; empty: they have none.
    pub vip_range6: String,
    /// Ports of this node's own address for packets whose source it takes the place of, such as `61000-63999` (the usual ones);
    /// `none`: none is translated.
    pub nat_ports: String,
    /// Addresses or networks of nodes that have tasks but run no `revere node`: packets for these go there in this node's name.
    pub bare_nodes: Vec<String>,
    /// This node's IPv6 address as their source; empty: one of the uplinks', the kernel's own choice towards such a node if it has one.
    pub nat_address6: String,
    /// `auto`: while more than `syn_cookie_rate` SYNs a second come for a VIP (on one CPU), listeners of this node that have no room
    /// for them answer with cookies from the uplink, before the stack; `always`: whatever the rate; `off`.
    pub syn_cookies: CookieMode,
    /// See `syn_cookies`.
    pub syn_cookie_rate: u32,
    /// Whether packets from outside for containers of this node go past its network stack. Faster, and the node's packet filter and
    /// traffic shaping do not see them. Containers started while this is on; Linux 6.3.
    pub fast_path: bool,
    /// Block that node subnets are cut from.
    pub overlay: String,
    /// Whether to make VIPs and overlay work in the kernel; off loads and routes nothing and runs tasks and names only.
    pub dataplane: bool,
    /// How long backends on nodes that a new master state does not tell are kept.
    pub hold_seconds: u64,
    /// Log every packet decision.
    pub trace_packets: bool,
    /// Registries, `host` or `host:port`, that speak plain HTTP.
    pub insecure_registries: Vec<String>,
    /// Directory of credentials for registries, each a file like Docker's config.json; config.json is the default one.
    pub image_credentials: PathBuf,
    /// Largest image, packed and unpacked each.
    pub image_limit_mb: u64,
    /// How long an image that no task uses is kept.
    pub image_keep_seconds: u64,
    /// Largest file that a task's `fetch` may bring, packed and unpacked each.
    pub fetch_limit_mb: u64,
    /// Most MiB of fetched files that are kept for other tasks.
    pub fetch_cache_mb: u64,
    /// How long the sandbox of an ended task is kept.
    pub sandbox_keep_seconds: u64,
    /// How full the state directory's disk may be, in percent, before sandboxes of ended tasks and then images that no task uses
    /// are removed early, the oldest first, but none that ended or was used in the last ten minutes.
    pub disk_percent: u8,
    /// Most megabytes of a file of a task's output; a full one is renamed.
    pub log_limit_mb: u64,
    /// How many such older files are kept of each.
    pub log_files: u32,
    /// Whether people may run programs inside running tasks (`revere task exec`). Nobody is asked who they are: on, whoever reaches
    /// `api_listen` can run any program in any task of this node, as that task's user.
    pub task_sessions: bool,
    /// Whether to take tasks from a Revere master; off for a node that only follows a Mesos master.
    pub run_tasks: bool,
    /// `master` (their stream) or `agent` (poll the Mesos agent of this machine; its own tasks only).
    pub source: SourceKind,
    /// URL of that agent.
    pub agent_url: String,
    /// `json` or `protobuf`, for the stream.
    pub master_encoding: Encoding,
    /// File of certificate authorities for https; by default the system's.
    pub master_ca: PathBuf,
    /// File of this node's certificate, for masters that ask for one.
    pub master_cert: PathBuf,
    /// File of its key.
    pub master_key: PathBuf,
    /// File of a token to show to masters; read again for each request.
    pub master_token_file: PathBuf,
    /// `bearer` (`Authorization: Bearer ...`) or `dcos` (`Authorization: token=...`).
    pub master_token_scheme: TokenScheme,
    /// Largest record of the stream that is taken.
    pub max_record_mb: u64,
}

impl Config {
    /// Place and role as they are registered.
    pub(super) fn domain(&self) -> scheduler::Domain {
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        scheduler::Domain {
            region: told(&self.region),
            zone: told(&self.zone),
            role: told(&self.role).unwrap_or_else(|| "*".to_owned()),
        }
    }
}

/// Which kind of XDP to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where the driver has it.
    #[default]
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}

/// When listeners are asked for SYN cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CookieMode {
    /// Above a rate.
    #[default]
    Auto,
    /// For each SYN.
    Always,
    /// Never.
    Off,
}

impl Default for Config {
    #[allow(clippy::too_many_lines, reason = "one line for each setting")]
    fn default() -> Self {
        Self {
            master: vec!["http://127.0.0.1:5050".to_owned()],
            ip: String::new(),
            hostname: String::new(),
            state_dir: PathBuf::from("/var/lib/revere/node"),
            cpus: 0.0,
            mem_mb: 0,
            disk_mb: 0,
            ports: vec!["31000-32000".to_owned()],
            attributes: BTreeMap::new(),
            region: String::new(),
            zone: String::new(),
            role: "*".to_owned(),
            uplinks: Vec::new(),
            local_interfaces: Vec::new(),
            bpffs: PathBuf::from("/sys/fs/bpf/revere"),
            cgroup: "revere".to_owned(),
            hook_cgroup: PathBuf::new(),
            xdp: XdpMode::Auto,
            dns: true,
            dns_listen: Vec::new(),
            dns_tls_listen: Vec::new(),
            dns_https_listen: Vec::new(),
            dns_certificate: PathBuf::new(),
            dns_key: PathBuf::new(),
            dns_upstreams: Vec::new(),
            dns_clients: Vec::new(),
            dns_allow: Vec::new(),
            dns_deny: Vec::new(),
            dns_rate: 50,
            dns_client_rate: 0,
            dns_slip: 1,
            dns_workers: 0,
            dns_xdp: Vec::new(),
            dns_forward: DnsForward::default(),
            dns_names: DnsNames::default(),
            dns_standby_seconds: 900,
            resolv_conf: PathBuf::new(),
            resolv_search: Vec::new(),
            api_listen: "0.0.0.0:5051".to_owned(),
            mesos_dns_listen: "127.0.0.1:8123".to_owned(),
            dcos_net_listen: "127.0.0.1:62080".to_owned(),
            vip_range: "11.0.0.0/8".to_owned(),
            vip_range6: String::new(),
            nat_ports: String::new(),
            bare_nodes: Vec::new(),
            nat_address6: String::new(),
            syn_cookies: CookieMode::Auto,
            syn_cookie_rate: 2_000,
            fast_path: false,
            overlay: "9.0.0.0/8".to_owned(),
            dataplane: true,
            hold_seconds: 600,
            trace_packets: false,
            insecure_registries: Vec::new(),
            image_credentials: PathBuf::from("/etc/revere/images"),
            image_limit_mb: 16 * 1024,
            image_keep_seconds: 2 * 24 * 3600,
            fetch_limit_mb: 8 * 1024,
            fetch_cache_mb: 2 * 1024,
            sandbox_keep_seconds: 24 * 3600,
            disk_percent: 90,
            log_limit_mb: 10,
            log_files: 9,
            task_sessions: false,
            run_tasks: true,
            source: SourceKind::Master,
            agent_url: "http://127.0.0.1:5051".to_owned(),
            master_encoding: Encoding::Json,
            master_ca: PathBuf::new(),
            master_cert: PathBuf::new(),
            master_key: PathBuf::new(),
            master_token_file: PathBuf::new(),
            master_token_scheme: TokenScheme::Bearer,
            max_record_mb: 256,
        }
    }
}

impl Config {
    /// How masters and agents are spoken to.
    pub(super) fn access(&self) -> Access {
        Access {
            encoding: self.master_encoding,
            ca: self.master_ca.clone(),
            certificate: self.master_cert.clone(),
            key: self.master_key.clone(),
            token: self.master_token_file.clone(),
            scheme: self.master_token_scheme,
        }
    }

    /// How a leader that ZooKeeper tells is spoken to: it does not say.
    pub(super) fn scheme(&self) -> &'static str {
        if self.master_ca.as_os_str().is_empty() {
            "http"
        } else {
            "https"
        }
    }
}

/// The checked form: everything found out, everything parsed.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) source: Source,
    pub(super) client: Client,
    pub(super) max_record: usize,
    pub(super) ip: Ipv4Addr,
    pub(super) hostname: String,
    pub(super) resources: Resources,
    pub(super) ports: Vec<(u16, u16)>,
    pub(super) dns_listen: Vec<SocketAddr>,
    pub(super) dns_upstreams: Vec<SocketAddr>,
    pub(super) dns_tls_listen: Vec<SocketAddr>,
    pub(super) dns_https_listen: Vec<SocketAddr>,
    pub(super) dns_access: NameAccess,
    pub(super) dns_forward: dns::Forwarding,
    /// The machine's resolver file, if it shall be this node's.
    pub(super) resolver: Option<ResolverFile>,
    /// Search domains of resolver files.
    pub(super) search: Vec<String>,
    pub(super) api_listen: SocketAddr,
    pub(super) mesos_dns_listen: Option<SocketAddr>,
    pub(super) dcos_net_listen: Option<SocketAddr>,
    pub(super) vip_net: Ipv4Net,
    pub(super) vip_net6: Option<ipnet::Ipv6Net>,
    pub(super) translation: Translation,
    pub(super) overlay_net: Ipv4Net,
    pub(super) hold: Duration,
    pub(super) config: Config,
}

/// Who may ask the name server.
#[derive(Clone, Debug)]
pub(super) struct NameAccess {
    pub(super) clients: Vec<IpNet>,
    pub(super) allow: Vec<IpNet>,
    pub(super) deny: Vec<IpNet>,
}

impl Settings {
    /// Whether tasks come from a Revere master.
    pub(super) fn runs_tasks(&self) -> bool {
        self.config.run_tasks && !matches!(self.source, Source::Agent(_))
    }

    /// Finds out what is not set; asks the kernel for routes and sizes, nothing else.
    pub(super) async fn new(config: Config) -> Result<Self, NodeError> {
        let source = Source::new(&config)?;
        let client = Client::new(&config.access()).map_err(NodeError::Tls)?;
        if source.needs_tls() && !client.has_tls() {
            return Err(wrong(
                "master_ca",
                "",
                "the system trusts no authority; name a PEM file with the masters'",
            ));
        }
        let ip = if config.ip.is_empty() {
            facts::source_address(&source.hosts()).await?
        } else {
            parse("ip", &config.ip, "write an IPv4 address")?
        };
        let hostname = if config.hostname.is_empty() {
            ip.to_string()
        } else {
            config.hostname.clone()
        };
        let names = Resolving::new(&config, ip)?;
        let ports: Vec<(u16, u16)> = config
            .ports
            .iter()
            .map(|text| port_range(text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            source,
            client,
            resolver: names.file,
            search: names.search,
            max_record: checked_max_record(config.max_record_mb)?,
            ip,
            hostname,
            resources: facts::resources(&config)?,
            dns_forward: config.dns_forward.checked(&ports)?,
            ports,
            dns_upstreams: names.upstreams,
            dns_listen: names.listen,
            dns_tls_listen: ported("dns_tls_listen", &config.dns_tls_listen, 853)?,
            dns_https_listen: ported("dns_https_listen", &config.dns_https_listen, 443)?,
            dns_access: NameAccess {
                clients: nets("dns_clients", &config.dns_clients)?,
                allow: nets("dns_allow", &config.dns_allow)?,
                deny: nets("dns_deny", &config.dns_deny)?,
            },
            api_listen: parse("api_listen", &config.api_listen, "write address:port")?,
            mesos_dns_listen: optional("mesos_dns_listen", &config.mesos_dns_listen)?,
            dcos_net_listen: optional("dcos_net_listen", &config.dcos_net_listen)?,
            vip_net: parse(
                "vip_range",
                &config.vip_range,
                "write an IPv4 prefix such as 11.0.0.0/8",
            )?,
            vip_net6: if config.vip_range6.is_empty() {
                None
            } else {
                let want = "write an IPv6 prefix such as fd01:c::/64";
                Some(parse::<ipnet::Ipv6Net>("vip_range6", &config.vip_range6, want)?.trunc())
            },
            translation: Translation::new(&config)?,
            overlay_net: parse("overlay", &config.overlay, "write an IPv4 prefix such as 9.0.0.0/8")?,
            hold: Duration::from_secs(config.hold_seconds),
            config,
        })
    }

    /// The IPv6 addresses that named VIPs get, if any.
    pub(super) fn vip_range6(&self) -> Option<Vip6Range> {
        self.vip_net6.map(|net| Vip6Range {
            min: net.network(),
            max: net.broadcast(),
        })
    }

    /// The addresses that named VIPs get.
    pub(super) fn vip_range(&self) -> VipRange {
        let min = u32::from(self.vip_net.network());
        let size = u32::MAX.checked_shr(u32::from(self.vip_net.prefix())).unwrap_or(0);
        VipRange {
            min: Ipv4Addr::from(min),
            max: Ipv4Addr::from(min | size),
        }
    }
}

pub(super) fn wrong(key: &'static str, value: &str, want: &str) -> NodeError {
    NodeError::Setting {
        key,
        value: value.to_owned(),
        want: want.to_owned(),
    }
}

fn parse<T: std::str::FromStr>(key: &'static str, text: &str, want: &str) -> Result<T, NodeError> {
    text.parse().map_err(|_| wrong(key, text, want))
}

/// An address, or nothing for an empty text.
fn optional(key: &'static str, text: &str) -> Result<Option<SocketAddr>, NodeError> {
    let given = (!text.is_empty()).then(|| parse(key, text, "write address:port, or nothing to have none"));
    given.transpose()
}

/// Addresses with or without a port (53 then); `None` for an empty list.
pub(super) fn addresses(key: &'static str, texts: &[String]) -> Result<Option<Vec<SocketAddr>>, NodeError> {
    let one = |text: &String| {
        let bare = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53));
        text.parse()
            .ok()
            .or_else(bare)
            .ok_or_else(|| wrong(key, text, "write address or address:port"))
    };
    let all: Vec<SocketAddr> = texts.iter().map(one).collect::<Result<_, _>>()?;
    Ok((!all.is_empty()).then_some(all))
}

/// Addresses with or without a port.
fn ported(key: &'static str, texts: &[String], port: u16) -> Result<Vec<SocketAddr>, NodeError> {
    let one = |text: &String| {
        let bare = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port));
        let addr = text.parse().ok().or_else(bare);
        addr.ok_or_else(|| wrong(key, text, "write address or address:port"))
    };
    texts.iter().map(one).collect()
}

/// Prefixes, or single addresses.
fn nets(key: &'static str, texts: &[String]) -> Result<Vec<IpNet>, NodeError> {
    let want = "write a prefix such as 10.0.0.0/8 or fd00::/8, or an address";
    let one = |text: &String| match text.parse::<IpAddr>() {
        Ok(addr) => Ok(IpNet::from(addr)),
        Err(_) => parse::<IpNet>(key, text, want).map(|net| net.trunc()),
    };
    texts.iter().map(one).collect()
}

/// At least one MiB, and no more than memory could hold many times over once decoded.
pub(super) fn checked_max_record(mb: u64) -> Result<usize, NodeError> {
    let bytes = usize::try_from(mb).ok().filter(|mb| (1..=1024).contains(mb));
    bytes
        .map(|mb| mb * 1024 * 1024)
        .ok_or_else(|| wrong("max_record_mb", &mb.to_string(), "write 1 to 1024"))
}

fn port_range(text: &str) -> Result<(u16, u16), NodeError> {
    let want = "write ranges such as 31000-32000";
    let (begin, end) = text.split_once('-').unwrap_or((text, text));
    let range = (parse("ports", begin.trim(), want)?, parse("ports", end.trim(), want)?);
    if range.0 == 0 || range.0 > range.1 {
        return Err(wrong("ports", text, want));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn defaults_are_filled_in() {
        let config = Config {
            ip: "10.0.0.7".into(),
            ..Config::default()
        };
        let settings = Settings::new(config).await.expect("valid");
        assert_eq!(
            (settings.hostname.as_str(), settings.ports.as_slice()),
            ("10.0.0.7", &[(31000, 32000)][..])
        );
        assert_eq!(settings.dns_listen[1], SocketAddr::from(([10, 0, 0, 7], 53)));
        assert_eq!(settings.vip_range(), VipRange::default());
        assert!(
            !settings.config.task_sessions,
            "nobody is asked who they are, and the port is open to all"
        );
        assert!(settings.resources.cpus_milli >= 1000 && settings.resources.mem_mb > 0);
    }

    #[tokio::test]
    async fn faults_name_their_key() {
        type Change = fn(&mut Config);
        let set: [(&str, Change); 19] = [
            ("master", |c| c.master = vec!["https://10.0.0.1:5050".into()]),
            ("master", |c| c.master = vec!["zk://10.0.0.1:2181".into()]),
            ("master", |c| c.master.clear()),
            ("agent_url", |c| {
                c.source = SourceKind::Agent;
                c.agent_url = "here".into();
            }),
            ("max_record_mb", |c| c.max_record_mb = 1 << 40),
            ("master", |c| c.master = vec!["http://".into()]),
            ("master", |c| c.master = vec!["http://a b".into()]),
            ("master", |c| c.master = vec!["http://10.0.0.1:5050/v2".into()]),
            ("master", |c| c.master = vec!["10.0.0.1:5050".into()]),
            ("ip", |c| c.ip = "here".into()),
            ("ports", |c| c.ports = vec!["9-3".into()]),
            ("vip_range", |c| c.vip_range = "11.0.0.1/8".into()),
            ("api_listen", |c| c.api_listen = "5051".into()),
            ("dns_listen", |c| c.dns_listen = vec!["x".into()]),
            ("resolv_conf", |c| c.resolv_conf = "resolv.conf".into()),
            ("resolv_conf", |c| {
                c.resolv_conf = "/etc/resolv.conf".into();
                c.dns = false;
            }),
            ("resolv_conf", |c| {
                c.resolv_conf = "/etc/resolv.conf".into();
                c.dns_listen = vec!["127.0.0.1:5353".into()];
            }),
            ("resolv_search", |c| c.resolv_search = vec!["two words".into()]),
            ("dns_deny", |c| c.dns_deny = vec!["10.0.0.0/33".into()]),
        ];
        for (key, change) in set {
            let mut config = Config {
                ip: "10.0.0.7".into(),
                ..Config::default()
            };
            change(&mut config);
            let error = Settings::new(config).await.expect_err(key).to_string();
            assert!(error.contains(&format!("node.{key}")), "{error}");
        }
    }
}
