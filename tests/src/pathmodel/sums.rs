//! Checksums, sixteen bits at a time, with the carry put back after each step.

/// One's-complement addition.
fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + u16::from(carry)
}

/// A change of some sixteen-bit words.
#[derive(Clone, Debug, Default)]
pub(super) struct Change(Vec<(u16, u16)>);

impl Change {
    /// These bytes, which begin at an even offset, become those.
    pub(super) fn bytes(mut self, old: &[u8], new: &[u8]) -> Self {
        for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
            self.0.push((
                u16::from_be_bytes([old[0], old[1]]),
                u16::from_be_bytes([new[0], new[1]]),
            ));
        }
        self
    }

    /// Both changes.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    /// The field after the change (RFC 1624).
    pub(super) fn apply(&self, field: u16) -> u16 {
        let sum = self.0.iter().fold(!field, |sum, (old, new)| add(add(sum, !old), *new));
        !sum
    }

    /// The same for UDP, where zero means that there is none.
    pub(super) fn apply_udp(&self, field: u16) -> u16 {
        match field {
            0 => 0,
            field => match self.apply(field) {
                0 => 0xffff,
                sum => sum,
            },
        }
    }
}

/// The checksum of a whole header whose own field is zero.
pub(super) fn whole(header: &[u8]) -> u16 {
    !header
        .chunks_exact(2)
        .fold(0, |sum, pair| add(sum, u16::from_be_bytes([pair[0], pair[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_a_right_sum_right() {
        let mut header = [0x45, 0, 0, 40, 1, 2, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 11, 0, 0, 1];
        let before = whole(&header);
        let change = Change::default().bytes(&header[16..20], &[10, 9, 8, 7]);
        header[16..20].copy_from_slice(&[10, 9, 8, 7]);
        assert_eq!(change.apply(before), whole(&header));
    }
}
