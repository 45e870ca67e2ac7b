//! D10: how long names are unanswered when a node's daemon is killed, or restarts in order.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Outcome;
use super::stale::quantile;
use crate::figures::Figure;
use crate::lab::prober::{Probe, Prober};
use crate::lab::{Cluster, PATIENCE, wait_for};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

/// A VIP's name.
const NAME: &str = "my-service.marathon.l4lb.thisdcos.directory";

/// The node whose daemon ends.
const NODE: u8 = 2;

/// Between two questions: 1,000 a second.
const PAUSE: Duration = Duration::from_millis(1);

/// As in the unit: how long systemd waits before it starts the daemon again.
const RESTART: Duration = Duration::from_secs(1);

/// Before the fault and after the restart.
const AROUND: Duration = Duration::from_millis(500);

/// Longest window at the ninety-ninth percentile, in milliseconds.
const TARGET_MS: f64 = 1000.0;

/// Flags of `cargo xtask bench dns-restart`.
#[derive(Clone, Debug, clap::Args)]
pub struct RestartArgs {
    /// Kills, and as many restarts in order.
    #[arg(long, default_value_t = 100)]
    pub trials: u32,
    /// Seconds that the standby stays; 0 measures a node without one.
    #[arg(long, default_value_t = 900)]
    pub standby_seconds: u64,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// What a number of runs showed.
#[derive(Debug, Default)]
struct Seen {
    /// For each run, the longest time in milliseconds that a client had to wait.
    windows: Vec<f64>,
    asked: u64,
    unanswered: u64,
}

impl Seen {
    fn take(&mut self, probes: &[Probe]) -> Result<()> {
        self.windows.push(window(probes));
        self.asked += u64::try_from(probes.len())?;
        self.unanswered += u64::try_from(probes.iter().filter(|probe| good(probe).is_none()).count())?;
        Ok(())
    }
}

/// How long a good answer took.
fn good(probe: &Probe) -> Option<Duration> {
    probe.answer.filter(|(_, code)| *code == 0).map(|(took, _)| took)
}

/// The longest time that any question, asked again and again, would have waited for an answer, in milliseconds.
fn window(probes: &[Probe]) -> f64 {
    let mut longest = Duration::ZERO;
    // When the next answer to a question asked now or later came.
    let mut next: Option<Duration> = None;
    for probe in probes.iter().rev() {
        let came = good(probe).map(|took| probe.sent + took);
        next = match (came, next) {
            (Some(came), Some(next)) => Some(came.min(next)),
            (came, next) => came.or(next),
        };
        longest = longest.max(next.map_or(PATIENCE, |next| next.saturating_sub(probe.sent)));
    }
    longest.as_secs_f64() * 1000.0
}

/// Measures and writes `dns-restart.json`.
pub(super) fn run(workspace: &Workspace, args: &RestartArgs) -> Result<ExitCode> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let settings = [format!("node.dns_standby_seconds={}", args.standby_seconds)];
    let mut cluster = Cluster::start_with(&dist::build_revere(workspace)?, &settings)?;
    let measured = measure(&mut cluster, args).with_context(|| cluster.picture());
    cluster.lab.close()?;
    let [control, killed, ended] = measured?;
    let mut outcome = Outcome::default();
    let idle = quantile(&control.windows, 0.99);
    for (id, seen) in [("D10", &killed), ("D10.sigterm", &ended)] {
        let n = u64::try_from(seen.windows.len())?;
        let worst = quantile(&seen.windows, 0.99);
        let mut note = |id: String, value, unit| outcome.figures.push(Figure::new(&id, value, unit, n, idle));
        note(id.to_owned(), worst, "ms p99");
        note(format!("{id}.p50"), quantile(&seen.windows, 0.5), "ms p50");
        note(format!("{id}.max"), quantile(&seen.windows, 1.0), "ms");
        outcome.figures.push(Figure::failures(
            &format!("{id}.unanswered"),
            seen.unanswered,
            seen.asked,
            control.unanswered,
        ));
        outcome.check(worst <= TARGET_MS, || {
            format!("{id}: {worst} ms at the ninety-ninth percentile")
        });
    }
    outcome.tell(workspace, "dns-restart")
}

/// How a daemon ends.
type End = fn(&mut Cluster, u8) -> Result<()>;

/// The control, kills, and restarts in order.
fn measure(cluster: &mut Cluster, args: &RestartArgs) -> Result<[Seen; 3]> {
    let app = cluster.lab.dir.join("service.json");
    std::fs::write(&app, include_str!("../../../examples/named-vip.json"))?;
    cluster.cli(&["app", "add", app.to_str().context("a plain path")?])?;
    cluster.running("/my-service", 3)?;
    let mut all = [Seen::default(), Seen::default(), Seen::default()];
    let ends: [Option<End>; 3] = [None, Some(Cluster::kill_node), Some(Cluster::stop_node)];
    for trial in 0..args.trials {
        for (seen, end) in all.iter_mut().zip(ends) {
            up(cluster, args.standby_seconds > 0)?;
            // Another moment of whatever the daemon does at even times.
            let moment = AROUND + Duration::from_millis(u64::from(trial) * 37 % 500);
            seen.take(&one(cluster, end, moment)?)?;
        }
        if trial % 10 == 9 {
            eprintln!("dns-restart: {} of {}", trial + 1, args.trials);
        }
    }
    ensure!(
        all[0].unanswered == 0,
        "{} questions were lost without any fault",
        all[0].unanswered
    );
    Ok(all)
}

fn up(cluster: &Cluster, standby: bool) -> Result<()> {
    cluster.until("the node answers", |cluster| {
        let said = cluster
            .node(NODE)
            .run(&["dig", "+short", "@198.51.100.1", NAME, "A"])
            .ok()?;
        said.starts_with("11.").then_some(())
    })?;
    if standby {
        cluster.until("the daemon has a standby", |cluster| {
            cluster.has_standby(NODE).then_some(())
        })?;
    }
    Ok(())
}

fn one(cluster: &mut Cluster, end: Option<End>, moment: Duration) -> Result<Vec<Probe>> {
    let server = (Ipv4Addr::new(198, 51, 100, 1), 53).into();
    let prober = Prober::start(cluster.node(NODE), server, NAME, PAUSE);
    wait_for(moment, || None::<()>);
    if let Some(end) = end {
        end(cluster, NODE)?;
        wait_for(RESTART, || None::<()>);
        cluster.start_node(NODE)?;
        up(cluster, false)?;
    }
    wait_for(AROUND, || None::<()>);
    prober.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_longest_wait() {
        let ms = Duration::from_millis;
        let probe = |sent, answer: Option<u64>| Probe {
            sent: ms(sent),
            answer: answer.map(|took| (ms(took), 0)),
        };
        let answered = [probe(0, Some(1)), probe(1, Some(1))];
        assert_eq!(window(&answered), 1.0);
        let lost = [probe(0, Some(1)), probe(1, None), probe(2, None), probe(10, Some(2))];
        assert_eq!(window(&lost), 11.0);
        let late = [probe(0, Some(1)), probe(1, Some(30)), probe(10, Some(2))];
        assert_eq!(window(&late), 11.0, "who asks again has an answer earlier");
        let mut wrong = answered;
        wrong[1].answer = Some((ms(1), 2));
        assert!(window(&wrong) > 1000.0, "SERVFAIL is no answer");
    }
}
