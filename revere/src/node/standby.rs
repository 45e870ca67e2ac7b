//! The standby: a second process that holds the name server's sockets, and answers from them when the daemon is gone.
//!
//! The daemon starts it and gives it second handles of all sockets, so that they stay open, with the questions in them,
//! however the daemon ends. The kernel closes the pipe between the two then; the standby reads the last picture from disk
//! and answers. A new daemon calls at the standby's door, takes the sockets, and sends it away once it answers itself.

mod pass;
mod serve;

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use self::pass::Pipe;
use super::config::{Config, Settings};
use super::status::Status;
use super::stream::Backoff;

pub use serve::{StandbyError, run as serve};

/// The standby's door, in the state directory.
const DOOR: &str = "names.sock";

/// With the settings and the sockets, from the daemon.
const HELLO: u8 = b'h';
/// With the sockets, to a new daemon.
const SOCKETS: u8 = b's';
/// A new daemon answers: go.
const SERVING: u8 = b'a';
/// The daemon ends for good: do not answer.
const QUIT: u8 = b'q';

/// This very program, also when an upgrade has put another in its place.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long a standby may take to hand its sockets over; it has nothing else to do.
const CALL: Duration = Duration::from_secs(2);

/// An earlier daemon's standby.
#[derive(Debug)]
pub(super) struct Elder {
    pipe: Pipe,
    sockets: Vec<OwnedFd>,
}

impl Elder {
    /// Asks for the sockets, if there is one.
    pub(super) async fn call(state_dir: &Path) -> Option<Self> {
        let pipe = match Pipe::call(state_dir, DOOR) {
            Ok(pipe) => pipe?,
            Err(error) => {
                tracing::warn!("an earlier daemon's standby cannot be reached: {error}; opening new sockets");
                return None;
            }
        };
        match timeout(CALL, pipe.receive()).await {
            Ok(Ok(Some((word, sockets)))) if word == SOCKETS => Some(Self { pipe, sockets }),
            other => {
                tracing::warn!("an earlier daemon's standby gives no sockets ({other:?}); opening new ones");
                None
            }
        }
    }

    /// Its sockets, for the name server. It goes on answering.
    pub(super) fn take_sockets(&mut self) -> dns::Inherited {
        tracing::info!(sockets = self.sockets.len(), "taking the name server's sockets over");
        dns::Inherited::new(std::mem::take(&mut self.sockets))
    }

    /// Sends it away: the sockets are read here now.
    pub(super) fn retire(self) {
        if let Err(error) = self.pipe.send(SERVING, &[]) {
            tracing::warn!("an earlier daemon's standby cannot be sent away: {error}");
        }
    }
}

/// The way to this daemon's own standby, while it lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Standby(Arc<Mutex<Option<Arc<Pipe>>>>);

impl Standby {
    /// Leaves answering to it, or sends it away when names shall end with this process; tells whether it goes on.
    pub(super) fn leave_to(&self, end: End) -> bool {
        // The pipe closes here at the latest, and the standby begins.
        let Some(pipe) = self.0.lock().take() else {
            return false;
        };
        if end == End::Standby {
            return true;
        }
        match pipe.send(QUIT, &[]) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!("the standby cannot be sent away: {error}; it ends after node.dns_standby_seconds");
                true
            }
        }
    }
}

/// Who answers names after this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The standby, until the next daemon.
    Standby,
    /// Nobody: a person at a terminal ended it.
    Nobody,
}

/// Keeps a standby for this daemon.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) settings: Arc<Settings>,
    pub(super) server: Arc<dns::Server>,
    pub(super) standby: Standby,
    pub(super) status: Arc<Status>,
}

impl Keeper {
    /// Starts it, and another when it ends, for ever.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            match self.start() {
                Ok((mut child, pipe)) => {
                    let pipe = Arc::new(pipe);
                    *self.standby.0.lock() = Some(Arc::clone(&pipe));
                    self.status.metrics.names_standby.set(1);
                    // It says nothing; this is its end.
                    let _ = pipe.receive().await;
                    *self.standby.0.lock() = None;
                    self.status.metrics.names_standby.set(0);
                    let ended = child.wait().await;
                    tracing::warn!(?ended, "the name server's standby ended; starting another");
                }
                Err(error) => tracing::warn!(
                    "no standby for the name server: {error}; names would be away while the daemon is, trying again"
                ),
            }
            sleep(backoff.next()).await;
        }
    }

    fn start(&self) -> io::Result<(Child, Pipe)> {
        let (pipe, theirs) = pass::pair()?;
        let child = Command::new(OWN_PROGRAM)
            .arg0("revere")
            .arg("names-standby")
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            // It is not the service's main process.
            .env_remove("NOTIFY_SOCKET")
            // Nor does it end with a terminal's foreground.
            .process_group(0)
            .spawn()?;
        let mut handed = vec![OwnedFd::from(settings_file(&self.settings)?)];
        handed.extend(self.server.sockets()?);
        pipe.send(HELLO, &handed)?;
        Ok((child, pipe))
    }
}

/// The settings as they are in effect, what was found out filled in, in a file of memory.
fn settings_file(settings: &Settings) -> io::Result<File> {
    let config = Config {
        ip: settings.ip.to_string(),
        dns_upstreams: settings.dns_upstreams.iter().map(ToString::to_string).collect(),
        ..settings.config.clone()
    };
    let mut file = File::from(rustix::fs::memfd_create("settings", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&config)?)?;
    file.rewind()?;
    Ok(file)
}
