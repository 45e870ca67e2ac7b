//! The node daemon: runs tasks, follows the master's task stream, keeps load balancer, names and overlay true.
//!
//! Ending it, in order or by `kill -9`, changes nothing in the kernel and ends no task: a new daemon takes both over.

mod config;
mod disk;
mod facts;
mod feed;
mod foreign;
mod forwarding;
mod http;
mod link;
mod listen;
mod masters;
mod naming;
mod planes;
mod poll;
mod reconcile;
mod remember;
mod resolver;
pub mod standby;
mod status;
mod stream;
mod table;
mod taken;
mod translation;

pub use config::{Config, CookieMode, XdpMode};
pub use feed::Feed;
pub use forwarding::DnsForward;
#[cfg(test)]
pub(crate) use http::shapes;
pub use masters::SourceKind;
pub(crate) use masters::zk::{INFO as MASTER_SIGN, ZkAddress, location as leader_in};
pub(crate) use stream::follow;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentEvent};
use model::{NodeView, TaskEvent};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use config::{Settings, wrong};
use listen::Listeners;
use planes::{Early, LbPlane, NamePlane, NodePlanes, OverlayPlane, SharedEarly};
use standby::{Elder, Standby};
use status::{Status, unix_ms};
use table::{Picture, Table};

/// File of the picture in the state directory.
const SNAPSHOT: &str = "snapshot";

/// How often traced packets are fetched from the kernel.
const TRACE_PAUSE: Duration = Duration::from_millis(100);

