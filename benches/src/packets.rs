//! What a packet costs in the XDP program, by BPF_PROG_TEST_RUN, over the empty program in the same harness.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::{Reason, SynCookies};

use crate::bpf;
use crate::frame;
use crate::harness::{self, Runnable, Undo};
use crate::node::{self, BenchNode};

mod sizes;
mod table;

/// Interleaved runs of each case.
const ROUNDS: usize = 15;
/// Packets of one run.
const REPEAT: u32 = 100_000;
/// Single packets for the other way of measuring.
const SINGLES: usize = 2_001;
/// Runs and their packets on flow tables with room; together fewer than the rooms.
const ROOM_ROUNDS: usize = 11;
const ROOM_REPEAT: u32 = 5_000;
/// The most flows at once that are measured, and rooms enough for them: the kernel spreads rooms over its CPUs' lists.
const MILLION: u32 = 1_000_000;
const MILLION_ROOMS: u32 = 2_000_000;
const MILLION_ROUNDS: usize = 9;
/// An answer with a cookie has one option and no payload: so much shorter it is than a SYN of the benches.
const COOKIE_CUT: i32 = 6;
/// Rooms for flows as a node has them, if it is not told otherwise.
const FLOW_ROOMS: u32 = 300_000;
/// More flows than any run has packets.
const ENDLESS: u32 = i32::MAX.cast_unsigned();

/// One thing to measure.
struct Case {
    id: &'static str,
    what: &'static str,
    program: Runnable,
    frame: Vec<u8>,
    /// Packets before each run that nobody measures: the flows that the run shall find.
    warm: u32,
    repeat: u32,
    /// What each packet must be counted as; nothing for a floor.
    reason: Option<Reason>,
    /// Index of the case that is this one's floor.
    floor: usize,
    peer: Option<f64>,
}

/// Sorted measurements of a case, in nanoseconds per packet.
#[derive(Default)]
struct Samples {
    runs: Vec<u32>,
    singles: Vec<u32>,
}

/// Measures, prints the table, writes the figures below the current directory's `target`.
pub fn run() -> Result<()> {
    let cpu = node::pin_cpu()?;
    let node = BenchNode::new(None)?;
    let revere = program(&node)?;
    let used = u32::try_from(ROOM_ROUNDS)? * (ROOM_REPEAT + 1);
    ensure!(
        used < node.rooms,
        "the flow tables have too few rooms for {used} new flows"
    );
    let room = room(&revere, node.rooms)?;
    let room_samples = measure(&node, &room, ROOM_ROUNDS, 1)?;
    let cases = cases(&revere, node.rooms)?;
    let samples = measure(&node, &cases, ROUNDS, SINGLES)?;
    drop(node);
    let node = BenchNode::new(Some(MILLION_ROOMS))?;
    let million = million(&program(&node)?)?;
    let million_samples = measure(&node, &million, MILLION_ROUNDS, 1)?;
    drop(node);
    let mut node = BenchNode::sized(|config| config.syn_cookies = SynCookies::Always)?;
    let _listener = node.listen()?;
    if let Some(why) = node.lb().cookies_hindered() {
        bail!("no SYN cookies are sent here: {why}");
    }
    let flood = flood(&program(&node)?)?;
    let flood_samples = measure(&node, &flood, ROUNDS, 1)?;
    drop(node);
    let mut lines = table::lines(&cases, &samples);
    lines.extend(table::lines(&room, &room_samples).into_iter().skip(1));
    lines.extend(table::lines(&million, &million_samples).into_iter().skip(1));
    lines.extend(table::lines(&flood, &flood_samples).into_iter().skip(1));
    eprint!("{}", table::text(cpu, &lines));
    table::write(Path::new("target/figures"), &lines, sizes::figures()?)
}

fn program(node: &BenchNode) -> Result<OwnedFd> {
    bpf::program_of_link(&node.folder.path().join("bpf/links/xdp-up0")).context("the XDP program")
}

