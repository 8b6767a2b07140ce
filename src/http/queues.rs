//! Queues: how full they are, pausing and resuming, their limits, and work over all jobs of a state.

mod bulk;
mod groups;
mod limits;
mod workers;

use std::future::Future;
use std::num::NonZeroU32;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) use bulk::{
    __path_clean, __path_drain, __path_obliterate, __path_promote, __path_retry, __path_trim_events, FinishedState,
    clean, drain, obliterate, promote, retry, trim_events,
};
pub(super) use groups::{
    __path_forget_group, __path_list_groups, __path_pause_group, __path_resume_group, __path_set_group,
    __path_show_group, forget_group, list_groups, pause_group, resume_group, set_group, show_group,
};
pub(super) use limits::{
    __path_clear_concurrency, __path_clear_rate_limit, __path_remove_rate_limit, __path_set_concurrency,
    __path_set_rate_limit, clear_concurrency, clear_rate_limit, remove_rate_limit, set_concurrency, set_rate_limit,
};
pub(super) use workers::{__path_set_workers, __path_workers, set_workers, workers};

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{Path, Raw};
use super::page::Page;
use super::problem::Problem;
use super::view::to_json;
use crate::catalog::Kind;
use crate::clock::Millis;
use crate::id::QueueName;
use crate::publish::Queues;
use crate::queue::{Counts, Error, Limits, Queue, RateLimit};

#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
pub(super) struct QueueBody {
    name: String,
    /// `plain`, `intake` (equal jobs coalesce), `work` (the runs of an intake queue) or `delivery`.
    #[schema(value_type = String)]
    kind: Kind,
    paused: bool,
    /// How many jobs may be active in the whole queue.
    #[schema(value_type = Option<u32>)]
    concurrency: Option<NonZeroU32>,
    rate_limit: Option<RateBody>,
    /// Jobs by state.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    counts: Counts,
}

/// At most `max` jobs are taken in each `duration`, in milliseconds.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RateLimit)]
pub(super) struct RateBody {
    #[schema(value_type = u32)]
    max: NonZeroU32,
    #[schema(value_type = u32)]
    duration: NonZeroU32,
}

/// The queue of that name, and what it is for.
pub(super) fn find(state: &AppState, name: &str) -> Result<(Queue, Kind), Problem> {
    look_up(state.intake.publisher().queues(), name)
}

pub(super) fn look_up(queues: &Queues, name: &str) -> Result<(Queue, Kind), Problem> {
    QueueName::parse(name)?;
    let queue = queues.get(name).ok_or_else(Problem::queue_unknown)?;
    Ok((queue, queues.catalog().get(name).map_or(Kind::Plain, |entry| entry.kind)))
}

pub(super) fn now(state: &AppState) -> Millis {
    state.intake.flights().store().clock().now_ms()
}

async fn read(queue: &Queue, kind: Kind) -> Result<QueueBody, Problem> {
    let (limits, counts) = tokio::try_join!(queue.limits(), queue.counts())?;
    let Limits { is_paused, concurrency, rate } = limits;
    let rate_limit = rate.map(|RateLimit { max, duration }| RateBody { max, duration });
    Ok(QueueBody { name: queue.name().to_string(), kind, paused: is_paused, concurrency, rate_limit, counts })
}

/// Does something to a queue, which is shown as it stands afterwards.
async fn change<A>(
    state: &AppState,
    (caller, asked, raw): (Caller<Operate>, Asked, Bytes),
    name: &str,
    act: impl FnOnce(Queue) -> A,
) -> Result<Response, Problem>
where
    A: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (queue, kind) = find(state, name)?;
    let acting = act(queue.clone());
    once(state, &caller.principal, asked, &raw, async move {
        acting.await?;
        Ok(Answer::ok(to_json(&read(&queue, kind).await?)))
    })
    .await
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
    change(&state, (caller, asked, raw), &name, |queue| async move { queue.pause().await }).await
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
    change(&state, (caller, asked, raw), &name, |queue| async move { queue.resume().await }).await
}
