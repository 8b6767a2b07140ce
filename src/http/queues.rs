//! Queues: how full they are, pausing and resuming.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{Path, Raw};
use super::page::Page;
use super::problem::Problem;
use super::view::to_json;
use crate::catalog::Kind;
use crate::id::QueueName;
use crate::queue::{Counts, Queue};

#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
pub(super) struct QueueBody {
    name: String,
    /// `plain`, `intake` (equal jobs coalesce), `work` (the runs of an intake queue) or `delivery`.
    #[schema(value_type = String)]
    kind: Kind,
    paused: bool,
    /// Jobs by state.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    counts: Counts,
}

/// The queue of that name, and what it is for.
pub(super) fn find(state: &AppState, name: &str) -> Result<(Queue, Kind), Problem> {
    QueueName::parse(name)?;
    let queues = state.intake.publisher().queues();
    let queue = queues.get(name).ok_or_else(Problem::queue_unknown)?;
    Ok((queue, queues.catalog().get(name).map_or(Kind::Plain, |entry| entry.kind)))
}

async fn read(queue: &Queue, kind: Kind) -> Result<QueueBody, Problem> {
    let (paused, counts) = tokio::try_join!(queue.is_paused(), queue.counts())?;
    Ok(QueueBody { name: queue.name().to_string(), kind, paused, counts })
}

/// All declared queues, with those that Onetake adds.
#[utoipa::path(get, path = "/v1/queues", tag = "queues",
    responses((status = 200, body = Page<QueueBody>), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn list(_: Caller<Read>, State(state): State<AppState>) -> Result<Response, Problem> {
    let queues = state.intake.publisher().queues();
    let all = queues.catalog().entries().filter_map(|entry| Some((queues.get(entry.name.as_str())?, entry.kind)));
    let items = try_join_all(all.map(|(queue, kind)| async move { read(&queue, kind).await })).await?;
    Ok(Answer::ok(to_json(&Page { items, next: None })).into_response())
}

#[utoipa::path(get, path = "/v1/queues/{queue}", tag = "queues", params(("queue" = String, Path)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    Ok(Answer::ok(to_json(&read(&queue, kind).await?)).into_response())
}

/// Stops jobs from being taken; those that run go on.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["operate"])))]
pub(super) async fn pause(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    once(&state, &caller.principal, asked, &raw, async move {
        queue.pause().await?;
        Ok(Answer::ok(to_json(&read(&queue, kind).await?)))
    })
    .await
}

#[utoipa::path(post, path = "/v1/queues/{queue}/resume", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueBody), (status = 404), (status = 503)), security(("bearer" = ["operate"])))]
pub(super) async fn resume(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    once(&state, &caller.principal, asked, &raw, async move {
        queue.resume().await?;
        Ok(Answer::ok(to_json(&read(&queue, kind).await?)))
    })
    .await
}
