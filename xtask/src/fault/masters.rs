//! The leading master killed or stopped, under writes and load (S1, S6).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::Finding;
use super::bench::{Bench, rest, while_loaded};
use crate::figures::Figure;
use crate::lab::{Cluster, NODES, net};
use crate::lab::{
    wait_for,
    writes::{self, Writer},
};

/// Longest wait for a new leader's first write.
pub(super) const TAKEN_OVER: Duration = Duration::from_secs(60);

/// Writes that are timed without any fault.
const CONTROL_WRITES: u64 = 50;

/// Id and process of every task: what a restart would change.
pub(super) fn tasks(bench: &Bench) -> Result<Vec<(String, Option<u32>)>> {
    let mut all = Vec::new();
    for app in ["/my-service", "/client"] {
        let tasks = bench.cluster.running(app, usize::from(NODES))?;
        all.extend(tasks.into_iter().map(|task| (task.id, task.pid)));
    }
    Ok(all)
}

/// The slowest write while nothing happens.
fn quiet(bench: &Bench) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    let via = bench.cluster.leader()?;
    for number in 0..CONTROL_WRITES {
        let began = Instant::now();
        let status = writes::create(bench.cluster.node(via), via, &format!("quiet-{number}"))?;
        anyhow::ensure!(status == 201, "a write without a fault was answered {status}");
        slowest = slowest.max(began.elapsed());
    }
    writes::forget(&bench.cluster, via)?;
    Ok(slowest)
}

/// One `kill -9` of the leader: how long until a write that began after it was taken, and how many were lost.
fn kill_leader(bench: &mut Bench, round: u64) -> Result<(Duration, u64)> {
    let leader = bench.cluster.leader()?;
    let via = leader % NODES + 1;
    let writer = Writer::start(&bench.cluster, via, round);
    rest(Duration::from_millis(100));
    bench.pause(Duration::from_millis(300));
    let killed = Instant::now();
    bench.cluster.kill_master_of_many(leader)?;
    let taken = wait_for(TAKEN_OVER, || writer.first_after(killed)).context("no write was taken any more")?;
    let acknowledged = writer.finish();
    let lost = writes::lost(&bench.cluster, via, &acknowledged)?;
    bench.cluster.start_master_of_many(leader)?;
    bench.cluster.until("the killed master follows", |cluster| {
        cluster.leader_told_by(leader).ok()
    })?;
    writes::forget(&bench.cluster, via)?;
    Ok((taken, lost))
}

/// S1: `kill -9` of the leader, again and again.
pub(super) fn killed(bench: &mut Bench) -> Result<Finding> {
    let (seconds, most) = if bench.short { (40, 3) } else { (560, 100) };
    let control = bench.control(seconds.min(30))?;
    let quiet = quiet(bench)?;
    let before = tasks(bench)?;
    let loads = bench.load(seconds, &bench.url())?;
    let began = Instant::now();
    let (mut times, mut lost) = (Vec::new(), 0);
    while times.len() < most && while_loaded(began, seconds) {
        let (taken, gone) = kill_leader(bench, u64::try_from(times.len())?)?;
        eprintln!("kill {}: {} ms, {gone} lost", times.len() + 1, taken.as_millis());
        times.push(taken);
        lost += gone;
    }
    let sum = loads.finish()?;
    let after = tasks(bench)?;
    let changed = u64::try_from(after.iter().filter(|task| !before.contains(task)).count())?;
    eprintln!("{} kills: {}", times.len(), sum.told());
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(!times.is_empty(), || "no master was killed".to_owned());
    found.check(lost == 0, || format!("{lost} acknowledged writes are gone"));
    found.check(changed == 0, || format!("{changed} tasks were started anew"));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    let kills = u64::try_from(times.len())?;
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share).div_ceil(100).saturating_sub(1));
    let seconds = |share| at(share).map_or(f64::INFINITY, Duration::as_secs_f64);
    found.figures = vec![
        Figure::new("S1.p50", seconds(50), "s", kills, quiet.as_secs_f64()),
        Figure::new("S1.p99", seconds(99), "s", kills, quiet.as_secs_f64()),
        Figure::failures("S1.lost", lost, kills, 0),
        Figure::failures("S1.restarted", changed, count_of(before.len()) * kills, 0),
        Figure::failures("S1.broken", sum.bad(), sum.flows * kills, control.bad()),
    ];
    Ok(found)
}

