//! R6: somebody else removes what a node has made, one kind of thing after the other, under load; how long until it is back?

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Finding;
use super::bench::{Bench, rest};
use crate::figures::{Figure, count};
use crate::lab::{Place, wait_for};

/// The node that is disturbed.
const NODE: u8 = 2;
/// Longer than this is "not repaired".
const LIMIT: Duration = Duration::from_secs(20);

/// What is done, and what tells that it is undone. `DEV` stands for the overlay's device.
struct Mutation {
    id: &'static str,
    line: &'static str,
    /// What the state is seen by; its output before must come back.
    look: &'static str,
    /// The wound must show; something that cannot be done to us is counted as refused.
    may_be_refused: bool,
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        id: "vip-route",
        line: "ip route del unreachable 11.0.0.0/8 || ip route flush type unreachable",
        look: "ip route show table all | grep -v '^broadcast\\|^multicast\\|^local\\|proto kernel'",
        may_be_refused: false,
    },
    Mutation {
        id: "overlay-routes",
        line: "ip route flush dev DEV",
        look: "ip route show table all | grep DEV | grep -v '^multicast\\|proto kernel'",
        may_be_refused: false,
    },
    Mutation {
        id: "rules",
        // As those do who take all rules for theirs but the kernel's own: a flush would, until those are put back, cut the
        // node off by the fault's own doing.
        line: "for pref in $(ip rule | cut -d: -f1 | grep -vxE '0|32766|32767'); do ip rule del pref $pref; done",
        look: "ip rule",
        may_be_refused: true,
    },
    Mutation {
        id: "neighbours",
        line: "ip neigh flush dev DEV nud permanent",
        look: "ip neigh show dev DEV nud permanent",
        may_be_refused: false,
    },
    Mutation {
        id: "forwarding-table",
        line: "for mac in $(bridge fdb show dev DEV | cut -d' ' -f1); do bridge fdb del $mac dev DEV; done",
        look: "bridge fdb show dev DEV | sort",
        may_be_refused: false,
    },
    Mutation {
        id: "overlay-device",
        line: "ip link del DEV",
        look: "ip -o link show DEV | sed 's/^[0-9]*://; s/ether.*//'; ip route show table all | grep DEV | grep -v '^multicast\\|proto kernel'; bridge fdb show dev DEV | sort",
        may_be_refused: false,
    },
    Mutation {
        id: "xdp-off",
        line: "ip link set dev up0 xdp off; ip link set dev up0 xdpgeneric off",
        look: "ip -d link show up0 | grep -o 'prog/xdp' | head -1",
        may_be_refused: true,
    },
    Mutation {
        id: "link-pins",
        line: "rm -f /sys/fs/bpf/revere/links/*",
        look: "ip -d link show up0 | grep -o 'prog/xdp' | head -1; ls /sys/fs/bpf/revere/links",
        may_be_refused: false,
    },
    Mutation {
        id: "map-pins",
        line: "rm -f /sys/fs/bpf/revere/maps/*",
        look: "ls /sys/fs/bpf/revere/maps",
        may_be_refused: false,
    },
    Mutation {
        id: "tc-filters",
        line: "tc filter del dev up0 egress; tc qdisc del dev up0 clsact",
        look: "tc filter show dev up0 egress | grep -c revere; ls /sys/fs/bpf/revere/links",
        may_be_refused: true,
    },
    Mutation {
        id: "nft",
        line: "nft flush ruleset",
        look: "nft list ruleset",
        may_be_refused: true,
    },
];

/// What repeats of one mutation came to.
#[derive(Debug, Default)]
struct Times {
    repaired_ms: Vec<u128>,
    refused: u64,
    never: u64,
}

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (times, seconds, calm) = if bench.short {
        (1, 3, Duration::from_millis(500))
    } else {
        (50, 6, Duration::from_millis(1500))
    };
    let control = bench.control(10)?;
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    let node = bench.cluster.node(NODE).clone();
    let device = overlay(&node)?;
    let (mut all, mut lost, mut requests, mut repairs) = (Vec::new(), 0, 0, 0.0);
    for mutation in MUTATIONS {
        let mut own = Times::default();
        for _ in 0..times {
            let loads = bench.load(seconds, &bench.url())?;
            rest(calm);
            let before = repaired(bench)?;
            disturb(&node, mutation, &device, &mut own)?;
            let sum = loads.finish()?;
            repairs += repaired(bench)? - before;
            if sum.bad() > 0 {
                eprintln!("{}: {}", mutation.id, sum.told());
            }
            lost += sum.bad();
            requests += sum.total;
            if own.never > 0 {
                // A new daemon puts everything right; the other repeats would say no more.
                bench.restart(NODE, Duration::from_millis(50), None)?;
                bench.answers()?;
                break;
            }
        }
        own.repaired_ms.sort_unstable();
        let worst = own.repaired_ms.last().copied();
        eprintln!(
            "{}: repaired {:?} ms, refused {}, never {}",
            mutation.id, own.repaired_ms, own.refused, own.never
        );
        found.check(own.never == 0, || {
            format!("{} is not repaired within {} s", mutation.id, LIMIT.as_secs())
        });
        // The short form says nothing of times: on a machine that stalls they mean nothing.
        found.check(bench.short || worst.is_none_or(|ms| ms <= 5000), || {
            format!("{}: repaired after {worst:?} ms", mutation.id)
        });
        all.extend(own.repaired_ms);
    }
    all.sort_unstable();
    let p99 = all
        .get((all.len() * 99 / 100).min(all.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default();
    let n = u64::try_from(all.len())?;
    found.check(n == 0 || repairs > 0.0, || {
        "repairs were made and not counted".to_owned()
    });
    found.check(lost == 0, || format!("{lost} requests or flows were lost"));
    found.figures = vec![
        Figure::new("R6", count(u64::try_from(p99)?) / 1000.0, "s p99", n, 0.0),
        Figure::failures("R6.lost", lost, requests, control.bad()),
    ];
    Ok(found)
}

/// Repairs that the node's daemon has counted.
fn repaired(bench: &Bench) -> Result<f64> {
    let counts = bench.counts(NODE)?;
    let repairs = counts
        .iter()
        .filter(|(name, _)| name.starts_with("revere_node_repairs"));
    Ok(repairs.map(|(_, value)| value).sum())
}

fn disturb(node: &Place, mutation: &Mutation, device: &str, own: &mut Times) -> Result<()> {
    let look = format!("{{ {}; }} 2>&1; true", mutation.look.replace("DEV", device));
    let before = node.sh(&look)?;
    let began = Instant::now();
    node.sh(&format!(
        "{{ {}; }} >/dev/null 2>&1; true",
        mutation.line.replace("DEV", device)
    ))?;
    let wounded = node.sh(&look)? != before;
    if !wounded {
        // Either the kernel refused, or the repair was faster than the look.
        if mutation.may_be_refused {
            own.refused += 1;
        } else {
            own.repaired_ms.push(began.elapsed().as_millis());
        }
        return Ok(());
    }
    match wait_for(LIMIT, || (node.sh(&look).ok()? == before).then_some(())) {
        Some(()) => own.repaired_ms.push(began.elapsed().as_millis()),
        None => {
            let now = node.sh(&look)?;
            eprintln!("{}: before\n{before}\nafter {} s\n{now}", mutation.id, LIMIT.as_secs());
            own.never += 1;
        }
    }
    Ok(())
}

/// The overlay's device.
fn overlay(node: &Place) -> Result<String> {
    let said = node.sh("ip -o link show type vxlan | cut -d: -f2 | head -1")?;
    Ok(said.trim().to_owned())
}
