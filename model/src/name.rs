//! How names are cleaned for DNS: the rule Mesos-DNS (RFC 1123 form) and dcos-net shared, with a hash where they cut.

use sha1::{Digest as _, Sha1};

/// Longest DNS label, RFC 1035 section 2.3.4.
pub const MAX_LABEL: usize = 63;

/// Longest cleaned framework name and longest cleaned VIP label. With both at their longest, every form of a name stays
/// within the 253 characters of DNS under a zone of up to 39.
const MAX_FRAMEWORK: usize = 80;
const MAX_VIP_LABEL: usize = 120;

/// Characters of a hash that stands for what a name had too much of: 40 bits.
const HASH: usize = 8;

/// Cleans a text to one DNS label: A-Z lowered, `a-z0-9` kept, `-`, `_` and `.` become `-`, all else dropped, `-` cut at
/// both ends, 63 characters at most. What is left may be empty.
///
/// A text that is too long only because of a row of `-` loses some of them, as with the originals. Any other is cut and
/// ends in `-` and eight characters of a hash of the whole, so that two long names stay two.
pub fn label(text: &str) -> String {
    label_within(text, MAX_LABEL)
}

/// [`label`] with another limit, at least 16: a label that gets a `_` in front has one character less.
pub fn label_within(text: &str, max: usize) -> String {
    let cleaned: String = text
        .chars()
        .filter_map(|c| match c {
            'A'..='Z' => Some(c.to_ascii_lowercase()),
            'a'..='z' | '0'..='9' => Some(c),
            '-' | '_' | '.' => Some('-'),
            _ => None,
        })
        .collect();
    let trimmed = cleaned.trim_matches('-');
    if trimmed.len() <= max {
        return trimmed.to_owned();
    }
    let (head, tail) = trimmed.split_at(max);
    let (head, tail) = (head.trim_end_matches('-'), tail.trim_start_matches('-'));
    if head.len() + tail.len() <= max {
        return format!("{head}{tail}");
    }
    shorten(trimmed, max)
}

/// Cleans a text that may hold several labels: split at `.`, each piece by [`label`], pieces that come out empty left
/// out, joined by `.`.
pub fn domain_frag(text: &str) -> String {
    let pieces: Vec<String> = text.split('.').map(label).filter(|piece| !piece.is_empty()).collect();
    pieces.join(".")
}

/// A framework's name as it stands in names: [`domain_frag`], or one label with a hash if that is over 80 characters.
pub fn framework_frag(name: &str) -> String {
    frag_within(name, MAX_FRAMEWORK)
}

/// A VIP's label as it stands in names: [`domain_frag`], or one label with a hash if that is over 120 characters.
pub fn vip_frag(label: &str) -> String {
    frag_within(label, MAX_VIP_LABEL)
}

fn frag_within(text: &str, max: usize) -> String {
    let frag = domain_frag(text);
    if frag.len() <= max {
        return frag;
    }
    shorten(&frag.replace('.', "-"), MAX_LABEL)
}

/// The beginning of `text`, `-`, and a hash of all of it.
fn shorten(text: &str, max: usize) -> String {
    let digest: [u8; 20] = Sha1::digest(text.as_bytes()).into();
    let hash: String = zbase32(&digest).take(HASH).collect();
    let head = text.get(..max - HASH - 1).unwrap_or(text).trim_end_matches('-');
    format!("{head}-{hash}")
}

/// First five characters of the z-base-32 form of the SHA-1 of a task's id, as Mesos-DNS puts them into canonical names.
pub fn task_hash(task: &str) -> String {
    let digest: [u8; 20] = Sha1::digest(task.as_bytes()).into();
    zbase32(&digest).take(5).collect()
}

/// The first twelve characters of a digest's z-base-32 form.
fn zbase32(digest: &[u8; 20]) -> impl Iterator<Item = char> {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let bits = digest[..8]
        .iter()
        .fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    (0..12u32).map(move |i| {
        let index = (bits >> (59 - 5 * i)) & 31;
        char::from(ALPHABET[usize::try_from(index).unwrap_or(0)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vip_labels_clean_as_dcos_net_did() {
        for (raw, clean) in [
            ("/mygroup/myapp", "mygroupmyapp"),
            ("/api.hello-world", "api.hello-world"),
            ("/UPPER_case.Name", "upper-case.name"),
            ("dev/confluent-kafka", "devconfluent-kafka"),
            ("Foo.Bar_baz", "foo.bar-baz"),
            ("a.-.b", "a.b"),
            ("/", ""),
            ("größe", "gre"),
        ] {
            assert_eq!(domain_frag(raw), clean, "{raw}");
        }
    }

    #[test]
    fn a_row_of_dashes_is_shortened_as_the_originals_did() {
        let text = format!("hello{}f", "-".repeat(58));
        assert_eq!(label(&text), "hellof");
        assert_eq!(label("a.b"), "a-b");
        assert_eq!(label(&"x".repeat(63)), "x".repeat(63));
    }

    #[test]
    fn long_labels_keep_apart_by_a_hash() {
        let (a, b) = (
            label(&format!("{}a", "x".repeat(63))),
            label(&format!("{}b", "x".repeat(63))),
        );
        assert_ne!(a, b);
        for long in [&a, &b] {
            assert_eq!(long.len(), 63, "{long}");
            assert!(long.starts_with(&format!("{}-", "x".repeat(54))), "{long}");
        }
        assert_eq!(label_within(&"y".repeat(63), 62).len(), 62);
        let piece = "z".repeat(60);
        let long = [piece.as_str(); 3].join(".");
        assert_eq!(framework_frag(&long).len(), 63);
        assert_eq!(vip_frag(&long[..119]), &long[..119]);
        assert_eq!(vip_frag(&long).split('.').count(), 1);
    }

    #[test]
    fn task_hash_matches_mesos_dns() {
        assert_eq!(task_hash("test"), "iffe9");
    }
}