pub(super) fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What a master that was stopped said when it went on.
#[derive(Debug, Default)]
struct Woken {
    answers: u64,
    violations: Vec<String>,
    acknowledged: Vec<String>,
}

/// S6: the leader stopped for longer than its lease, and what it says when it goes on.
pub(super) fn stopped(bench: &mut Bench) -> Result<Finding> {
    let (rounds, pause) = if bench.short { (1, 6) } else { (10, 30) };
    let (mut answers, mut violations, mut heal) = (0, Vec::new(), Duration::ZERO);
    for round in 0..rounds {
        let leader = bench.cluster.leader()?;
        let via = leader % NODES + 1;
        let began = Instant::now();
        bench.cluster.signal_master(leader, Signal::STOP)?;
        let fresh = format!("fresh-{round}");
        let taken = wait_for(TAKEN_OVER, || {
            let status = writes::create(bench.cluster.node(via), via, &fresh).ok()?;
            (status == 201).then(|| began.elapsed())
        });
        let taken = taken.context("no write was taken while the leader was stopped")?;
        rest(Duration::from_secs(pause).saturating_sub(began.elapsed()));
        let woken = wake(bench, leader, &fresh)?;
        let lost = writes::lost(&bench.cluster, via, &woken.1.acknowledged)?;
        heal = heal.max(woken.0);
        answers += woken.1.answers;
        eprintln!(
            "stop {}: a write after {} ms; awake: {} answers, {:?}, {lost} lost; follows after {} ms",
            round + 1,
            taken.as_millis(),
            woken.1.answers,
            woken.1.violations,
            woken.0.as_millis()
        );
        violations.extend(woken.1.violations);
        violations.extend((0..lost).map(|_| "an acknowledged write is gone".to_owned()));
        writes::forget(&bench.cluster, via)?;
    }
    let mut found = Finding::default();
    found.check(violations.is_empty(), || format!("{violations:?}"));
    found.check(answers > 0, || "the woken master was never asked".to_owned());
    found.figures = vec![
        Figure::failures("S6", count_of(violations.len()), answers, 0),
        Figure::new("S6.heal", heal.as_secs_f64(), "s", rounds, 0.0),
    ];
    Ok(found)
}

/// Lets the stopped master go on while reads and writes wait at its door already; how long until it follows.
fn wake(bench: &Bench, leader: u8, fresh: &str) -> Result<(Duration, Woken)> {
    let place = bench.cluster.node(leader).clone();
    let (at, fresh) = (Cluster::master_at(leader), fresh.to_owned());
    let ask = move |number: u32| -> Result<Woken> {
        let mut woken = Woken::default();
        let until = Instant::now() + Duration::from_secs(3);
        let mut turn = 0;
        while Instant::now() < until {
            turn += 1;
            if number == 0 {
                let name = format!("late-{leader}-{turn}");
                if matches!(writes::create(&place, leader, &name), Ok(201)) {
                    woken.acknowledged.push(name);
                }
                woken.answers += 1;
                continue;
            }
            let head = format!("GET /v2/apps/{}/{fresh}", writes::GROUP);
            let Ok((status, head, _)) = net::http_with_head(&place, at, &head, "") else {
                continue;
            };
            woken.answers += 1;
            // It must know what was written while it slept, or not say, or say that it does not know.
            if !matches!(status, 200 | 503) && !head.contains("x-revere-stale-ms") {
                woken.violations.push(format!("read {turn} was answered {status}"));
            }
        }
        Ok(woken)
    };
    let askers: Vec<_> = (0..3)
        .map(|number| {
            let ask = ask.clone();
            std::thread::spawn(move || ask(number))
        })
        .collect();
    rest(Duration::from_millis(200));
    let woken = Instant::now();
    bench.cluster.signal_master(leader, Signal::CONT)?;
    let follows = wait_for(TAKEN_OVER, || {
        let told = bench.cluster.leader_told_by(leader).ok()?;
        (told != leader).then(|| woken.elapsed())
    });
    let mut sum = Woken::default();
    for asker in askers {
        let one = asker.join().ok().context("an asker ended early")??;
        sum.answers += one.answers;
        sum.violations.extend(one.violations);
        sum.acknowledged.extend(one.acknowledged);
    }
    Ok((follows.context("the woken master never follows")?, sum))
}
