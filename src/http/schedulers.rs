//! Job schedulers of a queue: setting them up, looking at them, ending them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{Json, Path, Query, Raw, object};
use super::jobs::{Options, data_or_empty};
use super::page::{Limit, Start};
use super::problem::{Code, Problem};
use super::queues::find;
use super::submit::Name;
use super::view::to_json;
use crate::catalog::{Entry, Kind};
use crate::processor::given;
use crate::queue::{Queue, Rule, Scheduler, State as JobState, Upsert};

/// Either `every` or `pattern`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewScheduler)]
pub(super) struct Wish {
    /// The interval in milliseconds.
    every: Option<i64>,
    /// How much later than the multiples of the interval, in milliseconds; from the first run on if it is not given.
    offset: Option<i64>,
    /// A cron pattern of 5 fields, or 6 with the seconds at the front.
    pattern: Option<String>,
    /// The zone that the pattern is meant in, such as Europe/Berlin.
    tz: Option<String>,
    /// At most so many runs from now on.
    limit: Option<u32>,
    /// No run before: milliseconds since 1970, or RFC 3339.
    #[schema(value_type = Option<serde_json::Value>)]
    start_date: Option<Moment>,
    /// No next run after.
    #[schema(value_type = Option<serde_json::Value>)]
    end_date: Option<Moment>,
    /// The first run of a pattern is now.
    #[serde(default)]
    immediately: bool,
    /// The name of the runs; the scheduler's id if it is not given.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    name: Option<Name>,
    /// Of the runs: any JSON; `{}` if it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// Of the runs.
    #[serde(default, deserialize_with = "object")]
    options: Options,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected milliseconds since 1970, or a time as RFC 3339 writes it")]
enum Moment {
    Ms(i64),
    Written(Timestamp),
}

impl Moment {
    fn ms(self) -> i64 {
        match self {
            Self::Ms(ms) => ms,
            Self::Written(at) => at.as_millisecond(),
        }
    }
}

/// A job scheduler, in BullMQ's terms. Times are milliseconds since 1970, as there.
#[derive(Serialize, ToSchema)]
#[schema(as = Scheduler)]
pub(super) struct SchedulerBody {
    id: String,
    queue: String,
    name: String,
    every: Option<u64>,
    offset: Option<u64>,
    pattern: Option<String>,
    tz: Option<String>,
    limit: Option<u64>,
    start_date: Option<u64>,
    end_date: Option<u64>,
    /// How many runs it has had made since it first existed.
    iterations: Option<u64>,
    /// When its present run is due. In the past: that run is under way, or was the last.
    next: i64,
    /// The present run.
    job: String,
    /// Where that is; only where one scheduler is asked for.
    job_state: Option<&'static str>,
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    #[schema(value_type = Option<serde_json::Value>)]
    options: Option<Box<RawValue>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SchedulerPage)]
