//! Sockets inside a place's network: small HTTP requests, whole frames out, whole frames in.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};

use super::Place;

/// Longest wait for an answer over HTTP.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of the receive buffer of a listener: a second of frames at the rates used here.
const BUFFER: usize = 64 << 20;
/// Longest frame that a listener looks at; only the headers matter.
const FRAME: usize = 256;
/// A sender wakes so often and sends what has become due.
const BURST: Duration = Duration::from_millis(1);

/// Runs `work` in the network of process `pid`, in a thread of its own: `setns` changes the thread that calls it.
pub fn in_network<T: Send + 'static>(pid: u32, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
        work()
    });
    thread.join().ok().context("a thread in another network ended early")?
}

/// One request over HTTP/1.1 from inside a place; gives status and body.
pub fn http(place: &Place, to: SocketAddr, head: &str, body: &str) -> Result<(u16, String)> {
    http_with_head(place, to, head, body).map(|(status, _, body)| (status, body))
}

/// The same with the answer's head, in small letters, between them.
pub fn http_with_head(place: &Place, to: SocketAddr, head: &str, body: &str) -> Result<(u16, String, String)> {
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    in_network(place.pid, move || {
        let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(request.as_bytes())?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let status = said.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("{to} answered something that is no HTTP"))?;
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
        Ok((status, head.to_lowercase(), body.to_owned()))
    })
}

/// Counts frames that a place's stack gets to see, by a condition.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Hears every interface of the place.
    pub fn new(place: &Place) -> Result<Self> {
        in_network(place.pid, || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&fd, sockopt::RcvBufForce, &BUFFER)?;
            Ok(Self(fd))
        })
    }

    /// How many of the frames heard since the last call are of this kind.
    pub fn count(&self, is_one: impl Fn(&[u8]) -> bool) -> Result<u64> {
        let mut frame = [0_u8; FRAME];
        let mut count = 0;
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => count += u64::from(is_one(&frame[..length.min(FRAME)])),
                Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::ENETDOWN) => {}
                Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error).context("cannot read frames"),
            }
        }
    }
}

/// Sends frames from inside a place until it is stopped.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
    began: Instant,
}

/// What a sender did.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames that the kernel took.
    pub frames: u64,
    /// For so long.
    pub time: Duration,
}

impl Sent {
    /// Frames per second.
    #[must_use]
    pub fn rate(self) -> f64 {
        crate::figures::count(self.frames) / self.time.as_secs_f64().max(0.001)
    }
}

impl Sender {
    /// Sends `rate` frames per second out of `device`; frame `n` is what `make(n)` gives.
    pub fn start(
        place: &Place,
        device: &'static str,
        rate: u32,
        mut make: impl FnMut(u64, &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (pid, stopped) = (place.pid, Arc::clone(&stop));
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            in_network(pid, move || {
                let (fd, link) = packet_socket(device)?;
                let (mut frame, mut sent, began) = (Vec::new(), 0_u64, Instant::now());
                while !stopped.load(Ordering::Relaxed) {
                    let due = began.elapsed().as_nanos().saturating_mul(u128::from(rate)) / 1_000_000_000;
                    while u128::from(sent) < due && !stopped.load(Ordering::Relaxed) {
                        frame.clear();
                        make(sent, &mut frame);
                        match sendto(fd.as_raw_fd(), &frame, &link, MsgFlags::empty()) {
                            Ok(_) => sent += 1,
                            // The queue is full: what is due goes out as soon as others let it.
                            Err(nix::Error::ENOBUFS) => break,
                            Err(error) => return Err(error).context("cannot send a frame"),
                        }
                    }
                    std::thread::sleep(BURST);
                }
                Ok(sent)
            })
        });
        Self { stop, thread, began }
    }

    /// Stops it.
    pub fn finish(self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let time = self.began.elapsed();
        let frames = self.thread.join().ok().context("the sender ended early")??;
        Ok(Sent { frames, time })
    }
}

/// Sends these frames once.
pub fn send_frames(place: &Place, device: &'static str, frames: Vec<Vec<u8>>) -> Result<()> {
    in_network(place.pid, move || {
        let (fd, link) = packet_socket(device)?;
        for frame in frames {
            sendto(fd.as_raw_fd(), &frame, &link, MsgFlags::empty()).context("cannot send a frame")?;
        }
        Ok(())
    })
}

/// A socket for whole frames, and the device's address to send them by.
fn packet_socket(device: &str) -> Result<(OwnedFd, LinkAddr)> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let link = nix::ifaddrs::getifaddrs()?
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied());
    match link {
        Some(link) => Ok((fd, link)),
        None => bail!("there is no device {device}"),
    }
}
