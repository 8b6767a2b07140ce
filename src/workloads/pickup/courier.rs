//! Giving an order that its client brought back to the courier: it is gone then, and its history stays.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    COURIER_AFTER, Changed, Event, ORDER_NOT_RETURNED, ORDER_UNKNOWN, Order, Pickup, RETURN_TOO_EARLY, hold, note,
    standing,
};
use crate::clock::{Millis, millis};
use crate::id::{Name, new_id};
use crate::idempotency::{Answered, Key, Told};
use crate::refusal::Refusal;
use crate::store::{Error, Tx, query};

/// An order that goes back.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PickupReturnToCourier)]
pub struct ToCourier {
    #[schema(value_type = crate::id::TextOrInteger)]
    pub order: Name,
}

impl Pickup {
    /// Gives an order to the courier, two weeks after its client brought it back at the earliest. Its id is free then.
    ///
    /// Refused with [`ORDER_UNKNOWN`], [`ORDER_NOT_RETURNED`] or [`RETURN_TOO_EARLY`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn return_to_courier(&self, ask: ToCourier, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (event, by) = (new_id(), by.to_owned());
        self.change("pickup.return_to_courier", key, move |tx, changed| {
            let (order, event, by) = (ask.order.0.clone(), event.clone(), by.clone());
            Box::pin(async move { return_to_courier(tx, &order, &by, &event, &changed).await })
        })
        .await
    }
}

async fn return_to_courier(tx: &mut Tx, order: &str, by: &str, event: &str, changed: &Changed) -> Result<Told, Error> {
    let held = hold(tx, order).await?;
    let (now_ms, was_done) = standing(tx, event).await?;
    if was_done {
        return Ok(Ok(gone(order)));
    }
    let Some(held) = held else { return Ok(Err(ORDER_UNKNOWN)) };
    if let Some(refusal) = not_to_return(&held, now_ms) {
        return Ok(Err(refusal));
    }
    tx.execute(query("-- pickup.drop\ndelete from pickup_orders where id = $1").bind(order)).await?;
    let line =
        Event { id: event, order: &held.id, owner: &held.owner, event: "returned_to_courier", at_ms: now_ms, by };
    note(tx, line, changed).await?;
    Ok(Ok(gone(order)))
}

fn gone(order: &str) -> serde_json::Value {
    serde_json::json!({"order": order, "state": "returned_to_courier"})
}

fn not_to_return(order: &Order, now_ms: Millis) -> Option<Refusal> {
    match order.returned_at_ms {
        Some(returned_at_ms) if order.state == "returned" => {
            (now_ms - returned_at_ms < millis(COURIER_AFTER)).then_some(RETURN_TOO_EARLY)
        }
        _ => Some(ORDER_NOT_RETURNED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_back_two_weeks_ago_goes_to_the_courier() {
        let order = |state: &str, returned_at_ms| Order {
            id: "1".into(),
            place: "p".into(),
            owner: "olga".into(),
            state: state.into(),
            storage_until_ms: 0,
            accepted_at_ms: 0,
            issued_at_ms: None,
            returned_at_ms,
        };
        let two_weeks = 14 * 86_400_000;
        assert_eq!(not_to_return(&order("returned", Some(7)), 7 + two_weeks), None);
        assert_eq!(not_to_return(&order("returned", Some(7)), 6 + two_weeks), Some(RETURN_TOO_EARLY));
        assert_eq!(not_to_return(&order("issued", None), two_weeks), Some(ORDER_NOT_RETURNED));
        assert_eq!(not_to_return(&order("accepted", None), two_weeks), Some(ORDER_NOT_RETURNED));
    }
}