/// The fixed name server address of every node.
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Why a node cannot start or had to end. The data plane stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting.
    #[error("node.{key} = `{value}` is wrong: {want}")]
    Setting {
        /// Its key.
        key: &'static str,
        /// As set.
        value: String,
        /// What to do.
        want: String,
    },
    /// The state directory.
    #[error("cannot use the state directory {path}: {source}; set node.state_dir to one that this user may write")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An ordinary user.
    #[error(
        "running tasks needs {0}: start as root or grant them (AmbientCapabilities= in the unit); node.dataplane = false spares only the programs in the kernel"
    )]
    Privilege(String),
    /// Two daemons.
    #[error("the state directory {0} is in use: another revere node runs with it; end that one, or set node.state_dir")]
    InUse(PathBuf),
    /// The API's port.
    #[error("cannot listen on node.{key} = {address}: {source}; end what uses it, or set another address")]
    Listen {
        /// Which setting.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// This program's own path, needed to start tasks.
    #[error("cannot find this program's own file, which starts tasks: {0}")]
    OwnPath(std::io::Error),
    /// TLS towards masters.
    #[error("node.master_ca, master_cert, master_key: {0}")]
    Tls(crate::mesos::client::TlsError),
    /// No cgroup v2.
    #[error(
        "no cgroup v2 hierarchy is mounted; mount one (`mount -t cgroup2 none /sys/fs/cgroup/unified`) or set node.hook_cgroup"
    )]
    NoCgroup,
    /// The agent.
    #[error(transparent)]
    Agent(#[from] agent::OpenError),
    /// The overlay's socket.
    #[error(transparent)]
    Overlay(#[from] overlay::OpenError),
    /// The network as found.
    #[error(transparent)]
    Network(#[from] overlay::ObserveError),
    /// The load balancer.
    #[error(transparent)]
    LoadBalancer(#[from] lb_userspace::OpenError),
    /// The name server.
    #[error(transparent)]
    Dns(#[from] dns::BindError),
    /// Names in XDP.
    #[error("node.dns_xdp: {0}")]
    EarlyNames(#[from] lb_userspace::names::NamesError),
    /// A part of the daemon ended by itself, which none ever should.
    #[error("the node's {0} ended unexpectedly; start the node again, nothing is lost")]
    Ended(&'static str),
}

/// Runs a node until `shutdown`. Tasks, maps and links stay. `ready` is called once everything is open and answers.
pub async fn run(config: Config, shutdown: CancellationToken, ready: impl FnOnce()) -> Result<(), NodeError> {
    let settings = Arc::new(Settings::new(config).await?);
    let missing = facts::missing_capabilities();
    if !missing.is_empty() {
        return Err(NodeError::Privilege(missing.join(", ")));
    }
    let state_dir = &settings.config.state_dir;
    // Held until the end of this function: two daemons would each take the other's tasks for their own.
    let _lock = std::fs::create_dir_all(state_dir)
        .and_then(|()| disk::lock(state_dir))
        .map_err(|source| NodeError::StateDir {
            path: state_dir.clone(),
            source,
        })?
        .ok_or_else(|| NodeError::InUse(state_dir.clone()))?;
    let mut elder = Elder::call(state_dir).await;
    if let Some(elder) = elder.take_if(|_| !settings.config.dns) {
        // Names are switched off now.
        elder.retire();
    }
    let started = start(&settings, elder.as_mut(), &shutdown).await;
    if started.is_err() && elder.is_none() {
        // Nobody answers, and no daemon may come up for long.
        resolver::give_back(&settings);
    }
    let Running {
        parts,
        agent,
        status,
        pictures,
        names,
        early,
        standby,
    } = started?;
    tracing::info!(ip = %settings.ip, hostname = settings.hostname, source = ?settings.source.told(), "node runs");
    if let Some(elder) = elder {
        elder.retire();
    }
    ready();
    let ended = parts.until(&shutdown).await;
    agent.shutdown();
    remember::save(&state_dir.join(SNAPSHOT), pictures.borrow().clone(), &status.facts());
    let goes_on = standby.leave_to(if crate::process::interrupted() {
        standby::End::Nobody
    } else {
        standby::End::Standby
    });
    if let Some(names) = names {
        // Both answer for a moment: no question waits for the other.
        names.finish().await;
    }
    if !goes_on {
        resolver::give_back(&settings);
        if let Some(early) = early {
            early.lock().end();
        }
    }
    ended
}

/// A node of which everything is open and answers.
struct Running {
    parts: Parts,
    agent: Agent,
    status: Arc<Status>,
    pictures: watch::Receiver<Picture>,
    names: Option<Arc<dns::Server>>,
    early: Option<SharedEarly>,
    standby: Standby,
}

/// Opens and starts everything. An earlier daemon's standby goes on answering names meanwhile.
async fn start(
    settings: &Arc<Settings>,
    elder: Option<&mut Elder>,
    shutdown: &CancellationToken,
) -> Result<Running, NodeError> {
    let listeners = Listeners::bind(settings).await?;
    let status = Arc::new(Status::new());
    let mut parts = Parts::default();
    let memory = recall(settings, &status);
    let sockets = elder.map(Elder::take_sockets).unwrap_or_default();
    let opened = open_planes(settings, &status, &mut parts, sockets, &memory).await?;
    let (agent, agent_events) = agent::open(agent_config(settings)?)?;
    let standby = Standby::default();
    let server = opened.names.as_ref().map(|names| Arc::clone(&names.server));
    let early = opened.names.as_ref().and_then(|names| names.early.clone());
    if let Some(names) = &opened.names {
        keep_names(&mut parts, settings, &status, names, &standby);
    } else {
        resolver::give_back(settings);
    }
    let pictures = start_parts(
        &mut parts,
        settings,
        &status,
        &agent,
        agent_events,
        opened,
        listeners,
        memory,
        shutdown,
    );
    Ok(Running {
        parts,
        agent,
        status,
        pictures,
        names: server,
        early,
        standby,
    })
}

/// Starts what keeps names answered without this process, and the resolver file true.
fn keep_names(parts: &mut Parts, settings: &Arc<Settings>, status: &Arc<Status>, names: &NamePlane, standby: &Standby) {
    if settings.config.dns_standby_seconds > 0 {
        let keeper = standby::Keeper {
            settings: Arc::clone(settings),
            server: Arc::clone(&names.server),
            standby: standby.clone(),
            status: Arc::clone(status),
        };
        parts.add("names' standby", keeper.run());
    }
    if let Some(early) = &names.early {
        parts.add("names in XDP", planes::tend_early(Arc::clone(early)));
    }
    match settings.resolver.clone() {
        Some(file) => parts.add("resolver file", resolver::keep(file, names.published.subscribe())),
        None => resolver::give_back(settings),
    }
}

/// Connects the parts with each other and starts them; gives what the node knows, as it changes.
#[allow(
    clippy::too_many_arguments,
    reason = "each part is handed over once, here and nowhere else"
)]
fn start_parts(
    parts: &mut Parts,
    settings: &Arc<Settings>,
    status: &Arc<Status>,
    agent: &Agent,
    agent_events: mpsc::Receiver<AgentEvent>,
    opened: Opened,
    listeners: Listeners,
    memory: Memory,
    shutdown: &CancellationToken,
) -> watch::Receiver<Picture> {
    let Memory { table, pictures, id } = memory;
    let (events, table_events) = mpsc::channel(table::EVENTS);
    let (statuses, waiting) = link::statuses();
    let id_file = settings.config.state_dir.join(disk::AGENT_ID);
    let (views, view) = watch::channel(NodeView {
        ip: settings.ip,
        agent: id.clone(),
    });
    let shown = listen::view(parts, settings, status, pictures.clone(), opened.names.as_ref());
    let api = http::Api {
        settings: Arc::clone(settings),
        status: Arc::clone(status),
        agent: agent.clone(),
        lb: opened.lb.clone(),
        dns: opened.names.as_ref().map(|names| Arc::clone(&names.server)),
        early: opened.names.as_ref().and_then(|names| names.early.clone()),
        sessions: Arc::default(),
    };
    let (masters, watcher) = settings.source.masters(settings.config.scheme(), &settings.client);
    if let Some(watcher) = watcher {
        parts.add("leader watch", watcher);
    }
    let link = link::Link {
        masters: masters.clone(),
        settings: Arc::clone(settings),
        agent: agent.clone(),
        id,
        id_file,
        views,
        statuses: waiting,
        status: Arc::clone(status),
    };
    add_source(parts, settings, status, masters, events.clone());
    parts.add("service table", table.run(table_events));
    parts.add(
        "agent events",
        link::pump(agent_events, opened.lb.clone(), events, statuses),
    );
    if let Some(lb) = opened.lb.clone().filter(|_| settings.config.trace_packets) {
        parts.add("packet trace", trace(lb));
    }
    if let Some(lb) = &opened.lb {
        parts.add("load balancer's care", planes::tend::tend(Arc::clone(lb)));
        let status = Arc::clone(status);
        parts.add("flow tables", planes::tend::sweep(Arc::clone(lb), status));
    }
    let foreign = foreign::Foreign::new(opened.changes);
    let overlay = opened.overlay.map(|overlay| overlay.telling(agent.clone()));
    let planes = NodePlanes::new(overlay, opened.lb, opened.names, Arc::clone(status));
    parts.add(
        "reconciliation",
        reconcile::run(planes, pictures.clone(), view, foreign, shutdown.clone()),
    );
    let file = settings.config.state_dir.join(SNAPSHOT);
    parts.add(
        "snapshot file",
        remember::run(file, pictures.clone(), Arc::clone(status)),
    );
    if settings.runs_tasks() {
        status.change(|facts| facts.agent_on = true);
        parts.add("agent connection", link.run());
    } else {
        // The view never changes then, but its readers end with its writer.
        let views = link.views;
        parts.add("view of the node", async move {
            views.closed().await;
        });
    }
    parts.add("agent", run_agent(agent.clone()));
    listeners.serve(parts, api, shown);
    pictures
}

/// Starts whatever tells of tasks.
fn add_source(
    parts: &mut Parts,
    settings: &Settings,
    status: &Arc<Status>,
    masters: masters::Masters,
    events: mpsc::Sender<TaskEvent>,
) {
    let (client, status) = (settings.client.clone(), Arc::clone(status));
    if let masters::Source::Agent(url) = &settings.source {
        let poller = poll::Poller::new(url.clone(), client, events, status);
        parts.add("agent's state", poller.run());
        return;
    }
    let follower = stream::Follower {
        masters,
        first: stream::any_place(),
        position: String::new(),
        client,
        max_record: settings.max_record,
        patience: stream::Patience::default(),
        events,
        status,
    };
    parts.add("task stream", follower.run());
}

/// The daemon's concurrent parts, each with its name.
#[derive(Debug, Default)]
struct Parts(JoinSet<&'static str>);

impl Parts {
    fn add(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            part.await;
            name
        });
    }

    /// Waits for the end that was asked for, or for one that should not be.
    async fn until(mut self, shutdown: &CancellationToken) -> Result<(), NodeError> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = self.0.join_next() => Err(NodeError::Ended(ended.unwrap_or("part (it panicked)"))),
        }
    }
}

async fn run_agent(agent: Agent) {
    agent.run().await;
}

async fn trace(lb: Arc<Mutex<LbPlane>>) {
    let mut pause = interval(TRACE_PAUSE);
    loop {
        pause.tick().await;
        lb.lock().drain_trace();
    }
}

fn agent_config(settings: &Settings) -> Result<agent::Config, NodeError> {
    let program = std::env::current_exe().map_err(NodeError::OwnPath)?;
    let runner: Vec<OsString> = vec![program.into(), "task-runner".into()];
    let state_dir = settings.config.state_dir.clone();
    let mut config = agent::Config::new(state_dir, runner, settings.hostname.clone(), settings.ip);
    config.cgroup_name.clone_from(&settings.config.cgroup);
    config.resolv_conf = settings
        .config
        .dns
        .then(|| resolver::text(&[SERVICE_ADDRESS.into()], &settings.search));
    let node = &settings.config;
    config.containers_poll = node.fast_path;
    config.images.insecure.extend(node.insecure_registries.iter().cloned());
    config.images.credentials.clone_from(&node.image_credentials);
    config.images.limit = node.image_limit_mb.saturating_mul(1 << 20);
    config.images.keep = Duration::from_secs(node.image_keep_seconds);
    config.fetch.limit = node.fetch_limit_mb.saturating_mul(1 << 20);
    config.fetch.cache = node.fetch_cache_mb.saturating_mul(1 << 20);
    config.sandbox_keep = Duration::from_secs(node.sandbox_keep_seconds);
    if !(1..=100).contains(&node.disk_percent) {
        let want = "from 1 to 100 percent of the disk may be used";
        return Err(wrong("disk_percent", &node.disk_percent.to_string(), want));
    }
    config.disk_percent = node.disk_percent;
    if node.log_limit_mb == 0 {
        return Err(wrong("log_limit_mb", "0", "a file of output has at least a megabyte"));
    }
    if node.log_files > agent::MOST_OLDER {
        let want = format!("at most {} older files are kept", agent::MOST_OLDER);
        return Err(wrong("log_files", &node.log_files.to_string(), &want));
    }
    config.logs.limit = node.log_limit_mb.saturating_mul(1 << 20);
    config.logs.older = node.log_files;
    Ok(config)
}

/// What was opened of the planes.
#[derive(Debug, Default)]
struct Opened {
    overlay: Option<OverlayPlane>,
    changes: Option<overlay::Changes>,
    lb: Option<Arc<Mutex<LbPlane>>>,
    names: Option<NamePlane>,
}

/// Opens overlay, load balancer and name server, in the order in which each needs the one before.
async fn open_planes(
    settings: &Settings,
    status: &Arc<Status>,
    parts: &mut Parts,
    sockets: dns::Inherited,
    memory: &Memory,
) -> Result<Opened, NodeError> {
    let mut opened = Opened::default();
    if settings.config.dataplane {
        let mut config = overlay::Config::new(settings.ip);
        config.vip_net = settings.vip_net;
        config.overlay_net = settings.overlay_net;
        let (overlay, netlink) = overlay::Overlay::open(config).await?;
        parts.add("netlink connection", netlink);
        let (changes, netlink) = overlay::Changes::open()?;
        // Without news the periodic look finds everything too: no reason to end.
        parts.add("netlink news", async {
            netlink.await;
            std::future::pending::<()>().await;
        });
        opened.changes = Some(changes);
        let mut overlay = OverlayPlane::new(overlay, settings.translation.bare.clone());
        let uplink = overlay.prepare(settings.ip).await?;
        opened.overlay = Some(overlay);
        opened.lb = Some(Arc::new(Mutex::new(open_lb(settings, uplink, status)?)));
    }
    if settings.config.dns {
        let config = dns_config(settings)?;
        let picture = memory.pictures.borrow().clone();
        let view = NodeView {
            ip: settings.ip,
            agent: memory.id.clone(),
        };
        let leader = disk::load_leader(&settings.config.state_dir.join(disk::LEADER));
        let mut names = NamePlane::open(config, sockets, picture.map(|picture| (picture, view)), leader).await?;
        names.early = Early::open(settings, &names.config, &names.server, status)?;
        opened.names = Some(names);
    } else {
        planes::take_off(&settings.config.bpffs);
    }
    Ok(opened)
}

fn open_lb(settings: &Settings, uplink: String, status: &Arc<Status>) -> Result<LbPlane, NodeError> {
    let node = &settings.config;
    let cgroup = if node.hook_cgroup.as_os_str().is_empty() {
        facts::cgroup_v2_root().ok_or(NodeError::NoCgroup)?
    } else {
        node.hook_cgroup.clone()
    };
    let uplinks = if node.uplinks.is_empty() {
        vec![uplink]
    } else {
        node.uplinks.clone()
    };
    let mut config = lb_userspace::Config::new(node.bpffs.clone(), uplinks, cgroup, settings.vip_net);
    config.trace = node.trace_packets;
    config.local_interfaces.clone_from(&node.local_interfaces);
    config.nat_ports = settings.translation.ports();
    config.bare_nodes.clone_from(&settings.translation.bare);
    config.nat_address6 = settings.translation.address6;
    config.syn_cookies = match node.syn_cookies {
        CookieMode::Auto => lb_userspace::SynCookies::Above(node.syn_cookie_rate),
        CookieMode::Always => lb_userspace::SynCookies::Always,
        CookieMode::Off => lb_userspace::SynCookies::Off,
    };
    config.fast_path = node.fast_path;
    config.mode = match node.xdp {
        XdpMode::Auto => lb_userspace::XdpMode::Auto,
        XdpMode::Native => lb_userspace::XdpMode::Native,
        XdpMode::Generic => lb_userspace::XdpMode::Generic,
    };
    let (lb, opened) = lb_userspace::Lb::open(config)?;
    tracing::info!(adopted = ?opened.adopted, attached = ?opened.attached, "load balancer is open");
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    Ok(LbPlane::new(lb, Arc::clone(status)))
}

fn dns_config(settings: &Settings) -> Result<dns::Config, NodeError> {
    let own = model::Ipv4Net::new(settings.ip, 32);
    let mut config = dns::Config {
        listen: settings.dns_listen.clone(),
        listen_tls: settings.dns_tls_listen.clone(),
        listen_https: settings.dns_https_listen.clone(),
        tls: (!settings.config.dns_certificate.as_os_str().is_empty()).then(|| dns::TlsFiles {
            certificate: settings.config.dns_certificate.clone(),
            key: settings.config.dns_key.clone(),
        }),
        upstreams: settings.dns_upstreams.clone(),
        forward: settings.dns_forward.clone(),
        clients: own
            .into_iter()
            .chain([settings.overlay_net])
            .filter_map(ip_net)
            // A process of this node that asks one of these addresses asks from it too.
            .chain(settings.dns_listen.iter().map(|addr| addr.ip().into()))
            .chain(settings.dns_access.clients.clone())
            .collect(),
        allow: settings.dns_access.allow.clone(),
        deny: settings.dns_access.deny.clone(),
        rate: settings.config.dns_rate,
        client_rate: settings.config.dns_client_rate,
        slip: settings.config.dns_slip,
        workers: settings.config.dns_workers,
        masters: settings
            .source
            .listed()
            .iter()
            .filter_map(|url| master_address(url))
            .collect(),
        reverse: [settings.vip_net, settings.overlay_net]
            .into_iter()
            .filter_map(ip_net)
            .chain(settings.vip_net6.map(ipnet::IpNet::V6))
            .collect(),
        ..dns::Config::default()
    };
    settings.config.dns_names.apply(&mut config)?;
    Ok(config)
}

fn ip_net(net: model::Ipv4Net) -> Option<ipnet::IpNet> {
    ipnet::IpNet::new(net.network().into(), net.prefix()).ok()
}

/// Mesos's port, for a master whose URL tells none.
const MASTER_PORT: u16 = 5050;

/// The address in a master's URL, if it is one.
fn master_address(url: &str) -> Option<SocketAddr> {
    let url = url.parse::<hyper::Uri>().ok()?;
    let ip = url.host()?.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(ip, url.port_u16().unwrap_or(MASTER_PORT)))
}

