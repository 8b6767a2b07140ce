//! Ending a job from outside, with a reason.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{JobBody, read, unknown};
use crate::catalog::Kind;
use crate::http::AppState;
use crate::http::auth::{Caller, Operate};
use crate::http::idempotency::{Answer, Asked, once};
use crate::http::input::{OptionalJson, Path};
use crate::http::problem::{Code, Problem};
use crate::http::queues::{find, now};
use crate::http::view::to_json;
use crate::queue::{Cancelled, State as JobState};
use crate::reconcile::WORKER_PREFIX;
use crate::runner::Controls;

const LONGEST_REASON: usize = 1000;

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Cancel)]
pub(in crate::http) struct CancelWish {
    /// Why, in up to 1000 characters; the job's failure says so.
    reason: Option<String>,
}

/// Ends a plain job as failed, for good, with a reason. 200: it has failed. 202: an Onetake server runs it, or a worker that
/// has claimed it, and is told to stop it (the worker by its next heartbeat); it fails unless it ends just then, and is not run
/// again even if that server or worker dies. A job that a Node worker runs cannot be stopped from outside: 409 `job_foreign`,
/// and nothing is changed.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/cancel", tag = "jobs", request_body = Option<CancelWish>,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 202, body = JobBody), (status = 404), (status = 409), (status = 422),
        (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn cancel(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    OptionalJson { value: wish, raw }: OptionalJson<CancelWish>,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    if kind != Kind::Plain {
        return Err(Problem::field("queue", "only plain jobs are cancelled; leave the request instead"));
    }
    let reason = wish.reason.unwrap_or_else(|| "cancelled".to_owned());
    if reason.trim().is_empty() || reason.chars().count() > LONGEST_REASON {
        return Err(Problem::field("reason", format!("a reason has 1 to {LONGEST_REASON} characters")));
    }
    let now = now(&state);
    let (redis, settings) = (state.redis.clone(), state.settings.clone());
    once(&state, &caller.principal, asked, &raw, async move {
        let refused = |code, detail| Err(Problem::new(code, detail));
        let status = match queue.cancel(&id, &reason, WORKER_PREFIX, now).await? {
            Cancelled::Failed => StatusCode::OK,
            Cancelled::Marked => {
                Controls::tell_cancelled(&redis, &settings.redis.namespace, &queue, &id).await;
                StatusCode::ACCEPTED
            }
            Cancelled::Absent => return Err(unknown()),
            Cancelled::Ended => return refused(Code::JobWrongState, "the job has ended"),
            Cancelled::Scheduled => {
                return refused(Code::JobScheduled, "remove its scheduler instead: without it that would end");
            }
            Cancelled::Foreign => return refused(Code::JobForeign, "only the worker that runs it can stop it"),
        };
        // Removed by its own wish when it failed: it was cancelled all the same.
        let gone = || JobBody {
            id: id.clone(),
            queue: queue.name().to_string(),
            state: Some(JobState::Failed.as_str()),
            failed_reason: Some(reason.clone()),
            ..JobBody::default()
        };
        let shown = read(&queue, &id).await?.unwrap_or_else(gone);
        Ok(Answer { status, ..Answer::ok(to_json(&shown)) })
    })
    .await
}
