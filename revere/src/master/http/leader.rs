//! Who leads, who else is there, and the leader's stepping down.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;
use crate::store::etcd::PATIENCE;

/// Most masters in a list.
const MOST: u32 = 100;

/// Paths that lead to the leader.
pub(in crate::master) const REDIRECTS: [&str; 2] = ["/redirect", "/master/redirect"];

/// Whether it is one of [`REDIRECTS`].
pub(in crate::master) fn is_redirect(path: &str) -> bool {
    REDIRECTS.contains(&path)
}

/// `GET /redirect`: this one leads.
pub(super) async fn redirect(State(app): State<App>) -> Response {
    match HeaderValue::from_str(&format!("//{}", app.address)) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `DELETE /v2/leader`: another master may lead.
pub(super) async fn step_down(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let Some(leadership) = &app.leadership else {
        let text = "no other master can take over: this one keeps its state in its own file (master.store); nothing was changed";
        return Err(Refusal::new(StatusCode::CONFLICT, text));
    };
    tracing::info!("this master was asked to step down");
    leadership.resign.notify_waiters();
    Ok(Json(json!({"message": "Leadership abdicated"})))
}

/// `GET /revere/v1/masters`: the leader and those that wait.
pub(super) async fn masters(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let Some(leadership) = &app.leadership else {
        let me = json!({"address": app.address, "leads": true, "release": env!("CARGO_PKG_VERSION")});
        return Ok(Json(json!({"store": "file", "masters": [me]})));
    };
    let place = &leadership.place;
    let (from, end) = (place.masters_key(), format!("{}/masters0", place.prefix));
    let page = place.etcd.page(&from, &end, 0, MOST, PATIENCE).await;
    let page = page.map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let masters = page.kvs.iter().map(|kv| {
        let address = kv.key.strip_prefix(&from).unwrap_or(&kv.key);
        let info: Value = serde_json::from_slice(&kv.value).unwrap_or_default();
        json!({"address": address, "leads": address == app.address, "release": info["revere"]["release"]})
    });
    let masters: Vec<Value> = masters.collect();
    Ok(Json(json!({"store": place.url, "masters": masters})))
}
