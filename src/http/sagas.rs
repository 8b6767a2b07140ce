//! Effects outside, for operators: what became of them, and deciding about those that nobody knows the end of.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, write};
use super::input::{Json, Path, Query, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::Problem;
use super::view::{raw, rfc3339, to_json};
use crate::id::is_id;
use crate::saga::{Decision, Resolve, SagaEvent, SagaFilter, SagaView, UNKNOWN};
use crate::text::Reason;

const STATES: [&str; 7] = ["due", "calling", "unknown", "asking", "confirmed", "compensated", "parked"];

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// `due`, `calling`, `unknown`, `asking`, `confirmed`, `compensated` or `parked`.
    #[serde(default)]
    state: String,
    /// Which effect, such as `order_refund`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    name: Text,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// An effect outside.
#[derive(Serialize, ToSchema)]
#[schema(as = Saga)]
pub(super) struct SagaBody<'a> {
    /// Also the id that goes with each call.
    id: &'a str,
    name: &'a str,
    subject: &'a str,
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<&'a RawValue>,
    state: &'a str,
    /// How often it was called, and how often the other side was asked.
    calls: i64,
    asks: i64,
    next_at: Option<String>,
    receipt: Option<&'a str>,
    error: Option<&'a str>,
    created_at: String,
    updated_at: String,
    /// Only where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<SagaEventBody<'a>>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SagaEvent)]
pub(super) struct SagaEventBody<'a> {
    at: String,
    actor: &'a str,
    event: &'a str,
    detail: Option<&'a str>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SagaResolution)]
pub(super) struct Resolution {
    /// `done` or `not_done`: what was found at the other side.
    outcome: Outcome,
    /// How that was found; it goes into the history.
    #[schema(value_type = String)]
    reason: Reason,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SagaOutcome)]
pub(super) enum Outcome {
    Done,
    NotDone,
}

/// What is said once a decision was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = SagaResolved)]
pub(super) struct Resolved {
    id: String,
    name: String,
    subject: String,
    /// `confirmed` or `compensated`.
    state: String,
}

impl<'a> SagaBody<'a> {
    fn of(view: &'a SagaView) -> Self {
        let is_waiting = matches!(view.state.as_str(), "due" | "unknown");
        Self {
            id: &view.id,
            name: &view.name,
            subject: &view.subject,
            input: raw(&view.input),
            state: &view.state,
            calls: view.calls,
            asks: view.asks,
            next_at: is_waiting.then(|| rfc3339(view.next_at_ms)),
            receipt: view.receipt.as_deref(),
            error: view.error.as_deref(),
            created_at: rfc3339(view.created_at_ms),
            updated_at: rfc3339(view.updated_at_ms),
            history: None,
        }
    }

    fn with_history(view: &'a SagaView, history: &'a [SagaEvent]) -> Self {
        let event = |event: &'a SagaEvent| SagaEventBody {
            at: rfc3339(event.at_ms),
            actor: &event.actor,
            event: &event.event,
            detail: event.detail.as_deref(),
        };
        Self { history: Some(history.iter().map(event).collect()), ..Self::of(view) }
    }
}

/// Effects outside, the newest first. Those that are `parked` wait for a person.
#[utoipa::path(get, path = "/v1/sagas", tag = "sagas", params(Filter),
    responses((status = 200, body = Page<SagaBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    if !filter.state.is_empty() && !STATES.contains(&filter.state.as_str()) {
        return Err(Problem::field("state", format!("one of {}", STATES.join(", "))));
    }
    let (sagas, filter_) = (&state.sagas, &filter);
    let fetch = |before, limit| async move {
        let (state, name) = (filter_.state.clone(), filter_.name.0.clone());
        sagas.list(&SagaFilter { state, name, before, limit }).await
    };
    let (rows, next) = fill(filter.cursor.clone(), filter.limit, fetch, |row| &row.id, |_| true).await?;
    let items = rows.iter().map(SagaBody::of).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// An effect outside, with its history.
#[utoipa::path(get, path = "/v1/sagas/{id}", tag = "sagas", params(("id" = String, Path)),
    responses((status = 200, body = SagaBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let found = if is_id(&id) { state.sagas.show(&id).await? } else { None };
    let (view, history) = found.ok_or(UNKNOWN)?;
    Ok(Answer::ok(to_json(&SagaBody::with_history(&view, &history))).into_response())
}

/// A person's word about a parked effect: it was performed, or it was not and will not be.
#[utoipa::path(post, path = "/v1/sagas/{id}/resolve", tag = "sagas", request_body = Resolution,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = Resolved), (status = 404), (status = 409)), security(("bearer" = ["operate"])))]
pub(super) async fn resolve(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json { value: Resolution { outcome, reason: Reason(reason) }, raw }: Json<Resolution>,
) -> Result<Response, Problem> {
    if !is_id(&id) {
        return Err(UNKNOWN.into());
    }
    let decision = match outcome {
        Outcome::Done => Decision::Done,
        Outcome::NotDone => Decision::NotDone,
    };
    let resolve = Resolve { id, decision, reason, actor: format!("key:{}", caller.principal.id) };
    write(&state, &caller.principal, asked, &raw, |key| state.sagas.resolve(resolve, key)).await
}
