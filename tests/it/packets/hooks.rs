//! The egress program by tcx and by clsact: attached once, replaced without a gap, taken off.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_userspace::{EgressHook, Lb, Opened, Reason, observe};
use nix::sched::{CloneFlags, unshare};

use crate::packets::lab::{CLIENT, LOCAL, Lab, VIP, VIP_NET, config, ip};

/// Ends a test that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A new daemon with this hook in the lab's place of the old one.
fn reopen(lab: Lab, hook: EgressHook) -> (Lab, Opened) {
    let Lab { lb, uplink, folder } = lab;
    drop(lb);
    let mut config = config(folder.path());
    config.egress = hook;
    let (lb, opened) = Lb::open(config).expect("opens again");
    (Lab { lb, uplink, folder }, opened)
}

fn tc(args: &str) -> String {
    let output = Command::new("tc")
        .args(args.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "tc {args}: {output:?}");
    String::from_utf8(output.stdout).expect("plain text")
}

/// Ids of the programs of clsact's filters on the uplink.
fn filters() -> Vec<u32> {
    let text = tc("filter show dev up0 egress");
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[0] == "id")
        .map(|pair| pair[1].parse().expect("a number"))
        .collect()
}

fn adopted(opened: &Opened) -> bool {
    opened.attached.is_empty() && opened.adopted.iter().any(|hook| hook == "egress-up0")
}

#[test]
fn a_filter_is_attached_once_replaced_in_place_and_taken_off() {
    let mut lab = Lab::hooked(EgressHook::Clsact);
    let first = filters();
    assert_eq!(first.len(), 1);
    assert!(!lab.folder.path().join("bpf/links/egress-up0").exists());
    let (again, opened) = reopen(lab, EgressHook::Clsact);
    lab = again;
    assert!(adopted(&opened), "{opened:?}");
    let second = filters();
    assert_eq!(second.len(), 1);
    assert_ne!(second, first, "the new daemon's program is in it");
    tc("filter del dev up0 egress");
    let lost = observe(&mut lab.lb).expect("can be read").unattached;
    assert_eq!(
        lost,
        ["egress-up0".to_owned()].into(),
        "a full pass sees that it is gone"
    );
    lab.set(&[(LOCAL, 1)]);
    assert_eq!(filters().len(), 1, "and puts it back");
    lab.lb.detach().expect("taken off");
    assert_eq!(filters(), Vec::<u32>::new());
}

#[test]
fn a_filter_leaves_others_alone() {
    let lab = Lab::hooked(EgressHook::Clsact);
    // One instruction of classic BPF: matches nothing.
    let nothing = lab.folder.path().join("nothing");
    std::fs::write(&nothing, "1,6 0 0 0\n").expect("written");
    tc(&format!(
        "filter add dev up0 egress prio 7 bpf bytecode-file {}",
        nothing.display()
    ));
    let (lab, opened) = reopen(lab, EgressHook::Clsact);
    assert!(adopted(&opened), "{opened:?}");
    lab.lb.detach().expect("taken off");
    let rest = tc("filter show dev up0 egress");
    assert!(rest.contains("pref 7") && !rest.contains("revere_egress"), "{rest}");
}

#[test]
fn a_queueing_discipline_without_a_way_out_is_named() {
    let folder = crate::packets::lab::enter();
    tc("qdisc add dev up0 ingress");
    let mut config = config(folder.path());
    config.egress = EgressHook::Clsact;
    let error = Lb::open(config).expect_err("cannot work");
    assert!(error.to_string().contains("tc qdisc del dev up0 ingress"), "{error}");
}

#[test]
fn the_other_kind_of_hook_is_taken_off() {
    let lab = Lab::hooked(EgressHook::Auto);
    let pin = lab.folder.path().join("bpf/links/egress-up0");
    let links = pin.exists();
    let (lab, _) = reopen(lab, EgressHook::Clsact);
    assert!(!pin.exists() && filters().len() == 1);
    let (lab, opened) = reopen(lab, EgressHook::Auto);
    assert_eq!(pin.exists(), links);
    assert_eq!(filters().len(), usize::from(!links), "{opened:?}");
    drop(lab);
}

/// A client at the far end of the wire, in a network namespace of its own, that sends over one connection to the VIP.
struct Caller {
    asks: Sender<()>,
    answers: Receiver<()>,
    thread: JoinHandle<u64>,
}

