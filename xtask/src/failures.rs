//! What failed in a long run, told again at its end: whoever keeps only the end of the output still learns why.

use std::sync::{Mutex, PoisonError};

static NOTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a failure for the end.
pub fn note(text: String) {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// All that were noted, in their order.
pub fn take() -> Vec<String> {
    std::mem::take(&mut *NOTED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Lines of one failure that are told again.
const FAILURE_LINES: usize = 60;

/// What libtest prints below `failures:`, one text for each test.
#[derive(Debug, Default)]
pub(crate) struct TestOutput {
    done: Vec<String>,
    /// Its lines, the first of them its name.
    open: Vec<String>,
}

impl TestOutput {
    /// Takes the next line.
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.close();
            self.open.push(line.to_owned());
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.close();
        } else if !self.open.is_empty() {
            self.open.push(line.to_owned());
        }
    }

    /// Why it failed stands at the beginning and at the end; between may be all that the nodes said.
    fn close(&mut self) {
        let lines = std::mem::take(&mut self.open);
        let half = FAILURE_LINES / 2;
        if lines.len() > FAILURE_LINES {
            let (first, last) = (&lines[..half], &lines[lines.len() - half..]);
            self.done
                .push(format!("{}\n[...]\n{}", first.join("\n"), last.join("\n")));
        } else if !lines.is_empty() {
            self.done.push(lines.join("\n"));
        }
    }

    fn done(mut self) -> Vec<String> {
        self.close();
        self.done
    }

    /// Notes what failed.
    pub(crate) fn note(self) {
        self.done().into_iter().for_each(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_again_at_the_end() {
        let mut failures = TestOutput::default();
        let many: Vec<String> = (0..1_000).map(|number| format!("line {number}")).collect();
        let text = [
            "test a ... FAILED",
            "",
            "failures:",
            "",
            "---- a stdout ----",
            "why",
            "---- b stdout ----",
        ];
        let end = ["failures:", "    a", "test result: FAILED. 0 passed; 2 failed"];
        for line in text.into_iter().chain(many.iter().map(String::as_str)).chain(end) {
            failures.read(line);
        }
        let [a, b] = failures.done().try_into().expect("two");
        assert_eq!(a, "---- a stdout ----\nwhy");
        assert!(
            b.starts_with("---- b stdout ----\nline 0\n") && b.ends_with("line 999"),
            "{b}"
        );
        assert_eq!(b.lines().count(), FAILURE_LINES + 1);
    }
}
