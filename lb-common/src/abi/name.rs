//! Questions for names that are answered before the name server's sockets: key, answer, and who may ask.

use crate::{Be16, Be32};

/// Words of a name in wire form that are compared; a longer name is the server's to answer.
pub const NAME_WORDS: usize = 12;
/// Longest name that is answered, in bytes of its wire form with the root label.
pub const NAME_ROOM: usize = NAME_WORDS * 8;
/// Most labels of such a name.
pub const NAME_LABELS: usize = 24;
/// Longest answer after the question, without the OPT record.
pub const NAME_BODY: usize = 228;
/// Longest question after the header: name, type, class, OPT record with the longest cookie.
pub const NAME_QUESTION: usize = NAME_ROOM + 4 + 11 + 44;
/// Rooms for answers, three quarters of them for names of some 20,000 tasks; what finds none is the server's to answer.
pub const MAX_NAMES: u32 = 65_536;
/// Addresses of the server that are looked for.
pub const NAME_SERVERS: usize = 4;
/// Networks whose questions are answered.
pub const NAME_CLIENTS: usize = 8;

/// Version of the layouts in this file, which are pinned apart from the load balancer's.
pub const NAME_LAYOUT: u32 = 1;

/// A question.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey {
    /// The name in wire form with the root label, lower case, zeros behind it; byte 0 is the lowest of word 0.
    pub name: [u64; NAME_WORDS],
    /// The type asked for.
    pub kind: u64,
}

/// The answer to a question of class IN.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAnswer {
    /// A hash of all the rest, by which a reader sees that the room was given to another answer meanwhile.
    pub tag: u64,
    /// The question, for the same reason.
    pub key: NameKey,
    /// Records in the answer, authority and additional sections, without the OPT record.
    pub counts: [u16; 3],
    /// Bytes of `body` that are used, at least 1.
    pub len: u16,
    /// Where in `body` the serial of the zones is to be put; 0: nowhere.
    pub serial_at: u16,
    /// A [`NameCount`]: whether there are records of this type.
    pub count: u16,
    /// What follows the question.
    pub body: [u8; NAME_BODY],
}

/// An address and a port of the name server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameServer {
    /// Zero: none.
    pub addr: Be32,
    /// Its port.
    pub port: Be16,
    /// Always 0.
    pub zero: u16,
}

/// A network of clients.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameClients {
    /// Its first address.
    pub addr: Be32,
    /// Its mask.
    pub mask: Be32,
}

/// Element 0 of `NAME_CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameConfig {
    /// Second of the monotonic clock from which on nothing is answered: whoever keeps the answers true puts it off.
    pub until: u32,
    /// Serial of the zones, as it stands in a message.
    pub serial: Be32,
    /// Largest answer that the server sends, which an OPT record tells.
    pub max_payload: u16,
    /// The bit RA where it stands in the second byte of the flags, or 0.
    pub recursion: u16,
    /// Where the server listens.
    pub servers: [NameServer; NAME_SERVERS],
    /// Whose questions are answered without looking at a rate or a list.
    pub clients: [NameClients; NAME_CLIENTS],
}

/// What became of a question for the name server; index into `NAME_COUNTS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameCount {
    /// Answered with records.
    Answered = 0,
    /// Answered: the name exists, records of this type don't.
    NoData = 1,
    /// The server's: another client, another form, another name.
    Passed = 2,
    /// The server's: nobody keeps the answers true any more.
    Stale = 3,
    /// The server's: the frame has no room for the answer.
    NoRoom = 4,
}

impl NameCount {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Answered, Self::NoData, Self::Passed, Self::Stale, Self::NoRoom];

    /// As metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoData => "no_data",
            Self::Passed => "passed",
            Self::Stale => "stale",
            Self::NoRoom => "no_room",
        }
    }
}

impl NameClients {
    /// Nobody.
    pub const NONE: Self = Self {
        addr: Be32::new(u32::MAX),
        mask: Be32::new(0),
    };
}

impl NameConfig {
    /// No server, no client.
    pub const NONE: Self = Self {
        until: 0,
        serial: Be32::new(0),
        max_payload: 0,
        recursion: 0,
        servers: [NameServer {
            addr: Be32::new(0),
            port: Be16::new(0),
            zero: 0,
        }; NAME_SERVERS],
        clients: [NameClients::NONE; NAME_CLIENTS],
    };

