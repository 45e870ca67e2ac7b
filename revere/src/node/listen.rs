//! The node's HTTP listeners: its own API, and Mesos-DNS's and dcos-net's at their old places.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::config::Settings;
use super::http::{Api, Hub, Names, View, dcos_net, mesos_dns, routes};
use super::planes::NamePlane;
use super::status::Status;
use super::table::Picture;
use super::{NodeError, Parts};
use crate::keepalive::keep_alive;

/// Bound sockets, one for each API that is on.
#[derive(Debug)]
pub(super) struct Listeners {
    api: TcpListener,
    mesos_dns: Option<TcpListener>,
    dcos_net: Option<TcpListener>,
}

impl Listeners {
    /// Binds them all, or none.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, NodeError> {
        let optional = async |key, address| match address {
            Some(address) => bind(key, address).await.map(Some),
            None => Ok(None),
        };
        Ok(Self {
            api: bind("api_listen", settings.api_listen).await?,
            mesos_dns: optional("mesos_dns_listen", settings.mesos_dns_listen).await?,
            dcos_net: optional("dcos_net_listen", settings.dcos_net_listen).await?,
        })
    }

    /// Serves from now on.
    pub(super) fn serve(self, parts: &mut Parts, api: Api, view: View) {
        if let Some(listener) = self.mesos_dns {
            parts.add("Mesos-DNS API", serve(listener, mesos_dns::routes(view.clone())));
        }
        if let Some(listener) = self.dcos_net {
            parts.add("dcos-net API", serve(listener, dcos_net::routes(view.clone())));
        }
        parts.add("API", serve(self.api, routes(api, view)));
    }
}

/// What the APIs see of names and VIPs; starts what tells changes of names.
pub(super) fn view(
    parts: &mut Parts,
    settings: &Settings,
    status: &Arc<Status>,
    pictures: watch::Receiver<Picture>,
    names: Option<&NamePlane>,
) -> View {
    let names = names.map(|plane| {
        let hub = Arc::new(Hub::new());
        parts.add("changes of names", Arc::clone(&hub).run(plane.published.subscribe()));
        Names {
            zones: plane.published.subscribe(),
            config: Arc::clone(&plane.config),
            hub,
        }
    });
    View {
        status: Arc::clone(status),
        pictures,
        names,
        masters: settings.source.told(),
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| NodeError::Listen { key, address, source })
}

async fn serve(listener: TcpListener, routes: axum::Router) {
    // A client whose machine is gone says nothing: what it had asked for ends then, too.
    let listener = listener.tap_io(|tcp| {
        if let Err(error) = keep_alive(tcp) {
            tracing::debug!(%error, "a connection is not watched");
        }
    });
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("an API of the node ended: {error}");
    }
}
