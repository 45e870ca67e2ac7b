//! A node in network and mount namespaces of its own, with one VIP for each way a packet can go.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::{Config, Lb, Reason, apply, desired, observe, plan};
use model::{AgentId, Backend, Generation, Node, NodeView, Protocol, Service, Snapshot, TaskId, VipAddress};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(11, 1, 2, 3);
/// The VIP whose backend is on the node.
pub(crate) const LOCAL_VIP: (Ipv4Addr, u16) = (VIP, 5555);
/// The VIP whose backend is on the peer.
pub(crate) const REMOTE_VIP: (Ipv4Addr, u16) = (VIP, 5556);
/// The backend on the node.
pub(crate) const BACKEND: (Ipv4Addr, u16) = (OWN, 31_001);
/// No VIP.
pub(crate) const PLAIN: (Ipv4Addr, u16) = (OWN, 22);

/// The node.
pub(crate) struct BenchNode {
    /// Kept open; the maps and hooks are its.
    lb: Lb,
    pub(crate) uplink: u32,
    /// Flows that the table of half-open ones can hold, where new flows begin.
    pub(crate) rooms: u32,
    pub(crate) folder: tempfile::TempDir,
}

/// Keeps this thread, and what it measures, on the machine's last CPU.
pub(crate) fn pin_cpu() -> Result<usize> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut cpus = CpuSet::new();
    cpus.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("could not stay on one CPU")?;
    Ok(last)
}

impl BenchNode {
    /// Fresh namespaces, then the load balancer with its usual sizes, or with room for more flows.
    pub(crate) fn new(flows: Option<u32>) -> Result<Self> {
        Self::sized(|config| config.flows = flows.unwrap_or(config.flows))
    }

    /// The same with other sizes.
    pub(crate) fn sized(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let folder = enter().context("the packet figures need root and namespaces of their own")?;
        let mut config = Config::new(
            folder.path().join("bpf"),
            vec!["up0".into()],
            folder.path().join("cgroup/revere-bench"),
            "11.0.0.0/8".parse()?,
        );
        change(&mut config);
        let rooms = config.half;
        let (mut lb, _) = Lb::open(config)?;
        let wanted = desired(&snapshot(), &NodeView { ip: OWN, agent: None });
        let found = observe(&mut lb)?;
        let report = apply(&mut lb, &plan(&wanted, &found));
        ensure!(report.failed.is_empty(), "the tables could not be filled: {report:?}");
        let uplink = fs::read_to_string("/sys/class/net/up0/ifindex")?.trim().parse()?;
        Ok(Self {
            lb,
            uplink,
            rooms,
            folder,
        })
    }

    /// Listens as the backend on the node, which answers each SYN with a cookie.
    pub(crate) fn listen(&mut self) -> Result<TcpListener> {
        fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
        let listener = TcpListener::bind(BACKEND)?;
        self.lb.tell_listeners(true)?;
        Ok(listener)
    }

    pub(crate) fn lb(&self) -> &Lb {
        &self.lb
    }

    /// How many packets ended so until now.
    pub(crate) fn count(&self, reason: Option<Reason>) -> Result<u64> {
        let counters = self.lb.counters()?;
        Ok(counters
            .into_iter()
            .find(|(each, _)| Some(*each) == reason)
            .map_or(0, |(_, n)| n))
    }
}

fn enter() -> Result<tempfile::TempDir> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let folder = tempfile::tempdir()?;
    mount(Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    mount(Path::new("/sys"), Some("sysfs"), MsFlags::empty())?;
    let cgroup = folder.path().join("cgroup");
    fs::create_dir(&cgroup)?;
    mount(&cgroup, Some("cgroup2"), MsFlags::empty())?;
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    ip("link add up0 type veth peer name wire0")?;
    ip("link set up0 up")?;
    ip("link set wire0 up")?;
    ip("addr add 192.168.7.1/24 dev up0")?;
    ip("neigh replace 192.168.7.2 lladdr 02:00:00:00:00:02 dev up0 nud permanent")?;
    Ok(folder)
}

fn mount(target: &Path, kind: Option<&str>, flags: MsFlags) -> Result<()> {
    nix::mount::mount(kind, target, kind, flags, None::<&str>)
        .with_context(|| format!("could not mount on {}", target.display()))
}

fn ip(args: &str) -> Result<()> {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    ensure!(status.context("could not start ip")?.success(), "ip {args} failed");
    Ok(())
}

impl Drop for BenchNode {
    fn drop(&mut self) {
        // The cgroup tree is the machine's; only the directory of this run goes.
        let _ = fs::remove_dir(self.folder.path().join("cgroup/revere-bench"));
        for mounted in ["cgroup", "bpf"] {
            let _ = nix::mount::umount2(&self.folder.path().join(mounted), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn snapshot() -> Snapshot {
    let services = [(LOCAL_VIP, OWN), (REMOTE_VIP, PEER)].map(|((vip, port), backend)| {
        let vip = VipAddress {
            addr: IpAddr::V4(vip),
            port,
            protocol: Protocol::Tcp,
        };
        let backends = vec![Backend {
            addr: IpAddr::V4(backend),
            port: BACKEND.1,
            weight: 1,
            agent: agent(backend),
            agent_ip: backend,
            task: TaskId::new(format!("task-{port}")),
        }];
        let service = Service {
            vip,
            name: None,
            backends,
            options: model::ServiceOptions::default(),
        };
        (vip, Arc::new(service))
    });
    let nodes = [OWN, PEER].map(|ip| {
        let node = Node {
            agent: agent(ip),
            hostname: ip.to_string(),
            ip,
            port: None,
            subnet: None,
            networks: Default::default(),
        };
        (agent(ip), node)
    });
    Snapshot {
        generation: Generation(1),
        services: services.into_iter().collect(),
        tasks: Default::default(),
        frameworks: Default::default(),
        nodes: nodes.into_iter().collect(),
    }
}

fn agent(ip: Ipv4Addr) -> AgentId {
    AgentId::new(format!("agent-{ip}"))
}
