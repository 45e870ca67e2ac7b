//! A node that answers names in XDP: counted, kept true, alone when nobody else can, silent when the server ended.

use anyhow::{Context as _, Result, ensure};
use xtask::demo::At;
use xtask::lab::Cluster;

use super::{answered, on_cluster};

const NAME: &str = "my-service.marathon.l4lb.thisdcos.directory";

/// The node that all of it happens on.
const NODE: u8 = 3;

/// What a program of the node is told, by one question.
fn asked(cluster: &Cluster) -> Result<String> {
    let words = ["dig", "+short", "+tries=1", "+time=2", "@198.51.100.1", NAME, "A"];
    let said = cluster.node(NODE).run(&words)?;
    ensure!(said.starts_with("11."), "{said}");
    Ok(said)
}

/// Questions that were answered with records before the server.
fn early(cluster: &Cluster) -> Result<u64> {
    let text = cluster
        .node(NODE)
        .run(&["curl", "-sf", "http://127.0.0.1:5051/metrics"])?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("revere_node_dns_xdp_total{kind=\"answered\"} "));
    Ok(line.context("no such metric")?.parse()?)
}

fn is_attached(cluster: &Cluster) -> Result<bool> {
    Ok(cluster.node(NODE).run(&["ip", "link", "show", "lo"])?.contains("xdp"))
}

#[test]
fn names_are_answered_before_the_server_while_somebody_stands_by() {
    on_cluster(|cluster| {
        let revere = cluster.revere().to_owned();
        let vip = asked(cluster)?;
        ensure!(!is_attached(cluster)?, "off unless switched on");
        cluster.stop_node(NODE)?;
        cluster.start_node_with(NODE, revere.as_ref(), &["node.dns_xdp=lo".to_owned()])?;
        cluster.until("an answer of XDP is counted", |cluster| {
            let before = early(cluster).ok()?;
            asked(cluster).ok()?;
            (early(cluster).ok()? > before).then_some(())
        })?;
        ensure!(asked(cluster)? == vip, "another answer");
        let health = cluster
            .node(NODE)
            .run(&["curl", "-s", "http://127.0.0.1:5051/health"])?;
        ensure!(health.contains(r#""dns_xdp":{"interfaces":["lo"]"#), "{health}");
        let said = cluster.cli(&["status"])?;
        ensure!(said.contains("dns in xdp   lo on 1 of "), "{said}");
        cluster.until("the daemon has a standby", |cluster| {
            cluster.has_standby(NODE).then_some(())
        })?;
        cluster.kill_node(NODE)?;
        let standby = cluster.standby(NODE).context("a standby")?;
        // Nobody reads the sockets now.
        cluster.node(NODE).sh(&format!("kill -STOP {standby}"))?;
        let alone = asked(cluster);
        cluster.node(NODE).sh(&format!("kill -CONT {standby}"))?;
        ensure!(alone? == vip, "another answer");
        // It tells XDP before it goes.
        cluster.node(NODE).sh(&format!("kill {standby}"))?;
        cluster.until("nobody answers", |cluster| asked(cluster).is_err().then_some(()))?;
        ensure!(is_attached(cluster)?, "it waits for the next daemon");
        cluster.start_node(NODE)?;
        cluster.until("a daemon without it took it off", |cluster| {
            is_attached(cluster).ok().filter(|on| !on)
        })?;
        ensure!(asked(cluster)? == vip, "another answer");
        answered(cluster, &At::Host(NODE))
    });
}
