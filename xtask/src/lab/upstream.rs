//! A name server in the lab that does as it is told: answers, is slow, is silent, errs, lies.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use super::{Place, net::in_network};

/// What every honest answer says.
pub const HONEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// What every lie says.
pub const LIE: Ipv4Addr = Ipv4Addr::new(6, 6, 6, 6);
/// Addresses of a name that begins with `big`: too many for UDP.
pub const BIG: u8 = 200;
/// Between two looks whether it shall end.
const LOOK: Duration = Duration::from_millis(20);
const HEADER: usize = 12;

/// How it treats questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Answers after so long: `gone...` with NXDOMAIN, `big...` cut by UDP and whole by TCP, others with [`HONEST`].
    Answers(Duration),
    /// Never answers.
    Silent,
    /// Answers this error at once.
    Errs(u8),
    /// Sends [`LIE`] under a wrong id, for another name, and as a record that does not belong.
    Lies,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    conduct: Mutex<Conduct>,
    ttl: u32,
    stop: AtomicBool,
    heard: AtomicU64,
    by_tcp: AtomicU64,
    /// The last question by UDP and where it came from.
    last: Mutex<Option<(Vec<u8>, SocketAddr)>>,
    /// Source port and id of every question by UDP.
    seen: Mutex<Vec<(u16, u16)>>,
}

impl Upstream {
    /// Serves on port 53 of `addr`, an address of `place`; records live `ttl` seconds.
    pub fn start(place: &Place, addr: Ipv4Addr, ttl: u32, conduct: Conduct) -> Result<Self> {
        let state = Arc::new(State {
            conduct: Mutex::new(conduct),
            ttl,
            stop: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            by_tcp: AtomicU64::new(0),
            last: Mutex::new(None),
            seen: Mutex::new(Vec::new()),
        });
        // Sockets stay in the network they were opened in, whoever uses them.
        let (udp, tcp) = in_network(place.pid, move || {
            let udp = UdpSocket::bind((addr, 53))?;
            udp.set_read_timeout(Some(LOOK))?;
            let tcp = TcpListener::bind((addr, 53))?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        })?;
        let (one, other) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&one, &udp)),
            std::thread::spawn(move || serve_tcp(&other, &tcp)),
        ];
        Ok(Self { state, threads })
    }

    /// From now on.
    pub fn behave(&self, conduct: Conduct) {
        *lock(&self.state.conduct) = conduct;
    }

    /// Questions by UDP so far.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.state.heard.load(Ordering::Relaxed)
    }

    /// Questions by TCP so far.
    #[must_use]
    pub fn by_tcp(&self) -> u64 {
        self.state.by_tcp.load(Ordering::Relaxed)
    }

    /// The last question by UDP and where it came from.
    #[must_use]
    pub fn last(&self) -> Option<(Vec<u8>, SocketAddr)> {
        lock(&self.state.last).clone()
    }

    /// Source port and id of every question by UDP so far.
    #[must_use]
    pub fn seen(&self) -> Vec<(u16, u16)> {
        lock(&self.state.seen).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_udp(state: &Arc<State>, socket: &UdpSocket) {
    let mut buffer = [0; 4096];
    while !state.stop.load(Ordering::Relaxed) {
        // Errors are timeouts and closed ports of askers that stopped waiting.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let question = buffer[..length].to_vec();
        if question.len() < HEADER {
            continue;
        }
        state.heard.fetch_add(1, Ordering::Relaxed);
        lock(&state.seen).push((from.port(), u16::from_be_bytes([question[0], question[1]])));
        *lock(&state.last) = Some((question.clone(), from));
        let conduct = *lock(&state.conduct);
        let ttl = state.ttl;
        let send = move |socket: &UdpSocket| {
            for answer in answers(&question, conduct, ttl, false) {
                // An asker that is gone.
                drop(socket.send_to(&answer, from));
            }
        };
        match (conduct, socket.try_clone()) {
            (Conduct::Answers(delay), Ok(socket)) if !delay.is_zero() => {
                std::thread::spawn(move || {
                    std::thread::sleep(delay);
                    send(&socket);
                });
            }
            _ => send(socket),
        }
    }
}

fn serve_tcp(state: &Arc<State>, listener: &TcpListener) {
    while !state.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // An asker that is gone.
            Ok((stream, _)) => drop(one_by_tcp(state, stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK / 4),
            Err(_) => {}
        }
    }
}

