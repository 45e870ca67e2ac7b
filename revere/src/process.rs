//! What every long-running command of this process shares: logs, signals, the word to systemd.

use std::io::IsTerminal as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Levels when `RUST_LOG` says nothing. The DNS library tells every question at `info`.
const DEFAULT_LEVELS: &str = "info,hickory_server=warn";

/// Sends logs to the journal when stderr is connected to it, else to stderr as text.
pub fn start_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVELS));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = stderr_is_journal().then(|| tracing_journald::layer().ok()).flatten();
    // Fails only when logs were started before, as in tests.
    let _ = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => {
            let text = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(text).try_init()
        }
    };
}

/// systemd's rule: `JOURNAL_STREAM` holds device and inode of the journal's socket.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(metadata) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", metadata.st_dev(), metadata.st_ino())
}

/// Whether SIGINT was the end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody at a terminal ended this process, who wants nothing left behind.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("ending on SIGTERM"),
            _ = interrupt.recv() => {
                INTERRUPTED.store(true, Ordering::Relaxed);
                tracing::info!("ending on SIGINT");
            }
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}

/// Tells systemd that the service is ready; nothing happens without systemd.
pub fn tell_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd cannot be told that the service is ready");
    }
}
