//! D8: a forger off the path floods a node with replies in the name of a server that takes its time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Outcome;
use super::forward::{Scene, names};
use crate::figures::{Figure, count};
use crate::lab::net::{Sender, send_frames};
use crate::lab::upstream::{Conduct, HONEST, LIE, forged};
use crate::lab::{Place, wait_for};

/// The server in whose name replies are forged, and the node that asks it.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 151);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// So long the true answer takes: the forger's time.
const DELAY: Duration = Duration::from_millis(700);
/// Forged replies that must have come while the question was open.
const FORGED: u64 = 120_000;
/// A second, as many as one core of a small machine makes beside everything else.
const RATE: u32 = 60_000;
/// Most questions asked to get there.
const MOST: usize = 1500;
/// Questions of the forger who sees everything.
const SEEN: usize = 20;
/// Questions whose ports and ids are looked at.
const SPREAD: usize = 5120;
/// Cells of the chi-square test; with 255 degrees of freedom 310.5 is exceeded once in a hundred runs.
const CELLS: usize = 256;
/// Lowest port that questions are sent from.
const FIRST_PORT: u64 = 10_240;
/// Where the id of a reply stands in a forged frame.
const ID: usize = 14 + 20 + 8;

/// What a forger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// The name asked about, the server, the node.
    Name,
    /// And the port the question was sent from.
    Port,
}

pub(super) fn run(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    entropy(scene, outcome)?;
    scene.upstreams[0].behave(Conduct::Answers(DELAY));
    let control = on_path(scene)?;
    outcome.check(control == SEEN as u64, || {
        format!("D8: the control failed: of {SEEN} replies by one who saw the question {control} were taken")
    });
    for (id, knows) in [("D8", Knows::Name), ("D8.port_known", Knows::Port)] {
        let (taken, sent, asked, honest) = flood(scene, knows)?;
        eprintln!("{id}: {taken} of {sent} forged replies taken in {asked} questions, {honest} answered rightly");
        outcome.check(taken == 0 && sent >= 100_000, || {
            format!("{id}: {taken} of {sent} forged replies taken")
        });
        outcome.check(honest == asked, || {
            format!("{id}: {honest} of {asked} questions answered rightly")
        });
        outcome.figures.push(Figure::failures(id, taken, sent, control));
    }
    Ok(())
}

/// A forger who sees port, id and letters: every forgery must be taken, or the flood proves nothing.
fn on_path(scene: &Scene) -> Result<u64> {
    let macs = macs(scene)?;
    let mut taken = 0;
    for name in names("onpath", "one.test", SEEN) {
        let before = scene.upstreams[0].heard();
        let asker = scene.asker.clone();
        let asking = std::thread::spawn(move || asker.ask(vec![name]));
        let heard = || {
            (scene.upstreams[0].heard() > before)
                .then(|| scene.upstreams[0].last())
                .flatten()
        };
        let (question, from) = wait_for(Duration::from_secs(5), heard).context("the server heard no question")?;
        let frame = frame(macs, from.port(), &forged(&question, 0));
        send_frames(&scene.forger, "up0", vec![frame])?;
        let answers = asking.join().ok().context("the client ended early")??;
        taken += u64::from(answers.iter().flatten().any(|answer| answer.has(LIE)));
    }
    Ok(taken)
}

