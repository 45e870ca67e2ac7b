//! Questions to one name server at an even rate, each with what became of it.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Place;
use super::net::in_network;

/// Answers are waited for so long after the last question: longer than any client would.
const LATE: Duration = Duration::from_secs(5);

/// Between two looks for answers.
const LOOK: Duration = Duration::from_millis(1);

/// Sockets asked from, so that each of the server's threads has some.
const SOCKETS: u16 = 8;

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// When it was sent, from the start.
    pub sent: Duration,
    /// How long the answer took, and its response code; `None`: there was none.
    pub answer: Option<(Duration, u8)>,
}

/// Questions that are being asked.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    began: Instant,
    thread: JoinHandle<Result<Vec<Probe>>>,
}

impl Prober {
    /// Asks for the A records of `name` every `pause`, at most 60,000 times.
    #[must_use]
    pub fn start(place: &Place, server: SocketAddr, name: &str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (pid, stopped, name) = (place.pid, Arc::clone(&stop), name.to_owned());
        let began = Instant::now();
        let thread = std::thread::spawn(move || in_network(pid, move || ask(server, &name, pause, began, &stopped)));
        Self { stop, began, thread }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops asking, and gives all questions once the last answers had their time.
    pub fn finish(self) -> Result<Vec<Probe>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the prober ended early")?
    }
}

fn ask(server: SocketAddr, name: &str, pause: Duration, began: Instant, stop: &AtomicBool) -> Result<Vec<Probe>> {
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let mut probes: Vec<Probe> = Vec::new();
    let mut open: HashMap<u16, usize> = HashMap::new();
    let mut next = began.elapsed();
    let mut last = None;
    while last.is_none_or(|last: Instant| last.elapsed() < LATE && !open.is_empty()) {
        let now = began.elapsed();
        if last.is_none() && now >= next {
            let id = u16::try_from(probes.len()).unwrap_or(u16::MAX);
            // A server that is away refuses by ICMP: no answer, then.
            drop(sockets[usize::from(id % SOCKETS)].send(&question(name, id)));
            open.insert(id, probes.len());
            probes.push(Probe {
                sent: now,
                answer: None,
            });
            next += pause;
        }
        for socket in &sockets {
            take(socket, began, &mut open, &mut probes)?;
        }
        if last.is_none() && (stop.load(Ordering::Relaxed) || probes.len() >= 60_000) {
            last = Some(Instant::now());
        }
        std::thread::sleep(LOOK.min(pause / 2));
    }
    Ok(probes)
}

fn take(socket: &UdpSocket, began: Instant, open: &mut HashMap<u16, usize>, probes: &mut [Probe]) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if length >= 12 => {
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                if let Some(index) = open.remove(&id) {
                    let took = began.elapsed() - probes[index].sent;
                    probes[index].answer = Some((took, buffer[3] & 0x0f));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).context("cannot read answers"),
        }
    }
}

/// A question for the A records of `name`, with recursion desired.
pub(crate) fn question(name: &str, id: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    // RD, one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}
