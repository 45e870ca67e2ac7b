//! DC/OS's rules that this crate keeps, row by row: what a task's fields mean, and what the old HTTP APIs answer.
//!
//! Rows are numbered by the sections of the facts they were taken from, as in the `dns` crate, which holds the rules of
//! services, names and answers. A difference names words of the table in docs/compatibility.md that tells users of it.

mod http;
mod tasks;

/// How a row stands to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Same,
    /// Different on purpose; the words are in docs/compatibility.md.
    Better(&'static str),
}

/// One rule.
struct Row<F> {
    section: &'static str,
    rule: &'static str,
    mark: Mark,
    /// Panics when the rule does not hold.
    holds: F,
}

const fn same<F: Copy>(section: &'static str, rule: &'static str, holds: F) -> Row<F> {
    Row {
        section,
        rule,
        mark: Mark::Same,
        holds,
    }
}

const fn better<F: Copy>(section: &'static str, rule: &'static str, words: &'static str, holds: F) -> Row<F> {
    Row {
        section,
        rule,
        mark: Mark::Better(words),
        holds,
    }
}

impl<F: Copy> Row<F> {
    /// Says whose the next panic is, and checks that users are told of a difference.
    fn begin(&self) -> F {
        println!("{} {} [{:?}]", self.section, self.rule, self.mark);
        if let Mark::Better(words) = self.mark {
            let text = include_str!("../../docs/compatibility.md");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(words), "docs/compatibility.md does not say `{words}`");
        }
        self.holds
    }
}
