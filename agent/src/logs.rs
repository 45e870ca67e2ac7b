//! What a task writes: through its runner into files of bounded size, of which the older ones keep a number in their names.
//!
//! As with Mesos' container logger, the task has a pipe; the runner writes the files and renames `stdout` to `stdout.1` when
//! it is full. A task that writes without an end is slowed by its pipe and never fills the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::fs::fchown;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

/// Smallest size of a file, as Mesos has it: a page.
const SMALLEST: u64 = 4096;
/// Most older files; their names have at most two digits.
pub const MOST_OLDER: u32 = 99;
/// Bytes read at once: what a pipe holds.
const PART: usize = 64 * 1024;

/// How large the files become and how many older ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Most bytes of one file (Mesos: `CONTAINER_LOGGER_MAX_STDOUT_SIZE`).
    pub limit: u64,
    /// Files kept beside the newest (logrotate's `rotate`).
    pub older: u32,
}

impl Default for LogSettings {
    /// The size is Mesos' default, the number DC/OS's.
    fn default() -> Self {
        Self {
            limit: 10 << 20,
            older: 9,
        }
    }
}

/// Those of both files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogsPlan {
    pub(crate) stdout: LogSettings,
    pub(crate) stderr: LogSettings,
}

/// The node's settings, with what environment or labels of the app say instead.
pub(crate) fn plan(
    usual: LogSettings,
    env: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Result<LogsPlan, String> {
    let one = |which: &str| {
        let find = |name: &str| env.get(name).or_else(|| labels.get(name)).map(|text| text.trim());
        let mut settings = usual;
        let name = format!("CONTAINER_LOGGER_MAX_{which}_SIZE");
        if let Some(text) = find(&name) {
            let wrong = || format!("{name} is `{text}`: write a size from 4KB on, such as 10MB");
            settings.limit = bytes(text).filter(|limit| *limit >= SMALLEST).ok_or_else(wrong)?;
        }
        let name = format!("CONTAINER_LOGGER_LOGROTATE_{which}_OPTIONS");
        if let Some(text) = find(&name) {
            let count = text.lines().rev().find_map(|line| line.trim().strip_prefix("rotate "));
            let older = count.and_then(|count| count.trim().parse().ok());
            let wrong = || {
                format!(
                    "{name} is `{text}`: of logrotate's options only `rotate 0` to `rotate {MOST_OLDER}` is carried out"
                )
            };
            settings.older = older.filter(|older| *older <= MOST_OLDER).ok_or_else(wrong)?;
        }
        Ok::<_, String>(settings)
    };
    Ok(LogsPlan {
        stdout: one("STDOUT")?,
        stderr: one("STDERR")?,
    })
}

/// A size as Mesos writes it: a number and B, KB, MB or GB, which are powers of 1024 there.
fn bytes(text: &str) -> Option<u64> {
    let place = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(place);
    let shift = match unit.trim() {
        "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// One of the files, and the pipe it is filled from.
#[derive(Debug)]
pub(crate) struct Log {
    /// The sandbox: opened once, whatever the task makes of its path later.
    dir: File,
    name: &'static str,
    file: File,
    size: u64,
    settings: LogSettings,
    owner: Option<(u32, u32)>,
    /// None once nobody can write to it any more.
    pub(crate) pipe: Option<PipeReader>,
}

impl Log {
    /// The log, and the end that the task writes to.
    pub(crate) fn open(
        sandbox: &Path,
        name: &'static str,
        settings: LogSettings,
        owner: Option<(u32, u32)>,
    ) -> Result<(Self, PipeWriter), String> {
        let path = sandbox.join(name);
        let told = |error: io::Error| format!("cannot open {}: {error}", path.display());
        let dir = File::open(sandbox).map_err(told)?;
        let file = open(&dir, name, owner).map_err(told)?;
        let size = file.metadata().map_err(told)?.len();
        let (reader, writer) = io::pipe().map_err(told)?;
        let flags = fcntl_getfl(&reader).map_err(|error| told(error.into()))?;
        fcntl_setfl(&reader, flags | OFlags::NONBLOCK).map_err(|error| told(error.into()))?;
        if let Some((uid, gid)) = owner {
            // So that the task may open /dev/stdout again.
            fchown(&writer, Some(uid), Some(gid)).map_err(told)?;
        }
        let log = Self {
            dir,
            name,
            file,
            size,
            settings,
            owner,
            pipe: Some(reader),
        };
        Ok((log, writer))
    }

    /// Takes what is in the pipe now, at most what it holds; whether there was anything.
    pub(crate) fn pull(&mut self) -> bool {
        let mut part = [0; PART];
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(&mut part) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.write(part.get(..read).unwrap_or_default());
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Lines stay whole where they fit into a file. What the disk does not take is lost: the task goes on.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.settings.limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let fits = match bytes.get(..room) {
                None => bytes.len(),
                Some(first) if first.len() == bytes.len() => bytes.len(),
                Some(first) => match first.iter().rposition(|byte| *byte == b'\n') {
                    Some(end) => end + 1,
                    None if self.size == 0 => room,
                    None => 0,
                },
            };
            let (now, later) = bytes.split_at(fits);
            if self.file.write_all(now).is_ok() {
                self.size += u64::try_from(now.len()).unwrap_or_default();
            }
            bytes = later;
            if !bytes.is_empty() {
                self.rotate();
            }
        }
    }

    /// Begins a new file. Where the task is in the way, the present one begins anew: it is bounded whatever happens.
    fn rotate(&mut self) {
        let named = |number: u32| match number {
            0 => self.name.to_owned(),
            number => format!("{}.{number}", self.name),
        };
        for number in (0..self.settings.older).rev() {
            // One that is not there yet is nothing to move.
            let _ = renameat(&self.dir, named(number), &self.dir, named(number + 1));
        }
        if self.settings.older == 0 {
            let _ = unlinkat(&self.dir, self.name, AtFlags::empty());
        }
        match create(&self.dir, self.name, self.owner) {
            Ok(file) => self.file = file,
            // Fails on no file that was opened for writing.
            Err(_) => drop(self.file.set_len(0)),
        }
        self.size = 0;
    }
}

/// The task's own files may lie there already, links too: only a plain file is gone on with.
fn open(dir: &File, name: &str, owner: Option<(u32, u32)>) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let found = openat(dir, name, flags, Mode::empty()).map(File::from);
    if let Ok(file) = found
        && file.metadata()?.is_file()
    {
        return Ok(file);
    }
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => create(dir, name, owner),
        Err(error) => Err(error.into()),
    }
}

