//! Every way to a VIP, and every name.

use anyhow::ensure;
use xtask::demo::At;
use xtask::lab::underlay;

use super::{all_answer, answered, nodes, on_cluster, vip};

#[test]
fn an_outside_client_reaches_all_instances_through_every_node() {
    on_cluster(|cluster| {
        let route = |via: &str| {
            cluster
                .lab
                .outside
                .sh(&format!("ip route replace 11.0.0.0/8 {via} && ip route flush cache"))
        };
        for number in nodes() {
            route(&format!("via {}", underlay(number)))?;
            answered(cluster, &At::Outside)?;
            all_answer(cluster, &At::Outside, 3)?;
        }
        route("nexthop via 10.99.0.1 nexthop via 10.99.0.2 nexthop via 10.99.0.3")?;
        all_answer(cluster, &At::Outside, 3)
    });
}

#[test]
fn a_process_on_every_node_reaches_all_instances() {
    on_cluster(|cluster| nodes().try_for_each(|number| all_answer(cluster, &At::Host(number), 3)));
}

#[test]
fn a_container_on_every_node_reaches_all_instances() {
    on_cluster(|cluster| {
        let all = At::all(cluster)?;
        let containers: Vec<_> = all.iter().filter(|at| matches!(at, At::Container(_))).collect();
        ensure!(containers.len() == 3, "{} client containers", containers.len());
        containers.into_iter().try_for_each(|at| all_answer(cluster, at, 3))
    });
}

#[test]
fn every_node_answers_the_three_names() {
    on_cluster(|cluster| {
        let vip = vip(cluster)?;
        for number in nodes() {
            let dig = |name: &str, kind: &str| {
                cluster
                    .node(number)
                    .run(&["dig", "+noall", "+answer", "+additional", "@198.51.100.1", name, kind])
            };
            let l4lb = dig("my-service.marathon.l4lb.thisdcos.directory", "A")?;
            ensure!(vip.starts_with("11.") && l4lb.contains(&vip), "node{number}: {l4lb}");
            ensure!(
                l4lb.split_whitespace().nth(1) == Some("5"),
                "TTL of a VIP's name: {l4lb}"
            );
            let mesos = dig("my-service.marathon.mesos", "A")?;
            ensure!(
                mesos.lines().count() == 3 && mesos.contains("10.99.0."),
                "node{number}: {mesos}"
            );
            let srv = dig("_my-service._tcp.marathon.mesos", "SRV")?;
            ensure!(records(&srv, "SRV") == 3, "node{number}: {srv}");
            ensure!(records(&srv, "A") == 3, "node{number}, additional section: {srv}");
        }
        Ok(())
    });
}

/// Records of one type in what `dig` wrote.
fn records(said: &str, kind: &str) -> usize {
    said.lines()
        .filter(|line| line.split_whitespace().nth(3) == Some(kind))
        .count()
}
