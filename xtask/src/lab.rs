//! Three nodes, a fabric and an outside client in namespaces of their own, with no way out and nothing left behind.
//!
//! All of it lives in one PID namespace. A janitor process holds that namespace's first process and a pipe from its
//! owner: when the owner ends, in whatever way, the pipe closes, the janitor kills everything and removes the rest.

mod archive;
mod cluster;
mod cut;
mod janitor;
mod many;
pub mod net;
mod place;
pub mod prober;
pub mod upstream;
pub mod wall;
pub mod writes;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

pub use cluster::{Cluster, PATIENCE, Task};
pub use cut::Cut;
pub use janitor::Janitor;
pub use place::{Daemon, Place, inside, wait_for, wait_for_every};

/// Number of nodes.
pub const NODES: u8 = 3;

/// The outside client's address.
pub const OUTSIDE: &str = "10.99.0.100";

/// More than one lab may run in one process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The address of node `number` on the fabric.
#[must_use]
pub fn underlay(number: u8) -> String {
    format!("10.99.0.{number}")
}

/// The whole lab; gone when dropped.
#[derive(Debug)]
pub struct Lab {
    /// node1, node2, node3.
    pub nodes: Vec<Place>,
    /// The client that runs no daemon.
    pub outside: Place,
    /// The switch.
    pub fabric: Place,
    /// Logs and state of everything.
    pub dir: PathBuf,
    janitor: Janitor,
}

impl Lab {
    /// Builds it.
    pub fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("the lab makes network namespaces: run this as root");
        }
        let name = format!(
            "revere-lab-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let cgroups = cgroup2()?;
        let janitor = Janitor::start(&dir, &cgroups, &name)?;
        let fabric = Place::new(&janitor, "fabric", &dir, None)?;
        fabric.sh("ip link set lo up && ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up")?;
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let node = Place::new(
                &janitor,
                &format!("node{number}"),
                &dir,
                Some(cgroups.join(format!("{name}-node{number}"))),
            )?;
            wire(&fabric, &node, &underlay(number))?;
            // No forwarding between places but what the product itself switches on.
            node.sh("mount -t bpf bpf /sys/fs/bpf")?;
            node.resolve_with(&[
                "198.51.100.1".to_owned(),
                underlay(number % NODES + 1),
                underlay((number + 1) % NODES + 1),
            ])?;
            nodes.push(node);
        }
        let outside = Place::new(&janitor, "outside", &dir, Some(cgroups.join(format!("{name}-outside"))))?;
        wire(&fabric, &outside, OUTSIDE)?;
        outside.resolve_with(&(1..=NODES).map(underlay).collect::<Vec<_>>())?;
        outside.sh(
            "sysctl -qw net.ipv4.fib_multipath_hash_policy=1 && ip route add 11.0.0.0/8 \
             nexthop via 10.99.0.1 nexthop via 10.99.0.2 nexthop via 10.99.0.3",
        )?;
        Ok(Self {
            nodes,
            outside,
            fabric,
            dir,
            janitor,
        })
    }

    /// One more machine on the fabric, without daemon and cgroup.
    pub fn join(&self, name: &str, address: &str) -> Result<Place> {
        let place = Place::new(&self.janitor, name, &self.dir, None)?;
        wire(&self.fabric, &place, address)?;
        Ok(place)
    }

    /// A machine on a cable of its own behind `router`, which is `NET.1` there; the machine is `NET.2`.
    pub fn behind(&self, router: &Place, name: &str, net: &str, mtu: u16) -> Result<Place> {
        let place = Place::new(&self.janitor, name, &self.dir, None)?;
        let pid = place.inner_pid;
        router.sh(&format!(
            "ip link add {name}0 type veth peer name up0 netns {pid} && ip link set {name}0 mtu {mtu} up && \
             ip addr add {net}.1/24 dev {name}0 && ethtool -K {name}0 tx off tso off gso off >/dev/null && \
             sysctl -qw net.ipv4.ip_forward=1"
        ))?;
        place.sh(&format!(
            "ip link set lo up && ip link set up0 mtu {mtu} up && ip addr add {net}.2/24 dev up0 && \
             ethtool -K up0 tx off tso off gso off >/dev/null && ip route add default via {net}.1"
        ))?;
        Ok(place)
    }

    /// Ends everything; an error tells what was left behind.
    pub fn close(mut self) -> Result<()> {
        self.janitor.finish()
    }

    /// Everything about every node, for a failure's report.
    #[must_use]
    pub fn picture(&self) -> String {
        let places = self.nodes.iter().chain([&self.outside]);
        places.map(Place::picture).collect::<Vec<_>>().join("\n")
    }
}

/// A cable between the switch and `place`: no unfinished checksums, no packets larger than a wire carries.
fn wire(fabric: &Place, place: &Place, address: &str) -> Result<()> {
    let name = &place.name;
    let pid = place.inner_pid;
    fabric.sh(&format!(
        "ip link add {name} type veth peer name up0 netns {pid} && ip link set {name} master br0 up && \
         ethtool -K {name} tx off tso off gso off gro on >/dev/null"
    ))?;
    place.sh(&format!(
        "ip link set lo up && ip addr add {address}/24 dev up0 && ip link set up0 up && \
         ethtool -K up0 tx off tso off gso off >/dev/null"
    ))?;
    Ok(())
}

/// Where the version 2 hierarchy is mounted.
fn cgroup2() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| Path::new(path).to_owned())
    });
    found.context("no cgroup v2 hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")
}
