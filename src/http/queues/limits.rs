//! What holds for all workers of a queue: how many jobs may be active, and how fast they are taken.

use std::num::NonZeroU32;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{QueueBody, RateBody, change};
use crate::http::AppState;
use crate::http::auth::{Caller, Operate};
use crate::http::idempotency::Asked;
use crate::http::input::{Json, Path, Raw};
use crate::http::problem::Problem;
use crate::queue::RateLimit;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Concurrency)]
pub(in crate::http) struct Concurrency {
    #[schema(value_type = u32)]
    limit: NonZeroU32,
}

/// Lets at most so many jobs be active in the whole queue.
#[utoipa::path(post, path = "/v1/queues/{queue}/concurrency", tag = "queues", request_body = Concurrency,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn set_concurrency(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: Concurrency { limit }, raw }: Json<Concurrency>,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), &name, move |queue| async move { queue.set_concurrency(Some(limit)).await })
        .await
}

/// Lets any number of jobs be active.
#[utoipa::path(delete, path = "/v1/queues/{queue}/concurrency", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["operate"])))]
pub(in crate::http) async fn clear_concurrency(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), &name, move |queue| async move { queue.set_concurrency(None).await }).await
}

/// Lets at most `max` jobs be taken in each `duration` in the whole queue.
#[utoipa::path(post, path = "/v1/queues/{queue}/rate-limit", tag = "queues", request_body = RateBody,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn set_rate_limit(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: RateBody { max, duration }, raw }: Json<RateBody>,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), &name, move |queue| async move {
        queue.set_rate_limit(Some(RateLimit { max, duration })).await
    })
    .await
}

/// Lets jobs be taken as fast as they can. The present window goes on to its end.
#[utoipa::path(delete, path = "/v1/queues/{queue}/rate-limit", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["operate"])))]
pub(in crate::http) async fn clear_rate_limit(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), &name, move |queue| async move { queue.set_rate_limit(None).await }).await
}

/// Ends the present rate window, also one that a worker set: jobs are taken at once. The limit itself stays.
#[utoipa::path(delete, path = "/v1/queues/{queue}/limiter", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["operate"])))]
pub(in crate::http) async fn remove_rate_limit(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), &name, move |queue| async move { queue.remove_rate_limit().await.map(drop) })
        .await
}
