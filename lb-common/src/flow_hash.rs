//! The hash that chooses a slot: equal on every node, without the VIP's address.

use crate::{Be16, Ip};

/// Hash of a flow. The VIP's address is left out so that an ICMP error that quotes the flow behind the translation, and
/// another node that gets the next packet, come to the same slot.
#[inline(always)]
pub fn flow_hash(client: &Ip, client_port: Be16, server_port: Be16, protocol: u8) -> u32 {
    let ports = (u32::from(client_port.get()) << 16) | u32::from(server_port.get());
    let mut state = u64::from(ports) ^ (u64::from(protocol) << 32) ^ 0x9e37_79b9_7f4a_7c15;
    let high = (u64::from(client.0[0].get()) << 32) | u64::from(client.0[1].get());
    let low = (u64::from(client.0[2].get()) << 32) | u64::from(client.0[3].get());
    state = mix(state ^ low);
    state = mix(state ^ high);
    // The high half is the better mixed one.
    u32::try_from(state >> 32).unwrap_or_default()
}

/// Hash of a flow whose VIP keeps all flows of a source together.
#[inline(always)]
pub fn affinity_hash(client: &Ip) -> u32 {
    flow_hash(client, Be16::new(0), Be16::new(0), 0)
}

/// The finaliser of splitmix64.
#[inline(always)]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn values_are_the_same_on_every_node_and_release() {
        let client = Ip::from(Ipv4Addr::new(192, 0, 2, 1));
        let got = flow_hash(&client, Be16::new(40_000), Be16::new(80), 6);
        assert_eq!(got, flow_hash(&client, Be16::new(40_000), Be16::new(80), 6));
        assert_ne!(got, flow_hash(&client, Be16::new(40_001), Be16::new(80), 6));
        assert_ne!(got, flow_hash(&client, Be16::new(40_000), Be16::new(80), 17));
    }

    #[test]
    fn neighbouring_ports_spread_evenly() {
        let client = Ip::from(Ipv4Addr::new(192, 0, 2, 1));
        let mut hits = [0_u32; 16];
        for port in 32_768..60_000_u16 {
            let hash = flow_hash(&client, Be16::new(port), Be16::new(80), 6);
            hits[usize::try_from(hash % 16).expect("small")] += 1;
        }
        let mean = (60_000 - 32_768) / 16;
        assert!(hits.iter().all(|n| n.abs_diff(mean) < mean / 8), "{hits:?}");
    }
}
