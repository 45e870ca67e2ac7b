//! Label selectors: `a, b==1, c!=2, d in (x, y), e notin (z)`; an app must fit all parts.

use std::collections::BTreeMap;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// The label is there.
    Has(String),
    /// It is there with one of these values.
    In(String, Vec<String>),
    /// It is missing, or has none of these values.
    NotIn(String, Vec<String>),
}

/// All parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Part>);

impl Selector {
    /// Reads a selector, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!(
                "`{part}` is no label selector: write key, key==value, key!=value, key in (a, b) or key notin (a, b), with commas between"
            )
        };
        let mut parts = Vec::new();
        for text in split(text) {
            parts.push(part(text.trim()).ok_or_else(|| wrong(text.trim()))?);
        }
        Ok(Self(parts))
    }

    /// Whether labels fit.
    pub(crate) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|part| match part {
            Part::Has(key) => labels.contains_key(key),
            Part::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Part::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

/// Cuts at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => inside = true,
            ')' => inside = false,
            ',' if !inside => {
                parts.push(text.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '=' | '!');
    (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}

fn list(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    inner.split(',').map(word).collect()
}

fn part(text: &str) -> Option<Part> {
    if let Some((key, value)) = text.split_once("==") {
        return Some(Part::In(word(key)?, vec![word(value)?]));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Part::NotIn(word(key)?, vec![word(value)?]));
    }
    if let Some((key, values)) = text.split_once(char::is_whitespace) {
        let values = values.trim();
        return match values.strip_prefix("notin") {
            Some(values) => Some(Part::NotIn(word(key)?, list(values)?)),
            None => Some(Part::In(word(key)?, list(values.strip_prefix("in")?)?)),
        };
    }
    word(text).map(Part::Has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_must_fit() {
        let labels: BTreeMap<String, String> = [("team", "core"), ("tier", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, fits) in [
            ("team", true),
            ("other", false),
            ("team==core", true),
            ("team==core, tier!=1", false),
            ("team in (a, core),tier", true),
            ("tier notin (2, 3)", true),
            ("tier notin (1)", false),
            ("none!=1", true),
            ("none notin (1)", true),
            ("none in (1)", false),
        ] {
            assert_eq!(Selector::parse(text).map(|one| one.fits(&labels)), Ok(fits), "{text}");
        }
        for wrong in ["", "a==", "==b", "a in b", "a in (", "a b", "a,,b", "a in ()"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
