//! The bpf(2) calls and the shared memory that aya does not offer; all unsafe code of this crate.
#![allow(unsafe_code, reason = "raw system calls and memory shared with the kernel")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

mod batch;

pub(crate) use batch::{lookup, take_unchanged, walk};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// Longest attribute used here, in words; the kernel takes shorter ones than its own `union bpf_attr`.
type Attr = [u64; 8];

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for its whole length; pointers inside it are kept alive by the callers.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(ret).map_err(io::Error::other)
}

/// Two 32-bit fields that follow each other, as one word.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// The object pinned at `path`.
pub(crate) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr: Attr = [
        path.as_ptr().addr().try_into().map_err(io::Error::other)?,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object at `path`, where nothing must be yet.
pub(crate) fn obj_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = path.as_ptr().addr().try_into().map_err(io::Error::other)?;
    let mut attr: Attr = [name, pair(number(object)?, 0), 0, 0, 0, 0, 0, 0];
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Puts another program behind a link, in one step for packets and calls.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr: Attr = [pair(number(link)?, number(program)?), 0, 0, 0, 0, 0, 0, 0];
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// The first word of what a link is attached to: the interface's index for XDP and tcx, the cgroup's id for socket
/// hooks; 0 when that is gone.
pub(crate) fn link_target(link: BorrowedFd<'_>) -> io::Result<u64> {
    // struct bpf_link_info: type, id, prog_id, then a union aligned to eight bytes.
    let mut info = [0_u64; 16];
    let info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let address = info.as_mut_ptr().addr().try_into().map_err(io::Error::other)?;
    let mut attr: Attr = [pair(number(link)?, info_len), address, 0, 0, 0, 0, 0, 0];
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(std::hint::black_box(&info)[2])
}

/// The slot array, shared with the programs.
#[derive(Debug)]
pub(crate) struct SlotMemory {
    start: NonNull<AtomicU32>,
    slots: usize,
}

// SAFETY: the memory is shared with the kernel anyway; all accesses are atomic.
unsafe impl Send for SlotMemory {}

impl SlotMemory {
    /// Maps the whole array map behind `fd`, which has `slots` slots of four bytes.
    pub(crate) fn map(fd: impl AsFd, slots: u32) -> io::Result<Self> {
        let slots = usize::try_from(slots).map_err(io::Error::other)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                slots * size_of::<u32>(),
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned no address"))?;
        Ok(Self { start, slots })
    }

    fn slot(&self, index: usize) -> Option<&AtomicU32> {
        if index >= self.slots {
            return None;
        }
        // SAFETY: inside the mapping (just checked), which lives as long as `self`; atomics may be shared.
        Some(unsafe { self.start.add(index).as_ref() })
    }

    /// Writes slots from `offset` on; slots outside the array are left out.
    pub(crate) fn fill(&self, offset: u32, backends: &[u32]) {
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, backend) in backends.iter().enumerate() {
            if let Some(slot) = first.checked_add(place).and_then(|index| self.slot(index)) {
                slot.store(*backend, Ordering::Release);
            }
        }
    }

    /// Reads a slot.
    pub(crate) fn load(&self, slot: u32) -> Option<u32> {
        let slot = self.slot(usize::try_from(slot).ok()?)?;
        Some(slot.load(Ordering::Acquire))
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and nothing borrows from it any more.
        let gone = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.slots * size_of::<u32>()) };
        if let Err(error) = gone {
            tracing::warn!(%error, "could not unmap the slot array");
        }
    }
}
