//! The leading master as a real ZooKeeper tells it: found, followed when it changes, kept while ZooKeeper is away.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Daemon, Lab, PATIENCE, Place, wait_for};

use super::program;

/// Debian's package.
const JAR: &str = "/usr/share/java/zookeeper.jar";

/// Where a second process's API would be in the way: the node of this test listens elsewhere.
const API: &str = "127.0.0.1:5061";

const STREAM: &str = "revere/src/tape/testdata/failover.stream";

#[test]
fn a_leader_told_by_zookeeper_is_followed() {
    let lab = Lab::new().expect("a lab");
    let result = follow(&lab);
    let picture = lab.outside.picture();
    lab.close().expect("nothing is left behind");
    if let Err(error) = result {
        panic!("{picture}\n{error:#}");
    }
}

fn follow(lab: &Lab) -> Result<()> {
    let place = &lab.outside;
    ensure!(
        std::path::Path::new(JAR).is_file(),
        "{JAR} is not there: `cargo xtask setup` installs Debian's zookeeper"
    );
    let mut server = zookeeper(place)?;
    zk(place, &["create", "/mesos", ""])?;
    let revere = program()?;
    let revere = revere.to_str().context("a plain path")?;
    let stream = xtask::workspace::Workspace::find()?.root.join(STREAM);
    let stream = stream.to_str().context("a plain path")?;
    // Two masters that say the same; which of them is heard is what counts.
    let masters: Vec<Daemon> = ["7001", "7002"]
        .iter()
        .map(|port| {
            let listen = format!("127.0.0.1:{port}");
            place.spawn(
                &format!("master{port}"),
                &[revere, "replay", stream, "--listen", &listen, "--speed", "0"],
                &[],
            )
        })
        .collect::<Result<_>>()?;
    let state = place.dir.join("state");
    let state = format!("node.state_dir={}", state.display());
    let api = format!("node.api_listen={API}");
    let mut node = vec![revere, "node", "--master", "zk://127.0.0.1:2181/mesos"];
    let cgroup = place
        .cgroup
        .as_ref()
        .and_then(|path| path.file_name()?.to_str())
        .context("a cgroup")?;
    let cgroup = format!("node.cgroup={cgroup}/revere");
    for set in [
        "node.run_tasks=false",
        "node.dataplane=false",
        "node.dns=false",
        "node.ip=10.99.0.100",
        &state,
        &api,
        &cgroup,
    ] {
        node.extend(["--set", set]);
    }
    let node = place.spawn("node", &node, &[])?;
    // Nobody leads yet, and then the lower sequence does.
    told(place, "no leading master", |health| {
        health["last_error"]
            .as_str()?
            .contains("no leading master")
            .then_some(())
    })?;
    let first = zk(place, &["create", "-s", "/mesos/json.info_", &info(7001)])?;
    zk(place, &["create", "-s", "/mesos/json.info_", &info(7002)])?;
    told(place, "the first leads", |health| {
        (health["master"] == "127.0.0.1:7001").then_some(())
    })?;
    let path = first
        .split_whitespace()
        .find(|word| word.starts_with("/mesos/json.info_"))
        .context("created")?;
    zk(place, &["delete", path])?;
    told(place, "the second leads", |health| {
        (health["master"] == "127.0.0.1:7002" && health["master_connected"] == true).then_some(())
    })?;
    // ZooKeeper's end changes nothing for a stream that stands, and neither does it for the picture.
    server.kill()?;
    let before = health(place).context("the node answers")?;
    told(place, "records go on coming", |health| {
        let on = health["master_connected"] == true && health["snapshot_age_ms"].as_u64()? < 2_000;
        (on && health["generation"] == before["generation"]).then_some(())
    })?;
    drop((masters, node));
    Ok(())
}

/// Starts a ZooKeeper and waits until it answers.
fn zookeeper(place: &Place) -> Result<Daemon> {
    let data = place.dir.join("zookeeper");
    std::fs::create_dir_all(&data)?;
    let config = place.dir.join("zoo.cfg");
    std::fs::write(
        &config,
        format!(
            "tickTime=500\ndataDir={}\nclientPort=2181\nadmin.enableServer=false\n",
            data.display()
        ),
    )?;
    let classes = format!("/etc/zookeeper/conf:{JAR}");
    let config = config.to_str().context("a plain path")?.to_owned();
    let program = [
        "java",
        "-Xmx128m",
        "-cp",
        &classes,
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        &config,
    ];
    let server = place.spawn("zookeeper", &program, &[])?;
    wait_for(PATIENCE, || place.sh("ss -ltn | grep -q ':2181 '").ok()).context("ZooKeeper does not listen")?;
    Ok(server)
}

/// One command of its shell.
fn zk(place: &Place, command: &[&str]) -> Result<String> {
    let classes = format!("/etc/zookeeper/conf:{JAR}");
    let shell = [
        "java",
        "-Xmx128m",
        "-cp",
        &classes,
        "org.apache.zookeeper.ZooKeeperMain",
        "-server",
        "127.0.0.1:2181",
    ];
    let program = [&shell, command].concat();
    // The shell tells what it made on either output.
    let output = place.command(&program).output()?;
    let text = xtask::shell::both(&output);
    ensure!(output.status.success(), "{}: {text}", command.join(" "));
    Ok(text)
}

/// A `MasterInfo` as Mesos 1.11 writes it.
fn info(port: u16) -> String {
    format!(
        r#"{{"address":{{"hostname":"master","ip":"127.0.0.1","port":{port}}},"capabilities":[{{"type":"AGENT_UPDATE"}}],"hostname":"master","id":"m-{port}","ip":16777343,"pid":"master@127.0.0.1:{port}","port":{port},"version":"1.11.0"}}"#
    )
}

fn health(place: &Place) -> Option<Value> {
    let text = place.sh(&format!("curl -s http://{API}/health")).ok()?;
    serde_json::from_str(&text).ok()
}

fn told(place: &Place, what: &str, mut look: impl FnMut(&Value) -> Option<()>) -> Result<()> {
    wait_for(PATIENCE, || look(&health(place)?))
        .with_context(|| format!("in vain until {what}; the node says {:?}", health(place)))
}
