//! Settings of a node, `[node]` in the file, and their checked form.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use model::{Ipv4Net, Resources, VipRange};
use serde::{Deserialize, Serialize};

use super::NodeError;
use super::facts;

/// `[node]`. An empty text, list or zero means: find it out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// URLs of the masters; any of them will do, the leader is found from there.
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
    /// Interfaces that packets from outside come in by; by default the one that bears `ip`.
    pub uplinks: Vec<String>,
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
    /// Address of the node's own API.
    pub api_listen: String,
    /// Block of VIP addresses.
    pub vip_range: String,
    /// Block that node subnets are cut from.
    pub overlay: String,
    /// Whether to make VIPs and overlay work in the kernel; off loads and routes nothing and runs tasks and names only.
    pub dataplane: bool,
    /// How long backends on nodes that a new master state does not tell are kept.
    pub hold_seconds: u64,
    /// Log every packet decision.
    pub trace_packets: bool,
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

impl Default for Config {
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
            uplinks: Vec::new(),
            bpffs: PathBuf::from("/sys/fs/bpf/revere"),
            cgroup: "revere".to_owned(),
            hook_cgroup: PathBuf::new(),
            xdp: XdpMode::Auto,
            dns: true,
            dns_listen: Vec::new(),
            dns_upstreams: Vec::new(),
            dns_clients: Vec::new(),
            dns_allow: Vec::new(),
            dns_deny: Vec::new(),
            dns_rate: 50,
            dns_client_rate: 0,
            dns_slip: 1,
            dns_workers: 0,
            api_listen: "0.0.0.0:5051".to_owned(),
            vip_range: "11.0.0.0/8".to_owned(),
            overlay: "9.0.0.0/8".to_owned(),
            dataplane: true,
            hold_seconds: 600,
            trace_packets: false,
        }
    }
}

/// The checked form: everything found out, everything parsed.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) masters: Vec<String>,
    pub(super) ip: Ipv4Addr,
    pub(super) hostname: String,
    pub(super) resources: Resources,
    pub(super) ports: Vec<(u16, u16)>,
    pub(super) dns_listen: Vec<SocketAddr>,
    pub(super) dns_upstreams: Vec<SocketAddr>,
    pub(super) dns_access: NameAccess,
    pub(super) api_listen: SocketAddr,
    pub(super) vip_net: Ipv4Net,
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
    /// Finds out what is not set; asks the kernel for routes and sizes, nothing else.
    pub(super) async fn new(config: Config) -> Result<Self, NodeError> {
        if config.master.is_empty() {
            return Err(wrong(
                "master",
                "",
                "it must name at least one master, for example http://10.0.0.1:5050",
            ));
        }
        let masters: Vec<String> = config
            .master
            .iter()
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect();
        let usable = |url: &str| {
            url.parse::<hyper::Uri>().is_ok_and(|uri| {
                uri.scheme_str() == Some("http") && uri.path() == "/" && uri.host().is_some_and(|host| !host.is_empty())
            })
        };
        if let Some(bad) = config.master.iter().find(|url| !usable(url)) {
            return Err(wrong("master", bad, "write http://host:port"));
        }
        let ip = if config.ip.is_empty() {
            facts::source_address(&masters).await?
        } else {
            parse("ip", &config.ip, "write an IPv4 address")?
        };
        let hostname = if config.hostname.is_empty() {
            ip.to_string()
        } else {
            config.hostname.clone()
        };
        let listen_default = vec![SocketAddr::from(([198, 51, 100, 1], 53)), SocketAddr::from((ip, 53))];
        let dns_listen = addresses("dns_listen", &config.dns_listen)?.unwrap_or(listen_default);
        let upstreams = addresses("dns_upstreams", &config.dns_upstreams)?.unwrap_or_else(facts::system_nameservers);
        Ok(Self {
            masters,
            ip,
            hostname,
            resources: facts::resources(&config)?,
            ports: config
                .ports
                .iter()
                .map(|text| port_range(text))
                .collect::<Result<_, _>>()?,
            dns_upstreams: upstreams
                .into_iter()
                .filter(|addr| !dns_listen.contains(addr))
                .collect(),
            dns_listen,
            dns_access: NameAccess {
                clients: nets("dns_clients", &config.dns_clients)?,
                allow: nets("dns_allow", &config.dns_allow)?,
                deny: nets("dns_deny", &config.dns_deny)?,
            },
            api_listen: parse("api_listen", &config.api_listen, "write address:port")?,
            vip_net: parse(
                "vip_range",
                &config.vip_range,
                "write an IPv4 prefix such as 11.0.0.0/8",
            )?,
            overlay_net: parse("overlay", &config.overlay, "write an IPv4 prefix such as 9.0.0.0/8")?,
            hold: Duration::from_secs(config.hold_seconds),
            config,
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

/// Addresses with or without a port (53 then); `None` for an empty list.
fn addresses(key: &'static str, texts: &[String]) -> Result<Option<Vec<SocketAddr>>, NodeError> {
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

/// Prefixes, or single addresses.
fn nets(key: &'static str, texts: &[String]) -> Result<Vec<IpNet>, NodeError> {
    let want = "write a prefix such as 10.0.0.0/8 or fd00::/8, or an address";
    let one = |text: &String| match text.parse::<IpAddr>() {
        Ok(addr) => Ok(IpNet::from(addr)),
        Err(_) => parse::<IpNet>(key, text, want).map(|net| net.trunc()),
    };
    texts.iter().map(one).collect()
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
        assert!(settings.resources.cpus_milli >= 1000 && settings.resources.mem_mb > 0);
    }

    #[tokio::test]
    async fn faults_name_their_key() {
        type Change = fn(&mut Config);
        let set: [(&str, Change); 11] = [
            ("master", |c| c.master = vec!["https://10.0.0.1:5050".into()]),
            ("master", |c| c.master = vec!["http://".into()]),
            ("master", |c| c.master = vec!["http://a b".into()]),
            ("master", |c| c.master = vec!["http://10.0.0.1:5050/v2".into()]),
            ("master", |c| c.master = vec!["10.0.0.1:5050".into()]),
            ("ip", |c| c.ip = "here".into()),
            ("ports", |c| c.ports = vec!["9-3".into()]),
            ("vip_range", |c| c.vip_range = "11.0.0.1/8".into()),
            ("api_listen", |c| c.api_listen = "5051".into()),
            ("dns_listen", |c| c.dns_listen = vec!["x".into()]),
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
