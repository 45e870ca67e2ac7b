//! Which address a named VIP has: DC/OS's hash into 11.0.0.0/8 and fd01:c::/64, made cluster-wide.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha1::{Digest as _, Sha1};

use crate::VipName;

pub(crate) use places::Places;

mod places;

/// The block that named VIPs get their IPv4 addresses from, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipRange {
    /// Lowest address.
    pub min: Ipv4Addr,
    /// Highest address; never given out by the hash itself, only by probing.
    pub max: Ipv4Addr,
}

impl Default for VipRange {
    /// DC/OS's configured default, `dcos_l4lb_min_named_ip` to `dcos_l4lb_max_named_ip`.
    fn default() -> Self {
        Self {
            min: Ipv4Addr::new(11, 0, 0, 0),
            max: Ipv4Addr::new(11, 255, 255, 255),
        }
    }
}

impl VipRange {
    /// Distance of the last address from the first.
    pub(crate) fn span(self) -> u64 {
        u64::from(u32::from(self.max).saturating_sub(u32::from(self.min)))
    }

    /// Where the hash puts `name`, as a distance from the first address.
    pub(crate) fn home(self, name: &VipName) -> u64 {
        u64::from(phash2(name.fragment().as_bytes())) % self.span().max(1)
    }

    /// The address at that distance.
    pub(crate) fn at(self, place: u64) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.min).saturating_add(u32::try_from(place).unwrap_or(u32::MAX)))
    }
}

/// The block that named VIPs get their IPv6 addresses from, both ends included. At most 2^64 addresses are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip6Range {
    /// Lowest address.
    pub min: Ipv6Addr,
    /// Highest address; never given out by the hash itself, only by probing.
    pub max: Ipv6Addr,
}

impl Default for Vip6Range {
    /// DC/OS's default, `dcos_l4lb_min_named_ip6` to `dcos_l4lb_max_named_ip6`.
    fn default() -> Self {
        Self {
            min: Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0),
            max: Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff),
        }
    }
}

impl Vip6Range {
    /// Distance of the last address from the first.
    pub(crate) fn span(self) -> u64 {
        let span = u128::from(self.max).saturating_sub(u128::from(self.min));
        u64::try_from(span).unwrap_or(u64::MAX)
    }

    /// Where the hash puts `name`: SHA-1 as a big-endian number, modulo the span.
    pub(crate) fn home(self, name: &VipName) -> u64 {
        let digest: [u8; 20] = Sha1::digest(name.fragment().as_bytes()).into();
        let span = u128::from(self.span().max(1));
        let place = digest
            .iter()
            .fold(0u128, |sum, byte| ((sum << 8) | u128::from(*byte)) % span);
        u64::try_from(place).unwrap_or(0)
    }

    /// The address at that distance.
    pub(crate) fn at(self, place: u64) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.min).saturating_add(u128::from(place)))
    }
}

/// Erlang's `phash2` of a binary over the full 32 bits: Bob Jenkins' lookup2 with Erlang's seed. Reduce it by `%` to a
/// range, as `erlang:phash2/2` does.
pub fn phash2(bytes: &[u8]) -> u32 {
    const GOLDEN: u32 = 0x9e37_79b9;
    const SEED: u32 = 0x08d1_2e65; // 13 * GOLDEN mod 2^32
    if bytes.is_empty() {
        return SEED;
    }
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, SEED);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        a = a.wrapping_add(word(&block[0..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..12]));
        (a, b, c) = mix(a, b, c);
    }
    let rest = blocks.remainder();
    // Lengths are far below 2^32; the original truncates the same way.
    c = c.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    for (i, byte) in rest.iter().enumerate() {
        let value = u32::from(*byte);
        match i {
            0..=3 => a = a.wrapping_add(value << (8 * i)),
            4..=7 => b = b.wrapping_add(value << (8 * (i - 4))),
            // The lowest byte of c is reserved for the length.
            _ => c = c.wrapping_add(value << (8 * (i - 7))),
        }
    }
    mix(a, b, c).2
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |acc, byte| (acc << 8) | u32::from(*byte))
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> 13);
    b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << 8);
    c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> 13);
    a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> 12);
    b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << 16);
    c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> 5);
    a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> 3);
    b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << 10);
    c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> 15);
    (a, b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_equals_dcos_net_examples() {
        // Examples measured on the original daemon, by modulus.
        assert_eq!(phash2(b"foo.bar") % 254, 37);
        assert_eq!(phash2(b"baz.qux") % 254, 39);
        assert_eq!(phash2(b"foo.bar") % 16_777_214, 9_059_041);
        assert_eq!(phash2(b"merp.marathon") % 16_777_214, 16_437_403);
        assert_eq!(phash2(b"web.marathon") % 16_777_214, 14_755_215);
        assert_eq!(phash2(b""), 0x08d1_2e65);
    }

    #[test]
    fn ranges_are_those_of_dcos() {
        let (v4, v6) = (VipRange::default(), Vip6Range::default());
        assert_eq!((v4.span(), v6.span()), (16_777_215, u64::MAX));
        assert_eq!(v6.at(5).to_string(), "fd01:c::5");
        let name = VipName {
            label: "web".into(),
            framework: "marathon".into(),
        };
        // SHA-1 of "web.marathon" modulo 2^64 - 1, computed apart from this code.
        assert_eq!(v6.home(&name), WEB_MARATHON);
    }

    const WEB_MARATHON: u64 = 0x0cb8_74fe_906b_0dee;
}
