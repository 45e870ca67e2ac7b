//! Three real nodes in network namespaces: named VIPs from everywhere, and what must not break.
//!
//! One cluster serves all tests, one test at a time; each leaves it with three instances and every daemon running.

mod early;
mod fast;
mod faults;
mod files;
mod frameworks;
mod health;
mod images;
mod interop;
mod leak;
mod manual;
mod marathon;
mod masters;
mod matrix;
mod networks;
mod paths;
mod pods;
mod standby;
mod store;
mod volumes;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use xtask::demo::{At, Load, Report, URL, client_app};
use xtask::lab::{Cluster, NODES, OUTSIDE};
use xtask::workspace::Workspace;

static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);

/// Runs a test on the shared cluster; a failure shows every node and ends the cluster, the next test gets a new one.
fn on_cluster(test: impl FnOnce(&mut Cluster) -> Result<()>) {
    let mut shared = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = match shared.take() {
        Some(cluster) => cluster,
        None => start().expect("a cluster"),
    };
    match test(&mut cluster) {
        Ok(()) => *shared = Some(cluster),
        Err(error) => {
            let picture = cluster.picture();
            drop(cluster);
            panic!("{error:#}\n\n{picture}");
        }
    }
}

/// The program under test.
fn program() -> Result<PathBuf> {
    // A guest of `cargo xtask vm` has no workspace, and names its program.
    let revere = match std::env::var_os("LAB_REVERE") {
        Some(named) => PathBuf::from(named),
        None => Workspace::find()?.target.join("demo/revere"),
    };
    ensure!(
        revere.is_file(),
        "{} is not there; run `cargo xtask test`, or set LAB_REVERE",
        revere.display()
    );
    Ok(revere)
}

fn start() -> Result<Cluster> {
    // Outside names come from there, while a test runs a name server there.
    let cluster = Cluster::start_with(
        &program()?,
        &[
            format!("node.dns_upstreams={OUTSIDE}"),
            format!("node.insecure_registries={}", images::REGISTRY),
        ],
    )?;
    deploy(&cluster, "service", include_str!("../../examples/named-vip.json"))?;
    deploy(&cluster, "client", &client_app().to_string())?;
    cluster.running("/my-service", 3)?;
    for at in At::all(&cluster)? {
        answered(&cluster, &at)?;
    }
    Ok(cluster)
}

/// Adds an app and waits until it is deployed.
fn deploy(cluster: &Cluster, name: &str, definition: &str) -> Result<()> {
    let file = cluster.lab.dir.join(format!("{name}.json"));
    std::fs::write(&file, definition)?;
    cluster
        .cli(&["app", "add", file.to_str().context("a plain path")?])
        .map(drop)
}

/// Sends requests and gives the count.
fn load(cluster: &Cluster, at: &At, url: &str, args: &[&str]) -> Result<Report> {
    Load::start(cluster, at, url, args)?.finish()
}

/// Waits until the service answers there at all.
fn answered(cluster: &Cluster, at: &At) -> Result<()> {
    cluster.until(&format!("the service answers: {}", at.name()), |cluster| {
        let report = load(cluster, at, URL, &["--requests", "12", "--timeout-ms", "500"]).ok()?;
        (report.failed == 0).then_some(())
    })
}

/// All requests answered, by all instances.
fn all_answer(cluster: &Cluster, at: &At, instances: usize) -> Result<()> {
    let report = load(cluster, at, URL, &["--requests", "300"])?;
    ensure!(
        report.failed == 0 && report.by_instance.len() == instances,
        "{}: {} of {} failed, answers from {:?}, first failures {:?}",
        at.name(),
        report.failed,
        report.total,
        report.by_instance,
        report.failures.iter().take(3).collect::<Vec<_>>()
    );
    Ok(())
}

/// The service's virtual address.
fn vip(cluster: &Cluster) -> Result<String> {
    let name = "my-service.marathon.l4lb.thisdcos.directory";
    let said = cluster.node(1).run(&["dig", "+short", "@198.51.100.1", name, "A"])?;
    said.lines()
        .next()
        .map(str::to_owned)
        .context("the name has no address")
}

/// Every node's number.
fn nodes() -> impl Iterator<Item = u8> {
    1..=NODES
}
