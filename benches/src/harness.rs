//! BPF programs of a few instructions: the empty one, one that makes the frame new before each run of another, and the least
//! that any program does that keeps flows.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use lb_common::{FlowKey4, FlowValue};

use crate::bpf::{self, MapKind};

/// Where the fields lie that the load balancer changes, in a frame without IPv4 options.
const IP_SUM: i16 = 24;
const IP_SRC_LOW: i16 = 28;
const IP_DST: i16 = 30;
const TCP_SRC: i16 = 34;
const TCP_DST: i16 = 36;
const TCP_SUM: i16 = 50;
const HEADERS: i32 = 54;
/// Where the IP header lies.
const IP: i32 = 14;

const XDP_ABORTED: i32 = 0;
const XDP_PASS: i32 = 2;
const ADJUST_HEAD: i32 = 44;
const SOCKET_OF: i32 = 99;
const COOKIE: i32 = 110;
const RELEASE: i32 = 86;
const TAIL_CALL: i32 = 12;
const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
/// The register of the stack's end.
const STACK: u8 = 10;
/// The kernel takes a map's descriptor instead of an address.
const MAP_FD: u8 = 1;
/// The same, for the address of the map's value.
const MAP_VALUE: u8 = 2;

const MOV_IMM: u8 = 0xb7;
const MOV: u8 = 0xbf;
const ADD_IMM: u8 = 0x07;
const AND_IMM: u8 = 0x57;
const LOAD16: u8 = 0x69;
const SHIFT_RIGHT_IMM: u8 = 0x77;
const SUB: u8 = 0x1f;
const LOAD32: u8 = 0x61;
const LOAD64: u8 = 0x79;
const STORE16: u8 = 0x6b;
const STORE32: u8 = 0x63;
const STORE64: u8 = 0x7b;
const STORE64_IMM: u8 = 0x7a;
const STORE16_IMM: u8 = 0x6a;
const STORE32_IMM: u8 = 0x62;
const JUMP_EQUAL_IMM: u8 = 0x15;
const JUMP: u8 = 0x05;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_LESS_IMM: u8 = 0xa5;
const JUMP_NOT_GREATER_IMM: u8 = 0xb5;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_WIDE: u8 = 0x18;

/// What the harness undoes before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// A rewritten destination: addresses, ports and checksums are written anew.
    Rewrite,
    /// That, and a header put in front is cut off again.
    Wrap,
    /// An answer in the frame's place: it gets its length back, and all headers are written anew.
    Answer,
}

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Runnable {
    pub(crate) program: OwnedFd,
    /// What it tail-calls; the kernel empties a program array that no process holds open.
    _calls: Option<OwnedFd>,
}

impl From<OwnedFd> for Runnable {
    fn from(program: OwnedFd) -> Self {
        Self { program, _calls: None }
    }
}

/// One instruction as the kernel reads it.
fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [a, b] = offset.to_ne_bytes();
    let [c, d, e, f] = value.to_ne_bytes();
    u64::from_ne_bytes([code, (from << 4) | to, a, b, c, d, e, f])
}

fn wide(to: u8, kind: u8, map: &OwnedFd) -> [u64; 2] {
    [op(LOAD_WIDE, to, kind, 0, map.as_raw_fd()), 0]
}

/// The program that does nothing but pass.
pub(crate) fn empty() -> io::Result<OwnedFd> {
    bpf::load_xdp(&[op(MOV_IMM, 0, 0, 0, XDP_PASS), op(EXIT, 0, 0, 0, 0)])
}

/// A program that puts as much in front as the tunnel does, or cuts as much off as an answer with a cookie does, and passes: what
/// undoing that costs is seen beside the empty one.
pub(crate) fn grow(by: i32) -> io::Result<OwnedFd> {
    bpf::load_xdp(&[
        op(MOV_IMM, 2, 0, 0, -by),
        op(CALL, 0, 0, 0, ADJUST_HEAD),
        op(MOV_IMM, 0, 0, 0, XDP_PASS),
        op(EXIT, 0, 0, 0, 0),
    ])
}

