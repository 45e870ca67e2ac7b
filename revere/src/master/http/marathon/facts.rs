//! What this master is, as Marathon tells it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use serde_json::json;

use super::super::App;
use super::Answer;
use crate::master::marathon::write;

/// Where this master is, as the client calls it; one of several has a name that all of them know.
fn host<'a>(headers: &'a HeaderMap, app: &'a App) -> &'a str {
    if app.leadership.is_some() {
        return &app.address;
    }
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or(&app.address)
}

/// `GET /v2/info`.
pub(in super::super) async fn info(State(app): State<App>, headers: HeaderMap) -> Answer {
    let framework = app.handle.look(|core| core.scheduler.framework().clone()).await?;
    Ok(Json(json!({
        "name": framework.name,
        "version": write::MARATHON_VERSION,
        "buildref": format!("revere-{}", env!("CARGO_PKG_VERSION")),
        "elected": true,
        "leader": host(&headers, &app),
        "frameworkId": framework.id.as_str(),
        "marathon_config": {
            "master": format!("http://{}", host(&headers, &app)),
            "framework_name": framework.name,
            "checkpoint": true,
            "ha": app.leadership.is_some(),
            "features": ["task_killing", "vips"],
            "local_port_min": 10_000,
            "local_port_max": 20_000,
        },
        "zookeeper_config": {},
        "http_config": {"http_port": app.port, "https_port": 0},
    }))
    .into_response())
}

/// `GET /v2/leader`.
pub(in super::super) async fn leader(State(app): State<App>, headers: HeaderMap) -> Answer {
    Ok(Json(json!({"leader": host(&headers, &app)})).into_response())
}

/// `GET /v2/plugins`: there are none.
pub(in super::super) async fn plugins() -> Answer {
    Ok(Json(json!({"plugins": []})).into_response())
}
