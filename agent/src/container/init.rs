//! Process 1 of a container in Mesos' manner: reaps whatever is left to it, and tells how the task's own process ended.
//!
//! It needs no handler: the kernel keeps signals without one from process 1, so that SIGTERM to the group reaches the task
//! alone, whose default it may then be to end.
#![allow(unsafe_code, reason = "a process that was forked has only system calls")]

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Where the init writes its report after it has closed everything else.
const REPORT_FD: i32 = 3;

/// How a task's process ended, as its init tells it.
#[derive(Debug)]
pub(crate) struct Reported(PipeReader);

impl Reported {
    /// A pair of ends: the report's reader, and its writer for the init.
    pub(crate) fn pair() -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        Ok((Self(reader), writer))
    }

    /// Exit code, or signal with `true`; none if the init was killed itself.
    pub(crate) fn read(mut self) -> Option<(i32, bool)> {
        let mut bytes = [0; 5];
        self.0.read_exact(&mut bytes).ok()?;
        let [a, b, c, d, signaled] = bytes;
        Some((i32::from_le_bytes([a, b, c, d]), signaled == 1))
    }
}

/// Forks: returns in the child, which goes on to be the task. The parent stays as the init and never returns.
pub(crate) fn become_init(report: &PipeWriter) -> Result<(), String> {
    // SAFETY: the process has one thread, so that the child may allocate and lock.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => Ok(()),
        Ok(ForkResult::Parent { child }) => watch(child, report),
        Err(error) => Err(format!("cannot start the container's init: {error}")),
    }
}

fn watch(task: Pid, report: &PipeWriter) -> ! {
    // Holding the task's files or the runner's pipes would keep others waiting for their end.
    // SAFETY: descriptors are numbers here; what had this one is used by nothing in this process.
    unsafe { libc::dup2(report.as_raw_fd(), REPORT_FD) };
    // SAFETY: nothing in this process uses them any more.
    unsafe { libc::close_range(0, REPORT_FD.unsigned_abs() - 1, 0) };
    // SAFETY: as above; the report's own descriptor is below.
    unsafe { libc::close_range(REPORT_FD.unsigned_abs() + 1, libc::c_uint::MAX, 0) };
    // SAFETY: the descriptor was made above and is owned by nobody else.
    let mut report = unsafe { File::from_raw_fd(REPORT_FD) };
    loop {
        let ended = match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::Exited(pid, code)) if pid == task => Some((code, 0)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == task => Some((signal as i32, 1)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => None,
            Err(_) => Some((libc::EXIT_FAILURE, 0)),
        };
        if let Some((number, signaled)) = ended {
            let [a, b, c, d] = number.to_le_bytes();
            // Without a reader nobody wants to know.
            let _ = report.write_all(&[a, b, c, d, signaled]);
            // SAFETY: ends this process without running what belongs to the runner.
            unsafe { libc::_exit(0) };
        }
    }
}
