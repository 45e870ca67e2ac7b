//! D4, D6, D7: what the worst messages cost, how much longer an answer is than its question, what a flood gets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::load::count_ns;
use super::peers::{NAMES, Peer, question};
use crate::figures::{Figure, count};

/// Messages of each kind for D4.
const MESSAGES: u64 = 400;
/// Answers to a foreign network that D7 allows each second.
const ALLOWED: f64 = 50.0;
/// Questions a second of the flood.
const FLOOD: u32 = 50_000;
/// The flood comes in pieces, as far apart as a sleep is exact.
const PIECES: u32 = 500;
/// Questions a second of the client beside the flood, below its own limit.
const PROBES: u32 = 40;
/// Loads of this length: of fewer probes a p99 would be the slowest but one.
const LONGER: u32 = 5;

/// D4: CPU for one message of 64 KiB (by TCP) or of the longest UDP can bring whole; the dearest kind counts.
pub(super) fn dearest_message(server: &Peer) -> Result<Figure> {
    let mut worst = 0.0f64;
    for (kind, message) in nasty() {
        let before = server.cpu_ns()?;
        for _ in 0..MESSAGES {
            let mut stream = TcpStream::connect(server.addr).context("cannot connect")?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let length = u16::try_from(message.len())?.to_be_bytes();
            stream
                .write_all(&[&length[..], &message].concat())
                .context("cannot send")?;
            // Whatever it says, or that it closes, it is done with the message.
            let _ = stream.read(&mut [0; 2]);
        }
        let ms = count_ns(server.cpu_ns()? - before) / 1e6 / count(MESSAGES);
        eprintln!(
            "D4 {kind}: {} bytes, {ms:.3} ms of CPU with its connection",
            message.len()
        );
        worst = worst.max(ms);
    }
    // The control: a plain question by a connection of its own.
    let before = server.cpu_ns()?;
    for _ in 0..MESSAGES {
        let mut stream = TcpStream::connect(server.addr)?;
        let message = question("app-00001.marathon.mesos", 1);
        stream.write_all(&[&u16::try_from(message.len())?.to_be_bytes()[..], &message].concat())?;
        let _ = stream.read(&mut [0; 2]);
    }
    let plain = count_ns(server.cpu_ns()? - before) / 1e6 / count(MESSAGES);
    Ok(Figure::new(
        "D4",
        worst,
        "ms",
        MESSAGES * u64::try_from(nasty().len())?,
        plain,
    ))
}

