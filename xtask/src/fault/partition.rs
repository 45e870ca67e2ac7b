//! Masters and members of etcd cut off from each other: wholly, one way, again and again (S10).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Finding;
use super::bench::{Bench, rest};
use super::masters::{TAKEN_OVER, count_of, tasks};
use crate::figures::Figure;
use crate::lab::writes::{self, Writer};
use crate::lab::{Cluster, Cut, NODES, Place, net, wait_for};

/// How a node is cut off.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Steady(Cut),
    /// Cut and mended by turns.
    Flapping,
}

const KINDS: [Kind; 4] = [
    Kind::Steady(Cut::Both),
    Kind::Steady(Cut::ToIt),
    Kind::Steady(Cut::FromIt),
    Kind::Flapping,
];

/// Half of a flapping cut's period.
const FLAP: Duration = Duration::from_millis(500);

/// Over all partitions.
#[derive(Debug, Default)]
struct Seen {
    violations: Vec<String>,
    /// Answers that could have been a violation.
    answers: u64,
    heals: Vec<Duration>,
}

/// S10: who is cut off writes nothing and tells nothing old as new; afterwards all are one again.
pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (rounds, pause) = if bench.short { (1_u64, 5) } else { (5, 15) };
    let each = Duration::from_secs(pause);
    let before = tasks(bench)?;
    let control = without(bench, each)?;
    let mut seen = Seen::default();
    let loads = bench.load(rounds * u64::try_from(KINDS.len())? * (pause + 3), &bench.url())?;
    for round in 0..rounds {
        for (number, kind) in (0_u64..).zip(KINDS) {
            // Now the leader, now one that follows, and with it its member of etcd.
            let leader = bench.cluster.leader()?;
            let victim = if round % 2 == 0 { leader } else { leader % NODES + 1 };
            one(&bench.cluster, victim, kind, each, round * 10 + number, &mut seen)?;
        }
    }
    let sum = loads.finish()?;
    let after = tasks(bench)?;
    let changed = after.iter().filter(|task| !before.contains(task)).count();
    eprintln!("{} partitions: {}", seen.heals.len(), sum.told());
    let mut found = Finding::default();
    found.check(control.violations.is_empty(), || {
        format!("the control: {:?}", control.violations)
    });
    found.check(seen.violations.is_empty(), || format!("{:?}", seen.violations));
    found.check(changed == 0, || format!("{changed} tasks were started anew"));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    let slowest = seen.heals.iter().max().copied().unwrap_or_default();
    let quiet = control.heals.iter().max().copied().unwrap_or_default();
    let parts = count_of(seen.heals.len());
    found.figures = vec![
        Figure::failures(
            "S10",
            count_of(seen.violations.len()),
            seen.answers,
            count_of(control.violations.len()),
        ),
        Figure::new("S10.heal", slowest.as_secs_f64(), "s", parts, quiet.as_secs_f64()),
        Figure::failures("S10.broken", sum.bad(), sum.total + sum.flows, 0),
        Figure::failures("S10.restarted", count_of(changed), count_of(before.len()) * parts, 0),
    ];
    Ok(found)
}

/// The same without a cut.
fn without(bench: &Bench, each: Duration) -> Result<Seen> {
    let mut seen = Seen::default();
    let leader = bench.cluster.leader()?;
    let trial = Trial::begin(&bench.cluster, leader, 1_000)?;
    rest(each.min(Duration::from_secs(3)));
    trial.finish(&bench.cluster, Instant::now(), &mut seen)?;
    Ok(seen)
}

fn one(cluster: &Cluster, victim: u8, kind: Kind, each: Duration, round: u64, seen: &mut Seen) -> Result<()> {
    let mut trial = Trial::begin(cluster, victim, round)?;
    let began = Instant::now();
    let result = trial.partition(cluster, kind, began, each, seen);
    // Whatever happened, the next one starts on a whole network.
    cluster.mend(victim)?;
    let mended = Instant::now();
    result?;
    let told = trial.taken;
    trial.finish(cluster, mended, seen)?;
    let heal = seen.heals.last().copied().unwrap_or_default();
    eprintln!("node{victim} {kind:?}: a write of the others after {told:?}, one again {heal:?} after its end");
    Ok(())
}

