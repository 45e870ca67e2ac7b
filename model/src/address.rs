//! The address of a named VIP: DC/OS's hash into 11.0.0.0/8, made cluster-wide.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::VipName;

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
    fn span(self) -> u32 {
        u32::from(self.max).saturating_sub(u32::from(self.min))
    }

    fn start(self, name: &VipName) -> Ipv4Addr {
        let span = self.span();
        if span == 0 {
            return self.min;
        }
        Ipv4Addr::from(u32::from(self.min) + phash2(name.fragment().as_bytes()) % span)
    }

    fn after(self, addr: Ipv4Addr) -> Ipv4Addr {
        if addr >= self.max {
            self.min
        } else {
            Ipv4Addr::from(u32::from(addr) + 1)
        }
    }
}

/// Chooses the address of `name`, given those already taken: the hashed one, or on collision the next free one upwards,
/// wrapping at the end. `None` when the range is full.
///
/// Calling it for all names in sorted order gives the same table on every node whatever the order of events.
pub fn named_vip_address(range: VipRange, name: &VipName, taken: &BTreeMap<Ipv4Addr, VipName>) -> Option<Ipv4Addr> {
    let mut addr = range.start(name);
    for _ in 0..=u64::from(range.span()) {
        match taken.get(&addr) {
            Some(other) if other != name => addr = range.after(addr),
            _ => return Some(addr),
        }
    }
    None
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

    fn name(label: &str, framework: &str) -> VipName {
        VipName {
            label: label.into(),
            framework: framework.into(),
        }
    }

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
    fn collisions_take_the_next_address_and_wrap() {
        let range = VipRange {
            min: Ipv4Addr::new(11, 0, 0, 0),
            max: Ipv4Addr::new(11, 0, 0, 1),
        };
        let mut taken = BTreeMap::new();
        for n in ["a", "b"] {
            let who = name(n, "marathon");
            let addr = named_vip_address(range, &who, &taken).expect("free");
            assert!(taken.insert(addr, who).is_none());
        }
        assert_eq!(named_vip_address(range, &name("c", "marathon"), &taken), None);
        let known = taken
            .iter()
            .next()
            .map(|(addr, who)| (*addr, who.clone()))
            .expect("two");
        assert_eq!(named_vip_address(range, &known.1, &taken), Some(known.0));
    }
}
