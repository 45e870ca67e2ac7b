//! Answers in Marathon's form, refusals included.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use scheduler::{CommandError, Fault, NetworkError, Reply, SecretError};
use serde_json::{Value, json};

use crate::master::handle::Gone;

/// Marathon's header on every change.
const DEPLOYMENT_HEADER: &str = "marathon-deployment-id";

/// A refusal; always JSON, since clients parse it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            body: json!({"message": message.into()}),
        }
    }

    pub(super) fn invalid(faults: &[Fault]) -> Self {
        let details: Vec<Value> = faults
            .iter()
            .map(|fault| json!({"path": fault.path, "errors": fault.errors}))
            .collect();
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: json!({"message": "Object is not valid", "details": details}),
        }
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: json!({"message": "Invalid JSON", "details": [{"path": "", "errors": [error.to_string()]}]}),
        }
    }
}

impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
    }
}

/// A body that did not arrive whole or is too large.
impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(status, "the body is larger than the 2 MiB that are taken");
        }
        Self::new(
            status,
            format!("the body did not arrive whole: {}", rejection.body_text()),
        )
    }
}

/// A path that is no UTF-8 names nothing there can be.
impl From<PathRejection> for Refusal {
    fn from(_: PathRejection) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "the path is not valid UTF-8 behind its percent signs",
        )
    }
}

/// The answer where no route leads.
pub(super) async fn nothing_here(uri: Uri) -> Refusal {
    let text = format!(
        "there is nothing at {}: this master serves /v2 (Marathon), /api/v1 (Mesos), /revere/v1, /health and /metrics",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_FOUND, text)
}

/// The answer to a method that a path does not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let text = format!("{method} is not carried out on {}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::Invalid(faults) => Self::invalid(faults),
            CommandError::NoApp(_)
            | CommandError::NoTask(_)
            | CommandError::NoVersion(..)
            | CommandError::NoDeployment(_)
            | CommandError::NoGroup(_)
            | CommandError::NoGroupVersion(..) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            CommandError::Locked(deployments) => {
                let deployments: Vec<Value> = deployments.iter().map(|id| json!({"id": id})).collect();
                Self {
                    status: StatusCode::CONFLICT,
                    body: json!({"message": error.to_string(), "deployments": deployments}),
                }
            }
            CommandError::Secret(secret) => {
                let status = match secret {
                    SecretError::Path(_) => StatusCode::UNPROCESSABLE_ENTITY,
                    SecretError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
                    SecretError::Missing(_) => StatusCode::NOT_FOUND,
                    SecretError::Exists(_) | SecretError::Used { .. } => StatusCode::CONFLICT,
                };
                Self::new(status, error.to_string())
            }
            CommandError::Network(network) => {
                let status = match network {
                    NetworkError::Missing(_) => StatusCode::NOT_FOUND,
                    NetworkError::Exists(_)
                    | NetworkError::Used { .. }
                    | NetworkError::NoOverlay
                    | NetworkError::NoNodes
                    | NetworkError::TooMany(_) => StatusCode::CONFLICT,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, error.to_string())
            }
            CommandError::AppExists(_) | CommandError::GroupExists(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// The answer to a change.
pub(super) fn changed(status: StatusCode, reply: &Reply, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Some(deployment) = &reply.deployment
        && let Ok(value) = HeaderValue::from_str(deployment)
    {
        response.headers_mut().insert(DEPLOYMENT_HEADER, value);
    }
    response
}

/// `{version, deploymentId}`.
pub(super) fn deployment(reply: &Reply) -> Value {
    json!({"version": reply.version.to_string(), "deploymentId": reply.deployment})
}
