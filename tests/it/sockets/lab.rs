//! A node with socket hooks and backends on its loopback, for the thread that runs the test: real sockets, real hooks.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_userspace::{BackendKey, Config, Lb, Reason, apply, desired, observe, plan};
use model::{AgentId, Backend, Generation, NodeView, Protocol, Service, ServiceOptions, Snapshot, TaskId, VipAddress};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
/// Not the usual range, so that the hooks of a node on this machine leave it alone.
const VIP_NET: &str = "198.18.0.0/15";
const VIP6_NET: Ipv6Addr = Ipv6Addr::new(0xfd99, 1, 2, 3, 0, 0, 0, 0);
pub(crate) const PORT: u16 = 5555;
pub(crate) const UNKNOWN: Ipv4Addr = Ipv4Addr::new(198, 19, 1, 1);
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn vip4() -> SocketAddr {
    (Ipv4Addr::new(198, 18, 2, 3), PORT).into()
}

pub(crate) fn vip6() -> SocketAddr {
    (Ipv6Addr::new(0xfd99, 1, 2, 3, 0, 0, 0, 5), PORT).into()
}

/// The same IPv4 address, as an IPv6 socket names it.
pub(crate) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), addr.port()).into(),
        IpAddr::V6(_) => addr,
    }
}

/// Address of a backend: `10.9.0.n` or `fd09::n`.
pub(crate) fn host(vip: SocketAddr, n: u8) -> IpAddr {
    match vip {
        SocketAddr::V4(_) => Ipv4Addr::new(10, 9, 0, n).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, u16::from(n)).into(),
    }
}

/// What a VIP is to have.
#[derive(Clone, Debug)]
pub(crate) struct Vip {
    pub(crate) addr: SocketAddr,
    pub(crate) protocol: Protocol,
    /// Where each listens, and its weight.
    pub(crate) backends: Vec<(SocketAddr, u16)>,
    /// The node they are on: this one, unless told otherwise.
    pub(crate) node: Ipv4Addr,
    pub(crate) options: ServiceOptions,
}

impl Vip {
    pub(crate) fn new(addr: SocketAddr, protocol: Protocol, backends: &[(SocketAddr, u16)]) -> Self {
        Self {
            addr,
            protocol,
            backends: backends.to_vec(),
            node: OWN,
            options: ServiceOptions::default(),
        }
    }
}

pub(crate) struct Lab {
    pub(crate) lb: Lb,
    config: Config,
    folder: tempfile::TempDir,
    generation: u64,
    vips: Vec<Vip>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::configured(|_| {})
    }

    pub(crate) fn configured(change: impl FnOnce(&mut Config)) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("socket tests need root");
        let folder = tempfile::tempdir().expect("a temporary directory");
        private_cgroup_mount(folder.path());
        ip("link set lo up");
        let group = own_group(folder.path());
        fs::create_dir(&group).expect("a cgroup of its own");
        let mut config = Config::new(
            folder.path().join("bpf"),
            Vec::new(),
            group.clone(),
            VIP_NET.parse().expect("valid"),
        );
        config.vip6_net = VIP6_NET;
        config.slots = 65_536;
        change(&mut config);
        let (lb, _) = Lb::open(config.clone()).expect("the load balancer opens");
        join_group(&group);
        Self {
            lb,
            config,
            folder,
            generation: 0,
            vips: Vec::new(),
        }
    }

    /// A new daemon takes the place of the old one.
    pub(crate) fn reopen(&mut self) {
        let (lb, opened) = Lb::open(self.config.clone()).expect("opens again");
        assert!(opened.attached.is_empty(), "{opened:?}");
        self.lb = lb;
    }

    /// Adds or replaces VIPs.
    pub(crate) fn set(&mut self, vips: &[Vip]) {
        for vip in vips {
            self.vips
                .retain(|known| (known.addr, known.protocol) != (vip.addr, vip.protocol));
            self.vips.push(vip.clone());
        }
        self.generation += 1;
        let wanted = desired(
            &snapshot(&self.vips, self.generation),
            &NodeView { ip: OWN, agent: None },
        );
        let found = observe(&mut self.lb).expect("maps can be read");
        let report = apply(&mut self.lb, &plan(&wanted, &found));
        assert!(report.failed.is_empty(), "{report:?}");
    }

    /// Directory of the pins.
    pub(crate) fn pins(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    /// Where a thread writes its number to be out of the hooks' reach.
    pub(crate) fn outside(&self) -> PathBuf {
        let group = own_group(self.folder.path());
        group.parent().expect("below another").join("cgroup.threads")
    }

    pub(crate) fn key(&self, addr: SocketAddr, protocol: Protocol) -> BackendKey {
        BackendKey {
            addr: addr.ip(),
            port: addr.port(),
            protocol,
        }
    }

    pub(crate) fn open_sockets(&self, addr: SocketAddr, protocol: Protocol) -> u64 {
        let key = self.key(addr, protocol);
        let open = self.lb.open_sockets(&key).expect("the map can be read");
        open.expect("a backend that is known")
    }

    /// Waits until no socket to a backend is counted: a program that another test starts has, for a moment, every descriptor
    /// of this process, and a socket is closed with its last one.
    pub(crate) fn all_closed(&self, addr: SocketAddr, protocol: Protocol) {
        until("no socket is counted", || self.open_sockets(addr, protocol) == 0);
    }

    pub(crate) fn count(&self, reason: Reason) -> u64 {
        let all = self.lb.counters().expect("counters can be read");
        all.into_iter().find(|(r, _)| *r == reason).expect("all are told").1
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // This thread, and those that the load balancer started while it was in there, have to leave the cgroup before that
        // can go; what is not there needs no removing.
        let group = own_group(self.folder.path());
        let threads = fs::read_to_string(group.join("cgroup.threads")).unwrap_or_default();
        if let Some(parent) = group.parent() {
            for thread in threads.lines() {
                let _ = fs::write(parent.join("cgroup.threads"), thread);
            }
        }
        let _ = fs::remove_dir(&group);
        for mount in ["bpf", "cgroup"] {
            let _ = umount2(&self.folder.path().join(mount), MntFlags::MNT_DETACH);
        }
    }
}