/// Floods while questions are asked, until enough has come; gives taken, sent while a question was open, questions, and
/// those answered rightly.
fn flood(scene: &Scene, knows: Knows) -> Result<(u64, u64, u64, u64)> {
    let (port, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (mut taken, mut in_time, mut asked, mut honest) = (0, 0, 0, 0);
    let prefix = if knows == Knows::Name { "blind" } else { "guess" };
    for name in names(prefix, "one.test", MOST) {
        if in_time >= FORGED {
            break;
        }
        let mut template = frame(macs(scene)?, 0, &forged(&question(&name), 0));
        let (known, counter) = (Arc::clone(&port), Arc::clone(&sent));
        port.store(0, Ordering::Relaxed);
        let before = scene.upstreams[0].heard();
        let asker = scene.asker.clone();
        let asking = std::thread::spawn(move || asker.ask(vec![name]));
        if knows == Knows::Port {
            let heard = || {
                (scene.upstreams[0].heard() > before)
                    .then(|| scene.upstreams[0].last())
                    .flatten()
            };
            let (_, from) = wait_for(Duration::from_secs(5), heard).context("the server heard no question")?;
            port.store(u64::from(from.port()), Ordering::Relaxed);
        }
        let sender = Sender::start(&scene.forger, "up0", RATE, move |number, out| {
            let dice = spread(number.wrapping_add(counter.fetch_add(1, Ordering::Relaxed) << 20));
            let known = known.load(Ordering::Relaxed);
            let to = if known == 0 {
                FIRST_PORT + (dice >> 16) % (65_536 - FIRST_PORT)
            } else {
                known
            };
            template[36..38].copy_from_slice(&low(to));
            // Ids one after the other, as one who wants to try them all does.
            template[ID..ID + 2].copy_from_slice(&low(number));
            out.extend_from_slice(&template);
        });
        let answers = asking.join().ok().context("the client ended early")??;
        in_time += sender.finish()?.frames;
        asked += 1;
        let answer = answers
            .into_iter()
            .flatten()
            .next()
            .context("a question was not answered at all")?;
        taken += u64::from(answer.has(LIE));
        honest += u64::from(answer.has(HONEST));
    }
    Ok((taken, in_time, asked, honest))
}

/// How evenly ports and ids are spread, and how many bits they are.
fn entropy(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    let before = scene.upstreams[0].seen().len();
    let answers = scene.asker.ask(names("spread", "one.test", SPREAD))?;
    let seen = scene.upstreams[0].seen().split_off(before);
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    outcome.check(missing == 0, || {
        format!("D8: {missing} of {SPREAD} plain questions were not answered")
    });
    let mut ports: Vec<u16> = seen.iter().map(|(port, _)| *port).collect();
    let ids: Vec<usize> = seen.iter().map(|(_, id)| usize::from(*id) / (65_536 / CELLS)).collect();
    // All ports from the first on but the thousand of tasks, which a node offers.
    let place = |port: u16| match port {
        0..31_000 => usize::from(port).saturating_sub(10_240),
        _ => usize::from(port).saturating_sub(10_240 + 1001),
    };
    let size = 65_536 - 10_240 - 1001;
    let cells: Vec<usize> = ports.iter().map(|port| place(*port) * CELLS / size).collect();
    outcome.check(
        ports
            .iter()
            .all(|port| *port >= 10_240 && !(31_000..=32_000).contains(port)),
        || "D8: a question was sent from a reserved port".to_owned(),
    );
    ports.sort_unstable();
    let n = seen.len() as u64;
    let bits = count(size as u64).log2() + 16.0;
    for (id, cells) in [("D8.ports_chi2", cells), ("D8.ids_chi2", ids)] {
        let value = chi_square(&cells);
        eprintln!("{id}: {value:.1} (255 degrees of freedom)");
        outcome
            .figures
            .push(Figure::new(id, value, "chi-square of 255", n, 255.0));
    }
    outcome.figures.push(Figure::new("D8.bits", bits, "bits", n, 31.0));
    Ok(())
}

fn chi_square(cells: &[usize]) -> f64 {
    let mut counts = vec![0_u64; CELLS];
    for cell in cells {
        counts[(*cell).min(CELLS - 1)] += 1;
    }
    let expected = count(cells.len() as u64) / count(CELLS as u64);
    counts
        .iter()
        .map(|found| (count(*found) - expected).powi(2) / expected)
        .sum()
}

/// The node's and the forger's link addresses.
fn macs(scene: &Scene) -> Result<([u8; 6], [u8; 6])> {
    Ok((link_address(scene.cluster.node(1))?, link_address(&scene.forger)?))
}

fn link_address(place: &Place) -> Result<[u8; 6]> {
    crate::fault::link_address(place)
}

/// A frame from the server's address to the node, with this DNS message.
fn frame(macs: ([u8; 6], [u8; 6]), to_port: u16, message: &[u8]) -> Vec<u8> {
    let from = SocketAddr::from((SERVER, 53));
    let mut frame = [macs.0.as_slice(), &macs.1, &[8, 0]].concat();
    let length = |extra: usize| u16::try_from(message.len() + extra).unwrap_or_default().to_be_bytes();
    frame.extend([0x45, 0]);
    frame.extend(length(28));
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(SERVER.octets());
    frame.extend(NODE.octets());
    let sum = crate::fault::checksum(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(from.port().to_be_bytes());
    frame.extend(to_port.to_be_bytes());
    frame.extend(length(8));
    // No UDP checksum, which IPv4 allows.
    frame.extend([0, 0]);
    frame.extend_from_slice(message);
    frame
}

/// The question as a forger guesses it, in the letters of its name.
fn question(name: &str) -> Vec<u8> {
    let mut out = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or_default());
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}

fn low(number: u64) -> [u8; 2] {
    let [.., high, low] = number.to_be_bytes();
    [high, low]
}

/// Different for each number, and without order.
fn spread(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}
