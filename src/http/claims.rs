//! Workers in any language: they claim jobs of a plain queue, say that they still work on them, and end them.
//!
//! A claim is told with a token, and each of its jobs is held under that token until it is ended or its lease has. Whoever
//! names another token, or one that has lost the job, is told `lease_lost`, and nothing is changed.
//!
//! A claim whose answer got lost: repeated under the same `Idempotency-Key` it is answered with the jobs that it took, as long
//! as their leases run. Without a key they go back to the queue when the leases have ended.

mod body;
mod children;

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

pub(super) use children::{__path_children, children};

use body::{ClaimBody, Complete, Delay, EndedBody, Fail, Heartbeat, LeaseBody, Wish};

use super::AppState;
use super::auth::{Caller, Work};
use super::flows::in_list;
use super::idempotency::{Answer, Asked, once};
use super::input::{Json, OptionalJson, Path};
use super::jobs::JobBody;
use super::problem::{Code, Problem};
use super::queues::{find, now};
use super::view::{rfc3339, to_json};
use crate::catalog::Kind;
use crate::clock::millis;
use crate::config::{self, Span};
use crate::id;
use crate::processor::Failure;
use crate::queue::{self, Beat, Ended, How, Queue, Record, Settlement, State as JobState};
use crate::reconcile::WORKER_PREFIX;
use crate::runner::{Claim, failed};

/// Shorter ones end between two words of a slow network.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// As a job's delay.
const LONGEST_DELAY: Duration = Duration::from_secs(366 * 86_400);
const LONGEST_TOKEN: usize = 64;
const MOST_LINES: usize = 1_000;

/// Takes jobs to work on them, waiting for one if asked to. Without any the answer has no items.
///
/// Repeated under the same `Idempotency-Key`, it is answered with the jobs that it took and that are still held, whatever the
/// body says then: the key names the claim, and no answer is stored.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims", tag = "claims", request_body = Option<Wish>,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ClaimBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(super) async fn claim(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    OptionalJson { value: wish, raw }: OptionalJson<Wish>,
) -> Result<Response, Problem> {
    let queue = pulled(&state, &name)?;
    let longest = state.settings.http.max_wait;
    let wait = wish.wait.unwrap_or(Span(Duration::ZERO));
    if wait > longest {
        return Err(Problem::field("wait", format!("a call waits {longest} at most; ask again then")));
    }
    let most = state.settings.pull.max_batch;
    if !(1..=most).contains(&wish.max) {
        return Err(Problem::field("max", format!("a claim takes from 1 to {most} jobs")));
    }
    let lease = lease(&state, wish.lease)?;
    if wish.worker.as_ref().is_some_and(|name| name.0.starts_with(WORKER_PREFIX)) {
        return Err(Problem::field("worker", format!("names that begin with {WORKER_PREFIX} are the servers' own")));
    }
    let of_key = asked.key().map(|key| id::derived_id(&["claim", &caller.principal.id, queue.name().as_str(), key]));
    // Held until the answer: of two calls under one key one is told to wait.
    let under_way = asked.begin(&state, &caller.principal, &raw)?;
    let claim = Claim {
        max: wish.max,
        is_repeatable: of_key.is_some(),
        token: of_key.unwrap_or_else(id::new_token),
        lease,
        worker: wish.worker.map(|name| name.0),
        max_started: state.intake.catalog().get(queue.name().as_str()).and_then(|entry| entry.settings.max_started),
        wait: wait.0,
    };
    let token = claim.token.clone();
    let claimed = tokio::select! {
        claimed = state.claims.claim(&queue, claim) => Some(claimed?),
        // Dropped: nothing stays taken. A server that stops does not keep its callers waiting.
        () = state.stopping.cancelled() => None,
    };
    let (jobs, until_ms) = match claimed {
        Some(mut claimed) => (claimed.let_go(), claimed.until_ms),
        None => (Vec::new(), 0),
    };
    let is_any = !jobs.is_empty();
    let item = |job| JobBody::of(&queue, Record::Job(Box::new(job)), Some(JobState::Active));
    let body = ClaimBody {
        token: is_any.then_some(token),
        expires_at: is_any.then(|| rfc3339(until_ms)),
        items: jobs.into_iter().map(item).collect(),
    };
    drop(under_way);
    Ok(Answer::ok(to_json(&body)).into_response())
}

/// Holds a job for another lease from now, and writes its progress and lines of its log. With `cancelled` in the answer
/// nobody wants the job done any more: stop, and let it `fail`. 409 `lease_lost`: it is somebody else's by now, and nothing
/// was written.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims/{id}/heartbeat", tag = "claims", request_body = Heartbeat,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = LeaseBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(super) async fn heartbeat(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: beat, raw }: Json<Heartbeat>,
) -> Result<Response, Problem> {
    let (queue, token) = held(&state, &name, &id, beat.token)?;
    let lease = lease(&state, beat.lease)?;
    if beat.logs.len() > MOST_LINES {
        return Err(Problem::field("logs", format!("a heartbeat brings {MOST_LINES} lines at most")));
    }
    let now_ms = now(&state);
    once(&state, &caller.principal, asked, &raw, async move {
        let told = queue::Heartbeat {
            id: &id,
            token: &token,
            lease_ms: millis(lease),
            progress: beat.progress.as_deref(),
            lines: &beat.logs,
        };
        match queue.heartbeat(&told).await? {
            Beat::Renewed { cancelled } => {
                Ok(Answer::ok(to_json(&LeaseBody { expires_at: rfc3339(now_ms + millis(lease)), cancelled })))
            }
            Beat::Lost => Err(lost(&id)),
        }
    })
    .await
}