pub(super) struct PageBody {
    items: Vec<SchedulerBody>,
    /// The `start` of the next page.
    next: Option<u64>,
    /// How many there are in all.
    total: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// How many to leave out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    start: Start,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

impl SchedulerBody {
    fn of(queue: &Queue, scheduler: Scheduler) -> Self {
        let job = scheduler.run_id();
        Self {
            id: scheduler.id,
            queue: queue.name().to_string(),
            name: scheduler.name,
            every: scheduler.every_ms,
            offset: scheduler.offset_ms.filter(|_| scheduler.every_ms.is_some()),
            pattern: scheduler.pattern,
            tz: scheduler.tz,
            limit: scheduler.limit,
            start_date: scheduler.start_ms,
            end_date: scheduler.end_ms,
            iterations: scheduler.iterations,
            next: scheduler.next_ms,
            job,
            job_state: None,
            data: scheduler.data,
            options: scheduler.options,
        }
    }
}

impl Wish {
    fn upsert(self, id: String, entry: Option<&Entry>) -> Result<Upsert, Problem> {
        self.options.check(entry)?;
        if let Some(field) = self.options.of_one_job() {
            return Err(Problem::field(field, "this is not for the runs of a scheduler: leave it out"));
        }
        let rule = match (self.every, self.pattern) {
            (Some(_), Some(_)) => return Err(Problem::field("pattern", "give either an interval or a pattern")),
            (None, None) => return Err(Problem::missing("every")),
            (Some(_), None) if self.tz.is_some() => {
                return Err(Problem::field("tz", "an interval is the same in every zone: leave this out"));
            }
            (None, Some(_)) if self.offset.is_some() => {
                return Err(Problem::field("offset", "only an interval has an offset"));
            }
            (Some(every_ms), None) => Rule::Every { every_ms, offset_ms: self.offset },
            (None, Some(pattern)) => Rule::Pattern { pattern, tz: self.tz },
        };
        Ok(Upsert {
            id,
            rule,
            limit: self.limit,
            start_ms: self.start_date.map(Moment::ms),
            end_ms: self.end_date.map(Moment::ms),
            immediately: self.immediately,
            name: self.name.map(|name| name.0),
            data: data_or_empty(self.data),
            // What is not given is as the queue is declared, for whoever takes a run here.
            options: self.options.for_queue(None),
        })
    }
}

fn unknown() -> Problem {
    Problem::new(Code::SchedulerUnknown, "no scheduler of this queue has this id")
}

async fn read(queue: &Queue, id: &str) -> Result<SchedulerBody, Problem> {
    let scheduler = queue.scheduler(id).await?.ok_or_else(unknown)?;
    let body = SchedulerBody::of(queue, scheduler);
    let job_state = queue.state(&body.job).await?.map(JobState::as_str);
    Ok(SchedulerBody { job_state, ..body })
}

/// Schedulers of a queue, the one that is due first at the front.
#[utoipa::path(get, path = "/v1/queues/{queue}/schedulers", tag = "schedulers",
    params(("queue" = String, Path), Filter),
    responses((status = 200, body = PageBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    let (schedulers, total) = queue.schedulers(filter.start.0, filter.limit.0).await?;
    let items = schedulers.into_iter().map(|scheduler| SchedulerBody::of(&queue, scheduler)).collect();
    let end = filter.start.0.saturating_add(u64::from(filter.limit.0));
    Ok(Answer::ok(to_json(&PageBody { items, next: (end < total).then_some(end), total })).into_response())
}

#[utoipa::path(get, path = "/v1/queues/{queue}/schedulers/{id}", tag = "schedulers",
    params(("queue" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = SchedulerBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    Ok(Answer::ok(to_json(&read(&queue, &id).await?)).into_response())
}

/// Sets a scheduler up (201), or anew (200): its waiting run is replaced, and its limit counts from here.
#[utoipa::path(put, path = "/v1/queues/{queue}/schedulers/{id}", tag = "schedulers", request_body = Wish,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = SchedulerBody), (status = 201, body = SchedulerBody), (status = 404),
        (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(super) async fn set(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: wish, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    if matches!(kind, Kind::Work | Kind::Delivery) {
        return Err(Problem::field(
            "queue",
            "Onetake alone adds jobs to this queue; schedule them on the declared one",
        ));
    }
    let upsert = wish.upsert(id, state.intake.catalog().get(queue.name().as_str()))?;
    let now_ms = state.intake.flights().store().clock().now_ms();
    once(&state, &caller.principal, asked, &raw, async move {
        let upserted = queue.upsert_scheduler(&upsert, now_ms).await?;
        let body = to_json(&read(&queue, &upsert.id).await?);
        let status = if upserted.is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer { status, ..Answer::ok(body) })
    })
    .await
}

/// Ends a schedule. A run that is not due yet goes with it; one that waits or is under way is its last.
#[utoipa::path(delete, path = "/v1/queues/{queue}/schedulers/{id}", tag = "schedulers",
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = serde_json::Value), (status = 404), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(super) async fn remove(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    once(&state, &caller.principal, asked, &raw, async move {
        if !queue.remove_scheduler(&id).await? {
            return Err(unknown());
        }
        Ok(Answer::ok(json!({"scheduler": {"id": id, "queue": queue.name().as_str()}}).to_string()))
    })
    .await
}
