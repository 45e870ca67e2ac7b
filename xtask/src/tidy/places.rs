//! ARCHITECTURE.md's table and the folders must tell the same story, in both directions.

use std::collections::BTreeSet;

use super::{SourceFile, Violation};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Top-level folders that hold files of the project.
pub fn folders(files: &[SourceFile]) -> BTreeSet<String> {
    files
        .iter()
        .filter_map(|file| file.path.split_once('/'))
        .map(|(folder, _)| folder.to_owned())
        .filter(|folder| !folder.starts_with('.'))
        .collect()
}

/// Names in the first column of the table whose heading begins with `folder`.
pub fn named(architecture: &str) -> Vec<(usize, String)> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (index, line) in architecture.lines().enumerate() {
        let first = line
            .strip_prefix('|')
            .and_then(|rest| rest.split('|').next())
            .map(str::trim);
        match first {
            Some("folder") => inside = true,
            Some(cell) if inside => {
                if let Some(name) = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
                    rows.push((index + 1, name.to_owned()));
                }
            }
            _ => inside = false,
        }
    }
    rows
}

/// Folders and crates that the table does not name, and names that do not exist.
pub fn check(architecture: &str, members: &[&str], folders: &BTreeSet<String>) -> Vec<Violation> {
    let rows = named(architecture);
    let violation = |line, message| Violation {
        path: DOCUMENT.to_owned(),
        line,
        message,
    };
    let mut found = Vec::new();
    if rows.is_empty() {
        found.push(violation(
            1,
            "no table with the heading `| folder |`; it is what this check compares the folders with".to_owned(),
        ));
        return found;
    }
    let told: BTreeSet<&str> = rows.iter().map(|(_, name)| name.as_str()).collect();
    let first = rows[0].0;
    for folder in folders {
        if !told.contains(folder.as_str()) {
            found.push(violation(
                first,
                format!("folder `{folder}` is not in the table of crates; add a row that says what it is for"),
            ));
        }
    }
    for member in members {
        if !folders.contains(*member) {
            found.push(violation(
                first,
                format!("crate `{member}` does not live in a folder of its name; move it"),
            ));
        }
    }
    for (line, name) in &rows {
        if !folders.contains(name) {
            found.push(violation(
                *line,
                format!("`{name}` does not exist; remove the row or name the folder that took its place"),
            ));
        }
    }
    found
}
