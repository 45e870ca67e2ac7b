//! What the socket hooks remember, for user space: open connections by backend, and which socket went where.

use aya::maps::MapError;
use lb_common::SocketEntry;

use crate::{BackendKey, Lb};

/// The sockets that the hooks know could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read map {map}: {source}")]
pub struct SocketsError {
    map: &'static str,
    source: MapError,
}

impl Lb {
    /// Connections that this node's sockets have open to a backend; `None` for a backend that is not known.
    pub fn open_sockets(&self, backend: &BackendKey) -> Result<Option<u64>, SocketsError> {
        let Some(index) = self.book.indices.get(backend) else {
            return Ok(None);
        };
        let open = self.maps.open_sockets.get(&index, 0);
        let open = open.map_err(|source| SocketsError {
            map: "OPEN_SOCKETS",
            source,
        })?;
        Ok(Some(u64::try_from(open.cast_signed()).unwrap_or(0)))
    }

    /// Every connected socket that went to a backend, by its cookie.
    pub fn sockets(&self) -> impl Iterator<Item = Result<(u64, SocketEntry), SocketsError>> {
        let known = self.maps.sockets.iter();
        known.map(|entry| entry.map_err(|source| SocketsError { map: "SOCKETS", source }))
    }
}
