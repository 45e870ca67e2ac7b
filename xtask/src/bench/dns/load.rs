//! D0: answers for each second of the server's CPU, the servers taking turns under the same load.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::DnsArgs;
use super::peers::Peer;
use crate::figures::{Figure, count};
use crate::shell;

/// One load on one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) answers: u64,
    pub(super) lost: u64,
    pub(super) per_cpu_second: f64,
    per_second: f64,
    /// The kernel's share of the CPU.
    kernel: f64,
}

/// Ratios to each peer, once with dnsperf's eight sockets and once with one, as a forwarder has.
pub(super) fn answers_per_cpu_second(servers: &[Peer], dir: &Path, args: &DnsArgs) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (clients, suffix) in [(8, ""), (1, ".one")] {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); servers.len()];
        for round in 0..args.rounds {
            for (peer, runs) in servers.iter().zip(&mut runs) {
                let run = load(peer, dir, args.seconds, clients)?;
                eprintln!(
                    "round {round}, {clients} sockets: {:8} {:8.0} answers a CPU second, {:7.0} answers a second, lost {}",
                    peer.name, run.per_cpu_second, run.per_second, run.lost
                );
                runs.push(run);
            }
        }
        let middle = |runs: &[Run], value: fn(&Run) -> f64| middle(runs.iter().map(value).collect());
        let ours = runs.first().context("no run of ours")?;
        let own = middle(ours, |run| run.per_cpu_second);
        let n: u64 = ours.iter().map(|run| run.answers).sum();
        let lost: u64 = ours.iter().map(|run| run.lost).sum();
        figures.push(Figure::new(
            &format!("D0.own{suffix}"),
            own,
            "answers/CPU-s",
            n,
            count(lost),
        ));
        let wall = middle(ours, |run| run.per_second);
        figures.push(Figure::new(
            &format!("D0.wall{suffix}"),
            wall,
            "answers/s",
            n,
            count(lost),
        ));
        // What no server that reads sockets can do without: were its own work nothing, this ratio would be left.
        let kernel = middle(ours, |run| run.kernel);
        figures.push(Figure::new(&format!("D0.kernel{suffix}"), kernel, "of the CPU", n, 0.0));
        for (peer, runs) in servers.iter().zip(&runs).skip(1) {
            let theirs = middle(runs, |run| run.per_cpu_second);
            let id = format!("D0.{}{suffix}", peer.name);
            figures.push(Figure::new(&id, own / theirs, "ratio", n, 1.0).beside(peer.name, theirs));
            let bound = own / theirs / kernel;
            figures.push(Figure::new(&format!("{id}.bound"), bound, "ratio", n, 1.0).beside(peer.name, theirs));
        }
    }
    Ok(figures)
}

pub(super) fn load(peer: &Peer, dir: &Path, seconds: u32, clients: u32) -> Result<Run> {
    let (before, kernel) = (peer.cpu_ns()?, peer.kernel_ms()?);
    let said = shell::capture(
        Command::new("dnsperf")
            .args([
                "-s",
                &peer.addr.ip().to_string(),
                "-p",
                &peer.addr.port().to_string(),
                "-q",
                "100",
            ])
            .args(["-l", &seconds.to_string(), "-c", &clients.to_string(), "-d"])
            .arg(dir.join("questions")),
    )?;
    let (used, kernel) = (peer.cpu_ns()? - before, peer.kernel_ms()? - kernel);
    let number = |label: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(label));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
    };
    let answers = number("Queries completed:").with_context(|| format!("dnsperf said no result:\n{said}"))?;
    if !said.contains("NOERROR") || said.contains("NXDOMAIN") || answers == 0 {
        bail!("{} does not have the names:\n{said}", peer.name);
    }
    Ok(Run {
        answers,
        lost: number("Queries lost:").unwrap_or(0),
        per_cpu_second: count(answers) * 1e9 / count_ns(used),
        per_second: count(answers) / f64::from(seconds),
        kernel: count(kernel) * 1e6 / count_ns(used),
    })
}

/// The middle one of several values.
pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Nanoseconds as a number, to the microsecond.
pub(super) fn count_ns(ns: u64) -> f64 {
    count(ns / 1000) * 1000.0
}