/// Known flows, a million of them.
fn million(revere: &OwnedFd) -> Result<Vec<Case>> {
    let local = frame::tcp(node::LOCAL_VIP, frame::ACK);
    let floor = rewriting("floor.1m", "floor of the next", &local, 1, &harness::empty()?)?;
    let mut known = rewriting("P2.1m", "the same, 1,000,000 flows", &local, MILLION, revere)?;
    known.floor = 0;
    known.warm = MILLION;
    known.reason = Some(Reason::LocalBackend);
    known.peer = Some(table::PEER_KNOWN_1M);
    let mut bound = bound(
        "P2.1m.map",
        "what only finds and marks it",
        &local,
        MILLION,
        MILLION_ROOMS,
    )?;
    bound.warm = MILLION;
    bound.floor = 0;
    Ok(vec![floor, known, bound])
}

/// SYNs of ever new clients, each answered with a cookie of the backend's listener.
fn flood(revere: &OwnedFd) -> Result<Vec<Case>> {
    let syn = frame::tcp(node::LOCAL_VIP, frame::SYN);
    let case = |id, what, target: &OwnedFd, reason| -> Result<Case> {
        let mut case = rewriting(id, what, &syn, 1, target)?;
        case.program = harness::renewing(&syn, ENDLESS, Undo::Answer, target)?;
        case.floor = 0;
        case.reason = reason;
        Ok(case)
    };
    Ok(vec![
        case("floor.flood", "floor of the next", &harness::grow(-COOKIE_CUT)?, None)?,
        case(
            "P3.flood",
            "SYN answered with a cookie",
            revere,
            Some(Reason::CookieRedirected),
        )?,
        case(
            "P3.flood.ask",
            "what only asks for the cookie",
            &harness::asking(node::BACKEND)?,
            None,
        )?,
    ])
}

/// New flows while the flow tables have room.
fn room(revere: &OwnedFd, rooms: u32) -> Result<Vec<Case>> {
    let syn = frame::tcp(node::LOCAL_VIP, frame::SYN);
    let mut floor = rewriting("floor.room", "floor of the next", &syn, ENDLESS, &harness::empty()?)?;
    floor.repeat = ROOM_REPEAT;
    let mut new = rewriting("P3.new.room", "new flow, tables with room", &syn, ENDLESS, revere)?;
    new.repeat = ROOM_REPEAT;
    new.reason = Some(Reason::LocalBackend);
    new.peer = Some(table::PEER_NEW);
    let mut bound = bound("P3.room.map", "what only seeks and puts it", &syn, ENDLESS, rooms)?;
    bound.repeat = ROOM_REPEAT;
    bound.floor = 0;
    Ok(vec![floor, new, bound])
}

fn cases(revere: &OwnedFd, rooms: u32) -> Result<Vec<Case>> {
    let empty = harness::empty()?;
    let local = frame::tcp(node::LOCAL_VIP, frame::ACK);
    let remote = frame::tcp(node::REMOTE_VIP, frame::ACK);
    let plain = frame::tcp(node::PLAIN, frame::ACK);
    let syn = frame::tcp(node::LOCAL_VIP, frame::SYN);
    let case = |id, what, program: Runnable, frame: &[u8], floor| -> Result<Case> {
        Ok(Case {
            id,
            what,
            program,
            frame: frame.to_vec(),
            warm: 1,
            repeat: REPEAT,
            reason: None,
            floor,
            peer: None,
        })
    };
    let wrapping = |flows, target: &OwnedFd| harness::renewing(&remote, flows, Undo::Wrap, target);
    let mut all = vec![
        case("floor", "empty program", empty.try_clone()?.into(), &plain, 0)?,
        case("P1", "not for a VIP", revere.try_clone()?.into(), &plain, 0)?,
        rewriting("floor.renewed", "frame renewed, empty program", &local, 1, &empty)?,
        rewriting("P1.renewed", "not for a VIP, frame renewed", &plain, 1, revere)?,
        rewriting("P2.1", "known flow, backend here, 1 flow", &local, 1, revere)?,
        rewriting("P2.10k", "the same, 10,000 flows", &local, 10_000, revere)?,
        rewriting("P2.100k", "the same, 100,000 flows", &local, 100_000, revere)?,
        rewriting("P3.new", "new flow, tables full", &syn, ENDLESS, revere)?,
        bound(
            "P2.100k.map",
            "what only finds and marks it",
            &local,
            100_000,
            FLOW_ROOMS,
        )?,
        bound("P3.new.map", "what only seeks and puts it", &syn, ENDLESS, rooms)?,
        case(
            "floor.wrap",
            "frame renewed, no wrap to undo",
            wrapping(1, &empty)?,
            &remote,
            10,
        )?,
        case(
            "floor.wrap2",
            "frame wrapped and unwrapped",
            wrapping(1, &harness::grow(50)?)?,
            &remote,
            10,
        )?,
        case(
            "P2.1.tunnel",
            "known flow, backend elsewhere",
            wrapping(1, revere)?,
            &remote,
            10,
        )?,
    ];
    for case in &mut all {
        settle(case, rooms);
    }
    Ok(all)
}

