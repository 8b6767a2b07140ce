//! Dedupe keys, for operators: who waits for what, and freeing a key.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{OptionalJson, Path, Query, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::{Code, Problem};
use super::view::{raw, rfc3339, to_json};
use crate::flight::{Channel, FlightView, ListFilter, RunState};
use crate::text::Reason;

const STATES: [&str; 6] = ["pending", "running", "succeeded", "failed", "cancelled", "empty"];
/// Subscribers that are listed with a key.
const SUBSCRIBERS: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// The queue.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    scope: Text,
    /// `pending`, `running`, `succeeded`, `failed`, `cancelled` or `empty`.
    #[serde(default)]
    state: String,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Release {
    /// What those who wait are told.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

/// A dedupe key: its run, its result, and how many wait for it.
#[derive(Serialize, ToSchema)]
#[schema(as = DedupeKey)]
pub(super) struct KeyBody<'a> {
    scope: &'a str,
    key: &'a str,
    /// `empty`: there is neither a result nor a run.
    state: &'static str,
    generation: i64,
    attempt: i64,
    max_attempts: i64,
    run: Option<RunBody>,
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<&'a RawValue>,
    result_generation: Option<i64>,
    made_at: Option<String>,
    error: Option<&'a str>,
    /// How many wait; where one key is asked for, who (at most 1,000).
    #[schema(value_type = serde_json::Value)]
    subscribers: Subscribers,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DedupeRun)]
pub(super) struct RunBody {
    started_at: Option<String>,
    next_at: String,
    lease_until: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Subscribers {
    Count(i64),
    List(Vec<Subscriber>),
}

#[derive(Serialize)]
struct Subscriber {
    subscriber: String,
    channel: Channel,
}

impl<'a> KeyBody<'a> {
    fn of(view: &'a FlightView) -> Self {
        let is_open = view.state.is_open();
        Self {
            scope: &view.scope,
            key: &view.key,
            state: state_of(view),
            generation: view.generation,
            attempt: view.attempt,
            max_attempts: view.max_attempts,
            run: is_open.then(|| RunBody {
                started_at: view.started_at_ms.map(rfc3339),
                next_at: rfc3339(view.next_at_ms),
                lease_until: view.lease_until_ms.map(rfc3339),
            }),
            result: view.result.as_deref().and_then(raw),
            result_generation: view.result_generation,
            made_at: view.made_at_ms.map(rfc3339),
            error: view.error.as_deref(),
            subscribers: Subscribers::Count(view.subscribers),
            created_at: rfc3339(view.created_at_ms),
            updated_at: rfc3339(view.updated_at_ms),
        }
    }
}

/// As callers are told: a key whose result was imported has succeeded, and one whose result was forgotten is empty.
fn state_of(view: &FlightView) -> &'static str {
    match (view.state, &view.result) {
        (RunState::Idle | RunState::Succeeded, Some(_)) => RunState::Succeeded.as_str(),
        (RunState::Idle | RunState::Succeeded, None) => "empty",
        (state, _) => state.as_str(),
    }
}

/// Dedupe keys, the newest first.
#[utoipa::path(get, path = "/v1/dedupe", tag = "dedupe", params(Filter),
    responses((status = 200, body = Page<KeyBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    if !filter.state.is_empty() && !STATES.contains(&filter.state.as_str()) {
        return Err(Problem::field("state", format!("the states are {}", STATES.join(", "))));
    }
    // These two are told by the result as well, which the index over states does not know.
    let by_index = if matches!(filter.state.as_str(), "succeeded" | "empty") { "" } else { &filter.state };
    let (flights, scope) = (state.intake.flights(), &filter.scope.0);
    let fetch = |before, limit| async move {
        let (state, scope) = (by_index.to_owned(), scope.clone());
        flights.list(&ListFilter { state, scope, before, limit, ..ListFilter::default() }).await
    };
    let is_wanted = |view: &FlightView| filter.state.is_empty() || state_of(view) == filter.state;
    let (rows, next) = fill(filter.cursor, filter.limit, fetch, |row| &row.id, is_wanted).await?;
    let items = rows.iter().map(KeyBody::of).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// A dedupe key with those who wait for it. `key` is the readable JSON array, percent-encoded.
#[utoipa::path(get, path = "/v1/dedupe/{scope}/{key}", tag = "dedupe",
    params(("scope" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = KeyBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((scope, key)): Path<(Text, String)>,
) -> Result<Response, Problem> {
    Ok(read(&state, &scope.0, &spelt(&key)?).await?.into_response())
}

/// Frees a key: an open run is cancelled and those who wait are told, the result is forgotten.
#[utoipa::path(post, path = "/v1/dedupe/{scope}/{key}/release", tag = "dedupe", request_body = Option<Release>,
    params(("scope" = String, Path), ("key" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = KeyBody), (status = 404)), security(("bearer" = ["operate"])))]
pub(super) async fn release(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path((scope, key)): Path<(Text, String)>,
    OptionalJson { value: Release { reason }, raw }: OptionalJson<Release>,
) -> Result<Response, Problem> {
    let key = spelt(&key)?;
    let reason = reason.map_or_else(|| "released by an operator".to_owned(), |reason| reason.0);
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        if !server.intake.release(&scope.0, &key, &reason).await? {
            return Err(unknown());
        }
        read(&server, &scope.0, &key).await
    })
    .await
}

async fn read(state: &AppState, scope: &str, key: &str) -> Result<Answer, Problem> {
    let flights = state.intake.flights();
    let view = flights.flight(scope, key).await?.ok_or_else(unknown)?;
    let waiting = flights.subscribers(&view.id, SUBSCRIBERS).await?;
    let list = waiting.into_iter().map(|(subscriber, channel)| Subscriber { subscriber, channel }).collect();
    Ok(Answer::ok(to_json(&KeyBody { subscribers: Subscribers::List(list), ..KeyBody::of(&view) })))
}

/// The key in the spelling that is stored, whatever blanks it came with.
fn spelt(key: &str) -> Result<String, Problem> {
    match serde_json::from_str(key) {
        Ok(parts @ Value::Array(_)) => Ok(parts.to_string()),
        _ => Err(Problem::field("key", "a dedupe key is written as a JSON array, such as [\"anna\",\"girl\"]")),
    }
}

fn unknown() -> Problem {
    Problem::new(Code::DedupeUnknown, "nobody has asked for this key")
}
