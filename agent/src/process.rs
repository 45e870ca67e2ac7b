//! Processes by number and start time, so that a reused number is recognised.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// A process for good: its number, and when it started in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_ticks = start_ticks(&stat).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has no start time"),
            )
        })?;
        Ok(Self { pid, start_ticks })
    }

    /// Whether it is still there (a zombie is).
    pub(crate) fn exists(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }
}

/// Field 22 of a `stat` line. The name in parentheses may itself hold blanks and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_shift_the_fields() {
        let fields: Vec<String> = (4..=21).map(|n| n.to_string()).collect();
        let stat = format!("17 (a) b (c) S {} 987654 23 24", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some(987_654));
        assert_eq!(start_ticks("17 (a"), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let me = ProcessId::of(std::process::id()).expect("own stat");
        assert!(me.exists());
        let earlier = ProcessId {
            start_ticks: me.start_ticks - 1,
            ..me
        };
        assert!(!earlier.exists());
    }
}
