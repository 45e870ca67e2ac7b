//! `revere state`: a master's memory moved between its own file and etcd.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::ConfigArgs;
use super::client::ClientError;
use crate::config;
use crate::etcd::EtcdAddress;
use crate::master::{self, lead};
use crate::store::etcd::{self, Hold};
use crate::store::{Backup, Store, StoreError};

/// `revere state`.
#[derive(Clone, Debug, Subcommand)]
pub enum StateCommand {
    /// Move the memory of masters that do not run to another store, which must be empty.
    Move(MoveArgs),
}

/// `revere state move`.
#[derive(Clone, Debug, Args)]
pub struct MoveArgs {
    /// Configuration: the cluster's name, and how etcd is spoken to.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A state directory, or etcd://host:port,host:port/prefix.
    #[arg(long, value_name = "DIR|ETCD")]
    pub from: String,
    /// The same of the other store.
    #[arg(long, value_name = "DIR|ETCD")]
    pub to: String,
}

/// Where a master's memory is.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    Directory(PathBuf),
    Etcd(EtcdAddress),
}

impl Memory {
    /// A directory or an address.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if !EtcdAddress::is_meant(text) {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        match EtcdAddress::parse(text) {
            Some(address) => Ok(Self::Etcd(address)),
            // It may hold a password, so it is not repeated.
            None => bail!("this is no address of etcd: write etcd://host:port,host:port/prefix, without a user"),
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Directory(dir) => dir.display().to_string(),
            Self::Etcd(address) => address.url(),
        }
    }

    /// All records at one moment, of whichever masters.
    pub(super) async fn read(&self, config: &master::Config) -> anyhow::Result<Vec<u8>> {
        Ok(match self {
            Self::Directory(dir) => Store::open_existing(dir)?.backup()?,
            Self::Etcd(address) => {
                let place = lead::place(config, address).map_err(StoreError::from)?;
                etcd::check(&place, &config.cluster).await.map_err(StoreError::from)?;
                etcd::backup(&place).await?
            }
        })
    }

    /// Puts a backup where nothing is.
    pub(super) async fn fill(&self, config: &master::Config, backup: Backup) -> anyhow::Result<()> {
        match self {
            Self::Directory(dir) => Ok(fill_directory(dir, &backup)?),
            Self::Etcd(address) => {
                let place = lead::place(config, address).map_err(StoreError::from)?;
                let hold = Hold::take(&place, &config.cluster).await.map_err(StoreError::from)?;
                let done = etcd::restore(place, hold.fence(), &config.cluster, backup).await;
                hold.release().await;
                Ok(done?)
            }
        }
    }
}

fn fill_directory(dir: &Path, backup: &Backup) -> Result<(), StoreError> {
    std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    Store::restore(dir, backup)
}

/// Carries it out.
pub async fn run(command: StateCommand) -> anyhow::Result<()> {
    let StateCommand::Move(args) = command;
    let config = config::load(&args.config, &[])?.master;
    let (from, to) = (Memory::parse(&args.from)?, Memory::parse(&args.to)?);
    let count = carry(&config, &from, &to).await?;
    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "{}: {count} records, as they are in {}, which was left as it was; start the masters on the new one only",
        to.told(),
        from.told()
    )
    .map_err(ClientError::Output)?;
    Ok(())
}

/// No master runs on the source meanwhile.
async fn carry(config: &master::Config, from: &Memory, to: &Memory) -> anyhow::Result<usize> {
    let fill = async |bytes: Vec<u8>| {
        let backup = Backup::read(&bytes)?;
        let count = backup.len();
        to.fill(config, backup).await?;
        anyhow::Ok(count)
    };
    match from {
        Memory::Directory(dir) => {
            // Held open until the end: a master would be refused.
            let store = Store::open_existing(dir)?;
            let count = fill(store.backup()?).await;
            drop(store);
            count
        }
        Memory::Etcd(address) => {
            let place = lead::place(config, address).map_err(StoreError::from)?;
            let hold = Hold::take(&place, &config.cluster).await.map_err(StoreError::from)?;
            let count = match from.read(config).await {
                Ok(bytes) => fill(bytes).await,
                Err(error) => Err(error),
            };
            hold.release().await;
            count
        }
    }
}
