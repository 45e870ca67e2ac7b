//! A node in network and mount namespaces of its own, for the thread that runs the test.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lb_userspace::{Config, EgressHook, Lb, PacketRun, Reason, apply, desired, observe, plan};
use model::{AgentId, Backend, Generation, Node, NodeView, Protocol, Service, SharedMap, Snapshot, TaskId, VipAddress};
use nix::sched::{CloneFlags, unshare};

pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);
/// Its own IPv6 address where it has one.
pub(crate) const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 99);
pub(crate) const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 7, 50), 40_000);
/// Not the usual range, so that the hooks of a node on this machine leave it alone.
pub(crate) const VIP_NET: &str = "198.18.0.0/15";
pub(crate) const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 2, 3), 5555);
pub(crate) const LOCAL: (Ipv4Addr, u16) = (OWN, 31_001);
pub(crate) const REMOTE: (Ipv4Addr, u16) = (PEER, 31_002);
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The node.
pub(crate) struct Lab {
    pub(crate) lb: Lb,
    pub(crate) uplink: u32,
    pub(crate) folder: Folder,
}

/// A temporary directory with mounts in it; takes both away, and the cgroup that the hooks were on.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is not there needs no removing; the namespace takes the rest.
        let _ = std::fs::remove_dir(config(self.path()).cgroup);
        for mount in ["bpf", "cgroup"] {
            let _ = nix::mount::umount2(&self.path().join(mount), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

pub(crate) fn ip(args: &str) {
    let status = Command::new("ip")
        .args(args.split_whitespace())
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {args}");
}

/// IPv6 on the uplink, which says nothing there by itself; what is in neighbours' hands is up to the test.
pub(crate) fn six() {
    ip("link set up0 multicast off");
    for (key, value) in [
        ("addr_gen_mode", "1"),
        ("accept_dad", "0"),
        ("forwarding", "1"),
        ("disable_ipv6", "0"),
    ] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/up0/{key}"), value).expect("a kernel with IPv6");
    }
}

/// Fresh namespaces; whatever is made in them goes with the thread.
pub(crate) fn enter() -> Folder {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("packet tests need root");
    let folder = Folder(tempfile::tempdir().expect("a temporary directory"));
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .expect("private mounts");
    // /sys stays that of another network namespace, as under `nsenter`: nothing may be read there.
    let cgroup = folder.path().join("cgroup");
    std::fs::create_dir_all(&cgroup).expect("mount point");
    nix::mount::mount(
        Some("none"),
        &cgroup,
        Some("cgroup2"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .expect("cgroup2");
    // So that no packet but the tests' own is counted.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("IPv6 off");
    ip("link add up0 type veth peer name wire0");
    ip("link set up0 up");
    ip("link set wire0 up");
    ip("addr add 192.168.7.1/24 dev up0");
    ip("neigh replace 192.168.7.2 lladdr 02:00:00:00:00:02 dev up0 nud permanent");
    folder
}

pub(crate) fn config(folder: &Path) -> Config {
    let cgroup = folder
        .join("cgroup")
        .join(format!("revere-test-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    let mut config = Config::new(
        folder.join("bpf"),
        vec!["up0".into()],
        cgroup,
        VIP_NET.parse().expect("valid"),
    );
    config.flows = 4096;
    config.flows6 = 4096;
    config.half = 4096;
    config.half6 = 4096;
    config.sockets = 4096;
    config.vips = 1024;
    config.backends = 4096;
    config.slots = 65_536;
    config
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::hooked(EgressHook::Auto)
    }

    pub(crate) fn hooked(egress: EgressHook) -> Self {
        Self::configured(|config| config.egress = egress)
    }

    pub(crate) fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let folder = enter();
        let mut config = config(folder.path());
        change(&mut config);
        let (lb, _) = Lb::open(config).expect("the load balancer opens");
        let uplink = nix::net::if_::if_nametoindex("up0").expect("up0");
        Self { lb, uplink, folder }
    }

    /// A node whose VIP has these backends.
    pub(crate) fn with(backends: &[((Ipv4Addr, u16), u16)]) -> Self {
        let mut lab = Self::new();
        lab.set(backends);
        lab
    }

    pub(crate) fn set(&mut self, backends: &[((Ipv4Addr, u16), u16)]) {
        let view = NodeView { ip: OWN, agent: None };
        let wanted = desired(&snapshot(backends), &view);
        let found = observe(&mut self.lb).expect("maps can be read");
        let report = apply(&mut self.lb, &plan(&wanted, &found));
        assert!(report.failed.is_empty(), "{report:?}");
        let found = observe(&mut self.lb).expect("maps can be read");
        let rest = plan(&wanted, &found);
        assert!(rest.is_empty(), "a second plan must be empty: {rest:?}");
    }

    pub(crate) fn counters(&self) -> HashMap<Reason, u64> {
        self.lb.counters().expect("counters can be read").into_iter().collect()
    }

    /// Runs the XDP program and tells the one reason it counted.
    pub(crate) fn xdp(&self, frame: &[u8]) -> (Reason, PacketRun) {
        let before = self.counters();
        let run = self
            .lb
            .run_xdp(frame, self.uplink, 1)
            .expect("the kernel runs the frame");
        (self.counted(&before), run)
    }

    pub(crate) fn egress(&self, frame: &[u8]) -> (Reason, PacketRun) {
        let before = self.counters();
        let run = self.lb.run_egress(frame).expect("the kernel runs the frame");
        (self.counted(&before), run)
    }

    fn counted(&self, before: &HashMap<Reason, u64>) -> Reason {
        let after = self.counters();
        let changed: Vec<_> = after.iter().filter(|(reason, n)| before[*reason] != **n).collect();
        assert_eq!(changed.len(), 1, "one packet, one reason: {changed:?}");
        assert_eq!(*changed[0].1, before[changed[0].0] + 1, "one packet counts once");
        *changed[0].0
    }
}

/// A cluster of this node and a peer with one VIP; a backend's node is the one with its address.
pub(crate) fn snapshot(backends: &[((Ipv4Addr, u16), u16)]) -> Snapshot {
    let agent = |ip: Ipv4Addr| AgentId::new(format!("agent-{ip}"));
    let vip = VipAddress {
        addr: IpAddr::V4(VIP.0),
        port: VIP.1,
        protocol: Protocol::Tcp,
    };
    let backends: Vec<Backend> = backends
        .iter()
        .map(|((addr, port), weight)| Backend {
            addr: IpAddr::V4(*addr),
            port: *port,
            weight: *weight,
            agent: agent(*addr),
            agent_ip: *addr,
            task: TaskId::new(format!("task-{addr}-{port}")),
        })
        .collect();
    let nodes = [OWN, PEER].map(|ip| {
        let node = Node {
            agent: agent(ip),
            hostname: ip.to_string(),
            ip,
            port: None,
            subnet: None,
            networks: Default::default(),
        };
        (node.agent.clone(), node)
    });
    let mut services = SharedMap::new();
    if !backends.is_empty() {
        services.insert(
            vip,
            Arc::new(Service {
                vip,
                name: None,
                backends,
                options: model::ServiceOptions::default(),
            }),
        );
    }
    Snapshot {
        generation: Generation(1),
        services,
        tasks: Default::default(),
        frameworks: Default::default(),
        nodes: nodes.into_iter().collect(),
    }
}
