//! `revere record`: writes a master's stream into a file until told to stop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt as _;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::{Header, Said};
use crate::cli::ConfigArgs;
use crate::mesos::client::Subscription;
use crate::mesos::decode::Encoding;
use crate::node;
use crate::recordio::Decoder;

/// Between two tries after the stream has broken off.
const PAUSE: Duration = Duration::from_millis(500);

/// `revere record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// The file; one that exists is not overwritten.
    pub file: PathBuf,
    /// Configuration: `node.master` and its TLS and token settings.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The master's address.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Ask for protobuf.
    #[arg(long)]
    pub protobuf: bool,
    /// Stop after so many seconds; without it, at SIGINT or SIGTERM.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// Why nothing (more) is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error("cannot write {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Settings or masters.
    #[error(transparent)]
    Node(#[from] node::NodeError),
}

/// Records until `shutdown`, or the time is over. A stream that breaks off is begun again, in the same file.
pub async fn run(args: &RecordArgs, config: node::Config, shutdown: CancellationToken) -> Result<(), RecordingError> {
    let mut config = config;
    if args.protobuf {
        config.master_encoding = Encoding::Protobuf;
    }
    // No tasks are taken, whatever the settings say of a node here.
    config.run_tasks = false;
    let fail = |source| RecordingError::File {
        path: args.file.clone(),
        source,
    };
    let mut feed = node::Feed::open(&config)?;
    let mut file = File::create_new(&args.file).await.map_err(fail)?;
    let stop = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let recording = record(&mut feed, config.master_encoding, &mut file, &args.file);
    tokio::select! {
        ended = recording => ended?,
        () = stop => {}
        () = shutdown.cancelled() => {}
    }
    file.flush().await.map_err(fail)
}

async fn record(feed: &mut node::Feed, encoding: Encoding, file: &mut File, path: &Path) -> Result<(), RecordingError> {
    let began = Instant::now();
    let mut records = 0usize;
    let mut named = false;
    loop {
        let subscription = match feed.subscribe().await {
            Ok(subscription) if subscription.encoding == encoding => subscription,
            Ok(other) => {
                let (leader, told) = (other.leader, other.encoding.content_type());
                tracing::warn!(
                    leader,
                    "this master answers in {told}, which was not asked for; trying again"
                );
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => {
                tracing::warn!("{error}; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        tracing::info!(master = subscription.leader, "recording");
        let fail = |source| RecordingError::File {
            path: path.to_owned(),
            source,
        };
        if !named {
            let header = Header::new(encoding, &subscription.leader, unix_ms());
            file.write_all(&header.to_bytes()).await.map_err(fail)?;
            named = true;
        }
        let why = copy(subscription, feed.max_record(), began, file, &mut records)
            .await
            .map_err(fail)?;
        tracing::warn!(records, "{why}; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Copies records until the stream ends; says why it did.
async fn copy(
    subscription: Subscription,
    max_record: usize,
    began: Instant,
    file: &mut File,
    records: &mut usize,
) -> std::io::Result<String> {
    let mut body = subscription.body;
    let mut decoder = Decoder::new(max_record);
    loop {
        loop {
            match decoder.next_record() {
                Ok(Some(record)) => {
                    let said = Said {
                        at: began.elapsed(),
                        record,
                    };
                    file.write_all(&said.to_bytes()).await?;
                    file.flush().await?;
                    *records += 1;
                }
                Ok(None) => break,
                Err(error) => return Ok(error.to_string()),
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    decoder.push(&data);
                }
            }
            Some(Err(error)) => return Ok(error.to_string()),
            None => return Ok("the master closed the stream".to_owned()),
        }
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