impl Caller {
    fn start() -> Self {
        let (asks, asked) = channel::<()>();
        let (answer, answers) = channel();
        let (entered, enter) = channel();
        let (wired, wire) = channel::<()>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            entered.send(nix::unistd::gettid()).expect("the test waits");
            wire.recv().expect("the test goes on");
            ip("link set wire0 up");
            ip(&format!("addr add {}/24 dev wire0", CLIENT.0));
            ip(&format!("route add {VIP_NET} via 192.168.7.1"));
            offload_off("wire0");
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from(VIP), DEADLINE).expect("the VIP answers");
            stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            for () in asked {
                let mut byte = [7];
                stream.write_all(&byte).expect("the connection lives");
                stream.read_exact(&mut byte).expect("the answer comes from the VIP");
                answer.send(()).expect("the test waits");
            }
            resets()
        });
        let thread_id = enter.recv_timeout(DEADLINE).expect("a namespace");
        ip(&format!("link set wire0 netns {thread_id}"));
        offload_off("up0");
        wired.send(()).expect("the caller waits");
        Self { asks, answers, thread }
    }

    fn ask(&self) {
        self.asks.send(()).expect("the caller lives");
        self.answers.recv_timeout(DEADLINE).expect("the connection works");
    }

    /// Ends it and tells how often it met an answer that was not from the VIP.
    fn end(self) -> u64 {
        drop(self.asks);
        self.thread.join().expect("the caller ends well")
    }
}

/// A veth does not finish checksums; XDP would pass the packets on as they are.
pub(in crate::packets) fn offload_off(device: &str) {
    let status = Command::new("ethtool")
        .args(["-K", device, "tx", "off", "tso", "off", "gro", "on"])
        .stdout(std::process::Stdio::null())
        .status()
        .expect("ethtool is installed");
    assert!(status.success(), "ethtool on {device}");
}

/// Resets that this namespace sent.
fn resets() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names
        .split_whitespace()
        .position(|name| name == "OutRsts")
        .expect("a column");
    values
        .split_whitespace()
        .nth(at)
        .expect("a value")
        .parse()
        .expect("a number")
}

fn serve() -> JoinHandle<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, LOCAL.1)).expect("the backend's port is free");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the caller");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).expect("the caller reads");
        }
    })
}

#[test]
fn a_connection_outlives_new_daemons_under_either_hook() {
    for hook in [EgressHook::Auto, EgressHook::Clsact] {
        // A thread of its own, for namespaces of its own.
        let run = std::thread::spawn(move || {
            let mut lab = Lab::hooked(hook);
            lab.set(&[(LOCAL, 1)]);
            let server = serve();
            let caller = Caller::start();
            caller.ask();
            for _ in 0..3 {
                let Lab { lb, uplink, folder } = lab;
                drop(lb);
                for _ in 0..20 {
                    caller.ask();
                }
                let mut config = config(folder.path());
                config.egress = hook;
                let opening = std::thread::scope(|scope| {
                    let opening = scope.spawn(move || Lb::open(config));
                    while !opening.is_finished() {
                        caller.ask();
                    }
                    opening.join().expect("opens")
                });
                let (lb, opened) = opening.expect("opens again");
                assert!(adopted(&opened), "{opened:?}");
                lab = Lab { lb, uplink, folder };
                lab.set(&[(LOCAL, 1)]);
                caller.ask();
            }
            let counters = lab.counters();
            assert_eq!(caller.end(), 0, "no answer came from another address");
            server.join().expect("the server ends");
            assert!(counters[&Reason::Restored] > 60 && counters[&Reason::RestoreFailed] == 0);
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

/// Names of everything that is pinned.
fn pinned(lab: &Lab) -> Vec<String> {
    let folders = ["maps", "links"].map(|folder| lab.folder.path().join("bpf").join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("pins"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a pin").path().display().to_string())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn whoever_removes_the_pins_takes_nothing_off_and_they_come_back() {
    let mut lab = Lab::hooked(EgressHook::Auto);
    lab.set(&[(LOCAL, 1)]);
    let before = pinned(&lab);
    assert!(before.len() > 20, "{before:?}");
    for pin in &before {
        std::fs::remove_file(pin).expect("removed");
    }
    assert_eq!(pinned(&lab), Vec::<String>::new());
    let shown = Command::new("ip").args(["-d", "link", "show", "up0"]).output();
    let shown = String::from_utf8(shown.expect("iproute2 is installed").stdout).expect("plain text");
    assert!(shown.contains("prog/xdp"), "still attached: {shown}");
    // Who looks before the pins are back must not attach anew: that would take off what is there.
    assert_eq!(lab.lb.unattached(), std::collections::BTreeSet::new());
    assert_eq!(lab.lb.restore_pins().len(), before.len());
    assert_eq!(pinned(&lab), before);
    assert_eq!(lab.lb.unattached(), std::collections::BTreeSet::new());
    assert_eq!(lab.lb.restore_pins(), Vec::<std::path::PathBuf>::new());
    let uplink = lab.uplink;
    lab.lb.detach().expect("taken off");
    let shown = Command::new("ip").args(["-d", "link", "show", "up0"]).output();
    let shown = String::from_utf8(shown.expect("iproute2 is installed").stdout).expect("plain text");
    assert!(!shown.contains("prog/xdp"), "{uplink}: taken off for good: {shown}");
}
