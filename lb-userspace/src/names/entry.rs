//! From an answer in wire form to its element of the map.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use lb_common::{NAME_BODY, NAME_LABELS, NameAnswer, NameCount, NameKey};

/// The element for an answer to `name` (wire form) and `kind`; `None` if the map has none that large.
///
/// `counts` are the records of the three sections, `body` all that follows the question, `serial_at` where in it the zones'
/// serial stands.
pub fn entry(
    name: &[u8],
    kind: u16,
    counts: [u16; 3],
    body: &[u8],
    serial_at: Option<usize>,
) -> Option<(NameKey, NameAnswer)> {
    let key = NameKey::new(name, kind)?;
    if labels(name) >= NAME_LABELS || body.is_empty() || body.len() > NAME_BODY {
        return None;
    }
    let mut room = [0; NAME_BODY];
    room.get_mut(..body.len())?.copy_from_slice(body);
    let serial_at = serial_at.unwrap_or(0);
    if serial_at != 0 {
        // Whatever serial they were made with: the program puts the present one in.
        room.get_mut(..body.len())?.get_mut(serial_at..serial_at + 4)?.fill(0);
    }
    let mut answer = NameAnswer {
        tag: 0,
        key,
        counts,
        len: u16::try_from(body.len()).ok()?,
        serial_at: u16::try_from(serial_at).ok()?,
        count: if counts[0] == 0 {
            NameCount::NoData
        } else {
            NameCount::Answered
        } as u16,
        body: room,
    };
    answer.tag = tag(&answer);
    Some((key, answer))
}

/// The same for the same content in every process, so that a new daemon finds an old one's answers unchanged.
fn tag(answer: &NameAnswer) -> u64 {
    let whole = (
        answer.key,
        answer.counts,
        (answer.len, answer.serial_at, answer.count),
        answer.body,
    );
    BuildHasherDefault::<DefaultHasher>::default().hash_one(whole).max(1)
}

/// Labels of a name in wire form, without the root.
fn labels(name: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(length) = name.get(at).filter(|length| **length != 0) {
        at += 1 + usize::from(*length);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x03two\x05mesos\x00";

    #[test]
    fn what_fits_is_taken_and_nothing_else() {
        let (key, answer) = entry(NAME, 1, [1, 0, 0], &[7; 16], None).expect("fits");
        assert_eq!((answer.key, answer.len, answer.count), (key, 16, 0));
        assert_eq!(answer.body[..17], [&[7; 16][..], &[0]].concat());
        assert_eq!(entry(NAME, 28, [0, 1, 0], &[7; 16], None).expect("fits").1.count, 1);
        assert!(entry(NAME, 1, [1, 0, 0], &[], None).is_none());
        assert!(entry(NAME, 1, [1, 0, 0], &[7; NAME_BODY + 1], None).is_none());
        assert!(entry(NAME, 1, [1, 0, 0], &[7; NAME_BODY], None).is_some());
        assert!(entry(&[&[63; 64][..], NAME, &[63; 64]].concat(), 1, [1, 0, 0], &[7], None).is_none());
        let many = [&b"\x01a".repeat(NAME_LABELS)[..], &[0]].concat();
        assert!(entry(&many, 1, [1, 0, 0], &[7], None).is_none());
        assert!(entry(&many[2..], 1, [1, 0, 0], &[7], None).is_some());
    }

    #[test]
    fn the_serial_makes_no_difference() {
        let of = |serial: u8| entry(NAME, 28, [0, 1, 0], &[1, 2, 3, 4, serial, 6, 7, 8], Some(4));
        assert_eq!(of(5), of(9));
        assert_eq!(of(5).expect("fits").1.serial_at, 4);
        assert!(
            entry(NAME, 28, [0, 1, 0], &[1, 2, 3, 4, 5], Some(4)).is_none(),
            "half outside"
        );
        let other = entry(NAME, 28, [0, 1, 0], &[1, 2, 3, 5, 5, 6, 7, 8], Some(4)).expect("fits");
        assert_ne!(other.1.tag, of(5).expect("fits").1.tag);
    }
}
