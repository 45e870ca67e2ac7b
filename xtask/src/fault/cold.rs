//! Everything ends and starts again, with what etcd kept (S15) and with nothing but a backup (S16).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Finding;
use super::bench::{Bench, nodes};
use super::masters::{count_of, tasks};
use crate::figures::Figure;
use crate::lab::writes;
use crate::lab::{Cluster, Place, wait_for};

/// Longest wait for everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name that is asked for on each node.
const NAME: &str = "my-service.marathon.l4lb.thisdcos.directory";

/// S15: `kill -9` of all daemons at once; then all are started at once.
pub(super) fn start(bench: &mut Bench) -> Result<Finding> {
    let (rounds, seconds) = if bench.short { (1_u64, 10) } else { (20, 120) };
    let before = tasks(bench)?;
    let began = Instant::now();
    whole(&bench.cluster, "control")?;
    let control = began.elapsed();
    let loads = bench.load(seconds, &bench.url())?;
    let mut times = Vec::new();
    for round in 0..rounds {
        bench.cluster.kill_everything()?;
        let began = Instant::now();
        bench.cluster.start_everything()?;
        whole(&bench.cluster, &format!("cold-{round}"))?;
        times.push(began.elapsed());
        eprintln!("start {}: whole after {} ms", round + 1, began.elapsed().as_millis());
        writes::forget(&bench.cluster, 1)?;
    }
    let sum = loads.finish()?;
    let after = tasks(bench)?;
    let changed = after.iter().filter(|task| !before.contains(task)).count();
    eprintln!("{rounds} cold starts: {}", sum.told());
    let slowest = times.iter().max().copied().unwrap_or_default();
    let mut found = Finding::default();
    found.check(changed == 0, || format!("{changed} tasks were started anew"));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    found.figures = vec![
        Figure::new("S15", slowest.as_secs_f64(), "s", rounds, control.as_secs_f64()),
        Figure::failures("S15.restarted", count_of(changed), count_of(before.len()) * rounds, 0),
        Figure::failures("S15.broken", sum.bad(), sum.total + sum.flows, 0),
    ];
    Ok(found)
}

/// S16: a backup while all runs, then an etcd that never knew anything, filled from it.
pub(super) fn restore(bench: &mut Bench) -> Result<Finding> {
    let rounds = if bench.short { 1_u64 } else { 10 };
    let before = tasks(bench)?;
    let mut found = Finding::default();
    let (mut times, mut differ, mut records) = (Vec::new(), 0_u64, 0);
    for round in 0..rounds {
        let (time, same, kept) = restored(bench, round)?;
        eprintln!("restore {}: {} ms, {kept} records", round + 1, time.as_millis());
        times.push(time);
        differ += u64::from(!same);
        records = kept;
    }
    let after = tasks(bench)?;
    let changed = after.iter().filter(|task| !before.contains(task)).count();
    let slowest = times.iter().max().copied().unwrap_or_default();
    found.check(differ == 0, || {
        format!("{differ} restored stores are not what was backed up")
    });
    found.check(changed == 0, || format!("{changed} tasks were started anew"));
    found.figures = vec![
        Figure::new("S16", slowest.as_secs_f64(), "s", rounds, 0.0),
        Figure::failures("S16.differ", differ, records * rounds, 0),
        Figure::failures("S16.restarted", count_of(changed), count_of(before.len()) * rounds, 0),
    ];
    Ok(found)
}

/// How long it takes, whether the store is the same, and how many records it has.
fn restored(bench: &mut Bench, round: u64) -> Result<(Duration, bool, u64)> {
    let place = bench.cluster.node(1).clone();
    let dir = place.dir.join(format!("backup-{round}"));
    std::fs::create_dir_all(&dir)?;
    let (running, empty) = (dir.join("running"), dir.join("restored"));
    let name = format!("kept-{round}");
    let written = wait_for(PATIENCE, || {
        let status = writes::create(&place, 1, &name).ok()?;
        matches!(status, 201 | 409).then_some(())
    });
    written.context("no write is taken")?;
    let said = bench.cluster.cli(&["backup", path(&running)?])?;
    let records = said.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok());
    let records = records.with_context(|| format!("a backup tells no number of records: {said}"))?;
    let began = Instant::now();
    for number in nodes() {
        bench.cluster.kill_master_of_many(number)?;
    }
    bench.cluster.wipe_etcd()?;
    let store = Cluster::store();
    let revere = bench.cluster.revere().to_owned();
    let filled = wait_for(PATIENCE, || {
        // A member of etcd that has just started answers nobody yet.
        place
            .run(&[&revere, "restore", path(&running).ok()?, "--store", &store])
            .ok()
    });
    filled.context("the backup is not taken")?;
    backup_of(&place, &revere, &empty, &store)?;
    for number in nodes() {
        bench.cluster.start_master_of_many(number)?;
    }
    whole(&bench.cluster, &format!("after-{round}"))?;
    let lost = writes::lost(&bench.cluster, 1, &[name])?;
    let time = began.elapsed();
    writes::forget(&bench.cluster, 1)?;
    let same = std::fs::read(&running)? == std::fs::read(&empty)? && lost == 0;
    let said = place.run(&[&revere, "restore", path(&running)?, "--store", &store]);
    anyhow::ensure!(said.is_err(), "a store that masters use was filled again");
    Ok((time, same, records))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}

fn backup_of(place: &Place, revere: &str, file: &Path, store: &str) -> Result<()> {
    place.run(&[revere, "backup", path(file)?, "--store", store]).map(drop)
}

/// Waits until all is as it should be: every master takes a write, every node has a live stream and tells the name.
fn whole(cluster: &Cluster, name: &str) -> Result<()> {
    for number in nodes() {
        let (place, name) = (cluster.node(number), format!("{name}-{number}"));
        let taken = wait_for(PATIENCE, || {
            let status = writes::create(place, number, &name).ok()?;
            matches!(status, 201 | 409).then_some(())
        });
        taken.with_context(|| format!("the master of node{number} takes no write"))?;
    }
    cluster.until("every node has registered and has a stream of its own", |cluster| {
        let list = cluster.json(&["node", "list"]).ok()?;
        let all = list["nodes"].as_array()?;
        let up = all.iter().filter(|node| node["connected"] == true).count();
        (up == nodes().count() && nodes().all(|number| streams(cluster, number))).then_some(())
    })?;
    for number in nodes() {
        let dig = ["dig", "+short", "+time=1", "+tries=1", "@198.51.100.1", NAME, "A"];
        cluster.until(&format!("node{number} tells {NAME}"), |cluster| {
            let said = cluster.node(number).run(&dig).ok()?;
            said.trim().starts_with("11.").then_some(())
        })?;
    }
    Ok(())
}

/// Whether a node's picture is a master's, and not what it kept.
fn streams(cluster: &Cluster, number: u8) -> bool {
    super::replace::health(cluster, number).is_some_and(|health| {
        health["master_connected"] == true && health["agent_connected"] == true && health["snapshot_from_disk"] == false
    })
}
