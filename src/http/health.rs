//! Whether this process lives, and whether it can do its work.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::idempotency::Answer;
use super::view::to_json;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthBody {
    /// `ok`, `degraded` (Redis is away: wishes are still accepted, more slowly served) or `unavailable`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
}

/// Each `up` or `down`.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthChecks)]
pub(super) struct Checks {
    redis: &'static str,
    store: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = HealthBody)))]
pub(super) async fn livez() -> Response {
    Answer::ok(to_json(&HealthBody { status: "ok", checks: None })).into_response()
}

/// 503 without the store, since nothing can be acknowledged then. Without Redis the server goes on: 200, `degraded`.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = HealthBody), (status = 503, body = HealthBody)))]
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    let ping = tokio::time::timeout(PATIENCE, state.intake.flights().store().ping()).await;
    let has_store = matches!(ping, Ok(Ok(())));
    let has_redis = state.redis.is_up();
    let status = match (has_store, has_redis) {
        (true, true) => "ok",
        (true, false) => "degraded",
        (false, _) => "unavailable",
    };
    let word = |is_up| if is_up { "up" } else { "down" };
    let checks = Some(Checks { redis: word(has_redis), store: word(has_store) });
    let mut answer = Answer::ok(to_json(&HealthBody { status, checks }));
    if !has_store {
        answer.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer.into_response()
}
