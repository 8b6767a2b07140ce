//! Deliveries, for operators: what was handed over, what was not, and sending it again.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, once};
use super::input::{Path, Query, Raw, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::{Code, Problem};
use super::view::{DeliveryBody, to_json};
use crate::flight::{DueDelivery, ListFilter};
use crate::id::is_id;
use crate::publish::Publish;

const STATES: [&str; 5] = ["queued", "leased", "delivered", "suppressed", "dead"];
const CHANNELS: [&str; 5] = ["poll", "mailbox", "telegram", "webhook", "follower"];

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// `queued`, `leased`, `delivered`, `suppressed` or `dead`.
    #[serde(default)]
    state: String,
    /// `poll`, `mailbox`, `telegram`, `webhook` or `follower`.
    #[serde(default)]
    channel: String,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    queue: Text,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// Deliveries, the newest first.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(Filter),
    responses((status = 200, body = Page<DeliveryBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    for (field, value, known) in [("state", &filter.state, STATES), ("channel", &filter.channel, CHANNELS)] {
        if !value.is_empty() && !known.contains(&value.as_str()) {
            return Err(Problem::field(field, format!("one of {}", known.join(", "))));
        }
    }
    let (flights, filter_) = (state.intake.flights(), &filter);
    let fetch = |before, limit| async move {
        let Filter { state, channel, queue, .. } = filter_;
        let (state, channel, scope) = (state.clone(), channel.clone(), queue.0.clone());
        flights.deliveries(&ListFilter { state, channel, scope, before, limit }).await
    };
    let (rows, next) = fill(filter.cursor.clone(), filter.limit, fetch, |row| &row.id, |_| true).await?;
    let items = rows.iter().map(DeliveryBody::of).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// A delivery with its history.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(read(&state, &id).await?.into_response())
}

/// Puts a dead or suppressed delivery back in the line.
#[utoipa::path(post, path = "/v1/deliveries/{id}/replay", tag = "deliveries",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = DeliveryBody), (status = 404), (status = 409)), security(("bearer" = ["operate"])))]
pub(super) async fn replay(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        if !is_id(&id) {
            return Err(unknown());
        }
        match server.intake.flights().replay_delivery(&id).await? {
            None => return Err(unknown()),
            Some(false) => {
                return Err(Problem::new(Code::DeliveryNotDead, "it was delivered, or it is in the line already"));
            }
            Some(true) => {}
        }
        let answer = read(&server, &id).await?;
        // Its job; without Redis the reconciler finds it.
        server.intake.publisher().send(Publish::Delivery(DueDelivery { id, due_in: std::time::Duration::ZERO }));
        Ok(answer)
    })
    .await
}

async fn read(state: &AppState, id: &str) -> Result<Answer, Problem> {
    let found = if is_id(id) { state.intake.flights().delivery(id).await? } else { None };
    let (view, history) = found.ok_or_else(unknown)?;
    Ok(Answer::ok(to_json(&DeliveryBody::with_history(&view, &history))))
}

fn unknown() -> Problem {
    Problem::new(Code::DeliveryUnknown, "no delivery has this id; old ones are forgotten in time")
}
