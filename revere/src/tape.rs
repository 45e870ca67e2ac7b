//! A task stream in a file: what a master said, and when, to be read, folded or served again.
//!
//! The file is RecordIO. Its first record is the [`Header`], in JSON. Each further one is a record of the stream exactly
//! as it arrived, after the microseconds since the start in decimal and a newline. A stream that broke off and began
//! again goes on in the same file: its next record is then another `SUBSCRIBED`.

pub mod fold;
pub mod record;
pub mod replay;
mod serve;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::mesos::decode::Encoding;
use crate::recordio::{self, Decoder, RecordError};

/// The only form there is.
const VERSION: u32 = 1;

/// Longest record of a file; a stream's own limit is lower.
const MAX_RECORD: usize = 1024 * 1024 * 1024;

/// Digits of a time: 64 bits.
const MAX_TIME: usize = 20;

/// The first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this form.
    pub revere_stream: u32,
    /// How the records are written.
    pub encoding: Encoding,
    /// Who said them.
    pub master: String,
    /// Unix time of the start, in milliseconds.
    pub began_ms: u64,
}

impl Header {
    /// A header of this version.
    pub fn new(encoding: Encoding, master: &str, began_ms: u64) -> Self {
        Self {
            revere_stream: VERSION,
            encoding,
            master: master.to_owned(),
            began_ms,
        }
    }

    /// As the file begins.
    pub fn to_bytes(&self) -> Bytes {
        recordio::encode(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// One record with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Since the start.
    pub at: Duration,
    /// As it arrived.
    pub record: Bytes,
}

impl Said {
    /// As it stands in the file.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = format!("{}\n", self.at.as_micros()).into_bytes();
        out.extend_from_slice(&self.record);
        recordio::encode(&out)
    }
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tape {
    /// Its first record.
    pub header: Header,
    /// The others, times never falling.
    pub said: Vec<Said>,
    /// Whether the file ends in the middle of a record: whoever wrote it was killed.
    pub cut: bool,
}

/// Why a file is none.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// Unreadable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Its framing.
    #[error("this is no recorded stream: {0}")]
    Record(#[from] RecordError),
    /// Its first record.
    #[error("this is no recorded stream of `revere record`: {0}")]
    Header(String),
    /// A time.
    #[error("record {0} begins without the time that it arrived at")]
    Time(usize),
}

impl Tape {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, TapeError> {
        let bytes = std::fs::read(path).map_err(|source| TapeError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&bytes)
    }

    /// Reads the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TapeError> {
        let mut decoder = Decoder::new(MAX_RECORD);
        decoder.push(bytes);
        let first = decoder
            .next_record()?
            .ok_or_else(|| TapeError::Header("it is empty".to_owned()))?;
        let header: Header = serde_json::from_slice(&first).map_err(|error| TapeError::Header(error.to_string()))?;
        if header.revere_stream != VERSION {
            let text = format!(
                "it is of version {}, this release reads {VERSION}",
                header.revere_stream
            );
            return Err(TapeError::Header(text));
        }
        let mut said: Vec<Said> = Vec::new();
        while let Some(record) = decoder.next_record()? {
            let mut one = parse_said(&record).ok_or(TapeError::Time(said.len() + 1))?;
            one.at = one.at.max(said.last().map_or(Duration::ZERO, |last| last.at));
            said.push(one);
        }
        Ok(Self {
            header,
            said,
            cut: decoder.finish().is_err(),
        })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.header.to_bytes().to_vec();
        for one in &self.said {
            out.extend_from_slice(&one.to_bytes());
        }
        out
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        self.said.last().map_or(Duration::ZERO, |last| last.at)
    }
}

fn parse_said(record: &Bytes) -> Option<Said> {
    let digits = record
        .iter()
        .take(MAX_TIME + 1)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if record.get(digits) != Some(&b'\n') {
        return None;
    }
    let micros = std::str::from_utf8(&record[..digits]).ok()?.parse().ok()?;
    Some(Said {
        at: Duration::from_micros(micros),
        record: record.slice(digits + 1..),
    })
}
