//! The query of a request: names and values, with percent signs and spellings of true followed.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// All pairs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The fields of a form, which is written like a query.
    pub(super) fn of_form(body: &[u8]) -> Self {
        Self::parse(&String::from_utf8_lossy(body))
    }

    /// Every value of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether `name` is true in any spelling; clients send `True`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The same, with what it means where it is not given.
    pub(super) fn flag_or(&self, name: &str, absent: bool) -> bool {
        self.get(name)
            .map_or(absent, |value| value.eq_ignore_ascii_case("true"))
    }
}

/// Percent signs and plus signs; what is no UTF-8 then is shown as such.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let value = hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0);
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = after;
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_booleans_take_any_case() {
        let query = Query::parse("label=team%3D%3Dcore%2c+x&force=True&id=%2Fa&id=b&bad=%zz");
        assert_eq!(query.get("label"), Some("team==core, x"));
        assert_eq!(query.all("id").collect::<Vec<_>>(), ["/a", "b"]);
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(query.flag("force") && !query.flag("scale") && query.flag_or("none", true));
        assert!(!Query::parse("force=False").flag_or("force", true));
    }
}
