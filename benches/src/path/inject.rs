//! Frames made by the kernel itself and put on the cable of a node: a program that writes one and redirects it, run as
//! "live frames", so that making them costs next to nothing beside what is measured.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use xtask::lab::Place;
use xtask::lab::net::in_network;

use super::PORT;
use crate::bpf::{self, MapKind};

/// Of Ethernet, without its check sequence.
const LEN: usize = 64;
/// Flows in turn.
const FLOWS: i32 = 1024;
const SOURCE_PORT: i16 = 34;

const MAP_VALUE: u8 = 2;
const REDIRECT: i32 = 23;
const XDP_ABORTED: i32 = 0;

/// A loaded program and where it must run.
#[derive(Debug)]
pub(super) struct Injector {
    program: OwnedFd,
    /// A process in the network namespace that frames are made in.
    place: u32,
}

fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [a, b] = offset.to_ne_bytes();
    let [c, d, e, f] = value.to_ne_bytes();
    u64::from_ne_bytes([code, (from << 4) | to, a, b, c, d, e, f])
}

impl Injector {
    /// For datagrams to `to` by a node.
    pub(super) fn new(fabric: &Place, node: &Place, to: Ipv4Addr) -> Result<Self> {
        let mac = node.sh("ip -o link show up0 | sed 's/.*ether //; s/ .*//'")?;
        let cable = fabric.sh(&format!(
            "cat /proc/net/dev >/dev/null; ip -o link show {} | cut -d: -f1",
            node.name
        ))?;
        let cable: i32 = cable
            .trim()
            .parse()
            .with_context(|| format!("the node's cable: {cable}"))?;
        Self::load(fabric, cable, &frame(&mac, to)?)
    }

    /// For datagrams to a container itself by its link on the node: what making and taking them costs without any way between.
    pub(super) fn straight(node: &Place, backend: Ipv4Addr) -> Result<Self> {
        let link = node.sh(&format!("ip -o route get {backend} | sed 's/.* dev //; s/ .*//'"))?;
        let mac = node.sh(&format!("ip neigh show {backend} | sed 's/.*lladdr //; s/ .*//'"))?;
        let index = node.sh(&format!("ip -o link show {} | cut -d: -f1", link.trim()))?;
        let index = index
            .trim()
            .parse()
            .with_context(|| format!("the container's link: {index}"))?;
        Self::load(node, index, &frame(&mac, backend)?)
    }

    fn load(place: &Place, link: i32, frame: &[u8]) -> Result<Self> {
        let program = program(frame, link).context("cannot load the injecting program")?;
        Ok(Self {
            program,
            place: place.pid,
        })
    }

    /// Sends so many.
    pub(super) fn run(&self, count: u32) -> Result<()> {
        let program = self.program.try_clone()?;
        in_network(self.place, move || {
            bpf::live_run(&program, &[0; LEN], count).context("the kernel sends no frames")
        })
    }
}

/// A datagram from somebody on the fabric.
fn frame(mac: &str, to: Ipv4Addr) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    for part in mac.trim().split(':') {
        frame.push(u8::from_str_radix(part, 16)?);
    }
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 99, 0, 100];
    ip.extend(to.octets());
    let mut sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum)?;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    // No checksum: the source port changes.
    frame.extend([0x9c, 0x40]);
    frame.extend(PORT.to_be_bytes());
    frame.extend([0, 30, 0, 0]);
    frame.resize(LEN, 0);
    Ok(frame)
}

/// Writes the frame anew, for pages come back as the node left them; counts the source port on; redirects.
fn program(frame: &[u8], cable: i32) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let counter = bpf::map(MapKind::Array, 8)?;
    let mut body = Vec::new();
    for (index, word) in frame.chunks_exact(4).enumerate() {
        let at = i16::try_from(index * 4).map_err(io::Error::other)?;
        let value = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        body.push(op(0x62, 2, 0, at, value));
    }
    body.extend([op(0x18, 1, MAP_VALUE, 0, counter.as_raw_fd()), 0]);
    body.extend([
        // r5 = counter; counter = r5 + 1; port = 1024 + (r5 & 1023), in whatever byte order
        op(0x79, 5, 1, 0, 0),
        op(0x07, 5, 0, 0, 1),
        op(0x7b, 1, 5, 0, 0),
        op(0x57, 5, 0, 0, FLOWS - 1),
        op(0x07, 5, 0, 0, 1024),
        op(0x6b, 2, 5, SOURCE_PORT, 0),
        op(0xb7, 1, 0, 0, cable),
        op(0xb7, 2, 0, 0, 0),
        op(0x85, 0, 0, 0, REDIRECT),
        op(0x95, 0, 0, 0, 0),
    ]);
    let skip = i16::try_from(body.len()).map_err(io::Error::other)?;
    let mut code = vec![
        op(0x61, 2, 1, 0, 0),
        op(0x61, 3, 1, 4, 0),
        op(0xbf, 4, 2, 0, 0),
        op(0x07, 4, 0, 0, i32::try_from(LEN).map_err(io::Error::other)?),
        op(0x2d, 4, 3, skip, 0),
    ];
    code.extend(body);
    code.extend([op(0xb7, 0, 0, 0, XDP_ABORTED), op(0x95, 0, 0, 0, 0)]);
    bpf::load_xdp(&code)
}
