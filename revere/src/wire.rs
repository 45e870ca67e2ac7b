//! The one place where bytes between our own processes, and on our own disks, are made and read.
//!
//! A stored object is a version byte and a bincode body; a frame on a connection is the length of that as a `u32`
//! (little-endian) before it. The domain types know nothing of this: each has a mirror in [`mirror`].

mod frame;
mod message;
mod mirror;
mod since;
mod upgrade;

#[cfg(test)]
mod tests;

pub use frame::FrameCodec;
pub use message::{AgentMessage, MasterMessage};
pub(crate) use mirror::{HoldingsOf, OrderOf, ShareOf, WeightOf};
pub use upgrade::{AgentStream, ConnectError, MasterStream, PATH as AGENT_PATH, UpgradeError, accept, connect};

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use since::Version;

/// The version of every message and stored object. One number for all: a mixed cluster is refused with a sentence.
///
/// 2: health checks, readiness checks, the unreachable strategy. 3: containers, what is fetched, reasons; dependencies, roles and
/// domains, deployments, groups. 4: persistent volumes, pods. 5: networks. 6: volumes of roles, shares of
/// VIPs as they were told.
pub const VERSION: u8 = 6;

/// The oldest version of a stored object that is still read; fields it does not have are [`since::Since`] a later one.
pub(crate) const OLDEST_KEPT: u8 = 1;

/// Most bytes that one message may have: a registration with thousands of tasks fits, a forged length does not.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const FORMAT: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE>> =
    bincode::config::legacy().with_limit::<MAX_MESSAGE>();

/// Why bytes could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side, or an earlier release, speaks another version.
    #[error(
        "message of wire version {found}, but this program speaks version {VERSION}: run the same release of revere everywhere, and a store with the release that wrote it or a newer one"
    )]
    Version {
        /// The byte that was found.
        found: u8,
    },
    /// Ended too early.
    #[error("message ends after {got} bytes, before it is complete")]
    Truncated {
        /// How many there were.
        got: usize,
    },
    /// Longer than allowed.
    #[error("message of {length} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong {
        /// As announced or made.
        length: usize,
    },
    /// Longer than what was read from it.
    #[error("message has {0} bytes too many at its end")]
    Trailing(usize),
    /// A field holds what no sender writes.
    #[error("message holds a wrong {field}: {reason}")]
    Field {
        /// What it should be.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// bincode refused it otherwise.
    #[error("message cannot be read: {0}")]
    Decode(bincode::error::DecodeError),
    /// bincode refused to make it.
    #[error("message cannot be written: {0}")]
    Encode(bincode::error::EncodeError),
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A domain type that has a mirror in the wire format.
pub trait Wire: Sized {
    /// The mirror: plain data with bincode's derives.
    type Mirror: bincode::Encode + bincode::Decode<Version>;
    /// Copies into the mirror.
    fn to_mirror(&self) -> Self::Mirror;
    /// Checks and copies back.
    fn from_mirror(mirror: Self::Mirror) -> Result<Self, WireError>;
}

/// Version byte and body.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![VERSION];
    let body = bincode::encode_to_vec(value.to_mirror(), FORMAT).map_err(WireError::Encode)?;
    if body.len() >= MAX_MESSAGE {
        return Err(WireError::TooLong { length: body.len() });
    }
    bytes.extend(body);
    Ok(bytes)
}

/// Reads what [`encode`] wrote, all of it.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.first() {
        Some(&found) if found != VERSION => Err(WireError::Version { found }),
        _ => read(bytes),
    }
}

/// The same of a stored object, which may have been written by an earlier release.
pub fn decode_kept<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.first() {
        Some(&found) if !(OLDEST_KEPT..=VERSION).contains(&found) => Err(WireError::Version { found }),
        _ => read(bytes),
    }
}

fn read<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    let (&version, body) = bytes.split_first().ok_or(WireError::Truncated { got: 0 })?;
    let read = bincode::decode_from_slice_with_context(body, FORMAT, Version(version));
    let (mirror, used) = read.map_err(|error| match error {
        bincode::error::DecodeError::UnexpectedEnd { .. } => WireError::Truncated { got: bytes.len() },
        bincode::error::DecodeError::LimitExceeded => WireError::TooLong { length: bytes.len() },
        other => WireError::Decode(other),
    })?;
    match body.len().saturating_sub(used) {
        0 => T::from_mirror(mirror),
        rest => Err(WireError::Trailing(rest)),
    }
}
