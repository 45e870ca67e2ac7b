//! Names while no daemon runs, and the resolver file in other hands.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::demo::{At, Load, URL};
use xtask::lab::prober::{Probe, Prober};
use xtask::lab::upstream::{Conduct, HONEST, Upstream};
use xtask::lab::{Cluster, OUTSIDE, wait_for};

use super::{answered, on_cluster};

const NAME: &str = "my-service.marathon.l4lb.thisdcos.directory";
const OUTSIDE_NAME: &str = "www.outside.example";
const FILE: &str = "/etc/resolv.conf";

/// The node that all of it happens on.
const NODE: u8 = 2;

/// Questions to the node's name server every two milliseconds.
fn probe(cluster: &Cluster) -> Prober {
    let server = (Ipv4Addr::new(198, 51, 100, 1), 53).into();
    Prober::start(cluster.node(NODE), server, NAME, Duration::from_millis(2))
}

/// Nothing is asked of the cluster meanwhile; the prober goes on.
fn let_pass(time: Duration) {
    wait_for(time, || None::<()>);
}

/// How many questions have no answer, or not the one that is true.
fn bad(probes: &[Probe]) -> usize {
    probes
        .iter()
        .filter(|probe| !matches!(probe.answer, Some((_, 0))))
        .count()
}

fn up(cluster: &Cluster) -> Result<()> {
    cluster.until("the daemon has a standby", |cluster| {
        cluster.has_standby(NODE).then_some(())
    })?;
    answered(cluster, &At::Host(NODE))
}

#[test]
fn names_are_answered_without_a_daemon() {
    on_cluster(|cluster| {
        up(cluster)?;
        let answers = Conduct::Answers(Duration::ZERO);
        let upstream = Upstream::start(&cluster.lab.outside, OUTSIDE.parse()?, 60, answers)?;
        let places = At::all(cluster)?.into_iter().filter(|at| at.node() == Some(NODE));
        // By name, anew for each request, from the host and from a container.
        let loads: Vec<Load> = places
            .map(|at| Load::start(cluster, &at, URL, &["--seconds", "8", "--rate", "50"]))
            .collect::<Result<_>>()?;
        let prober = probe(cluster);
        let_pass(Duration::from_secs(1));
        cluster.kill_node(NODE)?;
        let said = cluster.until("the standby asks the outside too", |cluster| {
            let said = cluster
                .node(NODE)
                .run(&["dig", "+short", "@198.51.100.1", OUTSIDE_NAME, "A"])
                .ok()?;
            said.contains(&HONEST.to_string()).then_some(said)
        });
        let_pass(Duration::from_secs(1));
        cluster.start_node(NODE)?;
        said?;
        let_pass(Duration::from_secs(3));
        let probes = prober.finish()?;
        // Those that the dying process had taken from its sockets are lost with it.
        ensure!(
            bad(&probes) <= 8,
            "{} of {} questions were not answered",
            bad(&probes),
            probes.len()
        );
        ensure!(probes.len() > 1000, "only {} questions", probes.len());
        for load in loads {
            let (name, report) = (load.at.name(), load.finish()?);
            ensure!(
                report.failed == 0,
                "{name}: {} of {} failed: {:?}",
                report.failed,
                report.total,
                report.failures.first()
            );
        }
        drop(upstream);
        up(cluster)
    });
}

#[test]
fn a_daemon_that_restarts_in_order_leaves_no_question_open() {
    on_cluster(|cluster| {
        up(cluster)?;
        let elder = cluster.standby(NODE).context("a standby")?;
        let prober = probe(cluster);
        let_pass(Duration::from_secs(1));
        cluster.stop_node(NODE)?;
        let_pass(Duration::from_secs(1));
        ensure!(cluster.standby(NODE) == Some(elder), "the standby left with the daemon");
        cluster.start_node(NODE)?;
        let_pass(Duration::from_secs(3));
        let probes = prober.finish()?;
        ensure!(
            bad(&probes) == 0,
            "{} of {} questions were not answered",
            bad(&probes),
            probes.len()
        );
        up(cluster)?;
        cluster.until("the old standby is gone", |cluster| {
            cluster
                .node(NODE)
                .sh(&format!("kill -0 {elder}"))
                .is_err()
                .then_some(())
        })
    });
}

fn file(cluster: &Cluster) -> Result<String> {
    cluster.node(NODE).run(&["cat", FILE])
}

fn resolves(cluster: &Cluster, name: &str) -> Result<()> {
    let said = cluster.node(NODE).run(&["getent", "ahostsv4", name])?;
    ensure!(said.contains("11."), "{name}: {said}");
    Ok(())
}

#[test]
fn the_resolver_file_is_the_nodes_while_somebody_answers() {
    on_cluster(|cluster| {
        up(cluster)?;
        let before = file(cluster)?;
        let revere = cluster.revere().to_owned();
        let settings = |seconds: u64| {
            [
                format!("node.resolv_conf={FILE}"),
                "node.resolv_search=marathon.l4lb.thisdcos.directory".to_owned(),
                format!("node.dns_standby_seconds={seconds}"),
            ]
        };
        cluster.stop_node(NODE)?;
        cluster.start_node_with(NODE, revere.as_ref(), &settings(900))?;
        let taken = cluster.until("the file is the node's", |cluster| {
            file(cluster).ok().filter(|text| text.contains("revere node"))
        })?;
        ensure!(
            taken.matches("nameserver").count() == 2 && taken.contains("nameserver 198.51.100.1\n"),
            "{taken}"
        );
        resolves(cluster, "my-service")?;
        up(cluster)?;
        cluster.kill_node(NODE)?;
        resolves(cluster, "my-service").context("with the standby alone")?;
        ensure!(file(cluster)? == taken, "nobody else can answer");
        let standby = cluster.standby(NODE).context("a standby")?;
        cluster.node(NODE).sh(&format!("kill {standby}"))?;
        cluster.until("the file is as it was", |cluster| {
            file(cluster).ok().filter(|text| *text == before)
        })?;
        // Without a standby the daemon itself puts it back; with one that waits in vain, the standby.
        for (seconds, ends) in [
            (0, Cluster::stop_node as fn(&mut Cluster, u8) -> Result<()>),
            (1, Cluster::kill_node),
        ] {
            cluster.start_node_with(NODE, revere.as_ref(), &settings(seconds))?;
            cluster.until("the file is the node's again", |cluster| {
                file(cluster).ok().filter(|text| *text == taken)
            })?;
            if seconds > 0 {
                up(cluster)?;
            }
            ends(cluster, NODE)?;
            cluster.until("the file is as it was", |cluster| {
                file(cluster).ok().filter(|text| *text == before)
            })?;
        }
        cluster.start_node(NODE)?;
        up(cluster)
    });
}
