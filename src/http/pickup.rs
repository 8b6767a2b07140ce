//! The pickup point: accepting, issuing, taking back, returning to the courier, and what there is and was.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Operate, Read};
use super::idempotency::{Answer, Asked, write};
use super::input::{Json, Path, Query};
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use super::submit::Name;
use crate::workloads::pickup::{Accept, ORDER_UNKNOWN, Order, Several, ToCourier, Wanted};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The user whose list is wanted.
    #[param(value_type = crate::id::TextOrInteger)]
    user: Name,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

impl From<Whose> for Wanted {
    fn from(Whose { user, cursor, limit }: Whose) -> Self {
        Self { user: user.0, before: cursor.0, limit: limit.0 }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = PickupOrder)]
pub(super) struct OrderBody {
    order: String,
    user: String,
    /// `accepted`, `issued` or `returned`.
    state: String,
    storage_until: String,
    accepted_at: String,
    issued_at: Option<String>,
    returned_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PickupEvent)]
pub(super) struct EventBody {
    order: String,
    user: String,
    /// `accepted`, `issued`, `returned` or `returned_to_courier`.
    event: String,
    at: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PickupOrderWithHistory)]
pub(super) struct OrderWithHistory {
    /// Nothing if it went back to the courier.
    order: Option<OrderBody>,
    history: Vec<EventBody>,
}

/// Each order with its own outcome, in the order of the request.
#[derive(Serialize, ToSchema)]
#[schema(as = PickupOutcomes)]
pub(super) struct Outcomes {
    user: String,
    /// `{"ok": true}` and the order's fields, or `{"order", "ok": false, "code", "message": {"en", "ru"}}`.
    orders: Vec<serde_json::Value>,
}

/// Takes an order in from the courier.
///
/// Refusals: `order_exists`, `storage_deadline_past`.
#[utoipa::path(post, path = "/v1/pickup/accept", tag = "pickup", request_body = Accept,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = OrderBody), (status = 409), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn accept(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<Accept>,
) -> Result<Response, Problem> {
    let (pickup, by) = (&state.workloads.pickup, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| pickup.accept(ask, by, key)).await
}

/// Hands orders over to their client, each by itself.
///
/// Outcomes that are refusals: `order_unknown`, `order_foreign`, `order_not_available`, `storage_expired`;
/// `order_not_tried` where the database went away meanwhile.
#[utoipa::path(post, path = "/v1/pickup/issue", tag = "pickup", request_body = Several,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = Outcomes), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn issue(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<Several>,
) -> Result<Response, Problem> {
    check(&ask)?;
    let (pickup, by) = (&state.workloads.pickup, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| pickup.issue(ask, by, key)).await
}

/// Takes orders back from their client, each by itself, 48 hours after they were issued at the latest.
///
/// Outcomes that are refusals: `order_unknown`, `order_foreign`, `order_not_issued`, `order_already_returned`,
/// `return_too_late`; `order_not_tried` where the database went away meanwhile.
#[utoipa::path(post, path = "/v1/pickup/take-back", tag = "pickup", request_body = Several,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = Outcomes), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn take_back(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<Several>,
) -> Result<Response, Problem> {
    check(&ask)?;
    let (pickup, by) = (&state.workloads.pickup, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| pickup.take_back(ask, by, key)).await
}

/// Gives an order that came back to the courier, two weeks after that at the earliest. Its history stays.
///
/// Refusals: `order_unknown`, `order_not_returned`, `courier_too_early`.
#[utoipa::path(post, path = "/v1/pickup/return-to-courier", tag = "pickup", request_body = ToCourier,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200), (status = 404), (status = 409), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn return_to_courier(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<ToCourier>,
) -> Result<Response, Problem> {
    let (pickup, by) = (&state.workloads.pickup, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| pickup.return_to_courier(ask, by, key)).await
}

/// A user's orders that are here, the newest first.
#[utoipa::path(get, path = "/v1/pickup/orders", tag = "pickup", params(Whose),
    responses((status = 200, body = Page<OrderBody>), (status = 422)), security(("bearer" = ["read"])))]
pub(super) async fn orders(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(whose): Query<Whose>,
) -> Result<Response, Problem> {
    Ok(page(state.workloads.pickup.orders(&whose.into()).await?))
}

/// What happened to a user's orders, the newest first; also to those that are gone.
#[utoipa::path(get, path = "/v1/pickup/history", tag = "pickup", params(Whose),
    responses((status = 200, body = Page<EventBody>), (status = 422)), security(("bearer" = ["read"])))]
pub(super) async fn history(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(whose): Query<Whose>,
) -> Result<Response, Problem> {
    Ok(page(state.workloads.pickup.history(&whose.into()).await?))
}

/// An order with its history, which is still there when the order is gone.
#[utoipa::path(get, path = "/v1/pickup/orders/{order}", tag = "pickup", params(("order" = String, Path)),
    responses((status = 200, body = OrderWithHistory), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(order): Path<String>,
) -> Result<Response, Problem> {
    let order = Name::parse(&order).ok_or_else(|| Problem::from(ORDER_UNKNOWN))?;
    let view = state.workloads.pickup.order(&order.0).await?.ok_or_else(|| Problem::from(ORDER_UNKNOWN))?;
    let body = json!({"order": view.order.as_ref().map(Order::to_json), "history": view.history});
    Ok(Answer::ok(body.to_string()).into_response())
}

fn check(ask: &Several) -> Result<(), Problem> {
    ask.check().map_err(|unfit| Problem::field(unfit.field, unfit.reason))
}

/// A page that is JSON already.
fn page(body: bytes::Bytes) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
