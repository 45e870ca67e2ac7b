//! What differs between the answers there should be and those there are.

use lb_common::{NameAnswer, NameKey};

use super::Answers;

/// Changes of the map: first new and changed answers, then those that go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesPlan {
    /// Written, in the place of what was there.
    pub adds: Vec<(NameKey, NameAnswer)>,
    /// Taken away.
    pub removes: Vec<NameKey>,
}

/// Two set differences.
pub fn plan(desired: &Answers, actual: &Answers) -> NamesPlan {
    let adds = desired.iter().filter(|(key, answer)| actual.get(key) != Some(answer));
    let removes = actual.keys().filter(|key| !desired.contains_key(key));
    NamesPlan {
        adds: adds.map(|(key, answer)| (*key, *answer)).collect(),
        removes: removes.copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::entry;

    #[test]
    fn only_differences_are_planned() {
        let of = |name: &[u8], body: u8| entry(name, 1, [1, 0, 0], &[body], None).expect("fits");
        let (a, b, c) = (b"\x01a\x00", b"\x01b\x00", b"\x01c\x00");
        let actual: Answers = [of(a, 1), of(b, 1)].into();
        let desired: Answers = [of(b, 2), of(c, 1)].into();
        let found = plan(&desired, &actual);
        assert_eq!(found.adds, [of(b, 2), of(c, 1)]);
        assert_eq!(found.removes, [of(a, 1).0]);
        assert_eq!(plan(&desired, &desired), NamesPlan::default());
    }
}
