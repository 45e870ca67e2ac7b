//! `revere backup` and `revere restore`: the master's memory in a file, and back.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::ConfigArgs;
use super::client::{Client, ClientError};
use super::state::Memory;
use crate::config;
use crate::store::{Backup, Store};

/// `revere backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// File to write; it must not be there yet.
    pub file: PathBuf,
    /// Read this directory's store, of a master that does not run, instead of asking a master.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Read what masters keep in etcd, whether one runs or not: etcd://host:port,host:port/prefix.
    #[arg(long, value_name = "ETCD", conflicts_with = "state_dir")]
    pub store: Option<String>,
    /// Configuration: the cluster's name, and how etcd is spoken to.
    #[command(flatten)]
    pub config: ConfigArgs,
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
    /// Fill this instead, where no master may run: etcd://host:port,host:port/prefix.
    #[arg(long, value_name = "ETCD", conflicts_with = "state_dir")]
    pub store: Option<String>,
    /// Configuration: the cluster's name, and how etcd is spoken to.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Writes a backup.
pub async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let bytes = match (&args.state_dir, &args.store) {
        (Some(dir), _) => Store::open_existing(dir)?.backup()?,
        (None, Some(url)) => {
            let config = config::load(&args.config, &[])?.master;
            in_etcd(url)?.read(&config).await?
        }
        (None, None) => Client::new(&args.master)?.bytes("/revere/v1/backup").await?.to_vec(),
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
        // It holds the secrets.
        .mode(0o600)
        .open(path)
        .map_err(error)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a backup would look like one.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(error)
}

/// `--store` says where many masters' memory is; that of one is told by `--state-dir`.
fn in_etcd(url: &str) -> anyhow::Result<Memory> {
    match Memory::parse(url)? {
        memory @ Memory::Etcd(_) => Ok(memory),
        Memory::Directory(_) => {
            anyhow::bail!("--store wants etcd://host:port,host:port/prefix; for a directory there is --state-dir")
        }
    }
}

/// Makes a store from a backup.
pub async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).map_err(|source| ClientError::File {
        path: args.file.display().to_string(),
        source,
    })?;
    let backup = Backup::read(&bytes)?;
    let count = backup.len();
    let told = match &args.store {
        Some(url) => {
            let config = config::load(&args.config, &[])?.master;
            in_etcd(url)?.fill(&config, backup).await?;
            url.clone()
        }
        None => {
            Store::restore(&args.state_dir, &backup)?;
            args.state_dir.display().to_string()
        }
    };
    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "{told}: {count} records; start the master on it, and it takes up its nodes from there"
    )
    .map_err(ClientError::Output)?;
    Ok(())
}
