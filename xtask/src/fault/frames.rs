//! Frames made by hand, with right checksums.

use std::net::Ipv4Addr;

pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

/// A TCP segment without payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) macs: ([u8; 6], [u8; 6]),
    pub(super) from: (Ipv4Addr, u16),
    pub(super) to: (Ipv4Addr, u16),
    pub(super) flags: u8,
}

impl Segment {
    /// Appends the whole frame.
    pub(super) fn write(&self, frame: &mut Vec<u8>) {
        let (to_mac, from_mac) = self.macs;
        frame.extend(to_mac);
        frame.extend(from_mac);
        frame.extend([8, 0]);
        let ip = frame.len();
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.from.0.octets());
        frame.extend(self.to.0.octets());
        let sum = checksum(0, &frame[ip..]);
        frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        let tcp = frame.len();
        frame.extend(self.from.1.to_be_bytes());
        frame.extend(self.to.1.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        let pseudo = words(&self.from.0.octets()) + words(&self.to.0.octets()) + 6 + 20;
        let sum = checksum(pseudo, &frame[tcp..]);
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

fn words(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

/// The internet checksum of RFC 1071.
pub(crate) fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Whether an IPv4 frame goes to this address.
pub(super) fn goes_to(frame: &[u8], address: Ipv4Addr) -> bool {
    frame.len() >= 34 && frame[12..14] == [8, 0] && frame[30..34] == address.octets()
}

/// Six bytes from `02:00:..`.
pub(super) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right() {
        let segment = Segment {
            macs: ([1; 6], [2; 6]),
            from: (Ipv4Addr::new(192, 0, 2, 1), 1025),
            to: (Ipv4Addr::new(11, 0, 0, 1), 80),
            flags: SYN,
        };
        let mut frame = Vec::new();
        segment.write(&mut frame);
        assert_eq!(frame.len(), 54);
        assert_eq!(checksum(0, &frame[14..34]), 0);
        let pseudo = words(&frame[26..34]) + 6 + 20;
        assert_eq!(checksum(pseudo, &frame[34..]), 0);
        assert!(goes_to(&frame, segment.to.0) && !goes_to(&frame, segment.from.0));
        assert_eq!(mac("02:00:00:00:00:0a\n"), Some([2, 0, 0, 0, 0, 10]));
        assert_eq!(mac("02:00"), None);
    }
}
