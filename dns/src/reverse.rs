//! Reverse names: which zones cover a block of addresses, which name stands for one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The zones that hold the reverse names of all addresses of a block and, within one label, no others: at most 128.
pub(crate) fn reverse_zones(block: &IpNet) -> Vec<String> {
    let (step, all) = match block {
        IpNet::V4(_) => (8, 4),
        IpNet::V6(_) => (4, 32),
    };
    let labels = block.prefix_len().div_ceil(step);
    let count = 1u128 << (labels * step - block.prefix_len());
    let nth = |index: u128| match block.network() {
        IpAddr::V4(addr) => {
            let shift = 32 - u32::from(labels * step);
            let offset = u32::try_from(index).unwrap_or(0).checked_shl(shift).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(addr) | offset))
        }
        IpAddr::V6(addr) => {
            let shift = 128 - u32::from(labels * step);
            IpAddr::V6(Ipv6Addr::from(u128::from(addr) | index.checked_shl(shift).unwrap_or(0)))
        }
    };
    let zone = |index| {
        let name = reverse_name(nth(index));
        let skip = all - usize::from(labels);
        name.splitn(skip + 1, '.').last().unwrap_or(&name).to_owned()
    };
    (0..count).map(zone).collect()
}

/// The name of `in-addr.arpa` or `ip6.arpa` that stands for an address.
pub(crate) fn reverse_name(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(addr) => {
            let nibbles = addr.octets().into_iter().rev();
            let mut name: String = nibbles
                .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
                .collect();
            name.push_str("ip6.arpa");
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zones::is_within;

    #[test]
    fn zones_cover_their_block_and_no_more() {
        let zones = |text: &str| reverse_zones(&text.parse().expect("a block"));
        assert_eq!(zones("11.0.0.0/8"), ["11.in-addr.arpa"]);
        assert_eq!(zones("10.1.4.0/23"), ["4.1.10.in-addr.arpa", "5.1.10.in-addr.arpa"]);
        assert_eq!(zones("8.0.0.0/7"), ["8.in-addr.arpa", "9.in-addr.arpa"]);
        assert_eq!(zones("192.0.2.7/32"), ["7.2.0.192.in-addr.arpa"]);
        assert_eq!(zones("fd01:c::/64"), ["0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fc00::/7"), ["c.f.ip6.arpa", "d.f.ip6.arpa"]);
        for (block, inside, outside) in [
            ("10.1.4.0/23", "10.1.5.9", "10.1.6.0"),
            ("fd01:c::/64", "fd01:c::5", "fd01:d::5"),
        ] {
            let covered = |addr: &str| {
                let name = reverse_name(addr.parse().expect("an address"));
                zones(block).iter().any(|zone| is_within(&name, zone))
            };
            assert!(covered(inside) && !covered(outside));
        }
    }
}
