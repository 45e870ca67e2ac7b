//! The plane's handle: a netlink socket of one network namespace.

use std::io;

use futures_util::future::{BoxFuture, FutureExt};
use rtnetlink::Handle;

use crate::Config;

/// Talks to the kernel of one network namespace: that of the thread that opened it.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) config: Config,
    pub(crate) netlink: Handle,
}

/// Why the kernel can't be talked to.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The socket was refused.
    #[error("opening a route netlink socket failed: {0}; check that the process may open sockets (limits, seccomp)")]
    Socket(#[source] io::Error),
}

impl Overlay {
    /// Opens netlink in the calling thread's network namespace. The future moves messages to and from the kernel: the
    /// caller spawns it (inside the same tokio runtime) and it ends when the handle is dropped.
    ///
    /// A socket stays in the namespace it was opened in, whoever polls it; the sysctl files don't, so [`crate::observe`]
    /// and [`crate::apply`] must be called from threads of that namespace too.
    pub async fn open(config: Config) -> Result<(Self, BoxFuture<'static, ()>), OpenError> {
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(OpenError::Socket)?;
        Ok((Self { config, netlink }, connection.boxed()))
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
