//! A process held by pidfd: its end is noticed at once, whoever its parent is.
#![allow(unsafe_code, reason = "tokio asks for a promise about the descriptor it watches")]

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use crate::process::ProcessId;

/// A live process, certainly the one meant.
#[derive(Debug)]
pub(crate) struct Pidfd {
    fd: AsyncFd<OwnedFd>,
}

impl Pidfd {
    /// Opens it, or `None` when it has ended (its number may be another's by now).
    pub(crate) fn open(process: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Checked after the open: from here on the number cannot move to another process unnoticed.
        if !process.exists() {
            return Ok(None);
        }
        // SAFETY: an `OwnedFd` names one open descriptor for as long as it lives, and the AsyncFd owns it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }?;
        Ok(Some(Self { fd }))
    }

    /// Returns when the process has ended.
    pub(crate) async fn ended(&self) {
        // An error means that the reactor is gone: nobody waits then.
        if self.fd.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        pidfd_send_signal(self.fd.get_ref(), signal).map_err(Into::into)
    }
}
