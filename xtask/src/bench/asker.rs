//! A DNS client in the lab, by hand: what it asks, what comes back, and how long that took.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::Place;
use crate::lab::net::in_network;
use crate::lab::prober::question;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub(crate) code: u8,
    /// Records in the answer section.
    pub(crate) answers: u16,
    bytes: Vec<u8>,
    pub(crate) took: Duration,
}

impl Answer {
    /// Whether a record has this address.
    pub(crate) fn has(&self, addr: Ipv4Addr) -> bool {
        let data = [&[0, 4][..], &addr.octets()].concat();
        self.bytes.windows(data.len()).any(|window| window == data)
    }
}

/// A client on one node.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pid: u32,
    server: SocketAddr,
}

impl Asker {
    pub(crate) fn new(place: &Place, server: SocketAddr) -> Self {
        Self { pid: place.pid, server }
    }

    /// Asks for the A records of all `names`, one after the other; `None` for one that nothing came back for.
    pub(crate) fn ask(&self, names: Vec<String>) -> Result<Vec<Option<Answer>>> {
        let server = self.server;
        in_network(self.pid, move || {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.connect(server)?;
            names.iter().zip(1..).map(|(name, id)| one(&socket, name, id)).collect()
        })
    }

    /// Asks for all `names` at once, each from a thread of its own.
    pub(crate) fn ask_at_once(&self, names: Vec<String>) -> Result<Vec<Option<Answer>>> {
        let threads: Vec<_> = names
            .into_iter()
            .map(|name| {
                let asker = self.clone();
                std::thread::spawn(move || asker.ask(vec![name]))
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().ok().context("a client ended early")??);
        }
        Ok(all)
    }

    /// Sends a question for each of `names` every `pause` and waits for no answer.
    pub(crate) fn shout(&self, names: Vec<String>, pause: Duration) -> Result<()> {
        let server = self.server;
        in_network(self.pid, move || {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.connect(server)?;
            for name in names {
                // A full queue is the server's to bear.
                drop(socket.send(&question(&name, 1)));
                std::thread::sleep(pause);
            }
            Ok(())
        })
    }
}

fn one(socket: &UdpSocket, name: &str, id: u16) -> Result<Option<Answer>> {
    let began = Instant::now();
    socket.send(&question(name, id)).context("cannot ask")?;
    let mut buffer = [0; 4096];
    while let Some(left) = PATIENCE.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let bytes = &buffer[..length];
        if length >= 12 && bytes[..2] == id.to_be_bytes() {
            return Ok(Some(Answer {
                code: bytes[3] & 0x0f,
                answers: u16::from_be_bytes([bytes[6], bytes[7]]),
                bytes: bytes.to_vec(),
                took: began.elapsed(),
            }));
        }
    }
    Ok(None)
}
