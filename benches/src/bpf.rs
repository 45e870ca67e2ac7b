//! The bpf(2) calls that the packet figures need: tiny programs, their maps, test runs.
#![allow(
    unsafe_code,
    reason = "raw bpf(2) calls; programs of a few instructions need no loader"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

const PROG_TYPE_XDP: u32 = 6;
/// `BPF_XDP`: what the loader of the product asks for too; a tail call needs both to be alike.
const ATTACH_XDP: u32 = 37;
/// `BPF_F_XDP_HAS_FRAGS`, as the product's programs: here too a tail call needs both to be alike.
const HAS_FRAGS: u32 = 1 << 5;
const LOG_LEN: usize = 64 * 1024;

/// Longest attribute used here, in words.
type Attr = [u64; 16];

/// Kinds of maps made here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MapKind {
    Array = 2,
    ProgArray = 3,
    LruHash = 9,
}

fn call(command: libc::c_long, attr: &mut Attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for its whole length; pointers inside it are kept alive by the callers.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(ret).map_err(io::Error::other)
}

fn make(command: libc::c_long, attr: &mut Attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn second(word: u64) -> u32 {
    let [.., e, f, g, h] = word.to_ne_bytes();
    u32::from_ne_bytes([e, f, g, h])
}

fn fd(of: &OwnedFd) -> io::Result<u32> {
    u32::try_from(of.as_raw_fd()).map_err(io::Error::other)
}

fn address<T>(of: *const T) -> io::Result<u64> {
    u64::try_from(of.addr()).map_err(io::Error::other)
}

fn len32<T>(of: &[T]) -> io::Result<u32> {
    u32::try_from(size_of_val(of)).map_err(io::Error::other)
}

/// A map with one element.
pub(crate) fn map(kind: MapKind, value_len: u32) -> io::Result<OwnedFd> {
    sized(kind, 4, value_len, 1)
}

/// A map with so many rooms; lengths in bytes.
pub(crate) fn sized(kind: MapKind, key_len: u32, value_len: u32, rooms: u32) -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    // map_type, key_size, value_size, max_entries.
    attr[0] = pair(kind as u32, key_len);
    attr[1] = pair(value_len, rooms);
    make(MAP_CREATE, &mut attr)
}

/// Puts a program into the one element of a program array.
pub(crate) fn set_program(array: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let (key, value) = (0_u32, fd(program)?);
    let mut attr: Attr = [0; 16];
    // map_fd, key, value, flags.
    attr[0] = u64::from(fd(array)?);
    attr[1] = address(&raw const key)?;
    attr[2] = address(&raw const value)?;
    call(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Loads an XDP program; an error holds the verifier's words.
pub(crate) fn load_xdp(instructions: &[u64]) -> io::Result<OwnedFd> {
    let licence = c"GPL";
    let mut log = vec![0_u8; LOG_LEN];
    let mut attr: Attr = [0; 16];
    // prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, name, ifindex,
    // expected_attach_type.
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    attr[0] = pair(PROG_TYPE_XDP, count);
    attr[1] = address(instructions.as_ptr())?;
    attr[2] = address(licence.as_ptr())?;
    attr[3] = pair(1, len32(&log)?);
    attr[4] = address(log.as_mut_ptr())?;
    attr[5] = pair(0, HAS_FRAGS);
    attr[8] = pair(0, ATTACH_XDP);
    make(PROG_LOAD, &mut attr).map_err(|error| {
        let said = String::from_utf8_lossy(std::hint::black_box(&log));
        io::Error::other(format!("{error}: {}", said.trim_end_matches('\0')))
    })
}

/// The program behind a pinned link.
pub(crate) fn program_of_link(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr: Attr = [0; 16];
    attr[0] = address(path.as_ptr())?;
    let link = make(OBJ_GET, &mut attr)?;
    // struct bpf_link_info: type, id, prog_id.
    let mut info = [0_u64; 16];
    let mut attr: Attr = [0; 16];
    attr[0] = pair(fd(&link)?, len32(&info)?);
    attr[1] = address(info.as_mut_ptr())?;
    call(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let mut attr: Attr = [0; 16];
    attr[0] = std::hint::black_box(&info)[1];
    make(PROG_GET_FD_BY_ID, &mut attr)
}

/// Runs a program `repeat` times on one buffer that begins as `frame`; the kernel never puts it back in
/// between. The answer is the mean by the kernel's own clock and division: whole nanoseconds.
pub(crate) fn test_run(program: &OwnedFd, frame: &[u8], interface: u32, repeat: u32) -> io::Result<u32> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, len32(frame)?, 0, interface, 0, 0];
    let mut attr: Attr = [0; 16];
    // prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, ctx_size_out,
    // ctx_in, ctx_out.
    attr[0] = pair(fd(program)?, 0);
    attr[1] = pair(len32(frame)?, 0);
    attr[2] = address(frame.as_ptr())?;
    attr[4] = pair(repeat, 0);
    attr[5] = pair(len32(&context)?, 0);
    attr[6] = address(context.as_ptr())?;
    call(PROG_TEST_RUN, &mut attr)?;
    Ok(second(std::hint::black_box(&attr)[4]))
}

/// "Send the frames in earnest", what the program's verdict says.
const LIVE_FRAMES: u32 = 1 << 1;

/// Runs a program on so many new frames, which then go where it sends them.
pub(crate) fn live_run(program: &OwnedFd, frame: &[u8], count: u32) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    // As above, then flags, cpu, batch_size.
    attr[0] = pair(fd(program)?, 0);
    attr[1] = pair(len32(frame)?, 0);
    attr[2] = address(frame.as_ptr())?;
    attr[4] = pair(count, 0);
    attr[8] = pair(LIVE_FRAMES, 0);
    attr[9] = pair(64, 0);
    call(PROG_TEST_RUN, &mut attr).map(drop)
}
