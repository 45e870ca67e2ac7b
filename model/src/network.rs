//! Protocols and IPv4 prefixes in the small form the model needs.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A transport protocol that a VIP can balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// The lower-case word Mesos and DNS use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Parses `tcp` or `udp`, whatever the case; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("tcp") {
            Some(Self::Tcp)
        } else if text.eq_ignore_ascii_case("udp") {
            Some(Self::Udp)
        } else {
            None
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An IPv4 prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is no IPv4 prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Not `address/length`.
    #[error("`{0}` is not an IPv4 prefix: write address/length, for example 9.0.0.0/8")]
    Syntax(String),
    /// Longer than 32 bits.
    #[error("prefix length {0} is over 32")]
    Length(u8),
    /// Bits are set behind the prefix.
    #[error("{0}/{1} has host bits set")]
    HostBits(Ipv4Addr, u8),
}

impl Ipv4Net {
    /// Makes a prefix; host bits must be zero.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Self, NetError> {
        if prefix > 32 {
            return Err(NetError::Length(prefix));
        }
        let net = Self { network, prefix };
        if u32::from(network) & !net.mask_bits() != 0 {
            return Err(NetError::HostBits(network, prefix));
        }
        Ok(net)
    }

    /// The first address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The prefix length, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `addr` lies inside.
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & self.mask_bits() == u32::from(self.network)
    }

    /// The address `offset` places after the network address, if it is still inside.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        let addr = Ipv4Addr::from(u32::from(self.network).checked_add(offset)?);
        self.contains(addr).then_some(addr)
    }

    /// The `index`-th subnet of length `prefix`, if this prefix has that many.
    pub fn subnet(self, prefix: u8, index: u32) -> Option<Self> {
        if prefix < self.prefix || prefix > 32 {
            return None;
        }
        let offset = u64::from(index) << (32 - u32::from(prefix));
        let network = self.nth(u32::try_from(offset).ok()?)?;
        Self::new(network, prefix).ok()
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Which of the equal parts of `whole` this prefix is, counted from 0; `None` if it lies outside.
    pub fn index_in(self, whole: Self) -> Option<u32> {
        if self.prefix < whole.prefix || !whole.contains(self.network) {
            return None;
        }
        let offset = u32::from(self.network) - u32::from(whole.network);
        Some(offset.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    fn mask_bits(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl FromStr for Ipv4Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let syntax = || NetError::Syntax(text.to_owned());
        let (addr, len) = text.split_once('/').ok_or_else(syntax)?;
        Self::new(addr.parse().map_err(|_| syntax())?, len.parse().map_err(|_| syntax())?)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_their_addresses() {
        let net: Ipv4Net = "9.0.0.0/8".parse().expect("valid");
        assert!(net.contains(Ipv4Addr::new(9, 255, 0, 1)));
        assert!(!net.contains(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(net.subnet(24, 3).expect("inside").to_string(), "9.0.3.0/24");
        assert_eq!(net.subnet(24, 1 << 16), None);
        let fourth = net.subnet(24, 3).expect("inside");
        assert_eq!(fourth.index_in(net), Some(3));
        assert_eq!(net.index_in(fourth), None);
        assert!(net.overlaps(fourth) && fourth.overlaps(net));
        assert!(!fourth.overlaps(net.subnet(24, 4).expect("inside")));
        let all: Ipv4Net = "0.0.0.0/0".parse().expect("valid");
        assert_eq!(all.index_in(all), Some(0));
        assert!(all.contains(Ipv4Addr::new(255, 1, 2, 3)));
    }

    #[test]
    fn bad_prefixes_are_refused() {
        assert!(matches!("9.0.0.1/8".parse::<Ipv4Net>(), Err(NetError::HostBits(..))));
        assert!(matches!("9.0.0.0/33".parse::<Ipv4Net>(), Err(NetError::Length(33))));
        assert!(matches!("9.0.0.0".parse::<Ipv4Net>(), Err(NetError::Syntax(_))));
    }
}
