//! What a VIP costs a client on the same node: P7, `connect` through the hooks beside `connect` past them, and P6, what one
//! connection carries either way. Kinds take turns within one run; each is measured against a second series of its own kind.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc::linger;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

mod lab;

use lab::{BACKENDS, Lab, PORT, backend, vip};

/// Calls of each kind.
const CALLS: usize = 5_000;
/// Turns of each kind, and the length of one.
const TURNS: usize = 15;
const TURN: Duration = Duration::from_millis(300);
const CHUNK: usize = 256 << 10;

/// Measures, prints, writes `p6.json` and `p7.json` below the current directory's `target/figures`.
pub fn run() -> Result<()> {
    let lab = Lab::new()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("the backends' port")?;
    std::thread::spawn(move || serve(&listener));
    let tcp = connects(SockType::Stream)?;
    let udp = connects(SockType::Datagram)?;
    let carried = throughput()?;
    drop(lab);
    let folder = Path::new("target/figures");
    let p7 = serde_json::json!([tcp.figure("P7"), udp.figure("P7.udp")]);
    lab::write(folder, "p7.json", &p7)?;
    let p6 = serde_json::json!([{
        "id": "P6", "value": carried.ratio, "unit": "ratio", "n": TURNS, "control": carried.control,
        "peer": "direct connection, Gbit/s", "peer_value": carried.direct,
    }]);
    lab::write(folder, "p6.json", &p6)?;
    eprintln!("{p7:#}\n{p6:#}");
    Ok(())
}

/// Reads whatever comes, on every connection.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut stream = stream;
            let mut bytes = vec![0; CHUNK];
            while stream.read(&mut bytes).is_ok_and(|len| len > 0) {}
        });
    }
}

/// Medians of `connect`, in nanoseconds.
struct Connects {
    direct: u64,
    again: u64,
    vip: u64,
}

impl Connects {
    fn figure(&self, id: &str) -> serde_json::Value {
        let us = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
        serde_json::json!({
            "id": id, "value": us(self.vip) - us(self.direct), "unit": "us", "n": CALLS,
            "control": us(self.again) - us(self.direct), "peer": "direct connect, us", "peer_value": us(self.direct),
        })
    }
}

fn connects(kind: SockType) -> Result<Connects> {
    let mut times = [const { Vec::new() }; 3];
    for call in 0..CALLS {
        let n = u8::try_from(call % usize::from(BACKENDS))?;
        // Who goes first changes, for the second finds warmer caches.
        for turn in 0..3 {
            let which = (turn + call) % 3;
            let to = if which == 2 { vip() } else { backend(n) };
            times[which].push(once(kind, to)?);
        }
    }
    let [direct, again, vip] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    Ok(Connects { direct, again, vip })
}

fn once(kind: SockType, to: SocketAddr) -> Result<u64> {
    let client = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let addr = SockaddrStorage::from(to);
    let start = Instant::now();
    connect(client.as_raw_fd(), &addr).with_context(|| format!("could not connect to {to}"))?;
    let time = start.elapsed();
    if kind == SockType::Stream {
        // A reset leaves no port waiting.
        let now = linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&client, sockopt::Linger, &now)?;
    }
    Ok(u64::try_from(time.as_nanos())?)
}

struct Carried {
    direct: f64,
    ratio: f64,
    control: f64,
}

fn throughput() -> Result<Carried> {
    let mut rates = [const { Vec::new() }; 3];
    for turn in 0..TURNS {
        for kind in 0..3 {
            let which = (turn + kind) % 3;
            let to = if which == 2 { vip() } else { backend(0) };
            rates[which].push(rate(to)?);
        }
    }
    let [direct, again, vip] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    Ok(Carried {
        direct,
        ratio: vip / direct,
        control: again / direct,
    })
}

/// What one connection carries, in Gbit/s.
fn rate(to: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let bytes = vec![0; CHUNK];
    let start = Instant::now();
    let mut chunks: u32 = 0;
    while start.elapsed() < TURN {
        stream.write_all(&bytes)?;
        chunks += 1;
    }
    let bits = f64::from(chunks) * f64::from(u32::try_from(CHUNK * 8)?);
    Ok(bits / start.elapsed().as_secs_f64() / 1e9)
}