/// Messages made to keep a parser busy, each as long as is looked at, and as long as TCP carries.
fn nasty() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for length in [4096usize, 65_535] {
        let header = |counts: [u8; 8]| [&[1, 2, 1, 0][..], &counts].concat();
        let fill = |mut message: Vec<u8>, part: &[u8]| {
            while message.len() + part.len() <= length {
                message.extend_from_slice(part);
            }
            message.resize(length, 0);
            message
        };
        // A chain of pointers, each to the one before.
        let mut pointers = [header([0, 1, 0xff, 0xff, 0, 0, 0, 0]), vec![1, b'a', 0, 0, 1, 0, 1]].concat();
        let mut target = 12u16;
        while pointers.len() + 14 <= length {
            let here = u16::try_from(pointers.len().min(0x3fff)).unwrap_or(0x3fff);
            pointers.extend([1, b'b']);
            pointers.extend((0xc000 | target).to_be_bytes());
            pointers.extend([0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
            target = here;
        }
        pointers.resize(length, 0);
        let longest = [&[1, b'a'].repeat(127)[..], &[0, 0, 1, 0, 1]].concat();
        all.extend([
            ("pointers", pointers),
            ("labels", fill(header([0, 1, 0, 0xff, 0, 0, 0, 0]), &longest)),
            (
                "questions",
                fill(header([0xff, 0xff, 0, 0, 0, 0, 0, 0]), &[0, 0, 1, 0, 1]),
            ),
            (
                "records",
                fill(
                    [header([0, 1, 0xff, 0xff, 0, 0, 0, 0]), vec![0, 0, 1, 0, 1]].concat(),
                    &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
                ),
            ),
            (
                "options",
                fill(
                    [
                        header([0, 1, 0, 0, 0, 0, 0, 1]),
                        vec![0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0],
                    ]
                    .concat(),
                    &[0, 3, 0, 0],
                ),
            ),
        ]);
    }
    all
}

/// D6: how many times longer an answer is than its question, at most, for a foreign client and the whole name set.
pub(super) fn amplification(server: &Peer) -> Result<Figure> {
    let mut worst = 0.0f64;
    let mut asked = 0;
    let mut answer = [0; 4096];
    let names = (0..NAMES).map(|number| format!("app-{number:05}.marathon.mesos"));
    let more = ["big.marathon.mesos", "mesos", "nobody.mesos"].map(str::to_owned);
    for (number, name) in (0u32..).zip(names.chain(more)) {
        // A network of its own for each ten names, so that none is limited.
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + ((number / 10) << 8));
        let socket = UdpSocket::bind((source, 0)).with_context(|| format!("cannot bind {source}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        for rtype in [1u16, 28, 33, 255] {
            let question = question(&name, rtype);
            socket.send_to(&question, server.addr)?;
            let Ok(length) = socket.recv(&mut answer) else { continue };
            worst = worst.max(count(u64::try_from(length)?) / count(u64::try_from(question.len())?));
            asked += 1;
        }
    }
    Ok(Figure::new("D6.baf", worst, "ratio", asked, 1.0))
}

/// D7: full answers a second to one address that floods, and what a client elsewhere gets meanwhile. Beside it, as what this machine
/// takes whatever the server does, a client asks a program that only sends back what it gets.
pub(super) fn flood(server: &Peer, seconds: u32) -> Result<Vec<Figure>> {
    let seconds = seconds * LONGER;
    let addr = server.addr;
    let echo = echo()?;
    let quiet = probe(addr, seconds)?;
    let flooder = std::thread::spawn(move || pour(addr, seconds));
    let beside_echo = std::thread::spawn(move || probe(echo, seconds));
    let beside = probe(addr, seconds)?;
    let panicked = |_| anyhow::anyhow!("a thread panicked");
    let echoed = beside_echo.join().map_err(panicked)??;
    let (sent, full, cut) = flooder.join().map_err(panicked)??;
    eprintln!(
        "D7: {sent} questions of the flood in {seconds} s, {full} full answers, {cut} with TC; beside it {} of {} answered, p99 {:.2} ms (without it {} of {}, {:.2} ms); an echo beside it {:.2} ms",
        beside.answered, beside.asked, beside.p99_ms, quiet.answered, quiet.asked, quiet.p99_ms, echoed.p99_ms
    );
    // A flood of `seconds` seconds touches one second of the clock more.
    let rate = count(full) / f64::from(seconds + 1);
    let success = |probe: &Probe| 100.0 * count(probe.answered) / count(probe.asked);
    Ok(vec![
        Figure::new("D7", rate, "answers/s", sent, ALLOWED),
        Figure::new(
            "D7.flood",
            count(sent) / f64::from(seconds),
            "questions/s",
            sent,
            f64::from(FLOOD),
        ),
        Figure::new("D7.others", success(&beside), "%", beside.asked, success(&quiet)),
        Figure::new("D7.p99", beside.p99_ms, "ms", beside.asked, quiet.p99_ms).beside("an echo", echoed.p99_ms),
    ])
}

/// Sends `FLOOD` questions a second; tells how many, and how many full and how many cut answers came back.
fn pour(addr: SocketAddr, seconds: u32) -> Result<(u64, u64, u64)> {
    let socket = UdpSocket::bind("198.51.100.9:0").context("cannot bind 198.51.100.9")?;
    socket.set_nonblocking(true)?;
    let question = question("app-00002.marathon.mesos", 1);
    let (mut sent, mut full, mut cut) = (0, 0, 0);
    let mut answer = [0; 512];
    let began = Instant::now();
    for piece in 0..seconds * PIECES {
        let due = began + Duration::from_secs(1) * piece / PIECES;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..FLOOD / PIECES {
            sent += u64::from(socket.send_to(&question, addr).is_ok());
        }
        while let Ok(length) = socket.recv(&mut answer) {
            if length > 3 && answer[2] & 2 == 0 {
                full += 1;
            } else {
                cut += 1;
            }
        }
    }
    Ok((sent, full, cut))
}

/// Starts a program that sends back what it gets, for as long as this one runs.
fn echo() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind a port for the echo")?;
    let addr = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut message) {
            // One that is lost counts as not answered.
            let _ = socket.send_to(&message[..length], from);
        }
    });
    Ok(addr)
}

struct Probe {
    asked: u64,
    answered: u64,
    p99_ms: f64,
}

/// A client that asks evenly, from another network, and waits for each answer up to a second.
fn probe(addr: SocketAddr, seconds: u32) -> Result<Probe> {
    let socket = UdpSocket::bind("203.0.113.9:0").context("cannot bind 203.0.113.9")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let question = question("app-00003.marathon.mesos", 1);
    let began = Instant::now();
    let mut took = Vec::new();
    let mut asked = 0;
    for number in 0..seconds * PROBES {
        let due = began + Duration::from_secs(1) * number / PROBES;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        socket.send_to(&question, addr)?;
        asked += 1;
        let mut answer = [0; 512];
        if socket
            .recv(&mut answer)
            .is_ok_and(|length| length > 3 && answer[2] & 2 == 0)
        {
            took.push(at.elapsed().as_secs_f64() * 1000.0);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(Probe {
        asked,
        answered: u64::try_from(took.len())?,
        p99_ms: took.get(took.len() * 99 / 100).copied().unwrap_or(f64::INFINITY),
    })
}