fn one_by_tcp(state: &State, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    state.by_tcp.fetch_add(1, Ordering::Relaxed);
    let conduct = *lock(&state.conduct);
    for answer in answers(&question, conduct, state.ttl, true) {
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// What goes back, message by message.
fn answers(question: &[u8], conduct: Conduct, ttl: u32, whole: bool) -> Vec<Vec<u8>> {
    let reply = Reply::to(question, ttl);
    match conduct {
        Conduct::Silent => Vec::new(),
        Conduct::Errs(code) => vec![reply.with(code, &[])],
        Conduct::Answers(_) => vec![reply.honest(whole)],
        Conduct::Lies => {
            let lie = reply.with(0, &[LIE]);
            let mut id = lie.clone();
            id[0] ^= 0x5a;
            let mut name = lie;
            // Another first letter of the name.
            name[HEADER + 1] ^= 0x01;
            vec![id, name, reply.misplaced()]
        }
    }
}

/// A reply in the making.
struct Reply<'a> {
    question: &'a [u8],
    /// Where the question section ends.
    end: usize,
    ttl: u32,
}

impl<'a> Reply<'a> {
    fn to(question: &'a [u8], ttl: u32) -> Self {
        let mut at = HEADER;
        while let Some(length) = question.get(at).filter(|length| **length != 0) {
            at += usize::from(*length) + 1;
        }
        let end = (at + 5).min(question.len());
        Self { question, end, ttl }
    }

    fn kind(&self) -> u16 {
        match self
            .question
            .get(self.end.saturating_sub(4)..self.end.saturating_sub(2))
        {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    fn begins(&self, with: &[u8]) -> bool {
        let name = self.question.get(HEADER + 1..).unwrap_or_default();
        name.len() >= with.len() && name[..with.len()].eq_ignore_ascii_case(with)
    }

    fn honest(&self, whole: bool) -> Vec<u8> {
        match self.kind() {
            _ if self.begins(b"gone") => self.negative(3),
            1 if self.begins(b"big") && whole => {
                let many: Vec<Ipv4Addr> = (1..=BIG).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
                self.with(0, &many)
            }
            1 if self.begins(b"big") => {
                let mut cut = self.with(0, &[]);
                cut[2] |= 0x02;
                cut
            }
            1 => self.with(0, &[HONEST]),
            _ => self.negative(0),
        }
    }

    fn head(&self, code: u8, answers: u16, authorities: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&self.question[..2]);
        // QR, RD, RA.
        out.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
        out.extend_from_slice(&answers.to_be_bytes());
        out.extend_from_slice(&authorities.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.question[HEADER..self.end]);
        out
    }

    fn with(&self, code: u8, addrs: &[Ipv4Addr]) -> Vec<u8> {
        let mut out = self.head(code, u16::try_from(addrs.len()).unwrap_or(u16::MAX), 0);
        for addr in addrs {
            // The owner is the question's name.
            out.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1]);
            out.extend_from_slice(&self.ttl.to_be_bytes());
            out.extend_from_slice(&[0, 4]);
            out.extend_from_slice(&addr.octets());
        }
        out
    }

    /// With a SOA of the root, which is a zone of every name.
    fn negative(&self, code: u8) -> Vec<u8> {
        let mut out = self.head(code, 0, 1);
        out.extend_from_slice(&[0, 0, 6, 0, 1]);
        out.extend_from_slice(&self.ttl.to_be_bytes());
        out.extend_from_slice(&[0, 22, 0, 0]);
        for number in [1_u32, 60, 60, 60, self.ttl] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out
    }

    /// NOERROR with an address of `leader.mesos` instead of the name asked for.
    fn misplaced(&self) -> Vec<u8> {
        let mut out = self.head(0, 1, 0);
        out.extend_from_slice(b"\x06leader\x05mesos\0\0\x01\0\x01");
        out.extend_from_slice(&3600_u32.to_be_bytes());
        out.extend_from_slice(&[0, 4]);
        out.extend_from_slice(&LIE.octets());
        out
    }
}

/// A reply to `question` with these addresses: what a forger sends who saw it.
#[must_use]
pub fn forged(question: &[u8], ttl: u32) -> Vec<u8> {
    Reply::to(question, ttl).with(0, &[LIE])
}
