//! The name servers, ours and the others', all with the same 10,000 names.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::wait_for;
use crate::workspace::Workspace;

/// Names that each serves.
pub(super) const NAMES: u32 = 10_000;

/// How long a server may take to have read its names.
const START: Duration = Duration::from_secs(60);

/// A running server; ended when dropped.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of CPU that all its threads have used.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).context("the server ended")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let used = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            sum += used.context("no schedstat in this kernel")?;
        }
        Ok(sum)
    }
}

/// Ticks of the kernel's accounting in a second (USER_HZ).
const TICKS: u64 = 100;

impl Peer {
    /// Milliseconds of CPU that the kernel has used on its behalf, sampled by ticks.
    pub(super) fn kernel_ms(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).context("the server ended")?;
        // After the name, which may hold spaces: state is the first field, the kernel's time the thirteenth.
        let rest = text.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
        let ticks = rest
            .split_whitespace()
            .nth(12)
            .and_then(|word| word.parse::<u64>().ok());
        Ok(ticks.context("no times in /proc/PID/stat")? * 1000 / TICKS)
    }
}

/// The wire form of a plain question of type A with EDNS.
pub(super) fn question(name: &str, rtype: u16) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend(rtype.to_be_bytes());
    out.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    out
}

fn task(number: u32) -> String {
    format!("app-{number:05}.marathon.mesos")
}

fn address(number: u32) -> String {
    format!("9.0.{}.{}", number / 256, number % 256)
}

/// Starts one and waits until it answers.
pub(super) fn start_one(name: &'static str, port: u16, words: &[String], dir: &Path) -> Result<Peer> {
    let (program, args) = words.split_first().context("a program")?;
    let log = fs::File::create(dir.join(format!("{name}.log")))?;
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let peer = Peer {
        name,
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
        child,
    };
    if wait_for(START, || has_names(peer.addr)).is_none() {
        let said = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
        bail!("{name} does not answer; it said:\n{said}");
    }
    Ok(peer)
}

/// Starts all, ours first, and waits until each answers.
pub(super) fn start(workspace: &Workspace, dir: &Path) -> Result<Vec<Peer>> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write_names(dir)?;
    let at = dir.display();
    let ours = workspace.target.join("demo/examples/serve");
    let programs: [(&str, u16, Vec<String>); 4] = [
        (
            "revere",
            5300,
            vec![ours.display().to_string(), "127.0.0.1:5300".into(), NAMES.to_string()],
        ),
        (
            "unbound",
            5301,
            vec!["unbound".into(), "-d".into(), "-c".into(), format!("{at}/unbound.conf")],
        ),
        (
            "knot",
            5302,
            vec!["knotd".into(), "-c".into(), format!("{at}/knot.conf")],
        ),
        ("dnsmasq", 5303, dnsmasq(dir)),
    ];
    programs
        .iter()
        .map(|(name, port, words)| start_one(name, *port, words, dir))
        .collect()
}

/// Whether the last name has its address there.
fn has_names(addr: SocketAddr) -> Option<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    socket.send_to(&question(&task(NAMES - 1), 1), addr).ok()?;
    let mut answer = [0; 512];
    socket.recv(&mut answer).ok()?;
    (answer[3] & 15 == 0 && answer[7] == 1).then_some(())
}

fn dnsmasq(dir: &Path) -> Vec<String> {
    let words = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--local=/mesos/",
        "--port=5303",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--cache-size=0",
        "--local-ttl=60",
        "--user=root",
        "--pid-file=",
    ];
    let hosts = format!("--addn-hosts={}/hosts", dir.display());
    words.iter().map(|word| (*word).to_owned()).chain([hosts]).collect()
}

/// The same names in the form each server reads, and the questions.
fn write_names(dir: &Path) -> Result<()> {
    let at = dir.display();
    let mut zone = "$TTL 60\n@ SOA ns.mesos. root.mesos. 1 60 180 86400 5\n@ NS ns.mesos.\nns A 10.0.0.1\n".to_owned();
    let mut unbound = format!(
        "server:\n  interface: 127.0.0.1@5301\n  num-threads: 2\n  so-reuseport: yes\n  do-daemonize: no\n  username: \"\"\n  \
         chroot: \"\"\n  directory: \"{at}\"\n  pidfile: \"\"\n  use-syslog: no\n  access-control: 127.0.0.0/8 allow\n  \
         minimal-responses: yes\n  module-config: \"iterator\"\n  local-zone: \"mesos.\" static\n"
    );
    let mut hosts = String::new();
    let mut questions = String::new();
    for number in 0..NAMES {
        let (name, address) = (task(number), address(number));
        writeln!(zone, "{}. A {address}", name)?;
        writeln!(unbound, "  local-data: \"{name}. 60 IN A {address}\"")?;
        writeln!(hosts, "{address} {name}")?;
        // A stride that visits every name once, far from the one before.
        writeln!(questions, "{} A", task(number * 7_919 % NAMES))?;
    }
    unbound.push_str("remote-control:\n  control-enable: no\n");
    let knot = format!(
        "server:\n    rundir: {at}\n    listen: 127.0.0.1@5302\n    udp-workers: 2\n    tcp-workers: 1\n    \
         background-workers: 1\ndatabase:\n    storage: {at}\nzone:\n  - domain: mesos\n    storage: {at}\n    file: mesos.zone\n"
    );
    for (file, text) in [
        ("mesos.zone", zone),
        ("unbound.conf", unbound),
        ("knot.conf", knot),
        ("hosts", hosts),
        ("questions", questions),
    ] {
        fs::write(dir.join(file), text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}
