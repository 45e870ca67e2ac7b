//! The leading master as Mesos's masters tell it, in a real ZooKeeper that is late, forgets, and holds others' signs too.

use super::*;

/// Debian's package.
const JAR: &str = "/usr/share/java/zookeeper.jar";

const PATH: &str = "/mesos";

/// One sign: its name and whom it tells of.
type Sign = (String, String);

fn zookeeper(place: &Place) -> Result<Daemon> {
    ensure!(
        std::path::Path::new(JAR).is_file(),
        "{JAR} is not there: `cargo xtask setup` installs Debian's zookeeper"
    );
    let data = place.dir.join("zookeeper");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir_all(&data)?;
    let config = place.dir.join("zoo.cfg");
    let data = data.display();
    let text = format!("tickTime=500\ndataDir={data}\nclientPort=2181\nadmin.enableServer=false\n");
    std::fs::write(&config, text)?;
    let classes = format!("/etc/zookeeper/conf:{JAR}");
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let config = config.to_str().context("a plain path")?;
    place.spawn("zookeeper", &["java", "-Xmx128m", "-cp", &classes, main, config], &[])
}

/// Lines of Python with a client `zk`.
fn python(few: &Few, lines: &str) -> Result<String> {
    let text = format!(
        "import json\nfrom kazoo.client import KazooClient\nzk = KazooClient('{OUTSIDE}:2181')\nzk.start(60)\n{lines}\nzk.stop()\n"
    );
    few.lab.outside.run(&["/usr/bin/python3", "-c", &text])
}

/// All signs, the leader's first.
fn signs(few: &Few) -> Result<Vec<Sign>> {
    let lines = format!(
        "names = sorted(zk.get_children('{PATH}')) if zk.exists('{PATH}') else []\n\
         print(json.dumps([[name, json.loads(zk.get('{PATH}/' + name)[0])['pid']] for name in names]))"
    );
    Ok(serde_json::from_str(&python(few, &lines)?)?)
}

/// A sign that does not go by itself.
fn put(few: &Few, pid: &str, cluster: Option<&str>) -> Result<()> {
    let mut info = json!({"pid": pid});
    if let Some(cluster) = cluster {
        info["revere"] = json!({"cluster": cluster});
    }
    let lines = format!("zk.create('{PATH}/json.info_', b'''{info}''', sequence=True)");
    python(few, &lines).map(drop)
}

fn told(few: &Few, whom: &[&str]) -> Result<()> {
    let mut said = None;
    let there = few.until(&format!("ZooKeeper tells {whom:?}"), || {
        let known = signs(few);
        let masters: Vec<String> = known.as_ref().ok()?.iter().map(|(_, pid)| pid.clone()).collect();
        said = Some(format!("{known:?}"));
        (masters == whom).then_some(())
    });
    there.with_context(|| format!("it tells {said:?}"))
}

const SECOND: &str = "master@10.99.0.2:5050";
const THIRD: &str = "master@10.99.0.3:5050";

#[test]
fn zookeeper_is_told_who_leads_for_as_long_as_it_does() {
    on_few("", PLAIN, published);
}

fn published(few: &mut Few) -> Result<()> {
    let publish = format!("master.publish=zk://{OUTSIDE}:2181{PATH}");
    // ZooKeeper is not there yet: the masters go on and say so.
    few.start(2, &[&publish])?;
    few.until("the leader says that ZooKeeper is away", || {
        let said = few.masters[0].output();
        said.contains("this master leads all the same").then_some(())
    })?;
    ensure!(few.create(2, "meanwhile")?.0 == 201, "no write is taken");
    few.start(3, &[&publish])?;
    let mut server = zookeeper(&few.lab.outside)?;
    told(few, &[SECOND])?;
    // One whose master was killed, and one of a cluster that is not ours.
    put(few, "master@10.99.0.9:1", Some("revere"))?;
    put(few, "master@10.99.0.9:2", None)?;
    ensure!(few.ask(2, "DELETE /v2/leader", "")?.0 == 200, "it does not step down");
    few.until("the other one leads", || {
        let (_, said) = few.ask(3, "GET /v2/leader", "").ok()?;
        said.contains("10.99.0.3:5050").then_some(())
    })?;
    let known = signs(few)?;
    ensure!(
        known.iter().all(|(_, pid)| pid != SECOND),
        "the one that stepped down is told yet: {known:?}"
    );
    told(few, &["master@10.99.0.9:2", THIRD])?;
    // A session that ZooKeeper knows nothing of any more.
    server.kill()?;
    server = zookeeper(&few.lab.outside)?;
    told(few, &[THIRD])?;
    few.stop_masters()?;
    told(few, &[])?;
    let revere = few.revere.to_str().context("a plain path")?;
    let mut alone = few.place(1).spawn(
        "alone",
        &[
            revere,
            "master",
            "--set",
            "master.store=memory",
            "--set",
            "master.listen=10.99.0.1:5050",
            "--set",
            &publish,
        ],
        &[],
    )?;
    told(few, &["master@10.99.0.1:5050"])?;
    alone.signal(Signal::TERM)?;
    alone.wait()?;
    told(few, &[])?;
    server.kill()
}
