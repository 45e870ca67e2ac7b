//! Three masters on an etcd of three members: the leader dies under writes and load, then etcd loses its majority.

mod reader;

use std::time::{Duration, Instant};

use xtask::lab::writes::{self, Writer};
use xtask::lab::{net, wait_for};

use super::*;
use reader::Reader;

/// For a machine that is busy with everything else.
const TAKEN_OVER: Duration = Duration::from_secs(60);

fn deploy(cluster: &Cluster) -> Result<Vec<(String, Option<u32>)>> {
    let file = cluster.lab.dir.join("service.json");
    std::fs::write(&file, include_str!("../../../examples/named-vip.json"))?;
    let file = file.to_str().context("a plain path")?;
    // One that was answered "not known whether it was written" may have been.
    cluster.until("the service is taken", |cluster| {
        let taken = cluster
            .cli(&["app", "add", file])
            .or_else(|_| cluster.cli(&["app", "show", "/my-service"]));
        taken.ok()
    })?;
    tasks(cluster)
}

/// Id and process: what a restart would change.
fn tasks(cluster: &Cluster) -> Result<Vec<(String, Option<u32>)>> {
    let tasks = cluster.running("/my-service", 3)?.into_iter();
    Ok(tasks.map(|task| (task.id, task.pid)).collect())
}

#[test]
fn a_leader_that_is_killed_under_writes_takes_nothing_with_it() {
    let mut cluster = Cluster::start_many(&program().expect("the program"), &[]).expect("a cluster");
    let result = outlived(&mut cluster);
    if let Err(error) = result {
        let picture = cluster.picture();
        drop(cluster);
        panic!("{error:#}\n\n{picture}");
    }
    cluster.lab.close().expect("nothing is left");
}

fn outlived(cluster: &mut Cluster) -> Result<()> {
    let before = deploy(cluster)?;
    cluster.until("both others have a copy of the records", |cluster| {
        let status = cluster.json(&["status"]).ok()?;
        let ages = status["copies_age_ms"].as_array()?;
        (ages.len() == 2 && ages.iter().all(serde_json::Value::is_u64)).then_some(())
    })?;
    cluster.until("the service answers", |cluster| {
        let args = ["--requests", "12", "--timeout-ms", "500"];
        let report = Load::start(cluster, &At::Outside, URL, &args).ok()?.finish().ok()?;
        (report.failed == 0).then_some(())
    })?;
    let time = ["--seconds", "12", "--hold", "--connections", "20"];
    let load = Load::start(cluster, &At::Outside, URL, &time)?;
    let mut last: Option<String> = None;
    for round in 0..2 {
        let leader = cluster.leader()?;
        let via = leader % NODES + 1;
        // One that comes back to another master, and is told what happened meanwhile.
        let reader = Reader::start(cluster, via, &format!("events-{round}"), last.as_deref())?;
        let started = Instant::now();
        let writer = Writer::start(cluster, via, round);
        let begun = wait_for(TAKEN_OVER, || writer.first_after(started));
        begun.context("no write is taken at all")?;
        let killed = Instant::now();
        cluster.kill_master_of_many(leader)?;
        wait_for(TAKEN_OVER, || writer.first_after(killed)).context("no write is taken any more")?;
        let acknowledged = writer.finish();
        let lost = writes::lost(cluster, via, &acknowledged)?;
        ensure!(
            lost == 0,
            "{lost} of {} acknowledged writes are gone",
            acknowledged.len()
        );
        let begun: Vec<String> = acknowledged.iter().map(|name| writes::path(name)).collect();
        let before = last.replace(reader.finish(&begun)?);
        ensure!(before != last, "nothing is new");
        ensure!(cluster.leader()? != leader, "the dead one still leads");
        cluster.start_master_of_many(leader)?;
        cluster.until("the killed master follows", |cluster| {
            cluster.leader_told_by(leader).ok()
        })?;
    }
    let report = load.finish()?;
    ensure!(report.broken == 0 && report.failed == 0, "{report:?}");
    cluster.until("all nodes are back", |cluster| {
        let nodes = cluster.json(&["node", "list"]).ok()?;
        let nodes = nodes["nodes"].as_array()?;
        nodes.iter().all(|node| node["connected"] == true).then_some(())
    })?;
    let after = tasks(cluster)?;
    ensure!(before == after, "tasks were started anew: {before:?} became {after:?}");
    without_majority(cluster)
}

/// Writes are refused with the reason and reads go on; then both as before.
fn without_majority(cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader()?;
    let (place, at) = (cluster.node(leader), Cluster::master_at(leader));
    cluster.stop_etcd(1..NODES)?;
    let refused = wait_for(TAKEN_OVER, || {
        let body = r#"{"id": "/never", "cmd": "true", "instances": 0}"#;
        let (status, body) = net::http(place, at, "POST /v2/apps", body).ok()?;
        (status == 503).then_some(body)
    });
    let refused = refused.context("writes are not refused")?;
    ensure!(
        refused.contains("etcd") || refused.contains("lease"),
        "no reason: {refused}"
    );
    let (status, body) = net::http(place, at, "GET /v2/apps//my-service", "")?;
    ensure!(
        status == 200 && body.contains("my-service"),
        "a read was answered {status}: {body}"
    );
    let time = ["--requests", "50", "--timeout-ms", "2000"];
    let report = Load::start(cluster, &At::Outside, URL, &time)?.finish()?;
    ensure!(report.failed == 0, "the data plane felt it: {report:?}");
    cluster.resume_etcd(1..NODES)?;
    // A name for each try: one that was answered "not known whether it was written" may have been.
    let mut said = Vec::new();
    let taken = wait_for(TAKEN_OVER, || {
        let name = format!("again-{}", said.len());
        let tried = cluster
            .leader()
            .and_then(|via| writes::create(cluster.node(via), via, &name));
        let is_taken = matches!(tried, Ok(201));
        said.push(format!("{tried:?}"));
        is_taken.then_some(())
    });
    taken.with_context(|| format!("no write is taken although etcd is back: {said:?}"))
}