/// Writers on both sides of one partition.
#[derive(Debug)]
struct Trial {
    victim: u8,
    via: u8,
    round: u64,
    here: Writer,
    there: Writer,
    /// How long until the others took a write.
    taken: Option<Duration>,
}

impl Trial {
    fn begin(cluster: &Cluster, victim: u8, round: u64) -> Result<Self> {
        let via = victim % NODES + 1;
        Ok(Self {
            victim,
            via,
            round,
            here: Writer::start(cluster, victim, round * 2),
            there: Writer::start(cluster, via, round * 2 + 1),
            taken: None,
        })
    }

    fn partition(
        &mut self,
        cluster: &Cluster,
        kind: Kind,
        began: Instant,
        each: Duration,
        seen: &mut Seen,
    ) -> Result<()> {
        match kind {
            Kind::Flapping => {
                while began.elapsed() < each {
                    cluster.cut(self.victim, Cut::Both)?;
                    rest(FLAP);
                    cluster.mend(self.victim)?;
                    rest(FLAP);
                }
            }
            Kind::Steady(cut) => {
                cluster.cut(self.victim, cut)?;
                // A write that began before the cut was there may have come through.
                let cut_off = Instant::now();
                let taken = wait_for(TAKEN_OVER, || self.there.first_after(cut_off));
                self.taken = Some(taken.context("the majority takes no write")?);
                let led = cluster.leader_told_by(self.via)?;
                ensure!(led != self.victim, "node{led} leads although it is cut off");
                let fresh = format!("fresh-{}", self.round);
                let written = wait_for(TAKEN_OVER, || {
                    let status = writes::create(cluster.node(self.via), self.via, &fresh).ok()?;
                    matches!(status, 201 | 409).then_some(())
                });
                written.context("the majority takes no write")?;
                old_reads(cluster.node(self.victim), self.victim, &fresh, seen);
                rest(each.saturating_sub(began.elapsed()));
            }
        }
        Ok(())
    }

    /// All three agree, all take writes, nothing that was acknowledged is gone.
    fn finish(self, cluster: &Cluster, mended: Instant, seen: &mut Seen) -> Result<()> {
        for number in 1..=NODES {
            let name = format!("healed-{}-{number}", self.round);
            let taken = wait_for(TAKEN_OVER, || {
                let status = writes::create(cluster.node(number), number, &name).ok()?;
                matches!(status, 201 | 409).then_some(())
            });
            taken.with_context(|| format!("the master of node{number} takes no write any more"))?;
        }
        let names = (1..=NODES)
            .map(|number| format!("healed-{}-{number}", self.round))
            .collect::<Vec<_>>();
        for number in 1..=NODES {
            let all = wait_for(TAKEN_OVER, || {
                (writes::missing(cluster, number, &names) == Some(0)).then_some(())
            });
            all.with_context(|| format!("the master of node{number} does not know what the others wrote"))?;
        }
        seen.heals.push(mended.elapsed());
        let (here, there) = (self.here.finish(), self.there.finish());
        let acknowledged = [here, there].concat();
        seen.answers += count_of(acknowledged.len());
        let lost = writes::lost(cluster, self.via, &acknowledged)?;
        seen.violations
            .extend((0..lost).map(|_| "an acknowledged write is gone".to_owned()));
        writes::forget(cluster, self.via)
    }
}

/// What was written before on the other side is known here, or the answer says that it may be old, or there is none.
fn old_reads(place: &Place, number: u8, fresh: &str, seen: &mut Seen) {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        for path in [format!("/v2/apps/{}/{fresh}", writes::GROUP), "/v2/apps".to_owned()] {
            let head = format!("GET {path}");
            let Ok((status, head, body)) = net::http_with_head(place, Cluster::master_at(number), &head, "") else {
                continue;
            };
            seen.answers += 1;
            let knows = status == 200 && body.contains(fresh);
            if !knows && status != 503 && !head.contains("x-revere-stale-ms") {
                seen.violations
                    .push(format!("{path} was answered {status} by node{number}"));
            }
        }
    }
}
