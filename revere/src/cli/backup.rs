//! `revere backup` and `revere restore`: the master's memory in a file, and back.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::client::{Client, ClientError};
use crate::store::{Backup, Store};

/// `revere backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// File to write; it must not be there yet.
    pub file: PathBuf,
    /// Read this directory's store, of a master that does not run, instead of asking a master.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The master's address.
    #[arg(
        long,
        env = "REVERE_MASTER",
        default_value = "http://127.0.0.1:5050",
        value_name = "URL"
    )]
    pub master: String,
}

/// `revere restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// A file that `revere backup` wrote.
    pub file: PathBuf,
    /// The master's state directory; it must hold no store yet.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/revere/master")]
    pub state_dir: PathBuf,
}

/// Writes a backup.
pub async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let bytes = match &args.state_dir {
        Some(dir) => Store::open_existing(dir)?.backup()?,
        None => Client::new(&args.master)?.bytes("/revere/v1/backup").await?.to_vec(),
    };
    // What cannot be restored is no backup.
    let records = Backup::read(&bytes)?.len();
    write_new(&args.file, &bytes)?;
    let out = &mut std::io::stdout().lock();
    Ok(writeln!(out, "{}: {records} records", args.file.display()).map_err(ClientError::Output)?)
}

/// Whole and durable, or not there.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    let error = |source| ClientError::Write {
        path: path.display().to_string(),
        source,
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(error)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a backup would look like one.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(error)
}

/// Makes a store from a backup.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).map_err(|source| ClientError::File {
        path: args.file.display().to_string(),
        source,
    })?;
    let backup = Backup::read(&bytes)?;
    let count = backup.len();
    Store::restore(&args.state_dir, &backup)?;
    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "{}: {count} records; start the master on it, and it takes up its nodes from there",
        args.state_dir.display()
    )
    .map_err(ClientError::Output)?;
    Ok(())
}
