//! Work over all jobs of a state. One call does a bounded part of it, and says whether it is done: the caller goes on
//! until it is.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{find, now};
use crate::clock::Millis;
use crate::http::AppState;
use crate::http::auth::{Caller, Operate};
use crate::http::idempotency::{Answer, Asked, once};
use crate::http::input::{Json, OptionalJson, Path, Raw};
use crate::http::page::Start;
use crate::http::problem::Problem;
use crate::http::view::to_json;
use crate::queue::{Bulk, Finished, Queue, State as JobState};

/// Steps in one call: 20,000 jobs, and about half a second.
const STEPS: usize = 20;

/// What one call did. Unless it is done, call again with the same body and, where they are told, `next` and `until`.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkProgress)]
pub(in crate::http) struct ProgressBody {
    done: bool,
    /// Jobs, or events.
    processed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Millis>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = BulkRetry)]
pub(in crate::http) struct RetryWish {
    state: FinishedState,
    /// In milliseconds since 1970: only jobs that had finished by then. Now, if it is not given.
    until: Option<Millis>,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum FinishedState {
    Completed,
    #[default]
    Failed,
}

impl From<FinishedState> for Finished {
    fn from(state: FinishedState) -> Self {
        match state {
            FinishedState::Completed => Self::Completed,
            FinishedState::Failed => Self::Failed,
        }
    }
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Drain)]
pub(in crate::http) struct DrainWish {
    /// Delayed jobs as well.
    delayed: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Clean)]
pub(in crate::http) struct CleanWish {
    state: CleanState,
    /// In milliseconds: younger jobs stay.
    #[serde(default)]
    grace: u64,
    /// At most so many; all, if it is not given.
    limit: Option<u64>,
    /// Where to go on.
    #[serde(default)]
    #[schema(value_type = u64)]
    next: Start,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CleanState {
    Waiting,
    Active,
    Delayed,
    Prioritized,
    Completed,
    Failed,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Obliterate)]
pub(in crate::http) struct ObliterateWish {
    /// Also while jobs are active: their workers will find that they lost them.
    force: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrimEvents)]
pub(in crate::http) struct TrimWish {
    /// About so many of the newest stay.
    keep: u32,
}

/// Some steps of `bulk`.
async fn go_on(queue: &Queue, mut bulk: Bulk, from: u64, now: Millis) -> Result<ProgressBody, Problem> {
    let until = if let Bulk::Retry { until, .. } = bulk { Some(until) } else { None };
    let (mut next, mut processed) = (Some(from), 0);
    for _ in 0..STEPS {
        let Some(from) = next else { break };
        let step = queue.step(&bulk, from, now).await?;
        bulk = bulk.after(&step);
        processed += step.processed;
        next = step.next;
    }
    let done = next.is_none();
    let next = next.filter(|_| matches!(bulk, Bulk::Clean { .. }));
    Ok(ProgressBody { done, processed, next, until })
}

/// What all these verbs have in common.
async fn act(
    state: &AppState,
    (caller, asked, raw): (Caller<Operate>, Asked, Bytes),
    name: &str,
    bulk: Bulk,
    from: u64,
) -> Result<Response, Problem> {
    let (queue, _) = find(state, name)?;
    let now = now(state);
    once(state, &caller.principal, asked, &raw, async move {
        Ok(Answer::ok(to_json(&go_on(&queue, bulk, from, now).await?)))
    })
    .await
}

/// Lets finished jobs wait again, the oldest first, by their priorities.
#[utoipa::path(post, path = "/v1/queues/{queue}/retry", tag = "queues", request_body = Option<RetryWish>,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn retry(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    OptionalJson { value: wish, raw }: OptionalJson<RetryWish>,
) -> Result<Response, Problem> {
    let bulk = Bulk::Retry { from: wish.state.into(), until: wish.until.unwrap_or_else(|| now(&state)) };
    act(&state, (caller, asked, raw), &name, bulk, 0).await
}

/// Lets delayed jobs wait, by their priorities.
#[utoipa::path(post, path = "/v1/queues/{queue}/promote", tag = "queues",
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn promote(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    act(&state, (caller, asked, raw), &name, Bulk::Promote, 0).await
}

/// Removes the jobs that wait. The runs that schedulers wait for stay.
#[utoipa::path(post, path = "/v1/queues/{queue}/drain", tag = "queues", request_body = Option<DrainWish>,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn drain(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    OptionalJson { value: DrainWish { delayed }, raw }: OptionalJson<DrainWish>,
) -> Result<Response, Problem> {
    act(&state, (caller, asked, raw), &name, Bulk::Drain { delayed }, 0).await
}

/// Removes jobs of one state that are old enough; of the active only those whose worker has lost them.
#[utoipa::path(post, path = "/v1/queues/{queue}/clean", tag = "queues", request_body = CleanWish,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn clean(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: wish, raw }: Json<CleanWish>,
) -> Result<Response, Problem> {
    if wish.limit == Some(0) {
        return Err(Problem::field("limit", "a limit is 1 at least; leave it out for none"));
    }
    let job_state = match wish.state {
        CleanState::Waiting => JobState::Waiting,
        CleanState::Active => JobState::Active,
        CleanState::Delayed => JobState::Delayed,
        CleanState::Prioritized => JobState::Prioritized,
        CleanState::Completed => JobState::Completed,
        CleanState::Failed => JobState::Failed,
    };
    let grace_ms = Millis::try_from(wish.grace).unwrap_or(Millis::MAX);
    let bulk = Bulk::Clean { state: job_state, grace_ms, most: wish.limit };
    act(&state, (caller, asked, raw), &name, bulk, wish.next.0).await
}

/// Removes a paused queue with everything that is in it.
#[utoipa::path(post, path = "/v1/queues/{queue}/obliterate", tag = "queues", request_body = Option<ObliterateWish>,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn obliterate(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    OptionalJson { value: ObliterateWish { force }, raw }: OptionalJson<ObliterateWish>,
) -> Result<Response, Problem> {
    act(&state, (caller, asked, raw), &name, Bulk::Obliterate { force }, 0).await
}

/// Removes all but about so many of the newest events.
#[utoipa::path(post, path = "/v1/queues/{queue}/trim-events", tag = "queues", request_body = TrimWish,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProgressBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn trim_events(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: TrimWish { keep }, raw }: Json<TrimWish>,
) -> Result<Response, Problem> {
    act(&state, (caller, asked, raw), &name, Bulk::TrimEvents { keep: keep.into() }, 0).await
}
