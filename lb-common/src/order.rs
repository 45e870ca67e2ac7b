//! Integers whose byte order is part of the type, and the 16-byte address that holds both families.

/// A 16-bit integer in network byte order, as it stands in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be16(u16);

impl Be16 {
    /// From the host's order.
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// From a field read as it stands in a packet or a kernel structure.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The value in the host's order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The bytes as they stand in a packet, seen as a host integer.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// A 32-bit integer in network byte order, as it stands in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be32(u32);

impl Be32 {
    /// From the host's order.
    #[inline(always)]
    pub const fn new(value: u32) -> Self {
        Self(value.to_be())
    }

    /// From a field read as it stands in a packet or a kernel structure.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The value in the host's order.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// The bytes as they stand in a packet, seen as a host integer.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// An address of either family: IPv6 as it is, IPv4 in its mapped form `::ffff:a.b.c.d`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(pub [Be32; 4]);

impl Ip {
    const MAPPED: Be32 = Be32::new(0xffff);

    /// An IPv4 address.
    #[inline(always)]
    pub const fn v4(addr: Be32) -> Self {
        Self([Be32(0), Be32(0), Self::MAPPED, addr])
    }

    /// The IPv4 address if it is one.
    #[inline(always)]
    pub fn as_v4(&self) -> Option<Be32> {
        (self.0[0].0 == 0 && self.0[1].0 == 0 && self.0[2] == Self::MAPPED).then_some(self.0[3])
    }
}

impl From<core::net::Ipv4Addr> for Ip {
    fn from(addr: core::net::Ipv4Addr) -> Self {
        Self::v4(Be32::new(u32::from(addr)))
    }
}

impl From<core::net::IpAddr> for Ip {
    fn from(addr: core::net::IpAddr) -> Self {
        let bits = match addr {
            core::net::IpAddr::V4(v4) => return Self::from(v4),
            core::net::IpAddr::V6(v6) => v6.octets(),
        };
        let word = |i: usize| Be32::new(u32::from_be_bytes([bits[i], bits[i + 1], bits[i + 2], bits[i + 3]]));
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<Ip> for core::net::IpAddr {
    fn from(ip: Ip) -> Self {
        if let Some(v4) = ip.as_v4() {
            return Self::V4(core::net::Ipv4Addr::from(v4.get()));
        }
        let mut bits = 0_u128;
        for word in ip.0 {
            bits = (bits << 32) | u128::from(word.get());
        }
        Self::V6(core::net::Ipv6Addr::from(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    extern crate std;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["11.0.0.1", "0.0.0.0", "255.255.255.255", "fd01:c::5", "::1"] {
            let addr: IpAddr = text.parse().expect("an address");
            assert_eq!(IpAddr::from(Ip::from(addr)), addr);
        }
        assert_eq!(Be16::new(0x1234).raw().to_ne_bytes(), [0x12, 0x34]);
    }
}
