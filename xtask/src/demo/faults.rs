//! Faults under load: an instance is killed, the app scaled, each node's daemon killed. First the load without a fault.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::load::{At, Failure, Load, Report};
use super::{Extent, Facts, Figure, show};
use crate::lab::{Cluster, NODES, wait_for};

/// Open-loop requests per second of each client: slow enough for two shared cores, fast enough to see 10 ms.
pub(super) const RATE: &str = "100";
/// Seconds of load around one fault.
const SECONDS: &str = "6";

/// Failures of the load alone; must be none.
pub(super) fn control(cluster: &Cluster, facts: &mut Facts) -> Result<u64> {
    let places = At::all(cluster)?;
    for at in &places {
        show::ready(cluster, at)?;
    }
    let reports = finish(Load::everywhere(
        cluster,
        &places,
        &["--seconds", SECONDS, "--rate", RATE],
    )?)?;
    let (text, failed) = table(&reports);
    facts.show(
        "control: the same load without a fault",
        &text,
        json!({"failed": failed, "total": total(&reports)}),
    );
    if failed > 0 {
        facts.fail(format!("the control without a fault lost {failed} requests"));
    }
    Ok(failed)
}

/// SIGKILL of one instance.
pub(super) fn kill_instance(cluster: &Cluster, facts: &mut Facts, control: u64, extent: Extent) -> Result<()> {
    let (mut local, mut remote, mut later, mut n) = (0_f64, 0_f64, 0_u64, 0_u64);
    for round in 1..=extent.times() {
        let places = At::all(cluster)?;
        let victims = cluster.running("/my-service", 3)?;
        let victim = &victims[usize::try_from(round).unwrap_or(0) % victims.len()];
        let loads = Load::everywhere(cluster, &places, &["--seconds", SECONDS, "--rate", RATE])?;
        underway()?;
        let killed = unix_ms();
        let gone = killed_at(victim.pid.context("a running task has a process")?)?;
        let reports = finish(loads)?;
        let mut text = format!(
            "killed {} on node{}, gone {:.1} ms after SIGKILL; what began before that was in flight\n",
            victim.id,
            victim.node,
            gone - killed
        );
        for (at, report) in &reports {
            n += report.total;
            let begun = report.failures.iter().map(|failure| failure.at_ms - killed);
            let after: Vec<f64> = begun.filter(|ms| *ms >= gone - killed).collect();
            let answered = report.last_seen.get(&victim.id).map_or(0.0, |seen| seen - killed);
            let last = after.iter().copied().fold(answered.max(0.0), f64::max);
            let side = if at.node() == Some(victim.node) {
                &mut local
            } else {
                &mut remote
            };
            *side = side.max(last);
            later += after.len() as u64;
            text.push_str(&kill_line(at, report, (killed, gone), last));
            if report.failures.iter().any(|failure| failure.at_ms > killed + 3000.0) {
                facts.fail(format!(
                    "{}: requests still failed 3 s after the SIGKILL of one instance",
                    at.name()
                ));
            }
        }
        facts.show(
            "SIGKILL of one instance under load",
            &text,
            json!(
                reports
                    .iter()
                    .map(|(at, report)| (at.name(), report))
                    .collect::<Vec<_>>()
            ),
        );
    }
    let times = u64::from(extent.times());
    let figure = |id, value, unit, n| Figure {
        id,
        value,
        unit,
        n,
        control,
    };
    facts.figures.push(figure("A1.kill_failed", later as f64, "count", n));
    facts.figures.push(figure("A2.local", local, "ms", times));
    facts.figures.push(figure("A2.remote", remote, "ms", times));
    Ok(())
}

/// What one client saw: `killed` and `gone` are when the instance was, `last` when it was given a connection last.
fn kill_line(at: &At, report: &Report, (killed, gone): (f64, f64), last: f64) -> String {
    let later: Vec<&Failure> = report.failures.iter().filter(|failure| failure.at_ms >= gone).collect();
    let mut text = format!(
        "  {:<20} {} of {} failed: {} in flight, {} later; last new connection to it {last:.1} ms after SIGKILL\n",
        at.name(),
        report.failed,
        report.total,
        report.failed - later.len() as u64,
        later.len()
    );
    for failure in later {
        text.push_str(&format!(
            "    {:.1} ms after SIGKILL: {}, told {:.0} ms later\n",
            failure.at_ms - killed,
            failure.kind,
            failure.failed_ms - failure.at_ms
        ));
    }
    text
}

/// Up to five and down to two.
pub(super) fn scale(cluster: &Cluster, facts: &mut Facts, control: u64, extent: Extent) -> Result<()> {
    let (mut failed, mut n) = (0, 0);
    for _ in 0..extent.times() {
        cluster.running("/my-service", 3)?;
        for (from, to) in [("3", "5"), ("5", "2"), ("2", "3")] {
            let places = At::all(cluster)?;
            let loads = Load::everywhere(cluster, &places, &["--seconds", "10", "--rate", RATE])?;
            underway()?;
            cluster.cli(&["app", "scale", "/my-service", to])?;
            cluster.running("/my-service", to.parse()?)?;
            let reports = finish(loads)?;
            let (text, lost) = table(&reports);
            facts.show(
                &format!("scale from {from} to {to} under load"),
                &text,
                json!({"failed": lost, "total": total(&reports)}),
            );
            failed += lost;
            n += total(&reports);
            if lost > 0 {
                facts.fail(format!("scaling from {from} to {to} lost {lost} requests"));
            }
        }
    }
    facts.figures.push(Figure {
        id: "A1.scale_failed",
        value: failed as f64,
        unit: "count",
        n,
        control,
    });
    Ok(())
}

