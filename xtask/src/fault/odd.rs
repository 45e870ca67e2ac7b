//! R13: fragments, options, extension headers, odd flags, broken lengths: the reasons' counts add up to the packets in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, bail};

use super::Finding;
use super::bench::{Bench, PORT};
use super::frames::{ACK, SYN, Segment, checksum};
use super::leak::link_address;
use crate::figures::Figure;
use crate::lab::net::send_frames;

/// The node that gets them.
const NODE: u8 = 3;
/// The switch's end of its cable.
const CABLE: &str = "node3";

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let IpAddr::V4(vip) = bench.vip else {
        bail!("the service has no IPv4 address")
    };
    let rounds = if bench.short { 1 } else { 20 };
    // Straight into the node's cable: the switch drops some of them by itself.
    let fabric = bench.cluster.lab.fabric.clone();
    let macs = (
        link_address(bench.cluster.node(NODE))?,
        link_address(&bench.cluster.lab.outside)?,
    );
    let corpus = corpus(macs, vip);
    let mut found = Finding::default();
    let (mut unexplained, mut packets) = (0_u64, 0_u64);
    let control = added_up(bench)?;
    for _ in 0..rounds {
        let before = added_up(bench)?;
        send_frames(&fabric, CABLE, corpus.clone())?;
        let sent = u64::try_from(corpus.len())?;
        // Counts of the device and of the reasons are read one after the other, while other packets come in: they must
        // meet at a moment between two.
        let met = bench.cluster.until("the reasons add up to the packets in", |_| {
            let now = added_up(bench).ok()?;
            (now.device - before.device >= sent && now.device == now.reasons).then_some(now)
        });
        let now = match met {
            Ok(now) => now,
            Err(error) => {
                let now = added_up(bench)?;
                unexplained += now.device.abs_diff(now.reasons);
                found.check(false, || {
                    format!("{error:#}").lines().last().unwrap_or_default().to_owned()
                });
                now
            }
        };
        packets += now.device - before.device;
        if packets == now.device - before.device {
            for (reason, value) in &now.by_reason {
                let more = value - before.by_reason.get(reason).copied().unwrap_or_default();
                if more > 0 {
                    eprintln!("  {reason}: {more}");
                }
            }
        }
    }
    bench.answers()?;
    eprintln!(
        "{} odd frames x {rounds}, {packets} packets in, {unexplained} without a reason",
        corpus.len()
    );
    found.figures = vec![Figure::failures(
        "R13",
        unexplained,
        packets,
        control.device.abs_diff(control.reasons),
    )];
    Ok(found)
}

/// Both sides of the sum.
struct Sums {
    /// What the device gave to XDP.
    device: u64,
    /// What the program counted.
    reasons: u64,
    by_reason: BTreeMap<String, u64>,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "metrics are floats on the wire; counts are below 2^53 and not negative"
)]
fn added_up(bench: &Bench) -> Result<Sums> {
    let node = bench.cluster.node(NODE);
    let said = node.sh("ethtool -S up0 | grep xdp_packets")?;
    let device = said
        .lines()
        .filter(|line| line.trim().starts_with("rx_queue"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    let counts = bench.counts(NODE)?;
    let by_reason: BTreeMap<String, u64> = counts
        .into_iter()
        .filter(|(name, _)| name.contains("packets_total") && name.contains("hook=\"xdp\""))
        .map(|(name, value)| (name, value as u64))
        .collect();
    if by_reason.is_empty() {
        bail!("node{NODE} tells no packet counts");
    }
    let reasons = by_reason.values().sum();
    Ok(Sums {
        device,
        reasons,
        by_reason,
    })
}

/// Every oddity once or more. All sources are a neighbour's of the client, so that nobody answers.
fn corpus(macs: ([u8; 6], [u8; 6]), vip: Ipv4Addr) -> Vec<Vec<u8>> {
    let mut plain = Vec::new();
    let base = Segment {
        macs,
        from: (Ipv4Addr::new(10, 99, 0, 201), 30_000),
        to: (vip, PORT),
        flags: SYN,
    };
    base.write(&mut plain);
    let mut all = vec![plain.clone()];
    // Every combination of TCP flags.
    for flags in 0..=255 {
        let mut frame = Vec::new();
        Segment { flags, ..base }.write(&mut frame);
        all.push(frame);
    }
    // Every truncation that a device lets through.
    all.extend((15..plain.len()).map(|len| plain[..len].to_vec()));
    // Fragments: first, middle, last, and one that lies about itself.
    for fragment in [0x2000_u16, 0x2001, 0x00b9, 0x3fff, 0x1fff] {
        let mut frame = plain.clone();
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        mend(&mut frame);
        all.push(frame);
    }
    // Options of every length, and header lengths that lie.
    for words in 0..16_u8 {
        let mut frame = plain.clone();
        frame[14] = 0x40 | words;
        mend(&mut frame);
        all.push(frame.clone());
        if words >= 5 {
            let at = 34;
            let options = vec![1; usize::from(words - 5) * 4];
            frame.splice(at..at, options);
            let total = u16::try_from(frame.len() - 14).unwrap_or_default();
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            mend(&mut frame);
            all.push(frame);
        }
    }
    // Protocols that nobody balances, UDP, ICMP errors without anything inside, and lengths that lie.
    for protocol in [0, 1, 2, 4, 17, 41, 47, 50, 58, 132, 255] {
        let mut frame = plain.clone();
        frame[23] = protocol;
        mend(&mut frame);
        all.push(frame);
    }
    for total in [0_u16, 19, 20, 39, 41, 1500, 65535] {
        let mut frame = plain.clone();
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        mend(&mut frame);
        all.push(frame);
    }
    // Other frames: ARP, VLAN tags, IPv6 with each extension header, an unknown type.
    for kind in [
        [0x08, 0x06],
        [0x81, 0x00],
        [0x88, 0xa8],
        [0x86, 0xdd],
        [0x88, 0xcc],
        [0x12, 0x34],
    ] {
        let mut frame = plain.clone();
        frame[12..14].copy_from_slice(&kind);
        all.push(frame);
    }
    for next in [0, 43, 44, 50, 51, 59, 60, 135, 139, 140, 253] {
        all.push(extended(macs, next));
    }
    let mut late = Vec::new();
    Segment { flags: ACK, ..base }.write(&mut late);
    all.push(late);
    all
}

/// The IPv4 header's checksum made right again.
fn mend(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = checksum(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 packet with a chain of two headers of one kind before a TCP SYN.
fn extended((to, from): ([u8; 6], [u8; 6]), next: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to);
    frame.extend(from);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 36, next, 64]);
    frame.extend([0xfd, 1, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xfd, 1, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([
        0x75, 0x30, 0x15, 0xb3, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    frame
}
