//! A terminal in the task's own /dev/pts, so that programs there find it by its name.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, StatFs, fchmod, fchown, fstat, fstatfs, major, minor, open, openat2,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::WindowSize;
use crate::process::ProcessId;

/// What `statfs` says of devpts.
const DEVPTS: i64 = 0x1cd1;
/// Device number of every ptmx.
const PTMX: (u32, u32) = (5, 2);

/// The end for whoever looks, and the program's end, which is its user's.
pub(super) fn open_pair(process: ProcessId, size: WindowSize, uid: u32) -> Result<(File, File), String> {
    let told = |tried: &'static str| move |error: Errno| format!("cannot {tried}: {error}");
    let master = ptmx(process).map_err(told("open a terminal in the task"))?;
    unlockpt(&master).map_err(told("unlock the terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let end = ioctl_tiocgptpeer(&master, flags).map_err(told("open the terminal's other end"))?;
    fchown(&end, Some(Uid::from_raw(uid)), None::<Gid>).map_err(told("give the terminal to the task's user"))?;
    fchmod(&end, Mode::from_raw_mode(0o620)).map_err(told("set who may write to the terminal"))?;
    resize(&master, size).map_err(told("set the terminal's size"))?;
    Ok((File::from(master), File::from(end)))
}

/// Sets the size of the window and tells the program.
pub(super) fn resize(master: impl std::os::fd::AsFd, size: WindowSize) -> Result<(), Errno> {
    tcsetwinsize(
        master,
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

#[allow(clippy::useless_conversion, reason = "the field is narrower on other machines")]
fn kind(place: &StatFs) -> i64 {
    i64::from(place.f_type)
}

/// The task may have put anything in the place of its /dev: only what certainly is a ptmx is opened.
fn ptmx(process: ProcessId) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(format!("/proc/{}/root", process.pid), flags, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Looked at before it is opened: opening a device does something.
    let look = openat2(
        &root,
        "dev/pts/ptmx",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        within,
    );
    match look {
        Ok(found) => open_found(&found),
        // A node whose ptmx is elsewhere.
        Err(Errno::NOENT) => openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC),
        Err(error) => Err(error),
    }
}

/// Opens what was found, if it is a ptmx: that very file, whatever has its name by now.
fn open_found(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (stat, place) = (fstat(found)?, fstatfs(found)?);
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || device != PTMX || kind(&place) != DEVPTS {
        return Err(Errno::NOTTY);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &std::path::Path) -> OwnedFd {
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("it is there")
    }

    #[test]
    fn only_a_ptmx_is_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ptmx");
        std::fs::write(&file, "").expect("writes");
        assert_eq!(open_found(&found(&file)).map(drop), Err(Errno::NOTTY), "a file");
        let null = found(std::path::Path::new("/dev/null"));
        assert_eq!(open_found(&null).map(drop), Err(Errno::NOTTY), "another device");
    }

    #[test]
    fn what_was_looked_at_is_what_is_opened() {
        let opened = open_found(&found(std::path::Path::new("/dev/pts/ptmx"))).expect("a ptmx");
        unlockpt(&opened).expect("it is a terminal");
    }
}