/// `kill -9` of each node's daemon in turn, and its restart; connections are held through it, and new ones made.
pub(super) fn kill_daemons(cluster: &mut Cluster, facts: &mut Facts, control: u64, extent: Extent) -> Result<()> {
    let (mut broken, mut failed, mut n, mut held) = (0, 0, 0, 0_u64);
    // By address: what is asked here is the data plane. A container's name server is its own node's daemon.
    let address = vip_address(cluster)?;
    let url = format!("http://{address}:5555/");
    for number in (0..extent.times()).flat_map(|_| 1..=NODES) {
        let places = At::all(cluster)?;
        let mut loads = Vec::new();
        for at in &places {
            loads.push(Load::start(cluster, at, &url, &["--seconds", SECONDS, "--rate", RATE])?);
            loads.push(Load::start(
                cluster,
                at,
                &url,
                &["--seconds", SECONDS, "--hold", "--connections", "20"],
            )?);
            held += 20;
        }
        underway()?;
        cluster.kill_node(number)?;
        std::thread::sleep(Duration::from_millis(500));
        cluster.start_node(number)?;
        let reports = finish(loads)?;
        let (text, lost) = table(&reports);
        let cut: u64 = reports.iter().map(|(_, report)| report.broken).sum();
        facts.show(
            &format!("kill -9 of the daemon on node{number} under load"),
            &format!("{cut} connections broken\n{text}"),
            json!({"failed": lost, "broken": cut, "total": total(&reports)}),
        );
        (broken, failed, n) = (broken + cut, failed + lost, n + total(&reports));
        if lost + cut > 0 {
            facts.fail(format!(
                "killing the daemon on node{number} broke {cut} connections and lost {lost} requests"
            ));
        }
        for at in &places {
            show::ready(cluster, at)?;
        }
    }
    facts.figures.push(Figure {
        id: "A3.broken",
        value: broken as f64,
        unit: "count",
        n: held,
        control,
    });
    facts.figures.push(Figure {
        id: "A3.failed",
        value: failed as f64,
        unit: "count",
        n,
        control,
    });
    Ok(())
}

fn vip_address(cluster: &Cluster) -> Result<String> {
    let said = cluster.node(1).run(&[
        "dig",
        "+short",
        "@198.51.100.1",
        "my-service.marathon.l4lb.thisdcos.directory",
        "A",
    ])?;
    said.lines()
        .next()
        .map(str::to_owned)
        .context("the VIP's name has no address")
}

pub(super) fn finish(loads: Vec<Load>) -> Result<Vec<(At, Report)>> {
    loads
        .into_iter()
        .map(|load| Ok((load.at.clone(), load.finish()?)))
        .collect()
}

pub(super) fn total(reports: &[(At, Report)]) -> u64 {
    reports.iter().map(|(_, report)| report.total).sum()
}

/// A line per client that lost something, and the sum.
pub(super) fn table(reports: &[(At, Report)]) -> (String, u64) {
    let failed: u64 = reports.iter().map(|(_, report)| report.failed).sum();
    let slowest = reports.iter().map(|(_, report)| report.max_us).max().unwrap_or(0);
    let mut text = format!(
        "{failed} of {} requests failed, from {} clients; slowest answer {} ms\n",
        total(reports),
        reports.len(),
        slowest / 1000
    );
    for (at, report) in reports.iter().filter(|(_, report)| report.failed > 0) {
        for failure in report.failures.iter().take(5) {
            text.push_str(&format!(
                "  {}: +{:.0} ms {} {}\n",
                at.name(),
                failure.at_ms - report.started_ms,
                failure.kind,
                failure.detail
            ));
        }
    }
    (text, failed)
}

/// Lets the load run for a second, so that the fault meets it in the middle.
pub(super) fn underway() -> Result<()> {
    wait_for(Duration::from_secs(1), || None::<()>);
    Ok(())
}

fn unix_ms() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64() * 1000.0
}

/// SIGKILL, and the time when the process was gone: until then the kernel takes connections for it.
fn killed_at(pid: u32) -> Result<f64> {
    let process = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process")?;
    let watched = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
        .context("cannot watch the instance")?;
    // What comes later than this thread sees it would be excused: it must not wait for a processor.
    let before = rustix::process::getpriority_process(None).context("cannot read the priority")?;
    rustix::process::setpriority_process(None, -20).context("cannot raise the priority")?;
    signal_kill(pid)?;
    let mut ready = [rustix::event::PollFd::new(&watched, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    let seen = rustix::event::poll(&mut ready, Some(&limit)).context("cannot wait for the instance's end")?;
    let gone = unix_ms();
    rustix::process::setpriority_process(None, before).context("cannot lower the priority")?;
    anyhow::ensure!(seen == 1, "the instance still runs 10 s after SIGKILL");
    Ok(gone)
}

/// SIGKILL, without a program in between that would take time.
pub(crate) fn signal_kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("cannot kill the instance")
}
