//! Requests: looking, waiting, listening and leaving.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use super::AppState;
use super::auth::{Caller, Enqueue, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{Path, Query, Raw, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::{Code, Problem};
use super::view::{RequestBody, to_json};
use crate::flight::Left;
use crate::id::is_id;
use crate::intake::{RequestState, RequestView};
use crate::text::hex;

/// What a waiting stream sends so that nobody takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    #[serde(default)]
    #[param(value_type = Option<String>)]
    user: Text,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    queue: Text,
    /// `waiting`, `running`, `ready`, `failed`, `cancelled` or `left`.
    #[serde(default)]
    state: String,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// Requests, the newest first. Without position and progress: ask for one to see them.
#[utoipa::path(get, path = "/v1/requests", tag = "requests", params(Filter),
    responses((status = 200, body = Page<RequestBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    const STATES: [&str; 6] = ["waiting", "running", "ready", "failed", "cancelled", "left"];
    if !filter.state.is_empty() && !STATES.contains(&filter.state.as_str()) {
        return Err(Problem::field("state", format!("the states are {}", STATES.join(", "))));
    }
    let flights = state.intake.flights();
    let (user, queue) = (&filter.user.0, &filter.queue.0);
    let fetch = |before: String, limit| async move { flights.requests(user, queue, &before, limit).await };
    let is_wanted = |row: &_| filter.state.is_empty() || RequestState::of(row).as_str() == filter.state;
    let (rows, next) = fill(filter.cursor, filter.limit, fetch, |row| &row.id, is_wanted).await?;
    let views: Vec<RequestView> = rows
        .into_iter()
        .map(|row| RequestView { state: RequestState::of(&row), row, position: None, progress: None })
        .collect();
    let items = views.iter().map(|view| RequestBody::of(view, &state.base)).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// A request. With `Prefer: wait=N` the answer waits until the state is final, N seconds at most.
#[utoipa::path(get, path = "/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "wait=SECONDS")),
    responses((status = 200, body = RequestBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = check_id(id)?;
    let wait = wait_wanted(&headers).map(|seconds| seconds.min(state.settings.http.max_wait.0.as_secs()));
    let view = match wait {
        Some(seconds) => {
            let longest = Duration::from_secs(seconds);
            tokio::select! {
                view = state.intake.wait(&id, longest) => view?,
                // dropped: only reads. A server that stops does not keep its callers waiting.
                () = state.stopping.cancelled() => state.intake.request(&id).await?,
            }
        }
        None => state.intake.request(&id).await?,
    };
    let view = view.ok_or_else(unknown)?;
    let mut response = Answer::ok(RequestBody::of(&view, &state.base).to_json()).into_response();
    if let Some(applied) = wait.and_then(|seconds| HeaderValue::try_from(format!("wait={seconds}")).ok()) {
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// A request's changes as server-sent events: `state`, with the request as data. Ends after a final state; told by
/// `Last-Event-ID` that its end was seen, it answers 204, upon which browsers stop asking.
#[utoipa::path(get, path = "/v1/requests/{id}/events", tag = "requests",
    params(("id" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 204), (status = 404)),
    security(("bearer" = ["read"])))]
pub(super) async fn events(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = check_id(id)?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let now = state.intake.request(&id).await?.ok_or_else(unknown)?;
    if now.state.is_final() && seen.as_deref() == Some(&event_id(&RequestBody::of(&now, &state.base).to_json())) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stopping = state.stopping.clone().cancelled_owned();
    let changes = stream::unfold(Some((state, id, seen)), |at| async {
        let (state, id, seen) = at?;
        let describe = |view: &RequestView| event_id(&RequestBody::of(view, &state.base).to_json());
        // The request was forgotten, or SQL is away: the caller comes back with the id of the last event.
        let (view, event) = state.intake.next_change(&id, seen.as_deref(), describe).await.ok()??;
        let data = RequestBody::of(&view, &state.base).to_json();
        let told = Event::default().event("state").id(event.clone()).data(data);
        let next = (!view.state.is_final()).then_some((state, id, Some(event)));
        Some((Ok::<_, Infallible>(told), next))
    });
    let stream = Sse::new(changes.take_until(stopping)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([("cache-control", "no-store"), ("x-accel-buffering", "no")], stream).into_response())
}

/// The asker leaves: nothing is delivered to them. The last one to leave ends the run where the queue says so.
#[utoipa::path(delete, path = "/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = RequestBody), (status = 404), (status = 409)), security(("bearer" = ["enqueue"])))]
pub(super) async fn leave(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let id = check_id(id)?;
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        // Looked for first: a request that is there was committed with its order's payment.
        if server.intake.request(&id).await?.is_none() {
            return Err(unknown());
        }
        if server.workloads.orders.is_paid_for(&id).await? {
            let detail = "an order was paid for this request: refund the order instead";
            return Err(Problem::new(Code::RequestFinal, detail));
        }
        match server.intake.leave(&id).await? {
            Left::Left { .. } => {
                let view = server.intake.request(&id).await?.ok_or_else(unknown)?;
                Ok(Answer::ok(RequestBody::of(&view, &server.base).to_json()))
            }
            Left::Final => Err(Problem::new(Code::RequestFinal, "it was delivered, is being delivered, or was left")),
            Left::Unknown => Err(unknown()),
        }
    })
    .await
}

fn unknown() -> Problem {
    Problem::new(Code::RequestUnknown, "no request has this id; old ones are forgotten in time")
}

fn check_id(id: String) -> Result<String, Problem> {
    if is_id(&id) { Ok(id) } else { Err(unknown()) }
}

/// N of `Prefer: wait=N` (RFC 7240).
fn wait_wanted(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').parse().ok()).flatten()
    })
}

/// The same for the same view, so that a caller who comes back is told only what is news.
fn event_id(json: &str) -> String {
    hex(&Sha256::digest(json)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_found_among_other_preferences() {
        let wait = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(text));
            wait_wanted(&headers)
        };
        assert_eq!(wait("wait=5"), Some(5));
        assert_eq!(wait("respond-async, Wait = \"10\"; x=1"), Some(10));
        for none in ["wait", "wait=", "wait=-1", "wait=soon", "awaits=3", ""] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
