//! Changing one job: retry, promote, another delay or priority, other data; removing it.

use std::future::Future;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{JobBody, read, unknown};
use crate::clock::Millis;
use crate::http::AppState;
use crate::http::auth::{Caller, Operate};
use crate::http::idempotency::{Answer, Asked, once};
use crate::http::input::{Json, OptionalJson, Path, Query, Raw};
use crate::http::problem::{Code, Problem};
use crate::http::queues::{FinishedState, find, now};
use crate::http::view::to_json;
use crate::queue::{Change, Error, Queue, Removal, Retry};

/// For verbs that no state forbids.
const ANY_STATE: &str = "the job's state does not allow that";

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Retry)]
pub(in crate::http) struct RetryWish {
    /// Only if it ended so; otherwise however it ended.
    state: Option<FinishedState>,
    /// Count its attempts from 0 again.
    reset_attempts: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeDelay)]
pub(in crate::http) struct DelayWish {
    /// In milliseconds from now.
    delay: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangePriority)]
pub(in crate::http) struct PriorityWish {
    /// 1 is the most urgent; 0, for none, comes before all.
    priority: u32,
    /// Before all others of that priority.
    #[serde(default)]
    lifo: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateData)]
pub(in crate::http) struct DataWish {
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RemoveWish {
    /// Its children and theirs as well.
    #[serde(default)]
    children: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RemovedJob)]
pub(in crate::http) struct RemovedBody {
    id: String,
    queue: String,
    removed: bool,
}

/// Changes a job, which is shown as it stands afterwards. `needed`: what is told of a job in a wrong state.
async fn change<A>(
    state: &AppState,
    (caller, asked, raw): (Caller<Operate>, Asked, Bytes),
    (name, id): (String, String),
    needed: &'static str,
    act: impl FnOnce(Queue, String) -> A,
) -> Result<Response, Problem>
where
    A: Future<Output = Result<Change, Error>> + Send + 'static,
{
    let (queue, _) = find(state, &name)?;
    let acting = act(queue.clone(), id.clone());
    once(state, &caller.principal, asked, &raw, async move {
        match acting.await? {
            Change::Made => {}
            Change::Absent => return Err(unknown()),
            Change::WrongState => return Err(Problem::new(Code::JobWrongState, needed)),
        }
        // It may have run and been removed since: it was changed all the same.
        let shown = read(&queue, &id).await?;
        let gone = || JobBody { id, queue: queue.name().to_string(), ..JobBody::default() };
        Ok(Answer::ok(to_json(&shown.unwrap_or_else(gone))))
    })
    .await
}

/// Lets a finished job wait again, by its priority.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/retry", tag = "jobs", request_body = Option<RetryWish>,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 404), (status = 409), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn retry(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    OptionalJson { value: wish, raw }: OptionalJson<RetryWish>,
) -> Result<Response, Problem> {
    let (needed, from) = match wish.state {
        None => ("only a job that has completed or failed can be retried", None),
        Some(state @ FinishedState::Completed) => ("the job has not completed", Some(state.into())),
        Some(state @ FinishedState::Failed) => ("the job has not failed", Some(state.into())),
    };
    change(&state, (caller, asked, raw), path, needed, move |queue, id| async move {
        queue.retry(&id, Retry { from, anew: wish.reset_attempts }).await
    })
    .await
}

/// Lets a delayed job wait, by its priority.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/promote", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 404), (status = 409), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn promote(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let needed = "only a delayed job can be promoted";
    change(&state, (caller, asked, raw), path, needed, move |queue, id| async move { queue.promote(&id).await }).await
}

/// Lets a delayed job be due at another time.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/delay", tag = "jobs", request_body = DelayWish,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn change_delay(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Json { value: DelayWish { delay }, raw }: Json<DelayWish>,
) -> Result<Response, Problem> {
    let now = now(&state);
    let delay_ms = Millis::try_from(delay).unwrap_or(Millis::MAX);
    let needed = "only a delayed job can have another delay";
    change(&state, (caller, asked, raw), path, needed, move |queue, id| async move {
        queue.change_delay(&id, delay_ms, now).await
    })
    .await
}

/// Gives a job another priority, in whatever state: it counts when the job waits.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/priority", tag = "jobs", request_body = PriorityWish,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn change_priority(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Json { value: PriorityWish { priority, lifo }, raw }: Json<PriorityWish>,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, ANY_STATE, move |queue, id| async move {
        queue.change_priority(&id, priority, lifo).await
    })
    .await
}

/// Replaces a job's data, in whatever state; an attempt that is under way has the old.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs/{id}/data", tag = "jobs", request_body = DataWish,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn update_data(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Json { value: DataWish { data }, raw }: Json<DataWish>,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, ANY_STATE, move |queue, id| async move {
        queue.update_data(&id, &data).await
    })
    .await
}

/// Removes a job that nobody runs, in whatever state.
#[utoipa::path(delete, path = "/v1/queues/{queue}/jobs/{id}", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path), RemoveWish, ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = RemovedBody), (status = 404), (status = 409), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn remove(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Query(RemoveWish { children }): Query<RemoveWish>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    if !queue.keys().is_job(&id) {
        return Err(unknown());
    }
    let now = now(&state);
    once(&state, &caller.principal, asked, &raw, async move {
        let removal =
            if children { queue.remove_with_children(&id, now).await? } else { queue.remove(&id, now).await? };
        let refused = |code, detail| Err(Problem::new(code, detail));
        match removal {
            Removal::Removed => {
                Ok(Answer::ok(to_json(&RemovedBody { id, queue: queue.name().to_string(), removed: true })))
            }
            Removal::Absent => Err(unknown()),
            Removal::Locked if children => refused(Code::JobLocked, "somebody runs it or one of its children"),
            Removal::Locked => refused(Code::JobLocked, "somebody runs it; it can be removed when it has ended"),
            Removal::Scheduled => {
                refused(Code::JobScheduled, "remove its scheduler instead: without it that would end")
            }
            Removal::TooManyChildren => refused(Code::TooManyChildren, "remove some of its children first"),
        }
    })
    .await
}
