//! Interview slots: the list, booking, cancelling, and an administrator's new list.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Enqueue, Operate, Read};
use super::idempotency::{Answer, Asked, write};
use super::input::{Json, Query};
use super::page::{Cursor, Limit, Page, PlaceCursor};
use super::problem::Problem;
use super::submit::Name;
use super::view::to_json;
use crate::workloads::slots::{Ask, BookingFilter, Place, SlotFilter, SlotView, Sync};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those that can be booked now.
    #[serde(default)]
    free: bool,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: PlaceCursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The user whose bookings are wanted.
    #[param(value_type = crate::id::TextOrInteger)]
    user: Name,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// A slot. Whose its booking is, is not told here.
#[derive(Serialize, ToSchema)]
#[schema(as = Slot)]
pub(super) struct SlotBody {
    id: String,
    starts_at: String,
    title: String,
    booked: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Booking)]
pub(super) struct BookingBody {
    booking: String,
    slot: String,
    user: String,
    starts_at: String,
    /// `booked` or `cancelled`.
    state: String,
    booked_at: String,
    cancelled_at: Option<String>,
}

/// What a new list changed.
#[derive(Serialize, ToSchema)]
#[schema(as = SlotSync)]
pub(super) struct SyncBody {
    version: i64,
    added: usize,
    changed: usize,
    unchanged: usize,
    removed: usize,
    /// What was not done: `reason` is `past`, `booked` (and moved) or `booked_and_not_listed`.
    kept: Vec<KeptBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeptSlot)]
pub(super) struct KeptBody {
    slot: String,
    reason: String,
    /// Whose booking it is.
    user: Option<String>,
}

/// Slots by their time, the earliest first.
#[utoipa::path(get, path = "/v1/slots", tag = "slots", params(Filter),
    responses((status = 200, body = Page<SlotBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(Filter { free, cursor, limit }): Query<Filter>,
) -> Result<Response, Problem> {
    let after = cursor.0.map(|(starts_at_ms, id)| Place { starts_at_ms, id }).unwrap_or_default();
    // One more than is wanted, to know whether there is another page.
    let filter = SlotFilter { is_free: free, after, limit: limit.0 + 1 };
    let mut slots = state.workloads.slots.list(&filter).await?;
    let has_more = slots.len() > limit.0 as usize;
    slots.truncate(limit.0 as usize);
    let next = slots.last().filter(|_| has_more).map(SlotView::place);
    let next = next.map(|place| PlaceCursor(Some((place.starts_at_ms, place.id))).to_string());
    let items: Vec<Value> = slots.iter().map(SlotView::to_json).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// A user's bookings, the newest first.
#[utoipa::path(get, path = "/v1/bookings", tag = "slots", params(Whose),
    responses((status = 200, body = Page<BookingBody>), (status = 422)), security(("bearer" = ["read"])))]
pub(super) async fn bookings(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(Whose { user, cursor, limit }): Query<Whose>,
) -> Result<Response, Problem> {
    let filter = BookingFilter { owner: user.0, before: cursor.0, limit: limit.0 + 1 };
    let mut bookings = state.workloads.slots.bookings(&filter).await?;
    let has_more = bookings.len() > limit.0 as usize;
    bookings.truncate(limit.0 as usize);
    let next = bookings.last().filter(|_| has_more).map(|booking| booking.id.clone());
    let items: Vec<Value> = bookings.iter().map(|booking| booking.to_json()).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// Books a slot. Of many who ask at once one gets it, each other is told `slot_taken`.
///
/// Whoever has it already is given the booking again. Refusals: `slot_taken`, `slot_unknown`, `slot_past`.
#[utoipa::path(post, path = "/v1/slots/book", tag = "slots", request_body = Ask,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = BookingBody), (status = 404), (status = 409), (status = 422)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn book(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<Ask>,
) -> Result<Response, Problem> {
    let (slots, by) = (&state.workloads.slots, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| slots.book(ask, by, key)).await
}

/// Gives one's own booking back, until the slot begins.
///
/// Refusals: `booking_foreign`, `booking_unknown`, `slot_unknown`, `slot_past`.
#[utoipa::path(post, path = "/v1/slots/cancel", tag = "slots", request_body = Ask,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = BookingBody), (status = 403), (status = 404), (status = 409), (status = 422)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn cancel(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: ask, raw }: Json<Ask>,
) -> Result<Response, Problem> {
    let (slots, by) = (&state.workloads.slots, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| slots.cancel(ask, by, key)).await
}

/// Makes the list of slots so: adds, changes, and removes what is not listed. What is booked stays as it is, and is told.
#[utoipa::path(post, path = "/v1/slots/sync", tag = "slots", request_body = Sync,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = SyncBody), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn sync(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: list, raw }: Json<Sync>,
) -> Result<Response, Problem> {
    list.check().map_err(|unfit| Problem::field(unfit.field, unfit.reason))?;
    let (slots, by) = (&state.workloads.slots, &caller.principal.id);
    write(&state, &caller.principal, asked, &raw, |key| slots.sync(list, by, key)).await
}
