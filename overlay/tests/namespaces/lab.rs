//! Network namespaces for tests: each belongs to one thread and is gone with it.

use std::cell::RefCell;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use model::{AgentId, NodeView, Snapshot};
use nix::sched::{CloneFlags, setns, unshare};
use overlay::{Config, Overlay, Plan};
use tokio::runtime::{Builder, Runtime};

/// What a test works in. Everything it makes lives in namespaces that only its thread holds.
pub(crate) struct Lab {
    home: File,
}

/// A namespace, and the plane inside it if it is a node.
pub(crate) struct Node {
    namespace: File,
    plane: Option<(Runtime, RefCell<Overlay>, Ipv4Addr)>,
}

/// Runs `test` on a thread of its own, or says why not.
pub(crate) fn run(test: impl FnOnce(&Lab) + Send + 'static) {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        test(&Lab { home: current() });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn current() -> File {
    File::open("/proc/thread-self/ns/net").expect("open the thread's network namespace")
}

impl Lab {
    /// Runs `work` inside the node's namespace.
    pub(crate) fn inside<T>(&self, node: &Node, work: impl FnOnce() -> T) -> T {
        setns(&node.namespace, CloneFlags::CLONE_NEWNET).expect("enter a namespace");
        let result = work();
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("leave a namespace");
        result
    }

    fn namespace(&self) -> Node {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        let namespace = current();
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("leave a namespace");
        Node { namespace, plane: None }
    }

