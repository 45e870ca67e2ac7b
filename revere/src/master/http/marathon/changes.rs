//! `/v2/deployments` and `/v2/queue`: what is under way, and what waits.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use scheduler::{Cancel, Command};

use super::super::App;
use super::super::answer::{Refusal, changed, deployment};
use super::super::query::Query;
use super::{Answer, no_app};
use crate::master::marathon::write;

/// `GET /v2/deployments`.
pub(in super::super) async fn deployments(State(app): State<App>) -> Answer {
    Ok(Json(
        app.handle
            .look(|core| write::change::deployments(&core.scheduler))
            .await?,
    )
    .into_response())
}

/// `DELETE /v2/deployments/{id}`: back to what was before, or with `force` an end where it stands.
pub(in super::super) async fn cancel(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    query: Query,
) -> Answer {
    let Path(id) = id?;
    let how = if query.flag("force") {
        Cancel::Leave
    } else {
        Cancel::RollBack
    };
    let reply = app.handle.command(Command::CancelDeployment { id, how }).await??;
    Ok(match how {
        Cancel::RollBack => changed(StatusCode::OK, &reply, deployment(&reply)),
        Cancel::Leave => StatusCode::ACCEPTED.into_response(),
    })
}

/// `GET /v2/queue`.
pub(in super::super) async fn queue(State(app): State<App>, query: Query) -> Answer {
    let embeds = write::change::QueueEmbeds::of(query.all("embed"));
    let look = move |core: &crate::master::core::Core| write::change::queue(&core.scheduler, core.now, embeds);
    Ok(Json(app.handle.look(look).await?).into_response())
}

/// `DELETE /v2/queue/{id}/delay`.
pub(in super::super) async fn below_queue(
    State(app): State<App>,
    method: Method,
    path: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(path) = path?;
    let id = path.trim_end_matches('/').strip_suffix("/delay");
    let Some(id) = id.filter(|_| method == Method::DELETE) else {
        let text = format!("{method} is not carried out on /v2/queue/{path}: only DELETE /v2/queue/<app>/delay is");
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text));
    };
    let command = Command::ForgetDelay { id: id.to_owned() };
    let reply = app.handle.command(command).await?;
    reply.map_err(|error| match error {
        scheduler::CommandError::NoApp(_) => no_app(id),
        other => other.into(),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