/// What an earlier daemon wrote down.
#[derive(Debug)]
struct Memory {
    table: Table,
    pictures: watch::Receiver<Picture>,
    id: Option<model::AgentId>,
}

/// The service table as it was when an earlier daemon last wrote it down, or an empty one.
fn recall(settings: &Settings, status: &Arc<Status>) -> Memory {
    let (mut table, pictures) = Table::new(
        settings.vip_range(),
        settings.vip_range6(),
        settings.hold,
        Arc::clone(status),
    );
    match disk::load(&settings.config.state_dir.join(SNAPSHOT)) {
        Ok(Some((state, as_of_ms))) => {
            let age = Duration::from_millis(unix_ms().saturating_sub(as_of_ms));
            tracing::info!(
                ?age,
                tasks = state.tasks.len(),
                "serving the picture from disk until a master answers"
            );
            status.change(|facts| {
                facts.from_disk = true;
                facts.as_of_ms = Some(as_of_ms);
                facts.as_of = Some(status::AsOf::aged(age));
            });
            table.apply(TaskEvent::Snapshot(state));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("{error}; starting without it"),
    }
    let id = disk::load_agent_id(&settings.config.state_dir.join(disk::AGENT_ID)).unwrap_or_else(|error| {
        tracing::warn!("{error}; registering as a new node");
        None
    });
    Memory { table, pictures, id }
}
