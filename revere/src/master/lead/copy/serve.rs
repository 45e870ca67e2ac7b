//! Which requests the copy answers, and how it says how old it is.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper_util::service::TowerToHyperService;

use super::{Copy, STALE};
use crate::master::http::mesos;
use crate::master::lead::front::STALE_MS;
use crate::mesos::encode::POSITION_HEADER;

/// Largest call that is looked into; calls that only read are small.
const CALL: usize = 64 * 1024;

/// The operator API's calls that the copy carries out. The rest changes something or is about the leader itself.
const CALLS: [&str; 5] = ["SUBSCRIBE", "GET_STATE", "GET_TASKS", "GET_AGENTS", "GET_FRAMEWORKS"];

/// Marathon's event stream, which is recorded with the rest.
pub(in crate::master::lead) const EVENTS: &str = "/v2/events";

/// What becomes of a request.
#[derive(Debug)]
pub(in crate::master::lead) enum Asked {
    /// The copy's answer.
    Answered(Response),
    /// It is not the copy's.
    Leaders(Request<Body>),
}

/// Whether a path may be a read of the operator API.
fn is_call(uri: &Uri) -> bool {
    matches!(uri.path(), "/api/v1" | "/master/api/v1")
}

/// Whether all that the answer tells is in the records. Why an app's last task failed is not: lists can be asked without.
fn is_kept(method: &Method, uri: &Uri) -> bool {
    if method != Method::GET {
        return false;
    }
    let path = uri.path().trim_end_matches('/');
    let failures = uri.query().unwrap_or_default().to_ascii_lowercase().contains("failure");
    match path {
        "/v2/apps" | "/v2/groups" => !failures,
        "/v2/pods" | "/v2/tasks" | "/v2/deployments" | "/revere/v1/vips" | EVENTS => true,
        _ if path.starts_with("/v2/groups/") => !failures,
        _ => path
            .strip_prefix("/v2/apps/")
            .is_some_and(|path| match path.rsplit_once('/') {
                Some((_, "tasks" | "versions")) => true,
                Some((of, _)) => matches!(of.rsplit_once('/'), Some((_, "versions"))),
                // One app is told with its last failure.
                None => false,
            }),
    }
}

impl Copy {
    /// Answers what it can; `alone` is that nobody leads who could answer better.
    pub(in crate::master::lead) async fn serve(&self, request: Request<Body>, alone: bool) -> Asked {
        let Some(current) = self.current() else {
            return Asked::Leaders(request);
        };
        let Some(router) = self.router.load_full() else {
            return Asked::Leaders(request);
        };
        let fresh = current.age() < STALE;
        // Who comes back hears what it missed, be it late.
        let fresh = fresh || current.is_good() && request.headers().contains_key(POSITION_HEADER);
        let request = if is_call(request.uri()) {
            match call(request).await {
                (request, true) if fresh => request,
                (request, _) => return Asked::Leaders(request),
            }
        } else if fresh && is_kept(request.method(), request.uri()) || alone && is_definition(&request) {
            request
        } else {
            return Asked::Leaders(request);
        };
        use hyper::service::Service as _;
        let mut response = match TowerToHyperService::new((*router).clone()).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if let Ok(age) = HeaderValue::from_str(&current.age().as_millis().to_string()) {
            response.headers_mut().insert(STALE_MS, age);
        }
        Asked::Answered(response)
    }
}

/// Apps, groups and pods, of which the leader knows more; without one, old answers are better than none.
fn is_definition(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    request.method() == Method::GET
        && ["/v2/apps", "/v2/groups", "/v2/pods"]
            .iter()
            .any(|start| path.starts_with(start))
}

/// Looks into a call, and whether it is one that the copy carries out.
async fn call(request: Request<Body>) -> (Request<Body>, bool) {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(axum::http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_none_or(|length| length > CALL) {
        return (Request::from_parts(parts, body), false);
    }
    let Ok(bytes) = axum::body::to_bytes(body, CALL).await else {
        return (Request::from_parts(parts, Body::empty()), false);
    };
    let reads = reads(&parts.method, &parts.headers, &bytes);
    (Request::from_parts(parts, Body::from(bytes)), reads)
}

fn reads(method: &Method, headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = mesos::check(method, headers).and_then(|transport| mesos::read(transport.request, body));
    kind.is_ok_and(|call| call["type"].as_str().is_some_and(|kind| CALLS.contains(&kind)))
}

impl Asked {
    /// The answer, or what `otherwise` makes of the request.
    pub(in crate::master::lead) async fn or<F>(self, otherwise: impl FnOnce(Request<Body>) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        match self {
            Self::Answered(response) => response.into_response(),
            Self::Leaders(request) => otherwise(request).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_records_tell_whole_is_kept() {
        for (path, wanted) in [
            ("/v2/apps", true),
            ("/v2/apps/?embed=apps.tasks", true),
            ("/v2/apps?embed=apps.lastTaskFailure", false),
            ("/v2/apps?embed=apps.failures", false),
            ("/v2/groups", true),
            ("/v2/groups/a/b", true),
            ("/v2/groups/a/versions", true),
            ("/v2/groups/a?embed=group.apps.failures", false),
            ("/v2/apps/a", false),
            ("/v2/apps/a/b", false),
            ("/v2/apps/versions", false),
            ("/v2/apps/a/tasks", true),
            ("/v2/apps/a/b/versions", true),
            ("/v2/apps/a/versions/2020-01-01T00:00:00.000Z", true),
            ("/v2/queue", false),
            ("/v2/events", true),
        ] {
            let uri = path.parse().expect("a path");
            assert_eq!(is_kept(&Method::GET, &uri), wanted, "{path}");
            assert!(!is_kept(&Method::PUT, &uri), "{path}");
        }
    }
}