/// What a case must be counted as, compares with, and needs before it.
fn settle(case: &mut Case, rooms: u32) {
    (case.reason, case.peer, case.warm) = match case.id {
        "P1" | "P1.renewed" => (Some(Reason::NotVip), Some(table::PEER_PLAIN), 1),
        "P2.1" => (Some(Reason::LocalBackend), Some(table::PEER_KNOWN), 1),
        "P2.10k" => (Some(Reason::LocalBackend), None, 10_000),
        "P2.100k.map" => (None, None, 100_000),
        "P3.new.map" => (None, None, rooms),
        "P2.100k" => (Some(Reason::LocalBackend), Some(table::PEER_KNOWN_100K), 100_000),
        // Whatever else was measured in between: full is full.
        "P3.new" => (Some(Reason::LocalBackend), Some(table::PEER_NEW), rooms),
        "P2.1.tunnel" => (Some(Reason::TunnelRedirected), None, 1),
        _ => (None, None, 1),
    };
}

/// A case whose frame is made new before each packet; its floor is the first or, in the long list, the third.
fn rewriting(id: &'static str, what: &'static str, frame: &[u8], flows: u32, target: &OwnedFd) -> Result<Case> {
    Ok(Case {
        id,
        what,
        program: harness::renewing(frame, flows, Undo::Rewrite, target)?,
        frame: frame.to_vec(),
        warm: 1,
        repeat: REPEAT,
        reason: None,
        floor: if id.ends_with("room") || id.ends_with("1m") {
            0
        } else {
            2
        },
        peer: None,
    })
}

/// The least that any program does that keeps flows in such a map: what of a case's time is the kernel's map and the memory.
fn bound(id: &'static str, what: &'static str, frame: &[u8], flows: u32, rooms: u32) -> Result<Case> {
    let tracking = harness::tracking(rooms)?;
    rewriting(id, what, frame, flows, &tracking)
}

/// Runs the cases in turn, round after round, so that a slow moment of the machine meets all of them.
fn measure(node: &BenchNode, cases: &[Case], rounds: usize, singles: usize) -> Result<Vec<Samples>> {
    let mut samples: Vec<Samples> = cases.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for (case, samples) in cases.iter().zip(&mut samples) {
            let before = node.count(case.reason)?;
            packet(node, case, case.warm)?;
            samples.runs.push(packet(node, case, case.repeat)?);
            let counted = node.count(case.reason)? - before;
            let wanted = u64::from(case.warm) + u64::from(case.repeat);
            ensure!(
                case.reason.is_none() || counted == wanted,
                "{}: {counted} of {wanted} packets ended as {:?}",
                case.id,
                case.reason
            );
        }
    }
    for _ in 0..singles {
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.singles.push(packet(node, case, 1)?);
        }
    }
    for samples in &mut samples {
        samples.runs.sort_unstable();
        samples.singles.sort_unstable();
    }
    Ok(samples)
}

fn packet(node: &BenchNode, case: &Case, repeat: u32) -> Result<u32> {
    bpf::test_run(&case.program.program, &case.frame, node.uplink, repeat)
        .with_context(|| format!("the kernel did not run {}", case.id))
}
