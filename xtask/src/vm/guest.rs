//! One boot: QEMU without hardware help, its serial line read as it comes, an end after the time is over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Outcome;
use super::kernel::Kernel;
use crate::test::{Tally, result_line};

/// Lines of the serial line that may wait for the reader: it only matches strings, so it is never far behind.
const LINES: usize = 4096;
/// Lines shown of a guest that died: a kernel's last words with their call trace.
const LAST: usize = 60;

/// What to boot.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) image: &'a Path,
    pub(super) filter: Option<&'a str>,
    pub(super) limit: Duration,
    /// Where the whole serial line goes.
    pub(super) log: PathBuf,
}

/// A guest; killed when dropped.
#[derive(Debug)]
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots that are tried. An emulated processor may die while the kernel starts (seen once, on a busy machine; 40 boots in a row
/// went well on an idle one), before anything of ours runs, which tells nothing about Revere. Once the guest's first
/// process has spoken, what happens counts.
const BOOTS: u32 = 3;

/// Boots, runs the tests, tells what came of them.
pub(super) fn run(job: &Job<'_>) -> Result<Outcome> {
    let mut reader = one(job)?;
    for _ in 1..BOOTS {
        if reader.began() {
            break;
        }
        eprintln!(
            "vm: {} ended before its first process began: booting again",
            job.kernel.line.name()
        );
        reader = one(job)?;
    }
    Ok(reader.finish())
}

/// One boot.
fn one(job: &Job<'_>) -> Result<Reader> {
    let name = job.kernel.line.name();
    eprintln!("vm: booting {name}; serial line in {}", job.log.display());
    let began = Instant::now();
    let (_machine, lines) = boot(job)?;
    let mut reader =
        Reader::new(File::create(&job.log).with_context(|| format!("cannot write {}", job.log.display()))?);
    let deadline = began + job.limit;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => reader.line(&line)?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                reader.give_up(format!("not done after {} s", job.limit.as_secs()));
                break;
            }
        }
    }
    eprintln!("vm: {name} took {} s", began.elapsed().as_secs());
    reader.show_last();
    Ok(reader)
}

fn boot(job: &Job<'_>) -> Result<(Machine, Receiver<String>)> {
    let only = job.filter.map(|filter| format!(" only={filter}")).unwrap_or_default();
    let append = format!("console=ttyS0 panic=-1 quiet mitigations=off nokaslr{only}");
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,la57=off",
            "-smp",
            "2",
            "-m",
            "3072",
        ])
        .args([
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&job.kernel.vmlinuz)
        .arg("-initrd")
        .arg(job.image)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let out = child.stdout.take().context("QEMU has no output")?;
    let (send, lines) = sync_channel(LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if send.send(line).is_err() {
                break;
            }
        }
    });
    Ok((Machine(child), lines))
}

/// Makes sense of the lines.
#[derive(Debug)]
struct Reader {
    log: File,
    version: Option<String>,
    seen: Tally,
    told: Option<Tally>,
    exit: Option<String>,
    running: Option<String>,
    failures: Vec<String>,
    facts: Vec<String>,
    /// What came last, for whoever asks why it died.
    last: VecDeque<String>,
}

impl Reader {
    fn new(log: File) -> Self {
        Self {
            log,
            version: None,
            seen: Tally::default(),
            told: None,
            exit: None,
            running: None,
            failures: Vec::new(),
            facts: Vec::new(),
            last: VecDeque::with_capacity(LAST),
        }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}")?;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        if let Some(version) = line.strip_prefix("vm: kernel ") {
            self.version = Some(version.to_owned());
        } else if let Some(status) = line.strip_prefix("vm: exit ") {
            self.exit = Some(status.to_owned());
        } else if let Some(fact) = line.strip_prefix("vm: fact ").or(line.strip_prefix("fact: ")) {
            self.facts.push(fact.to_owned());
        } else if line.starts_with("test result: ") {
            self.told = Some(result_line(line));
        } else if line.contains("Kernel panic") || line.contains("BUG: ") {
            self.failures.push(line.to_owned());
            self.seen.failed += 1;
        } else {
            self.test(line);
        }
        Ok(())
    }

    /// Whether the guest got as far as its first process.
    fn began(&self) -> bool {
        self.version.is_some()
    }

    /// Of a guest that did not end well, what it said last.
    fn show_last(&self) {
        if self.exit.is_none() {
            self.last.iter().for_each(|line| eprintln!("vm: | {line}"));
        }
    }

    /// `test name ... ok`; what a test wrote itself may stand between the two halves.
    fn test(&mut self, line: &str) {
        if let Some((name, _)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            self.running = Some(name.to_owned());
        }
        let Some(name) = self.running.clone() else { return };
        if line.ends_with(" ... ok") || line == "ok" {
            self.seen.passed += 1;
        } else if line.ends_with("FAILED") {
            self.seen.failed += 1;
            self.failures.push(name);
        } else {
            return;
        }
        self.running = None;
    }

    fn give_up(&mut self, why: String) {
        let at = self
            .running
            .take()
            .map(|name| format!(" (in {name})"))
            .unwrap_or_default();
        self.failures.push(format!("{why}{at}"));
        self.seen.failed += 1;
    }

    fn finish(mut self) -> Outcome {
        let mut tally = self.told.unwrap_or(self.seen);
        // Panics of the kernel do not stand in the test program's own sum.
        tally.failed = tally.failed.max(self.seen.failed);
        if self.exit.as_deref() != Some("0") && tally.failed == 0 {
            tally.failed = 1;
            self.failures.push(match self.exit {
                Some(status) => format!("the test program ended with {status}"),
                None => "the guest ended before the tests did".to_owned(),
            });
        }
        Outcome {
            version: self.version.unwrap_or_else(|| "unknown".to_owned()),
            tally,
            failures: self.failures,
            facts: self.facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Outcome {
        let mut reader = Reader::new(tempfile());
        for line in lines {
            reader.line(line).expect("written");
        }
        reader.finish()
    }

    fn tempfile() -> File {
        File::options().write(true).open("/dev/null").expect("always there")
    }

    #[test]
    fn tests_are_counted_and_failures_named() {
        let outcome = read(&[
            "vm: kernel 6.1.0",
            "test a ... ok",
            "test b ... FAILED",
            "fact: no tcx",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "vm: exit 101",
        ]);
        assert_eq!(outcome.tally, Tally { passed: 1, failed: 1 });
        assert_eq!(outcome.failures, ["b"]);
        assert_eq!(
            (outcome.version.as_str(), outcome.facts.as_slice()),
            ("6.1.0", &["no tcx".to_owned()][..])
        );
    }

    #[test]
    fn only_a_guest_that_never_spoke_may_boot_again() {
        let mut reader = Reader::new(tempfile());
        reader
            .line("[ 1.9] Kernel panic - not syncing: Fatal exception in interrupt")
            .expect("written");
        assert!(!reader.began());
        reader.line("vm: kernel 6.12.1").expect("written");
        assert!(reader.began());
    }

    #[test]
    fn a_guest_that_dies_is_no_success() {
        assert_eq!(
            read(&["vm: kernel 6.1.0", "test a ... ok"]).tally,
            Tally { passed: 1, failed: 1 }
        );
        assert_eq!(read(&["[ 1.0] Kernel panic - not syncing"]).tally.failed, 1);
    }
}
