//! Who asks, for the events that tell of it.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::super::App;
use crate::master::handle::Hearers;

/// A request's sender and path.
#[derive(Clone, Debug)]
pub(in super::super) struct Origin {
    pub(super) ip: String,
    uri: String,
}

impl Origin {
    /// Marathon's event of a definition that came by the API.
    pub(super) fn tell_post(&self, app: &App, definition: &Value) {
        let body = json!({"clientIp": self.ip, "uri": self.uri, "appDefinition": definition});
        app.handle.tell(Hearers::All, "api_post_event", body);
    }

    /// Marathon's event of a pod that was made, changed or removed by the API.
    pub(super) fn tell_pod(&self, app: &App, kind: &'static str) {
        app.handle
            .tell(Hearers::All, kind, json!({"clientIp": self.ip, "uri": self.uri}));
    }
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self {
            ip: address.map_or_else(String::new, |address| address.0.ip().to_string()),
            uri: parts.uri.path().to_owned(),
        })
    }
}
