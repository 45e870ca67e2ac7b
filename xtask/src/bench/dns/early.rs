//! D0b: the same answers given in XDP, beside our own server in the same run, and what that costs all others on `lo`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::DnsArgs;
use super::load::{count_ns, load, middle};
use super::peers::{NAMES, Peer, start_one};
use crate::figures::{Figure, count};
use crate::lab::wait_for;
use crate::workspace::Workspace;

/// Where the kernel is told to measure how long programs run.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Filling the map takes far less.
const FILLED: Duration = Duration::from_secs(60);

/// Statistics as long as this lives; they are the whole machine's.
struct Statistics {
    before: String,
}

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).with_context(|| format!("cannot read {STATISTICS}"))?;
        fs::write(STATISTICS, "1").with_context(|| format!("cannot write {STATISTICS}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, self.before.trim()) {
            eprintln!("{STATISTICS} stays on: {error}");
        }
    }
}

/// One load: answers, and nanoseconds of CPU of server, program, and server and client together.
#[derive(Clone, Copy, Debug)]
struct Spent {
    answers: u64,
    lost: u64,
    server: f64,
    program: f64,
    all: f64,
}

impl Spent {
    fn each(self, ns: f64) -> f64 {
        ns / count(self.answers)
    }
}

/// Ratios of CPU for each answer, our server's to XDP's; throughput of TCP on `lo` without it and with it.
pub(super) fn figures(ours: &Peer, workspace: &Workspace, dir: &Path, args: &DnsArgs) -> Result<Vec<Figure>> {
    let mut own = Vec::new();
    for _ in 0..args.rounds {
        own.push(spend(ours, dir, args.seconds)?);
    }
    let streams = |_| stream(args.seconds);
    let plain = middle((0..args.rounds).map(streams).collect::<Result<_>>()?);
    let bpffs = dir.join("bpffs");
    let words = [
        workspace.target.join("demo/names").display().to_string(),
        "127.0.0.1:5304".to_owned(),
        NAMES.to_string(),
        bpffs.display().to_string(),
    ];
    let early = start_one("names", 5304, &words, dir)?;
    // The server answers before the program has all answers.
    let said = || fs::read_to_string(dir.join("names.log")).ok();
    let filled = wait_for(FILLED, || said()?.contains(" answers").then_some(()));
    filled.context("the map of answers is not filled")?;
    let statistics = Statistics::on()?;
    let mut given = Vec::new();
    for _ in 0..args.rounds {
        given.push(spend(&early, dir, args.seconds)?);
    }
    drop(statistics);
    let slowed = middle((0..args.rounds).map(streams).collect::<Result<_>>()?);
    let of = |all: &[Spent], value: fn(&Spent) -> f64| middle(all.iter().map(value).collect());
    let server = of(&own, |spent| spent.each(spent.server));
    let program = of(&given, |spent| spent.each(spent.program));
    let rest = of(&given, |spent| spent.each(spent.server));
    let both = (
        of(&own, |spent| spent.each(spent.all)),
        of(&given, |spent| spent.each(spent.all)),
    );
    let n: u64 = given.iter().map(|spent| spent.answers).sum();
    let lost: u64 = given.iter().map(|spent| spent.lost).sum();
    eprintln!(
        "D0b: server {server:.0} ns an answer; program {program:.0} ns, server beside it {rest:.0} ns; with the client {:.0} and {:.0} ns",
        both.0, both.1
    );
    ensure!(rest < server / 10.0, "the server answered, not the program");
    Ok(vec![
        Figure::new("D0b", server / (program + rest), "ratio", n, count(lost)).beside("our own server", 1e9 / server),
        Figure::new("D0b.program", program, "ns", n, count(lost)),
        Figure::new("D0b.all", both.0 / both.1, "ratio", n, 1.0).beside("our own server", 1e9 / both.0),
        Figure::new("D0b.lo", slowed / plain, "ratio", u64::try_from(args.rounds)?, 1.0).beside("without", plain),
    ])
}

fn spend(peer: &Peer, dir: &Path, seconds: u32) -> Result<Spent> {
    let before = (peer.cpu_ns()?, program_ns(peer.pid())?, children_ms()?);
    let run = load(peer, dir, seconds, 8)?;
    let server = count_ns(peer.cpu_ns()? - before.0);
    let client = count(children_ms()? - before.2) * 1e6;
    Ok(Spent {
        answers: run.answers,
        lost: run.lost,
        server,
        program: count_ns(program_ns(peer.pid())? - before.1),
        all: server + client,
    })
}

/// Nanoseconds that BPF programs which a process holds have run; none for one that holds none.
fn program_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the server ended")? {
        // One that was closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let line = text.lines().find_map(|line| line.strip_prefix("run_time_ns:"));
        sum += line.and_then(|ns| ns.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Milliseconds of CPU of all children of this process that have ended: dnsperf's.
fn children_ms() -> Result<u64> {
    /// Of a second, USER_HZ.
    const TICKS: u64 = 100;
    let text = fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit_once(')').context("no name in /proc/self/stat")?.1;
    // cutime and cstime, the fourteenth and fifteenth after the name.
    let times = rest.split_whitespace().skip(13).take(2);
    Ok(times.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 1000 / TICKS)
}

/// MB a second of one TCP connection on `lo`.
fn stream(seconds: u32) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(addr)?;
        let piece = vec![7; 1 << 17];
        while Instant::now() < end {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let (began, mut sum, mut room) = (Instant::now(), 0, vec![0; 1 << 17]);
    loop {
        match stream.read(&mut room)? {
            0 => break,
            len => sum += u64::try_from(len)?,
        }
    }
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    Ok(count(sum >> 20) / began.elapsed().as_secs_f64())
}
