//! Internet checksum arithmetic: RFC 1624's incremental update, in the order-free form that works on raw words.

use crate::{Be16, Be32};

/// A change to a checksum that is still to be folded. One's-complement sums do not care about byte order, so words are
/// taken as they stand in the packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// No change.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// One 16-bit field goes from `old` to `new`.
    #[inline(always)]
    pub const fn replace16(self, old: Be16, new: Be16) -> Self {
        // Widening casts: `From` is not const.
        Self(self.0 + (!old.raw()) as u64 + new.raw() as u64)
    }

    /// One 32-bit field goes from `old` to `new`.
    #[inline(always)]
    pub const fn replace32(self, old: Be32, new: Be32) -> Self {
        Self(self.0 + (!old.raw()) as u64 + new.raw() as u64)
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Adds a 16-bit word to a sum that is made from nothing.
    #[inline(always)]
    pub const fn add16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds a 32-bit word to a sum that is made from nothing.
    #[inline(always)]
    pub const fn add32(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// The change itself, as helpers of the kernel take it.
    #[inline(always)]
    pub const fn sum(self) -> u64 {
        // Widening cast: `From` is not const.
        fold(self.0) as u64
    }

    /// The checksum field after the change, given the one before.
    #[inline(always)]
    pub const fn apply(self, field: Be16) -> Be16 {
        Be16::from_raw(!fold(self.0 + (!field.raw()) as u64))
    }

    /// The checksum field of a sum that was made from nothing.
    #[inline(always)]
    pub const fn finish(self) -> Be16 {
        Be16::from_raw(!fold(self.0))
    }
}

/// Folds a sum of words to 16 bits with end-around carry.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "folded below 2^16 first")]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    extern crate std;
    use std::vec::Vec;

    fn whole(bytes: &[u8]) -> Be16 {
        bytes
            .chunks(2)
            .fold(Checksum::new(), |sum, pair| {
                sum.add16(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
            })
            .finish()
    }

    proptest! {
        #[test]
        fn incremental_equals_whole(mut bytes in proptest::collection::vec(any::<u8>(), 8..64), port: u16, addr: u32) {
            let before = whole(&bytes);
            let old_addr = Be32::from_raw(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            let old_port = Be16::from_raw(u16::from_ne_bytes([bytes[4], bytes[5]]));
            bytes[..4].copy_from_slice(&addr.to_ne_bytes());
            bytes[4..6].copy_from_slice(&port.to_ne_bytes());
            let got = Checksum::new()
                .replace32(old_addr, Be32::from_raw(addr))
                .replace16(old_port, Be16::from_raw(port))
                .apply(before);
            let mut with_sum: Vec<u8> = bytes.clone();
            if with_sum.len() % 2 == 1 { with_sum.push(0); }
            with_sum.extend_from_slice(&got.raw().to_ne_bytes());
            // A packet with a right checksum sums to zero, whichever of the two zeros the field holds.
            prop_assert_eq!(whole(&with_sum).raw(), 0);
        }
    }
}
