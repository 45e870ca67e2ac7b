//! The wall clock of one running program set to another time, and nobody else's.
//!
//! The kernel has one wall clock for all, and time namespaces shift only the others. But a program asks for the time in a
//! page of code that the kernel gives each process (the vDSO). That page is written over in the program's own copy: its
//! `clock_gettime` then asks the kernel and adds a number of seconds where the wall clock was asked for. Clocks that count
//! from the machine's start, which leases and timeouts go by, are told as they are. On x86-64.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::Daemon;
use super::place::wait_for;

/// What takes the function's place: the system call, and `seconds` added to its answer for CLOCK_REALTIME and its coarse kin.
const CODE: [u8; 34] = [
    0xb8, 0xe4, 0, 0, 0, // mov eax, SYS_clock_gettime
    0x0f, 0x05, // syscall
    0x85, 0xc0, // test eax, eax
    0x75, 0x16, // jne end
    0x85, 0xff, // test edi, edi
    0x74, 0x05, // je add
    0x83, 0xff, 0x05, // cmp edi, CLOCK_REALTIME_COARSE
    0x75, 0x0d, // jne end
    0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // add: mov rcx, seconds
    0x48, 0x01, 0x0e, // add [rsi], rcx
    0xc3, // end: ret
];
/// Where in it the seconds are.
const SECONDS: usize = 22;
/// Of a jump with a distance of four bytes.
const JUMP: u64 = 5;
/// For a stopped program to be seen standing.
const STANDS: Duration = Duration::from_secs(5);

/// Sets the wall clock of a program that runs to the true time and so many seconds.
pub fn shift(daemon: &Daemon, seconds: i64) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "a program's wall clock can be set on x86-64 only"
    );
    let pid = daemon.pid().context("the program has ended")?;
    daemon.signal(Signal::STOP)?;
    let done = stopped(pid, seconds);
    daemon.signal(Signal::CONT)?;
    done.with_context(|| format!("cannot set the clock of process {pid}"))
}

fn stopped(pid: u32, seconds: i64) -> Result<()> {
    let (from, to) = page(pid)?;
    let memory = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))?;
    let mut image = vec![0; usize::try_from(to - from)?];
    memory.read_exact_at(&mut image, from)?;
    let function = function(&image, "__vdso_clock_gettime")?;
    let room = u64::try_from(room(&image)?)?;
    let stands = wait_for(STANDS, || places(pid, from + function).ok()?.then_some(()));
    stands.context("a thread does not leave the place that is to be written")?;
    let mut code = CODE;
    code[SECONDS..SECONDS + 8].copy_from_slice(&seconds.to_le_bytes());
    memory.write_all_at(&code, from + room)?;
    let distance = i32::try_from(room - function - JUMP)?;
    let mut jump = vec![0xe9];
    jump.extend(distance.to_le_bytes());
    memory
        .write_all_at(&jump, from + function)
        .context("cannot write the jump")
}

/// Where the kernel's page of code lies.
fn page(pid: u32) -> Result<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let range = line.and_then(|line| line.split_whitespace().next()?.split_once('-'));
    let (from, to) = range.context("it has no vDSO")?;
    Ok((u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?))
}

/// Whether every thread stands, and none where the jump is to be.
fn places(pid: u32, function: u64) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let told = fs::read_to_string(task?.path().join("syscall"))?;
        let at = told.split_whitespace().last().and_then(|word| word.strip_prefix("0x"));
        let Some(at) = at.and_then(|word| u64::from_str_radix(word, 16).ok()) else {
            return Ok(false);
        };
        if (function + 1..function + JUMP).contains(&at) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn number(image: &[u8], at: u64, bytes: usize) -> Result<u64> {
    let at = usize::try_from(at)?;
    let part = image.get(at..at + bytes).context("the vDSO is cut off")?;
    Ok(part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Behind the code that is in use, where our own has been or may go.
fn room(image: &[u8]) -> Result<usize> {
    let (table, each) = (number(image, 32, 8)?, number(image, 54, 2)?);
    let mut end = 0;
    for header in 0..number(image, 56, 2)? {
        let at = table + header * each;
        if number(image, at, 4)? == 1 {
            end = end.max(number(image, at + 16, 8)? + number(image, at + 40, 8)?);
        }
    }
    let room = usize::try_from(end)?.next_multiple_of(16);
    ensure!(room + CODE.len() <= image.len(), "there is no room in the vDSO");
    Ok(room)
}

/// A function's place in the image, by its dynamic symbols.
fn function(image: &[u8], wanted: &str) -> Result<u64> {
    let (table, each) = (number(image, 32, 8)?, number(image, 54, 2)?);
    let mut dynamic = None;
    for header in 0..number(image, 56, 2)? {
        let at = table + header * each;
        if number(image, at, 4)? == 2 {
            dynamic = Some(number(image, at + 16, 8)?);
        }
    }
    let (mut names, mut symbols) = (0, 0);
    let mut at = dynamic.context("the vDSO has no dynamic symbols")?;
    loop {
        match (number(image, at, 8)?, number(image, at + 8, 8)?) {
            (0, _) => break,
            (5, place) => names = place,
            (6, place) => symbols = place,
            _ => {}
        }
        at += 16;
    }
    // The names lie behind the symbols.
    for at in (symbols..names).step_by(24) {
        let name = usize::try_from(names + number(image, at, 4)?)?;
        let name = image.get(name..).unwrap_or_default().split(|byte| *byte == 0).next();
        if name == Some(wanted.as_bytes()) {
            return number(image, at + 8, 8);
        }
    }
    bail!("the vDSO has no {wanted}")
}
