//! R11: SYNs from invented sources, as many as one core makes; flows that stand go on, new ones get through.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Finding;
use super::bench::{Bench, PORT, rest};
use super::frames::{SYN, Segment};
use super::leak::link_address;
use crate::figures::{Figure, count};
use crate::lab::net::Sender;

/// The node that is flooded; the clients use all of them.
const NODE: u8 = 1;

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let IpAddr::V4(vip) = bench.vip else {
        bail!("the service has no IPv4 address")
    };
    let (seconds, rate) = if bench.short { (8, 20_000) } else { (64, 100_000) };
    let flooder = bench.cluster.lab.join("flooder", "10.99.0.150")?;
    let macs = (link_address(bench.cluster.node(NODE))?, link_address(&flooder)?);
    let control = bench.control(seconds.min(20))?;
    let before = bench.counts(NODE)?;
    let loads = bench.load(seconds, &bench.url())?;
    rest(Duration::from_secs(2));
    let sender = Sender::start(&flooder, "up0", rate, move |number, frame| {
        let [a, b, c, d] = spread(number).to_be_bytes();
        Segment {
            macs,
            // 198.18.0.0/15 is for benches: nobody is there, and no route leads there.
            from: (
                Ipv4Addr::new(198, 18 | (a & 1), b, c),
                1024 | u16::from_be_bytes([d, a]),
            ),
            to: (vip, PORT),
            flags: SYN,
        }
        .write(frame);
    });
    rest(Duration::from_secs(seconds - 4));
    let sent = sender.finish()?;
    let sum = loads.finish()?;
    let after = bench.counts(NODE)?;
    eprintln!(
        "{} SYNs at {:.0}/s of {rate} wanted; {}",
        sent.frames,
        sent.rate(),
        sum.told()
    );
    for (name, value) in &after {
        let more = value - before.get(name).copied().unwrap_or_default();
        if name.contains("packets") && more > 1000.0 {
            eprintln!("  {name} +{more:.0}");
        }
    }
    bench.answers()?;
    let mut found = Finding::default();
    let refused = count(sum.failed) / count(sum.total).max(1.0);
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(sum.broken == 0, || format!("{} established flows broken", sum.broken));
    found.check(refused <= 0.01, || {
        format!("{:.2} % of requests failed", refused * 100.0)
    });
    found.figures = vec![
        Figure::failures("R11", sum.broken, sum.flows, control.broken),
        Figure::failures("R11.new", sum.failed, sum.total, control.failed),
        Figure::new("R11.rate", sent.rate(), "SYN/s", sent.frames, 0.0),
    ];
    Ok(found)
}

/// Different for each number, and without order.
fn spread(number: u64) -> u32 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u32::try_from(z >> 32).unwrap_or_default()
}
