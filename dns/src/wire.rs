//! Tells from the bytes alone, in bounded time, what kind of message came in, and reads the plain question.
//!
//! Plain is what resolvers send all day: one question of class IN, at most an OPT record without surprises, not a byte more.
//! Everything else is for the full parser, which never sees a message longer than [`MAX_MESSAGE`].

/// Longest message that is looked at. A question takes 271 bytes and an OPT record; what is longer is no question but an
/// attempt to keep the parser busy, and is answered FORMERR by its header.
pub(crate) const MAX_MESSAGE: usize = 4096;

/// Bytes of the header.
pub(crate) const HEADER: usize = 12;
/// Longest name in wire form, RFC 1035 section 2.3.4.
const MAX_NAME: usize = 255;
/// RFC 7873: the client's part, or both parts.
const COOKIE: u16 = 10;

/// Response codes that are given by the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormErr = 1,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// A plain question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain<'a> {
    /// The whole message.
    pub(crate) message: &'a [u8],
    /// The name as asked, in wire form with the root label.
    pub(crate) name: &'a [u8],
    /// The type asked for.
    pub(crate) rtype: u16,
    /// What the OPT record says, if there is one.
    pub(crate) edns: Option<PlainEdns>,
}

/// A plain OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlainEdns {
    /// Largest UDP answer the client takes.
    pub(crate) payload: u16,
    /// The DO bit, which answers repeat (RFC 3225 section 3).
    pub(crate) dnssec_ok: bool,
}

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screened<'a> {
    /// Too short to be answered, or itself an answer: two servers must never talk to each other without end.
    Ignore,
    /// Answered by its header.
    Header(Code),
    /// A plain question.
    Plain(Plain<'a>),
    /// For the full parser.
    Other,
}

impl<'a> Plain<'a> {
    /// The question section as asked.
    pub(crate) fn question(&self) -> &'a [u8] {
        let end = HEADER + self.name.len() + 4;
        self.message.get(HEADER..end).unwrap_or_default()
    }
}

/// Sorts one message.
pub(crate) fn screen(message: &[u8]) -> Screened<'_> {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return Screened::Ignore;
    };
    if header[2] & 0x80 != 0 {
        return Screened::Ignore;
    }
    if message.len() > MAX_MESSAGE {
        return Screened::Header(Code::FormErr);
    }
    if header[2] & 0x78 != 0 {
        return Screened::Header(Code::NotImp);
    }
    // RFC 9619: a query has one question.
    if header[4..6] != [0, 1] {
        return Screened::Header(Code::FormErr);
    }
    // Of the flags RD, AD and CD may be set.
    let plain_flags = header[2] & 0x06 == 0 && header[3] & 0xcf == 0;
    if !plain_flags || header[6..11] != [0; 5] || header[11] > 1 {
        return Screened::Other;
    }
    plain(message, header[11] == 1).map_or(Screened::Other, Screened::Plain)
}

fn plain(message: &[u8], has_opt: bool) -> Option<Plain<'_>> {
    let rest = message.get(HEADER..)?;
    let (name, rest) = rest.split_at(name_len(rest)?);
    let ([type_high, type_low, 0, 1], rest) = rest.split_first_chunk::<4>()? else {
        return None;
    };
    let rtype = u16::from_be_bytes([*type_high, *type_low]);
    // OPT and the transfers and other questions about the server's state are no questions about records.
    if matches!(rtype, 0 | 41 | 249..=254) {
        return None;
    }
    let edns = match has_opt {
        true => Some(opt(rest)?),
        false if rest.is_empty() => None,
        false => return None,
    };
    Some(Plain {
        message,
        name,
        rtype,
        edns,
    })
}

/// Length of an uncompressed name at the start of `bytes`, root label included.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length > 63 || at > MAX_NAME {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// An OPT record of version 0 without unknown flags, that ends the message.
fn opt(record: &[u8]) -> Option<PlainEdns> {
    let (fixed, options) = record.split_first_chunk::<11>()?;
    let [
        0,
        0,
        41,
        payload_high,
        payload_low,
        0,
        0,
        flags,
        0,
        length_high,
        length_low,
    ] = *fixed
    else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if flags & 0x7f != 0 || length != options.len() || !options_are_plain(options) {
        return None;
    }
    Some(PlainEdns {
        payload: u16::from_be_bytes([payload_high, payload_low]),
        dnssec_ok: flags & 0x80 != 0,
    })
}

/// None, or one cookie of a length it may have; cookies are not answered, as by any server that has none.
fn options_are_plain(options: &[u8]) -> bool {
    let Some((fixed, data)) = options.split_first_chunk::<4>() else {
        return options.is_empty();
    };
    let [code_high, code_low, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    u16::from_be_bytes([code_high, code_low]) == COOKIE && length == data.len() && matches!(length, 8 | 16..=40)
}

/// An answer that is only a header, to a message of at least [`HEADER`] bytes.
pub(crate) fn header_only(message: &[u8], code: Code, out: &mut Vec<u8>) {
    out.clear();
    let Some(header) = message.first_chunk::<HEADER>() else {
        return;
    };
    // The id, the opcode and RD as they came.
    out.extend([header[0], header[1], 0x80 | header[2] & 0x79, code as u8]);
    out.extend([0; 8]);
}

/// An empty answer with TC set and the question: never longer than the message it answers.
pub(crate) fn truncated(question: &Plain<'_>, out: &mut Vec<u8>) {
    short(question, 0x02, Code::NoError, out);
}

/// An answer that is a header and the question.
pub(crate) fn short(question: &Plain<'_>, flags: u8, code: Code, out: &mut Vec<u8>) {
    header_only(question.message, code, out);
    if let Some(byte) = out.get_mut(2) {
        *byte |= flags;
    }
    if let Some(byte) = out.get_mut(5) {
        *byte = 1;
    }
    out.extend_from_slice(question.question());
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