/// A program that asks the listener at `to` for the packet's cookie, and does nothing with it.
pub(crate) fn asking((addr, port): (Ipv4Addr, u16)) -> io::Result<OwnedFd> {
    const TUPLE: i16 = -12;
    let after_lookup = [
        op(MOV, 8, 0, 0, 0),
        op(MOV, 1, 8, 0, 0),
        op(MOV, 2, 7, 0, 0),
        op(ADD_IMM, 2, 0, 0, IP),
        op(MOV_IMM, 3, 0, 0, 20),
        op(MOV, 4, 7, 0, 0),
        op(ADD_IMM, 4, 0, 0, i32::from(TCP_SRC)),
        op(MOV_IMM, 5, 0, 0, 20),
        op(CALL, 0, 0, 0, COOKIE),
        op(MOV, 1, 8, 0, 0),
        op(CALL, 0, 0, 0, RELEASE),
    ];
    let past = i16::try_from(after_lookup.len()).map_err(io::Error::other)?;
    let mut body = vec![
        op(MOV, 7, 2, 0, 0),
        op(LOAD32, 5, 7, IP_SRC_LOW - 2, 0),
        op(STORE32, STACK, 5, TUPLE, 0),
        op(STORE32_IMM, STACK, 0, TUPLE + 4, i32::from_ne_bytes(addr.octets())),
        op(LOAD16, 5, 7, TCP_SRC, 0),
        op(STORE16, STACK, 5, TUPLE + 8, 0),
        op(
            STORE16_IMM,
            STACK,
            0,
            TUPLE + 10,
            i16::from_ne_bytes(port.to_be_bytes()).into(),
        ),
        op(MOV, 2, STACK, 0, 0),
        op(ADD_IMM, 2, 0, 0, TUPLE.into()),
        op(MOV_IMM, 3, 0, 0, 12),
        // The packet's own network namespace.
        op(MOV_IMM, 4, 0, 0, -1),
        op(MOV_IMM, 5, 0, 0, 0),
        op(CALL, 0, 0, 0, SOCKET_OF),
        op(JUMP_EQUAL_IMM, 0, 0, past, 0),
    ];
    body.extend(after_lookup);
    bpf::load_xdp(&whole_headers(body, XDP_PASS)?)
}

/// A program that looks the packet's flow up in a table like the product's and marks it, or puts it there. Key and value are
/// as long as the product's.
pub(crate) fn tracking(rooms: u32) -> io::Result<OwnedFd> {
    const KEY: i16 = -8;
    let value = u32::try_from(size_of::<FlowValue>()).map_err(io::Error::other)?;
    let words = i16::try_from(value.div_ceil(8)).map_err(io::Error::other)?;
    let at = KEY - words * 8;
    let key = u32::try_from(size_of::<FlowKey4>()).map_err(io::Error::other)?;
    let flows = bpf::sized(MapKind::LruHash, key, value, rooms)?;
    let mut body = vec![
        op(LOAD32, 5, 2, IP_SRC_LOW - 2, 0),
        op(STORE32, STACK, 5, KEY, 0),
        op(LOAD32, 5, 2, TCP_SRC, 0),
        op(STORE32, STACK, 5, KEY + 4, 0),
        op(MOV, 2, STACK, 0, 0),
        op(ADD_IMM, 2, 0, 0, i32::from(KEY)),
    ];
    body.extend(wide(1, MAP_FD, &flows));
    let mut put: Vec<u64> = (0..words)
        .map(|word| op(STORE64_IMM, STACK, 0, at + word * 8, 0))
        .collect();
    put.extend([
        op(MOV, 2, STACK, 0, 0),
        op(ADD_IMM, 2, 0, 0, i32::from(KEY)),
        op(MOV, 3, STACK, 0, 0),
        op(ADD_IMM, 3, 0, 0, i32::from(at)),
        op(MOV_IMM, 4, 0, 0, 0),
    ]);
    put.extend(wide(1, MAP_FD, &flows));
    put.push(op(CALL, 0, 0, 0, UPDATE));
    let past = i16::try_from(put.len()).map_err(io::Error::other)?;
    body.extend([
        op(CALL, 0, 0, 0, LOOKUP),
        op(JUMP_EQUAL_IMM, 0, 0, 4, 0),
        op(LOAD64, 1, 0, 0, 0),
        op(ADD_IMM, 1, 0, 0, 1),
        op(STORE64, 0, 1, 0, 0),
        op(JUMP, 0, 0, past, 0),
    ]);
    body.extend(put);
    bpf::load_xdp(&whole_headers(body, XDP_PASS)?)
}

