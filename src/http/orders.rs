//! Orders of videos: placing, looking, cancelling, and giving money back.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Enqueue, Operate, Read};
use super::idempotency::{Answer, Asked, write};
use super::input::{Json, OptionalJson, Path, Query, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::Problem;
use super::submit::Name;
use super::view::to_json;
use crate::access::Scope;
use crate::text::Reason;
use crate::workloads::orders::{Cancel, OrderFilter, PaymentFilter, Refund, State as OrderState, UNKNOWN, Wish};

const PAYMENT_STATES: [&str; 5] = ["applied", "returning", "returned", "stuck", "unknown"];

/// An order.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderBody {
    /// The `InvoiceId` of its payment.
    id: String,
    user: String,
    chat: Option<String>,
    name: String,
    gender: String,
    template: String,
    amount: i64,
    currency: String,
    /// `awaiting_payment`, `paid`, `fulfilled`, `cancelled`, `expired` or `refunded`.
    state: String,
    /// The request for its video, once it is paid.
    request: Option<String>,
    expires_at: String,
    created_at: String,
    updated_at: String,
    /// Only where one order is asked for.
    payments: Option<Vec<PaymentBody>>,
    history: Option<Vec<Value>>,
}

/// Money that was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = Payment)]
pub(super) struct PaymentBody {
    /// The provider's number.
    transaction: String,
    order: Option<String>,
    invoice: String,
    amount: i64,
    currency: String,
    /// `applied`, `returning`, `returned`, `stuck` (the way back failed) or `unknown` (no order of ours).
    state: String,
    pays: bool,
    returned_amount: i64,
    reason: Option<String>,
    /// The saga that brings it back.
    refund: Option<String>,
    created_at: String,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = OrderCancel)]
pub(super) struct Cancelled {
    /// In whose name. Only who may operate can leave it out.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    user: Option<Name>,
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrderRefund)]
pub(super) struct Refunded {
    #[schema(value_type = String)]
    reason: Reason,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    #[serde(default)]
    #[param(value_type = Option<String>)]
    user: Text,
    /// `awaiting_payment`, `paid`, `fulfilled`, `cancelled`, `expired` or `refunded`.
    #[serde(default)]
    state: String,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Payments {
    /// `applied`, `returning`, `returned`, `stuck` or `unknown`.
    #[serde(default)]
    state: String,
    /// Those with a number after this one.
    #[serde(default)]
    after: String,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// Places an order. It waits for its payment, and is closed if none comes in time.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = Wish,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = OrderBody), (status = 422)), security(("bearer" = ["enqueue"])))]
pub(super) async fn create(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: wished, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let order = wished.read(&state.settings).map_err(|wrong| Problem::field(wrong.field, wrong.reason))?;
    let actor = actor(&caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| state.workloads.orders.create(order, actor, key)).await
}

/// Orders, the newest first.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", params(Filter),
    responses((status = 200, body = Page<OrderBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    if !filter.state.is_empty() && OrderState::parse(&filter.state).is_none() {
        let known = OrderState::ALL.map(OrderState::as_str).join(", ");
        return Err(Problem::field("state", format!("one of {known}")));
    }
    let (orders, filter_) = (&state.workloads.orders, &filter);
    let fetch = |before, limit| async move {
        let (user, state) = (filter_.user.0.clone(), filter_.state.clone());
        orders.list(&OrderFilter { user, state, before, limit }).await
    };
    let (items, next) = fill(filter.cursor.clone(), filter.limit, fetch, id_of, |_| true).await?;
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// An order with its payments and its history.
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders", params(("id" = String, Path)),
    responses((status = 200, body = OrderBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let order = state.workloads.orders.show(&id).await?.ok_or(UNKNOWN)?;
    Ok(Answer::ok(order.to_string()).into_response())
}

/// Cancels an order that nobody has paid yet.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders", request_body = Option<Cancelled>,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = OrderBody), (status = 403), (status = 404), (status = 409)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn cancel(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    OptionalJson { value: Cancelled { user, reason }, raw }: OptionalJson<Cancelled>,
) -> Result<Response, Problem> {
    if user.is_none() && !caller.principal.may(Scope::Operate) {
        return Err(Problem::missing("user"));
    }
    let actor = match &user {
        Some(user) => format!("user:{}", user.0),
        None => actor(&caller.principal.id),
    };
    let cancel = Cancel { id, user: user.map(|user| user.0), actor, reason: reason.map(|reason| reason.0) };
    write(&state, &caller.principal, asked, &raw, |key| state.workloads.orders.cancel(cancel, key)).await
}

/// Gives the money of an order back. It is `refunded` once the provider has done so.
#[utoipa::path(post, path = "/v1/orders/{id}/refund", tag = "orders", request_body = Refunded,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = OrderBody), (status = 404), (status = 409)), security(("bearer" = ["operate"])))]
pub(super) async fn refund(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json { value: Refunded { reason }, raw }: Json<Refunded>,
) -> Result<Response, Problem> {
    let refund = Refund { id, actor: actor(&caller.principal.id), reason: reason.0 };
    write(&state, &caller.principal, asked, &raw, |key| state.workloads.orders.refund(refund, key)).await
}

/// Payments, in the order of their numbers. Those that are `stuck` or `unknown` wait for a person.
#[utoipa::path(get, path = "/v1/payments", tag = "orders", params(Payments),
    responses((status = 200, body = Page<PaymentBody>)), security(("bearer" = ["read"])))]
pub(super) async fn payments(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(asked): Query<Payments>,
) -> Result<Response, Problem> {
    if !asked.state.is_empty() && !PAYMENT_STATES.contains(&asked.state.as_str()) {
        return Err(Problem::field("state", format!("one of {}", PAYMENT_STATES.join(", "))));
    }
    if !asked.after.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::field("after", "the number of a payment"));
    }
    let limit = asked.limit.0;
    let filter = PaymentFilter { state: asked.state, after: asked.after, limit: limit + 1 };
    let mut items = state.workloads.orders.payments(&filter).await?;
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().and_then(|payment| payment["transaction"].as_str()).map(ToOwned::to_owned);
    let next = if has_more { last } else { None };
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

fn id_of(order: &Value) -> &str {
    order["id"].as_str().unwrap_or_default()
}

fn actor(principal: &str) -> String {
    format!("key:{principal}")
}
