//! Which address, interface name and MACs a container gets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use model::Ipv4Net;

/// The container's gateway: answered for by a permanent neighbour entry, never an address of the node.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The lowest free address of the subnet, from `.2`: `.1` is the node's own, the last is broadcast.
pub fn lowest_free(subnet: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let mut free = subnet.nth(2)?;
    // In their order: the first that is not the next number leaves a gap.
    for address in taken.range(free..) {
        if *address != free {
            break;
        }
        free = Ipv4Addr::from(u32::from(free).checked_add(1)?);
    }
    let next = Ipv4Addr::from(u32::from(free).checked_add(1)?);
    // The last one of a subnet has none behind it.
    (subnet.contains(free) && subnet.contains(next)).then_some(free)
}

/// The host side's interface name: `rv` and 8 hex digits of FNV-1a over the id of the task, or of the pod's instance.
pub(crate) fn link_name(id: &str) -> String {
    let hash = id.bytes().fold(0x811c_9dc5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("rv{hash:08x}")
}

/// MAC of the container's `eth0`: locally administered, from its address.
pub(crate) fn container_mac(addr: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = addr.octets();
    [0x02, 0x43, a, b, c, d]
}

/// MAC of the host side.
pub(crate) fn host_mac(addr: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = addr.octets();
    [0x02, 0x44, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_address_is_taken() {
        let subnet: Ipv4Net = "9.0.3.0/24".parse().expect("valid");
        let mut taken = BTreeSet::new();
        for last in 2..=254u8 {
            let addr = lowest_free(subnet, &taken).expect("room");
            assert_eq!(addr, Ipv4Addr::new(9, 0, 3, last));
            taken.insert(addr);
        }
        assert_eq!(
            lowest_free(subnet, &taken),
            None,
            "the broadcast address is never given out"
        );
        taken.remove(&Ipv4Addr::new(9, 0, 3, 7));
        assert_eq!(lowest_free(subnet, &taken), Some(Ipv4Addr::new(9, 0, 3, 7)));
    }

    #[test]
    fn link_names_fit_the_kernel() {
        let name = link_name("my-service.instance-1._app.1");
        assert_eq!(name.len(), 10);
        assert_ne!(name, link_name("my-service.instance-2._app.1"));
        assert_eq!(link_name(""), "rv811c9dc5");
    }
}
