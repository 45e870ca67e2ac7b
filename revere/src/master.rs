//! The master: drives the scheduler core and answers nodes, people and subscribers.

mod begin;
mod clock;
mod config;
mod core;
mod driver;
mod events;
mod flight;
mod gathered;
mod handle;
mod http;
pub(crate) mod lead;
mod link;
mod marathon;
pub(crate) mod picture;
mod publish;
mod state;
mod streams;
mod summary;
mod trail;

#[cfg(test)]
mod tests;

pub use config::{Config, StoreKind};

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::etcd::EtcdAddress;
use crate::store::{StateStore, Store, StoreError};
use driver::Driver;
use lead::Leadership;

/// Open requests get this long after the end was asked for.
const GRACE: Duration = Duration::from_secs(3);

/// Why the master cannot start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// The port is taken, for example.
    #[error("cannot listen on master.{key} = {address}: {source}; end what uses it, or set another address")]
    Listen {
        /// Configuration key.
        key: &'static str,
        /// Its value.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting.
    #[error("master.{key} = `{value}` is wrong: {want}")]
    Setting {
        /// Its key.
        key: &'static str,
        /// As set.
        value: String,
        /// What to do.
        want: String,
    },
    /// The driver has ended by itself, which it never should.
    #[error("the scheduler's task ended unexpectedly: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// A master that listens.
#[derive(Debug)]
pub struct Master {
    /// Where, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    shutdown: CancellationToken,
    driver: JoinHandle<Result<(), StoreError>>,
    servers: Vec<JoinHandle<()>>,
    /// Takes down what tells of this master, where that is not a leader's matter.
    sign: Option<JoinHandle<()>>,
}

/// Opens the store, listens and starts; returns when the API answers. With etcd that may be: that no master leads yet.
pub async fn start(config: &Config, shutdown: CancellationToken) -> Result<Master, MasterError> {
    let core = config.core()?;
    let store = match &config.store {
        StoreKind::File => Store::open(Path::new(&config.state_dir))?,
        StoreKind::Memory => Store::memory(),
        StoreKind::Etcd(address) => return start_one_of_many(config, address, shutdown).await,
    };
    let records = store.load()?;
    let (listeners, addresses) = listeners(config).await?;
    let sign = if config.publish.is_empty() {
        None
    } else {
        config.publisher(&config.member(addresses.first())?)?
    };
    let sign = sign.map(|publisher| tokio::spawn(publisher.run(shutdown.clone())));
    let store = StateStore::Embedded(Arc::new(store));
    let (driver, handle) = Driver::new(core, store.clone(), records, shutdown.clone());
    let driver = tokio::spawn(driver.run());
    let state = http::App::new(handle, store, &addresses, shutdown.clone());
    let mut master = serving(listeners, addresses, &http::router(state), driver, shutdown);
    master.sign = sign;
    Ok(master)
}

async fn start_one_of_many(
    config: &Config,
    address: &EtcdAddress,
    shutdown: CancellationToken,
) -> Result<Master, MasterError> {
    let (listeners, addresses) = listeners(config).await?;
    let me = config.member(addresses.first())?;
    let leadership = Arc::new(Leadership::new(config, address, me)?);
    let router = lead::front::router(Arc::clone(&leadership.front));
    let driver = tokio::spawn(leadership.run(shutdown.clone()));
    Ok(serving(listeners, addresses, &router, driver, shutdown))
}

async fn listeners(config: &Config) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), MasterError> {
    let mut listeners = vec![listen("listen", &config.listen).await?];
    if !config.marathon_listen.is_empty() {
        listeners.push(listen("marathon_listen", &config.marathon_listen).await?);
    }
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let addresses = addresses.collect();
    Ok((listeners, addresses))
}

fn serving(
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    router: &axum::Router,
    driver: JoinHandle<Result<(), StoreError>>,
    shutdown: CancellationToken,
) -> Master {
    let servers = listeners.into_iter();
    let servers = servers.map(|listener| tokio::spawn(serve(listener, router.clone(), shutdown.clone())));
    let servers = servers.collect();
    tracing::info!(?addresses, "master listens");
    Master {
        addresses,
        shutdown,
        driver,
        servers,
        sign: None,
    }
}

impl Master {
    /// Runs until the end is asked for or the store fails.
    pub async fn wait(self) -> Result<(), MasterError> {
        let result = self.driver.await;
        // The API cannot answer without the driver.
        self.shutdown.cancel();
        for server in self.servers.into_iter().chain(self.sign) {
            let _ = tokio::time::timeout(GRACE, server).await;
        }
        result??;
        Ok(())
    }
}

async fn listen(key: &'static str, address: &str) -> Result<TcpListener, MasterError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        // Text that is no address; a name that is not found says so itself.
        std::io::ErrorKind::InvalidInput => MasterError::Setting {
            key,
            value: address.to_owned(),
            want: "write address:port".to_owned(),
        },
        _ => MasterError::Listen {
            key,
            address: address.to_owned(),
            source,
        },
    })
}

async fn serve(listener: TcpListener, router: axum::Router, shutdown: CancellationToken) {
    use axum::serve::ListenerExt as _;
    // Events and small answers must not wait for each other.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
    {
        tracing::error!(%error, "the API's server ended");
    }
}
