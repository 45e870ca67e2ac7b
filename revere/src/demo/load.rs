//! `revere demo-load`: sends requests to a name, and tells exactly which failed, when, and how.

use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Parser;

mod dns;
mod http;
mod report;
mod run;

pub use report::{Failure, FailureKind, Report};
pub use run::measure;

/// Sends HTTP requests to a name and counts what happened. Exit status 0 means measured, not that nothing failed.
#[derive(Clone, Debug, Parser)]
#[command(name = "revere demo-load")]
pub struct LoadArgs {
    /// Where to, for example http://my-service.marathon.l4lb.thisdcos.directory:5555/
    #[arg(long)]
    pub url: String,
    /// Stop after this many requests.
    #[arg(long, required_unless_present = "seconds")]
    pub requests: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Requests under way at the same time.
    #[arg(long, default_value = "4", conflicts_with = "hold")]
    pub concurrency: NonZeroU32,
    /// Requests per second, over all; as fast as answers come when absent.
    #[arg(long)]
    pub rate: Option<f64>,
    /// A new connection, and a new look at the name, for each request (the default).
    #[arg(long, conflicts_with = "keep_alive")]
    pub new_connections: bool,
    /// One connection per worker, kept.
    #[arg(long)]
    pub keep_alive: bool,
    /// With --hold: how many connections.
    #[arg(long, requires = "hold")]
    pub connections: Option<NonZeroU32>,
    /// Hold connections open, one request per second on each, and count those that break.
    #[arg(long, conflicts_with_all = ["keep_alive", "rate"])]
    pub hold: bool,
    /// Ask this DNS server (address or address:port) instead of the system's resolver.
    #[arg(long, value_parser = parse_dns)]
    pub dns: Option<SocketAddr>,
    /// Time limit of each step of a request (name, connect, answer), in milliseconds. The default lets the kernel send a
    /// lost SYN again three times (after 1, 3 and 7 s): what counts is what a user loses.
    #[arg(long, default_value_t = 10_000)]
    pub timeout_ms: u64,
    /// Write the result as one JSON object to standard output.
    #[arg(long)]
    pub json: bool,
    /// Write one line per request: start us, end us, outcome, instance.
    #[arg(long, value_name = "FILE")]
    pub timeline: Option<PathBuf>,
}

fn parse_dns(text: &str) -> Result<SocketAddr, String> {
    let bare = || Some(SocketAddr::new(text.parse().ok()?, 53));
    text.parse()
        .ok()
        .or_else(bare)
        .ok_or_else(|| format!("`{text}` is neither an address nor address:port"))
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a URL this program can use.
    #[error("`{url}` is no URL that this program can use: {why}; write http://NAME:PORT/PATH")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Not a usable number.
    #[error("--{option} must be a number above 0")]
    Number {
        /// Which option.
        option: &'static str,
    },
    /// The timeline file failed.
    #[error("cannot write the timeline {path}: {source}")]
    Timeline {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output failed.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    /// The result could not be made JSON.
    #[error("cannot write the result as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Measures, and writes the result to standard output.
pub async fn run(args: LoadArgs) -> Result<(), LoadError> {
    let json = args.json;
    let report = measure(args).await?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