    /// Two nodes joined by a veth pair. Reverse path filters are strict, as on many distributions.
    pub(crate) fn two_nodes(&self, a: Ipv4Addr, b: Ipv4Addr) -> (Node, Node) {
        let (mut first, mut second) = (self.namespace(), self.namespace());
        self.ip(
            &first,
            &format!(
                "link add eth0 type veth peer name eth0 netns {}",
                path(&second.namespace)
            ),
        );
        for (node, ip) in [(&mut first, a), (&mut second, b)] {
            self.ip(node, &format!("addr add {ip}/24 dev eth0"));
            self.ip(node, "link set eth0 up");
            self.inside(node, || {
                for name in ["all", "default", "eth0"] {
                    std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "1").expect("set rp_filter");
                }
            });
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let overlay = self.inside(node, || {
                runtime.block_on(async {
                    let (overlay, connection) = Overlay::open(Config::new(ip)).await.expect("open netlink");
                    tokio::spawn(connection);
                    overlay
                })
            });
            node.plane = Some((runtime, RefCell::new(overlay), ip));
        }
        (first, second)
    }

    /// A container on `node`: own namespace, veth without bridge, a host route on the node's side.
    pub(crate) fn container(&self, node: &Node, addr: Ipv4Addr) -> Node {
        self.container_by(node, "rv0", addr)
    }

    /// The same by a link of that name.
    pub(crate) fn container_by(&self, node: &Node, link: &str, addr: Ipv4Addr) -> Node {
        let container = self.namespace();
        self.ip(
            node,
            &format!(
                "link add {link} type veth peer name eth0 netns {}",
                path(&container.namespace)
            ),
        );
        self.ip(node, &format!("addr add 169.254.1.1/32 dev {link}"));
        self.ip(node, &format!("link set {link} up"));
        self.ip(node, &format!("route add {addr}/32 dev {link}"));
        self.ip(&container, &format!("addr add {addr}/32 dev eth0"));
        self.ip(&container, "link set eth0 up");
        self.ip(&container, "route add 169.254.1.1 dev eth0");
        self.ip(&container, "route add default via 169.254.1.1");
        container
    }

    /// Runs `ip` in the node's namespace and returns what it prints.
    pub(crate) fn ip(&self, node: &Node, arguments: &str) -> String {
        self.command(node, "ip", arguments)
    }

    /// Runs a program in the node's namespace and returns what it prints.
    pub(crate) fn command(&self, node: &Node, program: &str, arguments: &str) -> String {
        let output = self.inside(node, || {
            Command::new(program).args(arguments.split_whitespace()).output()
        });
        let output = output.unwrap_or_else(|error| panic!("run {program} (package iproute2): {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{program} {arguments}`: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The node's whole network state, for failure messages.
    pub(crate) fn state(&self, node: &Node) -> String {
        let shown = [
            "-d link show",
            "addr show",
            "route show table all",
            "rule show",
            "neigh show",
        ];
        let mut text: String = shown
            .iter()
            .map(|what| format!("--- ip {what}\n{}", self.ip(node, what)))
            .collect();
        text += &self.command(node, "bridge", "fdb show");
        text
    }

    /// What of the node's network does not change by itself: names of interfaces, routes and rules.
    pub(crate) fn fixed(&self, node: &Node) -> String {
        let links = self.ip(node, "-br link show");
        let names = links.lines().filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.collect();
        let shown = ["-4 route show table all", "rule show"].map(|what| self.ip(node, what));
        format!("{names:?}\n{}", shown.concat())
    }

    /// What a full pass would do now. `nodes`: agent id, underlay address, subnet (or nothing).
    pub(crate) fn plan(&self, node: &Node, nodes: &[(&str, Ipv4Addr, &str)]) -> Plan {
        self.plan_with(node, nodes, "")
    }

    /// The same with networks beside the default one.
    fn plan_with(&self, node: &Node, nodes: &[(&str, Ipv4Addr, &str)], networks: &str) -> Plan {
        let (runtime, overlay, ip) = node.plane.as_ref().expect("a node, not a container");
        let view = NodeView { ip: *ip, agent: None };
        let wanted = overlay::desired(&snapshot(nodes, networks), &view, &Config::new(*ip));
        assert_eq!(wanted.problems, []);
        let mut overlay = overlay.borrow_mut();
        let actual = self
            .inside(node, || runtime.block_on(overlay::observe(&mut overlay)))
            .expect("observe");
        overlay::plan(&wanted, &actual)
    }

    /// One full pass, which must succeed.
    pub(crate) fn reconcile(&self, node: &Node, nodes: &[(&str, Ipv4Addr, &str)]) {
        self.reconcile_with(node, nodes, "");
    }

    /// The same with networks beside the default one; a second pass must find nothing to do.
    pub(crate) fn reconcile_with(&self, node: &Node, nodes: &[(&str, Ipv4Addr, &str)], networks: &str) {
        self.pass(node, &self.plan_with(node, nodes, networks));
        let rest = self.plan_with(node, nodes, networks);
        assert!(rest.is_empty(), "{rest:?}\n{}", self.state(node));
    }

    fn pass(&self, node: &Node, plan: &Plan) {
        let (runtime, overlay, _) = node.plane.as_ref().expect("a node, not a container");
        let mut overlay = overlay.borrow_mut();
        let report = self.inside(node, || runtime.block_on(overlay::apply(&mut overlay, plan)));
        assert!(report.failed.is_empty(), "{:?}\n{}", report.failed, self.state(node));
        assert_eq!(report.done, plan.adds.len() + plan.removes.len());
    }

    /// Warms one peer, which must succeed.
    pub(crate) fn warm(&self, node: &Node, peer: impl Into<IpAddr>) {
        let (runtime, overlay, _) = node.plane.as_ref().expect("a node, not a container");
        let mut overlay = overlay.borrow_mut();
        let failed = self.inside(node, || runtime.block_on(overlay::warm(&mut overlay, &[peer.into()])));
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Waits for a condition, for ten seconds at most.
    pub(crate) fn until(&self, condition: impl Fn() -> bool, explain: impl Fn() -> String) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "it never became true\n{}", explain());
            std::thread::yield_now();
        }
    }
}

fn path(namespace: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

fn snapshot(nodes: &[(&str, Ipv4Addr, &str)], networks: &str) -> Snapshot {
    let networks = model::Network::split(networks).expect("valid networks");
    let nodes = nodes
        .iter()
        .map(|(agent, ip, subnet)| {
            let agent = AgentId::new(*agent);
            let subnet = (!subnet.is_empty()).then(|| subnet.parse().expect("a valid prefix"));
            (
                agent.clone(),
                model::Node {
                    hostname: agent.to_string(),
                    agent,
                    ip: *ip,
                    port: None,
                    subnet,
                    networks: networks.clone().into(),
                },
            )
        })
        .collect();
    Snapshot {
        nodes,
        ..Snapshot::default()
    }
}