/// Ends a job with its result. 409 `children_pending` and `child_failed`: it is still held, and can only fail.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims/{id}/complete", tag = "claims", request_body = Complete,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = EndedBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(super) async fn complete(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: wish, raw }: Json<Complete>,
) -> Result<Response, Problem> {
    let (queue, token) = held(&state, &name, &id, wish.token)?;
    let value = wish.result.unwrap_or_else(|| RawValue::NULL.to_owned());
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        end(&server, &queue, Ended { id, token, how: How::Complete { value } }).await
    })
    .await
}

/// Ends an attempt without a result. The job is tried again if it has an attempt left, by its own options or the queue's,
/// unless `retry` is false.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims/{id}/fail", tag = "claims", request_body = Fail,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = EndedBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(super) async fn fail(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: wish, raw }: Json<Fail>,
) -> Result<Response, Problem> {
    let (queue, token) = held(&state, &name, &id, wish.token)?;
    let (reason, now_ms) = (wish.reason, now(&state));
    let failure = if wish.retry { Failure::retry(reason) } else { Failure::fatal(reason) };
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        // Whoever holds the lock alone changes what is read here, so that it is still true when the job is settled.
        let Some(Record::Job(job)) = queue.job(&id).await? else { return Err(lost(&id)) };
        let undeclared = config::Queue::default();
        let entry = server.intake.catalog().get(queue.name().as_str());
        let settings = entry.map_or(&undeclared, |entry| &*entry.settings);
        let mut how = failed(&job, &failure, settings, now_ms);
        if let (Some(given), How::Fail { stack, .. } | How::Retry { stack, .. }) = (wish.stack, &mut how) {
            *stack = Some(given);
        }
        end(&server, &queue, Ended { id, token, how }).await
    })
    .await
}

/// Puts a job off. It does not use up an attempt.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims/{id}/delay", tag = "claims", request_body = Delay,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = EndedBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(super) async fn delay(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: wish, raw }: Json<Delay>,
) -> Result<Response, Problem> {
    let (queue, token) = held(&state, &name, &id, wish.token)?;
    if wish.delay.0 > LONGEST_DELAY {
        return Err(Problem::field("delay", "a delay is a year at most"));
    }
    let until_ms = now(&state) + millis(wish.delay.0);
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        let how = if wish.delay.0.is_zero() { How::Wait } else { How::Delay { until_ms } };
        end(&server, &queue, Ended { id, token, how }).await
    })
    .await
}

/// A queue whose jobs may be claimed.
fn pulled(state: &AppState, name: &str) -> Result<Queue, Problem> {
    let refused = |detail| Err(Problem::field("queue", detail));
    match find(state, name)? {
        (queue, Kind::Plain) => Ok(queue),
        (_, Kind::Intake) => {
            refused("equal jobs of this queue coalesce, and Onetake alone takes them; use a plain queue")
        }
        (_, Kind::Work | Kind::Delivery) => refused("Onetake alone works off this queue; use a plain one"),
    }
}

/// The queue and the token of a call about a job that is held.
fn held(state: &AppState, name: &str, id: &str, token: String) -> Result<(Queue, String), Problem> {
    let queue = pulled(state, name)?;
    if !queue.keys().is_job(id) {
        return Err(Problem::new(Code::JobUnknown, "no job of this queue has this id"));
    }
    // No longer than any of ours. "0" is BullMQ's word for no lock at all.
    let is_fit = (2..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_fit { Ok((queue, token)) } else { Err(Problem::field("token", "this is no token of a claim")) }
}

fn lease(state: &AppState, wish: Option<Span>) -> Result<Duration, Problem> {
    let longest = state.settings.pull.max_lease;
    let lease = wish.unwrap_or_else(|| state.settings.runner.lease.min(longest));
    if lease.0 < SHORTEST_LEASE || lease > longest {
        let detail = format!("a lease lasts from {} to {longest}; renew it with heartbeats", Span(SHORTEST_LEASE));
        return Err(Problem::field("lease", detail));
    }
    Ok(lease.0)
}

async fn end(state: &AppState, queue: &Queue, ended: Ended) -> Result<Answer, Problem> {
    let id = ended.id.clone();
    let children = match &ended.how {
        How::Branch { children, .. } => Some(children.clone()),
        _ => None,
    };
    let (state_then, due_ms) = match &ended.how {
        How::Complete { .. } => (JobState::Completed, None),
        How::Fail { .. } => (JobState::Failed, None),
        How::Retry { delay_ms, .. } if *delay_ms > 0 => (JobState::Delayed, Some(now(state) + delay_ms)),
        How::Delay { until_ms } => (JobState::Delayed, Some(*until_ms)),
        How::Branch { .. } | How::Move { .. } => (JobState::WaitingChildren, None),
        _ => (JobState::Waiting, None),
    };
    match state.claims.end(queue, ended).await? {
        Settlement::Settled => Ok(Answer::ok(to_json(&EndedBody {
            id,
            queue: queue.name().to_string(),
            state: state_then.as_str(),
            due: due_ms,
        }))),
        Settlement::Lost => Err(lost(&id)),
        Settlement::ChildrenPending => Err(Problem::new(
            Code::ChildrenPending,
            "it has children that are not done, and cannot complete before them",
        )),
        Settlement::ChildFailed => {
            Err(Problem::new(Code::ChildFailed, "a child failed that fails it as well: it cannot complete"))
        }
        Settlement::ChildrenRefused { code, place } => {
            let refused = children.and_then(|children| children.refusal(code, place));
            Err(refused.map_or_else(|| Problem::new(Code::Internal, "it cannot have these children"), in_list))
        }
    }
}

fn lost(id: &str) -> Problem {
    Problem::new(Code::LeaseLost, format!("the job {id} is not, or no longer, held under this token; let go of it"))
}