    /// Whether the server listens there.
    #[inline(always)]
    pub fn serves(&self, addr: Be32, port: Be16) -> bool {
        let mut found = false;
        for server in &self.servers {
            found |= server.addr.raw() == addr.raw() && server.port.raw() == port.raw();
        }
        found && addr.raw() != 0
    }

    /// Whether questions from there are answered.
    #[inline(always)]
    pub fn answers(&self, client: Be32) -> bool {
        let mut found = false;
        for net in &self.clients {
            found |= client.raw() & net.mask.raw() == net.addr.raw();
        }
        found
    }
}

/// Eight bytes of a name with its letters in lower case. Lengths of labels are below 64, so none of them is taken for a letter.
#[inline(always)]
pub const fn small_letters(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let beyond_z = low + EACH * (0x7f - b'Z' as u64);
    let upper = (from_a ^ beyond_z) & !word & (EACH * 0x80);
    word | (upper >> 2)
}

/// The part of word `index` that belongs to a name of `len` bytes.
#[inline(always)]
pub const fn name_part(index: usize, len: usize) -> u64 {
    let from = index * 8;
    if len >= from + 8 {
        u64::MAX
    } else if len <= from {
        0
    } else {
        (1 << ((len - from) * 8)) - 1
    }
}

impl NameKey {
    /// From a name in wire form, of any case; `None` for one that is too long.
    pub fn new(name: &[u8], kind: u16) -> Option<Self> {
        if name.len() > NAME_ROOM {
            return None;
        }
        let mut key = Self {
            kind: u64::from(kind),
            ..Self::default()
        };
        for (word, bytes) in key.name.iter_mut().zip(name.chunks(8)) {
            let mut eight = [0; 8];
            for (to, from) in eight.iter_mut().zip(bytes) {
                *to = *from;
            }
            *word = small_letters(u64::from_le_bytes(eight));
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_nothing_else_become_small() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let word = u64::from(byte) << (place * 8);
                let small = u64::from(byte.to_ascii_lowercase()) << (place * 8);
                assert_eq!(small_letters(word), small, "{byte:#x} at {place}");
                assert_eq!(
                    small_letters(word | !(0xff << (place * 8))),
                    small | !(0xff << (place * 8))
                );
            }
        }
    }

    #[test]
    fn a_key_is_the_name_in_small_letters_and_zeros() {
        let key = NameKey::new(b"\x03TwO\x05mesos\x00", 1).expect("short");
        assert_eq!(key, NameKey::new(b"\x03two\x05MESOS\x00", 1).expect("short"));
        assert_eq!(key.name[0], u64::from_le_bytes(*b"\x03two\x05mes"));
        assert_eq!(key.name[1], u64::from_le_bytes(*b"os\0\0\0\0\0\0"));
        assert_ne!(key, NameKey::new(b"\x03two\x05mesos\x00", 28).expect("short"));
        assert!(NameKey::new(&[1; NAME_ROOM + 1], 1).is_none());
        assert!(NameKey::new(&[1; NAME_ROOM], 1).is_some());
        for len in 0..=NAME_ROOM {
            let kept: u32 = (0..NAME_WORDS).map(|index| name_part(index, len).count_ones()).sum();
            assert_eq!(kept, u32::try_from(len).expect("small") * 8);
        }
    }

    #[test]
    fn nobody_is_served_until_told() {
        let mut config = NameConfig::NONE;
        let (addr, port) = (Be32::new(0xc633_6401), Be16::new(53));
        assert!(!config.serves(Be32::new(0), Be16::new(0)) && !config.serves(addr, port));
        assert!(!config.answers(Be32::new(0x7f00_0001)) && !config.answers(Be32::new(u32::MAX)));
        config.servers[3] = NameServer { addr, port, zero: 0 };
        config.clients[7] = NameClients {
            addr: Be32::new(0x0900_0000),
            mask: Be32::new(0xff00_0000),
        };
        assert!(config.serves(addr, port) && !config.serves(addr, Be16::new(54)));
        assert!(config.answers(Be32::new(0x0901_0203)) && !config.answers(Be32::new(0x0a01_0203)));
    }
}
