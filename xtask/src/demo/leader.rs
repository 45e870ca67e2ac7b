//! The leading master killed under load and writes: what its going away costs whom.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::faults::{RATE, finish, table, total, underway};
use super::load::{At, Load};
use super::{Facts, Figure};
use crate::lab::writes::{self, Writer};
use crate::lab::{Cluster, NODES, wait_for};

/// Longest wait for a write that the next leader takes.
const TAKEN_OVER: Duration = Duration::from_secs(30);

/// Seconds of load: the lease of a leader that is cut off, and what comes before and after.
const SECONDS: &str = "8";

/// `kill -9` of the master that leads. Its process comes back as one that follows.
pub(super) fn kill_leader(cluster: &mut Cluster, facts: &mut Facts, control: u64) -> Result<()> {
    cluster.until("both others have a copy of the records", copies)?;
    let before = tasks(cluster)?;
    let leader = cluster.leader()?;
    let via = leader % NODES + 1;
    let places = At::all(cluster)?;
    let loads = Load::everywhere(cluster, &places, &["--seconds", SECONDS, "--rate", RATE])?;
    underway()?;
    let writer = Writer::start(cluster, via, 0);
    let begun = Instant::now();
    wait_for(TAKEN_OVER, || writer.first_after(begun)).context("no write is taken at all")?;
    let killed = Instant::now();
    cluster.kill_master_of_many(leader)?;
    let taken = wait_for(TAKEN_OVER, || writer.first_after(killed)).context("no write is taken any more")?;
    let reports = finish(loads)?;
    let acknowledged = writer.finish();
    let lost = writes::lost(cluster, via, &acknowledged)?;
    let next = cluster.leader()?;
    cluster.start_master_of_many(leader)?;
    cluster.until("the killed master follows", |cluster| {
        cluster.leader_told_by(leader).ok()
    })?;
    writes::forget(cluster, via)?;
    let after = tasks(cluster)?;
    let changed = after.iter().filter(|task| !before.contains(task)).count();
    let (text, failed) = table(&reports);
    facts.show(
        "kill -9 of the leading master under load and writes",
        &format!(
            "the master on node{leader} led, that on node{next} leads\n\
             a write was taken {:.2} s after the kill; {lost} of {} acknowledged ones lost\n\
             {changed} of {} tasks started anew\n{text}",
            taken.as_secs_f64(),
            acknowledged.len(),
            before.len()
        ),
        json!({"led": leader, "leads": next, "write_after_seconds": taken.as_secs_f64(), "lost": lost,
               "restarted": changed, "failed": failed, "total": total(&reports)}),
    );
    if next == leader {
        facts.fail("the killed master leads still".to_owned());
    }
    if lost + failed > 0 || changed > 0 {
        facts.fail(format!(
            "killing the leading master lost {lost} acknowledged writes and {failed} requests, and restarted {changed} tasks"
        ));
    }
    facts.figures.push(Figure {
        id: "S1.failed",
        value: failed as f64,
        unit: "count",
        n: total(&reports),
        control,
    });
    facts.figures.push(Figure {
        id: "S1.write",
        value: taken.as_secs_f64(),
        unit: "s",
        n: 1,
        control: 0,
    });
    Ok(())
}

/// Whether the masters that follow all have a copy.
fn copies(cluster: &Cluster) -> Option<()> {
    let status = cluster.json(&["status"]).ok()?;
    let ages = status["copies_age_ms"].as_array()?;
    (ages.len() + 1 == usize::from(NODES) && ages.iter().all(serde_json::Value::is_u64)).then_some(())
}

/// Id and process of every task: what a restart would change.
fn tasks(cluster: &Cluster) -> Result<Vec<(String, Option<u32>)>> {
    let mut all = Vec::new();
    for app in ["/my-service", "/client"] {
        let tasks = cluster.running(app, usize::from(NODES))?;
        all.extend(tasks.into_iter().map(|task| (task.id, task.pid)));
    }
    Ok(all)
}
