//! The nearest known key to a mistyped one.

/// Edit distance (Levenshtein) between two texts, by bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The known key that differs least, unless all differ by more than half of what was written.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.map(|key| (distance(written, key), key)).min()?;
    (best.0 <= written.len() / 2).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("kitten", "sitting", 3),
            ("listn", "listen", 1),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn far_keys_are_not_proposed() {
        let known = ["master.listen", "master.state_dir"];
        assert_eq!(nearest("master.lisen", known.into_iter()), Some("master.listen"));
        assert_eq!(nearest("zzzzzz", known.into_iter()), None);
    }
}