pub(crate) fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {args}");
}

/// Gives the loopback an address, and waits for its route: the kernel adds that of an IPv6 address a little later.
pub(crate) fn add_address(addr: IpAddr) {
    let prefix = if addr.is_ipv4() { "32" } else { "128 nodad" };
    ip(&format!("addr add {addr}/{prefix} dev lo"));
    // A datagram socket finds a way before the address is whole; what the tests do is to connect.
    until("a route", || {
        let listener = TcpListener::bind((addr, 0));
        listener.is_ok_and(|listener| listener.local_addr().is_ok_and(|at| TcpStream::connect(at).is_ok()))
    });
}

fn private_cgroup_mount(folder: &Path) {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .expect("private mounts");
    let at = folder.join("cgroup");
    fs::create_dir_all(&at).expect("mount point");
    mount(Some("none"), &at, Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("cgroup2");
}

/// A cgroup for this thread below its process's.
fn own_group(folder: &Path) -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").expect("/proc");
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .expect("a cgroup v2");
    let thread = nix::unistd::gettid();
    folder.join("cgroup").join(own).join(format!("revere-sockets-{thread}"))
}

/// Hooks are for cgroups, and tests are threads: a threaded cgroup takes one thread of the process.
fn join_group(group: &Path) {
    fs::write(group.join("cgroup.type"), "threaded").expect("a cgroup of threads");
    let mut threads = fs::OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.threads"))
        .expect("the cgroup's threads");
    let thread = nix::unistd::gettid().to_string();
    threads.write_all(thread.as_bytes()).expect("the thread moves");
}

fn snapshot(vips: &[Vip], generation: u64) -> Snapshot {
    let services = vips.iter().map(|vip| {
        let address = VipAddress {
            addr: vip.addr.ip(),
            port: vip.addr.port(),
            protocol: vip.protocol,
        };
        let backends = vip.backends.iter().map(|(addr, weight)| Backend {
            addr: addr.ip(),
            port: addr.port(),
            weight: *weight,
            agent: AgentId::new("agent".to_owned()),
            agent_ip: vip.node,
            task: TaskId::new(format!("task-{addr}")),
        });
        let service = Service {
            vip: address,
            name: None,
            backends: backends.collect(),
            options: vip.options.clone(),
        };
        (address, Arc::new(service))
    });
    Snapshot {
        generation: Generation(generation),
        services: services.collect(),
        ..Snapshot::default()
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::yield_now();
    }
}
