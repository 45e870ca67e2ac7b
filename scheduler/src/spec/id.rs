//! App ids: absolute paths of DNS-like segments.

use std::sync::Arc;

use crate::{AppId, GroupId};

/// Last segments that the REST API needs for itself.
const RESERVED: [&str; 3] = ["restart", "tasks", "versions"];

/// Longest id. Task ids are made of it and name directories, for which the agent takes 200 bytes; an instance's suffix
/// needs 53 of them, and the slash in front goes.
const MAX_LENGTH: usize = 148;

impl AppId {
    /// Parses an id as a user writes it: `a`, `/a` and `//a` are one; `.` and `..` are followed from the root. On
    /// failure everything that is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (path, mut errors) = follow("/", text);
        match path.last() {
            None if errors.is_empty() => errors.push("must not be the root: give the app a name".to_owned()),
            Some(last) if RESERVED.contains(last) => {
                errors.push(format!(
                    "must not end in '{last}': the API needs that name; choose another"
                ));
            }
            _ => {}
        }
        let id = format!("/{}", path.join("/"));
        if id.len() > MAX_LENGTH {
            errors.push(format!(
                "must not be longer than {MAX_LENGTH} characters: the ids of its tasks would be too long to name directories"
            ));
        }
        if errors.is_empty() {
            Ok(Self(Arc::from(id)))
        } else {
            Err(errors)
        }
    }
}

impl GroupId {
    /// Parses an id as a user writes it, relative to the group `within`; nothing at all is that group. On failure
    /// everything that is wrong.
    pub fn parse(within: &str, text: &str) -> Result<Self, Vec<String>> {
        let (path, mut errors) = follow(within, text);
        let id = format!("/{}", path.join("/"));
        if id.len() > MAX_LENGTH {
            errors.push(format!("must not be longer than {MAX_LENGTH} characters"));
        }
        if path.last().is_some_and(|last| RESERVED.contains(last)) {
            errors.push(format!("'{id}' must not end in a name that the API needs"));
        }
        if errors.is_empty() {
            Ok(Self(Arc::from(id)))
        } else {
            Err(errors)
        }
    }
}

/// The absolute path that `text` means at `within`, and what is wrong with it.
pub(crate) fn resolve(within: &str, text: &str) -> Result<String, Vec<String>> {
    let (path, errors) = follow(within, text);
    if errors.is_empty() {
        Ok(format!("/{}", path.join("/")))
    } else {
        Err(errors)
    }
}

/// Follows a path from `within`, or from the root if it begins with a slash.
fn follow<'a>(within: &'a str, text: &'a str) -> (Vec<&'a str>, Vec<String>) {
    let mut errors = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    if !text.starts_with('/') {
        path.extend(within.split('/').filter(|segment| !segment.is_empty()));
    }
    for segment in text.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." => {}
            ".." => {
                if path.pop().is_none() {
                    errors.push(format!("'{text}' leads out of the root group"));
                }
            }
            _ if segment.split('.').all(is_name) => path.push(segment),
            _ => errors.push(format!(
                "'{segment}' is no valid path segment: only lower-case letters, digits, hyphens and dots, \
                 beginning and ending in a letter or digit"
            )),
        }
    }
    (path, errors)
}

/// Letters, digits and inner hyphens: also the rule for port names.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_absolute() {
        for (text, id) in [
            ("a", "/a"),
            ("/a", "/a"),
            ("//a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/my-service", "/my-service"),
            ("/a.b-c.d/0", "/a.b-c.d/0"),
        ] {
            assert_eq!(AppId::parse(text).map(|id| id.to_string()), Ok(id.to_owned()), "{text}");
        }
    }

    #[test]
    fn bad_ids_are_refused() {
        for text in [
            "",
            "/",
            "..",
            "/../a",
            "/A",
            "/a_b",
            "/-a",
            "/a-",
            "/a..b",
            "/a b",
            "/ä",
            "/x/restart",
            "/tasks",
            "versions",
        ] {
            assert!(AppId::parse(text).is_err(), "{text}");
        }
        let long = |length: usize| AppId::parse(&"a".repeat(length));
        assert!(
            long(MAX_LENGTH).is_err() && long(MAX_LENGTH - 1).is_ok(),
            "the slash counts"
        );
        assert!(
            AppId::parse("/restart/now").is_ok(),
            "only the last segment is reserved"
        );
    }
}
