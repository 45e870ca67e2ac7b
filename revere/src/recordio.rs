//! RecordIO, the framing of Mesos streams: `<decimal length>\n<bytes>`, with nothing behind the bytes.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest length line taken; 20 digits hold any 64-bit number.
const MAX_LENGTH_DIGITS: usize = 20;

/// Why a byte stream is no RecordIO stream. The stream cannot be used any further: its framing is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A byte that is no digit where a length should be.
    #[error("record {record}: expected a decimal length, found {found:?}; this is no RecordIO stream")]
    Garbage {
        /// Which record of the stream, from 0.
        record: u64,
        /// What stood there, cut short.
        found: String,
    },
    /// The record is longer than this reader takes.
    #[error("record {record} is longer than the limit of {limit} bytes")]
    TooLong {
        /// Which record of the stream, from 0.
        record: u64,
        /// The limit.
        limit: usize,
    },
    /// The stream ended inside a record.
    #[error("the stream ended inside record {record}: {have} bytes of it had arrived")]
    Truncated {
        /// Which record of the stream, from 0.
        record: u64,
        /// Bytes there, length line included if it was not yet complete.
        have: usize,
    },
}

/// Frames one record.
pub fn encode(record: &[u8]) -> Bytes {
    let mut out = format!("{}\n", record.len()).into_bytes();
    out.extend_from_slice(record);
    Bytes::from(out)
}

/// Takes bytes in any pieces and gives whole records out.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// Length of the record whose bytes are being collected, once its length line is read.
    length: Option<usize>,
    records: u64,
}

impl Decoder {
    /// A decoder that refuses records of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            length: None,
            records: 0,
        }
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record, or `None` until more bytes are pushed. After an error every further call fails too.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.read_length()? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        self.records += 1;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether the stream may end here.
    pub fn finish(&self) -> Result<(), RecordError> {
        if self.length.is_none() && self.buffer.is_empty() {
            return Ok(());
        }
        Err(RecordError::Truncated {
            record: self.records,
            have: self.buffer.len(),
        })
    }

    fn read_length(&mut self) -> Result<Option<usize>, RecordError> {
        let line = &self.buffer[..self.buffer.len().min(MAX_LENGTH_DIGITS + 1)];
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match line.get(digits) {
            Some(b'\n') if digits > 0 => {}
            None if digits <= MAX_LENGTH_DIGITS => return Ok(None),
            _ => return Err(self.garbage()),
        }
        // Only digits, so only too large a number can fail to parse.
        let length = std::str::from_utf8(&line[..digits])
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|length| *length <= self.limit)
            .ok_or(RecordError::TooLong {
                record: self.records,
                limit: self.limit,
            })?;
        self.buffer.advance(digits + 1);
        Ok(Some(length))
    }

    fn garbage(&self) -> RecordError {
        let head = &self.buffer[..self.buffer.len().min(MAX_LENGTH_DIGITS + 1)];
        RecordError::Garbage {
            record: self.records,
            found: String::from_utf8_lossy(head).into_owned(),
        }
    }
}

#[cfg(test)]
#[path = "recordio/tests.rs"]
mod tests;
