//! Carrying a plan out.

use aya::maps::MapError;

use super::{NameMap, NamesPlan};

/// What a plan came to.
#[derive(Debug, Default)]
pub struct NamesReport {
    /// Answers written and taken away.
    pub done: usize,
    /// Answers that found no room: the server answers these questions.
    pub no_room: usize,
    /// What else went wrong, the first of it, and how often.
    pub failed: Option<(MapError, usize)>,
}

impl NamesReport {
    fn note(&mut self, result: Result<(), MapError>) {
        match result {
            Ok(()) => self.done += 1,
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                self.no_room += 1;
            }
            Err(error) => match &mut self.failed {
                Some((_, count)) => *count += 1,
                none => *none = Some((error, 1)),
            },
        }
    }
}

/// Writes and removes. An answer that is replaced is the old one or the new one to whoever asks meanwhile.
pub fn apply(map: &mut NameMap, plan: &NamesPlan) -> NamesReport {
    let mut report = NamesReport::default();
    // Answers that go make room for those that come, and nobody misses them: the server has what is true.
    for key in &plan.removes {
        match map.names.remove(key) {
            Err(MapError::KeyNotFound) => report.done += 1,
            result => report.note(result),
        }
    }
    for (key, answer) in &plan.adds {
        report.note(map.names.insert(key, answer, 0));
    }
    report
}