fn create(dir: &File, name: &str, owner: Option<(u32, u32)>) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::from_raw_mode(0o644))?);
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn apps_say_otherwise_in_mesos_words() {
        let usual = LogSettings::default();
        assert_eq!(plan(usual, &of(&[]), &of(&[])).expect("good"), LogsPlan::default());
        let env = of(&[
            ("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "5MB"),
            ("CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS", "compress\nrotate 3"),
        ]);
        let found = plan(usual, &env, &of(&[("CONTAINER_LOGGER_MAX_STDERR_SIZE", "4KB")])).expect("good");
        assert_eq!((found.stdout.limit, found.stdout.older), (5 << 20, 9));
        assert_eq!((found.stderr.limit, found.stderr.older), (4096, 3));
        for (name, bad) in [
            ("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "much"),
            ("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "4095B"),
            ("CONTAINER_LOGGER_MAX_STDERR_SIZE", "99999999999999999999GB"),
            ("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", "rotate 100"),
            ("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", "compress"),
        ] {
            let error = plan(usual, &of(&[(name, bad)]), &of(&[])).expect_err(bad);
            assert!(error.contains(name) && error.contains(bad), "{error}");
        }
    }

    fn log(dir: &Path, limit: u64, older: u32) -> Log {
        let settings = LogSettings { limit, older };
        Log::open(dir, "stdout", settings, None).expect("a log").0
    }

    fn text(dir: &Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    #[test]
    fn full_files_are_renamed_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log(dir.path(), 20, 2);
        for number in 0..8 {
            log.write(format!("line {number}\n").as_bytes());
        }
        assert_eq!(text(dir.path(), "stdout"), "line 6\nline 7\n");
        assert_eq!(text(dir.path(), "stdout.1"), "line 4\nline 5\n");
        assert_eq!(text(dir.path(), "stdout.2"), "line 2\nline 3\n");
        assert!(!dir.path().join("stdout.3").exists());
        log.write(&[b'x'; 50]);
        let sizes = ["stdout", "stdout.1", "stdout.2"].map(|name| text(dir.path(), name).len());
        assert_eq!(sizes, [10, 20, 20], "a line that fits into no file is cut");
    }

    #[test]
    fn a_task_in_the_way_gets_no_more_than_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::NamedTempFile::new().expect("a file");
        std::os::unix::fs::symlink(outside.path(), dir.path().join("stdout")).expect("a link");
        let mut log = log(dir.path(), 20, 1);
        log.write(b"to the log\n");
        assert_eq!(
            std::fs::read(outside.path()).expect("there"),
            b"",
            "a link is not followed"
        );
        // Neither can be renamed away now.
        std::fs::create_dir_all(dir.path().join("stdout.1/full")).expect("made");
        for _ in 0..100 {
            log.write(b"to the log\n");
        }
        assert!(text(dir.path(), "stdout").len() <= 20);
        std::fs::remove_dir_all(dir.path()).expect("removed");
        for _ in 0..100 {
            log.write(b"to nowhere\n");
        }
        assert!(log.file.metadata().expect("still open").len() <= 20);
    }
}
