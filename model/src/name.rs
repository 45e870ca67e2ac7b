//! How names are cleaned for DNS: the rule Mesos-DNS (RFC 1123 form) and dcos-net shared.

use std::fmt::Write as _;

/// Longest DNS label, RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;

/// Cleans a text to one DNS label: A-Z lowered, `a-z0-9` kept, `-`, `_` and `.` become `-`, all else dropped, `-` cut at
/// both ends, 63 characters at most. What is left may be empty.
///
/// A longer text is cut at 63, its end stripped of `-`, and filled up with what follows once further `-` are skipped,
/// as the originals do.
pub fn label(text: &str) -> String {
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
    if trimmed.len() <= MAX_LABEL {
        return trimmed.to_owned();
    }
    let (head, tail) = trimmed.split_at(MAX_LABEL);
    let mut out = head.trim_end_matches('-').to_owned();
    let missing = MAX_LABEL - out.len();
    if missing > 0 {
        out.extend(tail.trim_start_matches('-').chars().take(missing));
    }
    out.trim_end_matches('-').to_owned()
}

/// Cleans a text that may hold several labels (framework names, VIP labels): split at `.`, each piece by [`label`],
/// pieces that come out empty left out, joined by `.`.
pub fn domain_frag(text: &str) -> String {
    let pieces: Vec<String> = text.split('.').map(label).filter(|piece| !piece.is_empty()).collect();
    pieces.join(".")
}

/// First five characters of the z-base-32 form of a 20-byte SHA-1 digest, as Mesos-DNS puts them into canonical names.
///
/// The digest is an argument so that this crate needs no hash library.
pub fn task_hash(sha1: &[u8; 20]) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let bits = u32::from_be_bytes([sha1[0], sha1[1], sha1[2], sha1[3]]);
    let mut out = String::with_capacity(5);
    for i in 0..5u32 {
        let index = (bits >> (27 - 5 * i)) & 31;
        // Writing to a String cannot fail.
        let _ = out.write_char(char::from(ALPHABET[index as usize]));
    }
    out
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
        ] {
            assert_eq!(domain_frag(raw), clean, "{raw}");
        }
    }

    #[test]
    fn long_labels_are_cut_and_filled() {
        let text = format!("hello{}f", "-".repeat(58));
        assert_eq!(label(&text), "hellof");
        assert_eq!(label(&"x".repeat(80)).len(), 63);
        assert_eq!(label("a.b"), "a-b");
    }

    #[test]
    fn task_hash_matches_mesos_dns() {
        // SHA-1 of "test" is a94a8fe5...; Mesos-DNS prints iffe9 for it.
        let mut digest = [0u8; 20];
        digest[..4].copy_from_slice(&[0xa9, 0x4a, 0x8f, 0xe5]);
        assert_eq!(task_hash(&digest), "iffe9");
    }
}
