//! Jobs of any queue: adding one, looking at them, changing them.
//!
//! A job with a dedupe key is a wish for a result and walks through intake; one without is a plain job and lives in
//! Redis alone. Its data is passed on as it came.

mod add;
mod cancel;
mod change;
mod detail;
mod options;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

pub(super) use add::{__path_create, create, data_or_empty, path_of};
pub(super) use cancel::{__path_cancel, cancel};
pub(super) use change::{
    __path_change_delay, __path_change_priority, __path_promote, __path_remove, __path_retry, __path_update_data,
    change_delay, change_priority, promote, remove, retry, update_data,
};
pub(super) use detail::{__path_children, __path_logs, children, logs};
pub(super) use options::Options;

use super::AppState;
use super::auth::{Caller, Read};
use super::idempotency::Answer;
use super::input::{Path, Query};
use super::page::{Limit, Start};
use super::problem::{Code, Problem};
use super::queues::find;
use super::view::to_json;
use crate::queue::{ChildrenCounts, Counts, Error, Job, Queue, Record, State as JobState};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// `waiting`, `active`, `delayed`, `prioritized`, `waiting-children`, `completed` or `failed`; all of them if it is
    /// not given.
    state: Option<String>,
    /// How many to leave out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    start: Start,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Serialize, ToSchema)]
#[schema(as = JobPage)]
pub(super) struct PageBody {
    items: Vec<JobBody>,
    /// The `start` of the next page.
    next: Option<u64>,
}

/// A job, in BullMQ's terms. Times are milliseconds since 1970, as there.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobBody {
    id: String,
    queue: String,
    name: String,
    state: Option<&'static str>,
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    #[schema(value_type = Option<serde_json::Value>)]
    options: Option<Box<RawValue>>,
    #[schema(value_type = Option<serde_json::Value>)]
    progress: Option<Box<RawValue>>,
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    failed_reason: Option<String>,
    stacktrace: Vec<String>,
    attempts_made: u32,
    attempts_started: u32,
    timestamp: i64,
    processed_on: Option<i64>,
    finished_on: Option<i64>,
    delay: i64,
    priority: u32,
    /// The group that it is served with.
    group: Option<String>,
    /// How many jobs are served before it; only where one job is asked for.
    position: Option<u64>,
    /// The parent's key, `<prefix>:<queue>:<id>`.
    parent: Option<String>,
    /// How many children it has, by what became of them; only where one job is asked for.
    #[schema(value_type = Option<std::collections::BTreeMap<String, u64>>)]
    children: Option<ChildrenCounts>,
}

impl JobBody {
    pub(super) fn of(queue: &Queue, record: Record, state: Option<JobState>) -> Self {
        let (queue, state) = (queue.name().to_string(), state.map(JobState::as_str));
        match record {
            Record::Job(job) => {
                let Job { id, name, data, options_text, progress, return_value, failed_reason, .. } = *job;
                Self {
                    id,
                    queue,
                    name,
                    state,
                    data: Some(data),
                    options: Some(options_text),
                    progress,
                    result: return_value,
                    failed_reason,
                    stacktrace: job.stacktrace,
                    attempts_made: job.attempts_made,
                    attempts_started: job.attempts_started,
                    timestamp: job.timestamp,
                    processed_on: job.processed_on,
                    finished_on: job.finished_on,
                    delay: job.delay_ms,
                    priority: job.priority,
                    group: job.group,
                    position: None,
                    parent: job.parent_key,
                    children: None,
                }
            }
            // Its data or options are no JSON; nobody can run it.
            Record::Unreadable { id, reason } => {
                Self { id, queue, state, failed_reason: Some(reason), ..Self::default() }
            }
        }
    }
}

/// Jobs of a queue in the order in which they will run, finished ones from the newest.
#[utoipa::path(get, path = "/v1/queues/{queue}/jobs", tag = "jobs", params(("queue" = String, Path), Filter),
    responses((status = 200, body = PageBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    let wanted = match filter.state.as_deref() {
        None | Some("") => JobState::ALL.to_vec(),
        Some(text) => vec![text.parse().map_err(|()| {
            let states = JobState::ALL.map(JobState::as_str).join(", ");
            Problem::field("state", format!("the states are {states}"))
        })?],
    };
    let limit = filter.limit.0;
    let (found, total) = ids(&queue, &wanted, filter.start.0, limit).await?;
    let read = found.iter().map(|(id, _)| queue.job(id));
    let records = futures::future::try_join_all(read).await?;
    // One that was removed meanwhile is left out.
    let items =
        found.iter().zip(records).filter_map(|((_, state), record)| Some(JobBody::of(&queue, record?, Some(*state))));
    let end = filter.start.0.saturating_add(u64::from(limit));
    let next = (end < total).then_some(end);
    Ok(Answer::ok(to_json(&PageBody { items: items.collect(), next })).into_response())
}

/// A page of the ids in some states, one state after the other, and how many there are in all.
async fn ids(
    queue: &Queue,
    states: &[JobState],
    start: u64,
    limit: u32,
) -> Result<(Vec<(String, JobState)>, u64), Error> {
    let counts = queue.counts().await?;
    let (mut found, mut skip, mut total) = (Vec::new(), start, 0_u64);
    for state in states {
        let count = count_of(&counts, *state);
        total = total.saturating_add(count);
        let room = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if skip < count && room > 0 {
            found.extend(queue.ids(*state, skip, room).await?.into_iter().map(|id| (id, *state)));
        }
        skip = skip.saturating_sub(count);
    }
    Ok((found, total))
}

fn count_of(counts: &Counts, state: JobState) -> u64 {
    match state {
        JobState::Waiting => counts.waiting,
        JobState::Active => counts.active,
        JobState::Delayed => counts.delayed,
        JobState::Prioritized => counts.prioritized,
        JobState::WaitingChildren => counts.waiting_children,
        JobState::Completed => counts.completed,
        JobState::Failed => counts.failed,
    }
}

#[utoipa::path(get, path = "/v1/queues/{queue}/jobs/{id}", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = JobBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    let job = read(&queue, &id).await?.ok_or_else(unknown)?;
    Ok(Answer::ok(to_json(&job)).into_response())
}

/// One job with all that is told of it.
async fn read(queue: &Queue, id: &str) -> Result<Option<JobBody>, Problem> {
    if !queue.keys().is_job(id) {
        return Ok(None);
    }
    // The state first: it is nothing for those of the queue's own keys that are no jobs.
    let Some(at) = queue.state(id).await? else { return Ok(None) };
    let Some(record) = queue.job(id).await? else { return Ok(None) };
    let position = match at {
        JobState::Waiting | JobState::Prioritized => queue.position(id).await?,
        _ => None,
    };
    let children = Some(queue.children_counts(id).await?);
    Ok(Some(JobBody { position, children, ..JobBody::of(queue, record, Some(at)) }))
}

pub(super) fn unknown() -> Problem {
    Problem::new(Code::JobUnknown, "no job of this queue has this id")
}
