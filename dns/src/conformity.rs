//! DC/OS's rules of services, names and answers, row by row: what is the same here, and what is better and how.
//!
//! Rows are numbered by the sections of the facts they were taken from. A row that is `Better` names words of the table in
//! docs/compatibility.md that tells users of the difference; the suite fails when they are not there.

mod answers;
mod names;
mod services;

/// How a row stands to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Same,
    /// Different on purpose; the words are in docs/compatibility.md.
    Better(&'static str),
}

/// One rule.
pub(crate) struct Row {
    pub(crate) section: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) mark: Mark,
    /// Panics when the rule does not hold.
    pub(crate) holds: fn(),
}

pub(crate) const fn same(section: &'static str, rule: &'static str, holds: fn()) -> Row {
    Row {
        section,
        rule,
        mark: Mark::Same,
        holds,
    }
}

pub(crate) const fn better(section: &'static str, rule: &'static str, words: &'static str, holds: fn()) -> Row {
    Row {
        section,
        rule,
        mark: Mark::Better(words),
        holds,
    }
}

const DIFFERENCES: &str = include_str!("../../docs/compatibility.md");

/// Runs a table: each rule holds, and each difference is told to users.
fn check(rows: &[Row], sections: &[&str]) {
    let text = DIFFERENCES.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in rows {
        // The rule's own panic says what is wrong; this says whose it is.
        println!("{} {} [{:?}]", row.section, row.rule, row.mark);
        (row.holds)();
        if let Mark::Better(words) = row.mark {
            assert!(text.contains(words), "docs/compatibility.md does not say `{words}`");
        }
    }
    for section in sections {
        assert!(
            rows.iter().any(|row| row.section == *section),
            "no row of section {section}"
        );
    }
}

#[test]
fn services_are_those_of_dcos() {
    check(services::ROWS, &["1.1", "1.2", "1.4", "1.5"]);
}

#[test]
fn names_are_those_of_dcos() {
    check(names::ROWS, &["1.3", "2.2", "2.5", "5.2", "5.3"]);
}

#[test]
fn answers_are_those_of_dcos() {
    check(answers::ROWS, &["2.4", "5.4", "5.5"]);
}
