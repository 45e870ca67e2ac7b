//! Tests that docs/compatibility.md names: each is there, so that a row cannot outlive what proves it.

use std::collections::BTreeSet;

use super::{SourceFile, Violation};

const DOCUMENT: &str = "docs/compatibility.md";
/// The head of a column whose cells name tests.
const COLUMN: &str = "test";

/// Names in the last column of every table that ends in a column of tests, and are no test function.
pub fn named_tests(files: &[SourceFile]) -> Vec<Violation> {
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return Vec::new();
    };
    let known: BTreeSet<&str> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .flat_map(|file| functions(&file.text))
        .collect();
    let mut found = Vec::new();
    let mut of_tests = false;
    for (index, line) in document.text.lines().enumerate() {
        let Some(last) = last_cell(line) else {
            of_tests = false;
            continue;
        };
        if last == COLUMN {
            of_tests = true;
            continue;
        }
        let rule = line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
        if !of_tests || rule {
            continue;
        }
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        let missing = names.iter().filter(|name| !known.contains(**name));
        let mut told: Vec<String> = missing
            .map(|name| format!("there is no test `{name}`: name the one that proves this row"))
            .collect();
        if names.is_empty() {
            told.push("this row names no test".to_owned());
        }
        found.extend(told.into_iter().map(|message| Violation {
            path: DOCUMENT.to_owned(),
            line: index + 1,
            message,
        }));
    }
    found
}

/// Functions that a test attribute stands above.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let after = text
        .split("#[test]")
        .skip(1)
        .chain(text.split("#[tokio::test]").skip(1));
    after.filter_map(|rest| {
        let (_, named) = rest.split_once("fn ")?;
        named.split(['(', '<']).next()
    })
}

/// The last cell of a table's row.
fn last_cell(line: &str) -> Option<&str> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    row.rsplit('|').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_row_names_a_test_that_is_there() {
        let code = file(
            "a.rs",
            "#[test]\nfn one() {}\n#[tokio::test]\nasync fn two() {}\nfn three() {}\n",
        );
        let table = "| thing | test |\n|---|---|\n| a | `one`, `two` |\n| b | `three` |\n| c | - |\n\n| x | y |\n|---|---|\n| `z` | `z` |\n";
        let found = named_tests(&[code, file(DOCUMENT, table)]);
        let lines: Vec<usize> = found.iter().map(|one| one.line).collect();
        assert_eq!(lines, [4, 5], "{found:?}");
    }
}