/// A program that makes `frame` new, as a packet of the next of `flows` flows, and tail-calls `target`.
pub(crate) fn renewing(frame: &[u8], flows: u32, undo: Undo, target: &OwnedFd) -> io::Result<Runnable> {
    let counter = bpf::map(MapKind::Array, 8)?;
    let programs = bpf::map(MapKind::ProgArray, 4)?;
    bpf::set_program(&programs, target)?;
    let mut code = vec![op(MOV, 6, 1, 0, 0)];
    if undo == Undo::Wrap {
        let len = i32::try_from(frame.len()).map_err(io::Error::other)?;
        code.extend([
            op(LOAD32, 2, 1, 0, 0),
            op(LOAD32, 0, 1, 4, 0),
            op(SUB, 0, 2, 0, 0),
            op(JUMP_NOT_GREATER_IMM, 0, 0, 2, len),
            op(MOV_IMM, 2, 0, 0, 50),
            op(CALL, 0, 0, 0, ADJUST_HEAD),
            op(MOV, 1, 6, 0, 0),
        ]);
    }
    if undo == Undo::Answer {
        let len = i32::try_from(frame.len()).map_err(io::Error::other)?;
        code.extend([
            op(LOAD32, 2, 1, 0, 0),
            op(LOAD32, 0, 1, 4, 0),
            op(SUB, 0, 2, 0, 0),
            op(JUMP_EQUAL_IMM, 0, 0, 4, len),
            op(MOV, 2, 0, 0, 0),
            op(ADD_IMM, 2, 0, 0, -len),
            op(CALL, 0, 0, 0, ADJUST_HEAD),
            op(MOV, 1, 6, 0, 0),
        ]);
    }
    let mut renew = Vec::new();
    if undo == Undo::Answer {
        // Two bytes at a time: that is how long a field of a frame may be to be written wherever it lies.
        for at in (0..HEADERS).step_by(2) {
            let at = i16::try_from(at).map_err(io::Error::other)?;
            renew.push(op(STORE16_IMM, 2, 0, at, half(frame, at)?));
        }
    }
    renew.extend(body(frame, flows, &counter, &programs)?);
    code.extend(whole_headers(renew, XDP_ABORTED)?);
    Ok(Runnable {
        program: bpf::load_xdp(&code)?,
        _calls: Some(programs),
    })
}

/// Does `body` with the frame in register 2 if all its headers are there, and ends with that verdict.
fn whole_headers(body: Vec<u64>, verdict: i32) -> io::Result<Vec<u64>> {
    let past = i16::try_from(body.len()).map_err(io::Error::other)?;
    let mut code = vec![
        op(LOAD32, 2, 1, 0, 0),
        op(LOAD32, 3, 1, 4, 0),
        op(MOV, 4, 2, 0, 0),
        op(ADD_IMM, 4, 0, 0, HEADERS),
        op(JUMP_GREATER, 4, 3, past, 0),
    ];
    code.extend(body);
    code.extend([op(MOV_IMM, 0, 0, 0, verdict), op(EXIT, 0, 0, 0, 0)]);
    Ok(code)
}

/// Counts the flow on, writes the fields, calls on. Register 2 holds the frame, 6 the context.
fn body(frame: &[u8], flows: u32, counter: &OwnedFd, programs: &OwnedFd) -> io::Result<Vec<u64>> {
    let last = i32::try_from(flows).map_err(io::Error::other)?;
    let mut code = Vec::new();
    code.extend(wide(1, MAP_VALUE, counter));
    code.extend([
        op(LOAD64, 5, 1, 0, 0),
        op(ADD_IMM, 5, 0, 0, 1),
        op(JUMP_LESS_IMM, 5, 0, 1, last),
        op(MOV_IMM, 5, 0, 0, 0),
        op(STORE64, 1, 5, 0, 0),
        op(MOV, 0, 5, 0, 0),
        op(SHIFT_RIGHT_IMM, 0, 0, 0, 15),
        op(STORE16, 2, 0, IP_SRC_LOW, 0),
        op(MOV, 0, 5, 0, 0),
        op(AND_IMM, 0, 0, 0, 0x7fff),
        op(STORE16, 2, 0, TCP_SRC, 0),
        op(STORE32_IMM, 2, 0, IP_DST, i32::from_ne_bytes(field(frame, IP_DST)?)),
        op(STORE16_IMM, 2, 0, IP_SUM, half(frame, IP_SUM)?),
        op(STORE16_IMM, 2, 0, TCP_DST, half(frame, TCP_DST)?),
        op(STORE16_IMM, 2, 0, TCP_SUM, half(frame, TCP_SUM)?),
        op(MOV, 1, 6, 0, 0),
    ]);
    code.extend(wide(2, MAP_FD, programs));
    code.extend([op(MOV_IMM, 3, 0, 0, 0), op(CALL, 0, 0, 0, TAIL_CALL)]);
    Ok(code)
}

fn half(frame: &[u8], at: i16) -> io::Result<i32> {
    Ok(i32::from(i16::from_ne_bytes(field(frame, at)?)))
}

fn field<const N: usize>(frame: &[u8], at: i16) -> io::Result<[u8; N]> {
    let at = usize::try_from(at).map_err(io::Error::other)?;
    let bytes = frame
        .get(at..at + N)
        .ok_or_else(|| io::Error::other("a frame too short to measure with"))?;
    bytes.try_into().map_err(io::Error::other)
}
