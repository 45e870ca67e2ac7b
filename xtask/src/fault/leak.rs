//! R4: while the handler is replaced again and again, does the stack behind it see a packet that was the handler's?

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Finding;
use super::bench::{Bench, PORT, rest};
use super::frames::{ACK, Segment, goes_to, mac};
use crate::figures::Figure;
use crate::lab::net::{Listener, Sender, send_frames};
use crate::lab::{OUTSIDE, Place};

/// The node whose handler is replaced.
const NODE: u8 = 1;
/// Packets per second.
const RATE: u32 = 20_000;
/// Source ports in turn, so that all of the table is used.
const PORTS: u64 = 1000;

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let IpAddr::V4(vip) = bench.vip else {
        bail!("the service has no IPv4 address")
    };
    let outside = bench.cluster.lab.outside.clone();
    let node = bench.cluster.node(NODE).clone();
    let macs = (link_address(&node)?, link_address(&outside)?);
    let listener = Listener::new(&node)?;
    let mut found = Finding::default();
    // The listener hears what passes the handler: a port that is no VIP's.
    let stray = segment(macs, 0, (vip, PORT + 1));
    let mut frame = Vec::new();
    stray.write(&mut frame);
    send_frames(&outside, "up0", vec![frame])?;
    rest(Duration::from_millis(300));
    let heard = listener.count(|frame| goes_to(frame, vip))?;
    found.check(heard == 1, || {
        format!("the listener heard {heard} of 1 packet that passes")
    });

    let (time, swaps) = if bench.short {
        (Duration::from_secs(3), 4)
    } else {
        (Duration::from_secs(30), 200)
    };
    let sender = start(&outside, macs, vip);
    rest(time);
    let control = listener.count(|frame| goes_to(frame, vip))?;
    let sent = sender.finish()?;
    eprintln!(
        "control: {} packets at {:.0}/s, {control} past the handler",
        sent.frames,
        sent.rate()
    );

    let sender = start(&outside, macs, vip);
    let (mut leaked, mut programs, began) = (0, BTreeSet::from([program(&node)?]), Instant::now());
    for _ in 0..swaps {
        bench.restart(NODE, Duration::from_millis(20), None)?;
        programs.insert(program(&node)?);
        leaked += listener.count(|frame| goes_to(frame, vip))?;
    }
    let sent = sender.finish()?;
    rest(Duration::from_millis(200));
    leaked += listener.count(|frame| goes_to(frame, vip))?;
    let swapped = u64::try_from(programs.len())? - 1;
    eprintln!(
        "{swapped} replaced programs in {} s, {} packets at {:.0}/s, {leaked} past the handler",
        began.elapsed().as_secs(),
        sent.frames,
        sent.rate()
    );
    found.check(control == 0, || format!("the control leaked {control}"));
    found.check(swapped >= swaps, || {
        format!("only {swapped} of {swaps} restarts replaced the program")
    });
    found.check(leaked == 0, || format!("{leaked} packets went past the handler"));
    found.figures = vec![
        Figure::failures("R4", leaked, sent.frames, control),
        Figure::failures("R4.swaps", 0, swapped, 0),
    ];
    Ok(found)
}

fn segment(macs: ([u8; 6], [u8; 6]), number: u64, to: (Ipv4Addr, u16)) -> Segment {
    let port = 20_000 + u16::try_from(number % PORTS).unwrap_or_default();
    Segment {
        macs,
        // An address beside the client's own, so that nobody answers the resets.
        from: (Ipv4Addr::new(10, 99, 0, 200), port),
        to,
        flags: ACK,
    }
}

fn start(outside: &Place, macs: ([u8; 6], [u8; 6]), vip: Ipv4Addr) -> Sender {
    Sender::start(outside, "up0", RATE, move |number, frame| {
        segment(macs, number, (vip, PORT)).write(frame);
    })
}

/// The link address of a place's end of its cable.
pub(crate) fn link_address(place: &Place) -> Result<[u8; 6]> {
    let said = place.sh("ip -o link show up0 | sed 's/.*ether //; s/ .*//'")?;
    mac(&said).with_context(|| format!("{OUTSIDE}: `{said}` is no link address"))
}

/// Id of the program that handles the uplink's packets.
pub(super) fn program(place: &Place) -> Result<u32> {
    let said = place.sh("ip -d link show up0")?;
    let id = said
        .split("prog/xdp id ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    id.and_then(|id| id.parse().ok())
        .with_context(|| format!("no XDP program is on {}: {said}", place.name))
}
