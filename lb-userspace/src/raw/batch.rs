//! Whole maps in few calls, by the batch commands of bpf(2), and single elements that must not have changed.

use std::io;
use std::os::fd::BorrowedFd;

use aya::Pod;

use super::{Attr, bpf, number, pair};

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_NOEXIST: u64 = 1;

/// Elements per call: a few hundred kilobytes at most, and far more than any bucket of a hash map holds.
const BATCH: usize = 4096;

/// Calls `each` with every key of a hash or array map and its values: one, or one per CPU. What changes meanwhile may be
/// seen or not, and may be seen twice.
pub(crate) fn walk<K: Pod, V: Pod>(map: BorrowedFd<'_>, cpus: usize, mut each: impl FnMut(&K, &[V])) -> io::Result<()> {
    // The kernel gives each CPU's value a multiple of eight bytes.
    let stride = if cpus == 1 {
        size_of::<V>()
    } else {
        size_of::<V>().next_multiple_of(8)
    };
    let mut keys = vec![0_u8; BATCH * size_of::<K>()];
    let mut values = vec![0_u8; BATCH * stride * cpus];
    let mut row = Vec::with_capacity(cpus);
    let mut token = 0_u64;
    let mut first = true;
    loop {
        let mut next = 0_u64;
        let count = u32::try_from(BATCH).map_err(io::Error::other)?;
        let from = if first { 0 } else { address(&raw const token)? };
        let out = address(&raw mut next)?;
        let (at, to) = (address(keys.as_mut_ptr())?, address(values.as_mut_ptr())?);
        // in_batch, out_batch, keys, values, count and map_fd, elem_flags, flags.
        let mut attr: Attr = [from, out, at, to, pair(count, number(map)?), 0, 0, 0];
        let done = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr);
        let ended = match done {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let [a, b, c, d, ..] = std::hint::black_box(&attr)[4].to_ne_bytes();
        let got = usize::try_from(u32::from_ne_bytes([a, b, c, d])).map_err(io::Error::other)?;
        let (keys, values) = (std::hint::black_box(&keys), std::hint::black_box(&values));
        for element in 0..got.min(BATCH) {
            let key = read::<K>(keys, element * size_of::<K>())?;
            row.clear();
            for cpu in 0..cpus {
                row.push(read::<V>(values, (element * cpus + cpu) * stride)?);
            }
            each(&key, &row);
        }
        if ended {
            return Ok(());
        }
        token = std::hint::black_box(next);
        first = false;
    }
}

/// Takes an element out of a hash map if it still is as it was last read; tells whether it did. One that changes in the very
/// moment is put back, unless somebody made it anew meanwhile.
pub(crate) fn take_unchanged<K: Pod, V: Pod + PartialEq>(map: BorrowedFd<'_>, key: &K, last: &V) -> io::Result<bool> {
    let same = |value: Option<V>| value.filter(|value| value == last).is_some();
    if !same(element(map, BPF_MAP_LOOKUP_ELEM, key)?) {
        return Ok(false);
    }
    let Some(taken) = element::<K, V>(map, BPF_MAP_LOOKUP_AND_DELETE_ELEM, key)? else {
        return Ok(false);
    };
    if taken == *last {
        return Ok(true);
    }
    let mut attr: Attr = [
        pair(number(map)?, 0),
        address(std::ptr::from_ref(key))?,
        address(&raw const taken)?,
        BPF_NOEXIST,
        0,
        0,
        0,
        0,
    ];
    match bpf(BPF_MAP_UPDATE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(false),
    }
}

/// The value of a key.
pub(crate) fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    element(map, BPF_MAP_LOOKUP_ELEM, key)
}

/// The value of a key, by one of the commands that tell it.
fn element<K: Pod, V: Pod>(map: BorrowedFd<'_>, command: libc::c_long, key: &K) -> io::Result<Option<V>> {
    let mut bytes = vec![0_u8; size_of::<V>()];
    let to = address(bytes.as_mut_ptr())?;
    let mut attr: Attr = [
        pair(number(map)?, 0),
        address(std::ptr::from_ref(key))?,
        to,
        0,
        0,
        0,
        0,
        0,
    ];
    match bpf(command, &mut attr) {
        Ok(_) => read(std::hint::black_box(&bytes), 0).map(Some),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn address<T>(of: *const T) -> io::Result<u64> {
    of.addr().try_into().map_err(io::Error::other)
}

fn read<T: Pod>(bytes: &[u8], at: usize) -> io::Result<T> {
    let part = bytes.get(at..at + size_of::<T>());
    let part = part.ok_or_else(|| io::Error::other("the kernel told more elements than there was room for"))?;
    // SAFETY: `part` has the size of a `T`, and any bytes are a `T`: that is what `Pod` promises.
    Ok(unsafe { std::ptr::read_unaligned(part.as_ptr().cast()) })
}
