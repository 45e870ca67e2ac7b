//! Hands a request on to the leader and its answer back, streams included.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the connection to the leader.
const CONNECT: Duration = Duration::from_secs(2);

/// Who handed it on; a request that has it is not handed on again.
const VIA: HeaderName = HeaderName::from_static("x-revere-via");

/// As Marathon tells it.
const LEADER: HeaderName = HeaderName::from_static("x-marathon-leader");

/// Of one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

fn refused(text: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({"message": text}))).into_response()
}

/// Names in `Connection` go as well.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The answer when another leads before the leader has answered.
pub(super) fn silent(leader: &str) -> Response {
    refused(format!(
        "the master {leader} did not answer and leads no more; a change may have been made: look before you repeat it"
    ))
}

/// The leader's answer, or why there is none.
pub(super) async fn hand_on(me: &str, leader: &str, request: Request<Body>) -> Response {
    if request.headers().contains_key(VIA) {
        return refused(format!(
            "no master leads at the moment: {me} was told to ask {leader}, and others {me}"
        ));
    }
    match ask(me, leader, request).await {
        Ok(response) => response,
        Err(error) => refused(format!(
            "the leading master {leader} did not answer ({error}); a change may have been made: look before you repeat it"
        )),
    }
}

async fn ask(me: &str, leader: &str, request: Request<Body>) -> Result<Response, String> {
    let text = |error: hyper::Error| error.to_string();
    let tcp = timeout(CONNECT, TcpStream::connect(leader)).await;
    let tcp = tcp
        .map_err(|_| "no connection".to_owned())?
        .map_err(|error| error.to_string())?;
    let _ = tcp.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(text)?;
    // Ends with the answer's body.
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    parts.headers.insert(header::HOST, value(leader)?);
    parts.headers.insert(VIA, value(me)?);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = path.parse().map_err(|_| "its path is none".to_owned())?;
    let mut asked = Request::new(body);
    *asked.method_mut() = parts.method;
    *asked.uri_mut() = uri;
    *asked.headers_mut() = parts.headers;
    let response = sender.send_request(asked).await.map_err(text)?;
    let mut response = response.map(Body::new);
    strip(response.headers_mut());
    response
        .headers_mut()
        .insert(LEADER, value(&format!("http://{leader}"))?);
    Ok(response)
}
