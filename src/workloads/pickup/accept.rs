//! Accepting an order from the courier.

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Changed, DEADLINE_PAST, Event, ORDER_EXISTS, Order, Pickup, hold, note, standing};
use crate::id::{Name, new_id};
use crate::idempotency::{Answered, Key, Told};
use crate::store::{Error, Tx, query};

/// An order that the courier brings.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PickupAccept)]
pub struct Accept {
    /// The courier's id: a text or an integer.
    #[schema(value_type = crate::id::TextOrInteger)]
    pub order: Name,
    /// Whose it is.
    #[schema(value_type = crate::id::TextOrInteger)]
    pub user: Name,
    /// RFC 3339: until when it may be issued.
    #[schema(value_type = String)]
    pub storage_until: Timestamp,
}

impl Pickup {
    /// Takes an order in.
    ///
    /// Refused with [`ORDER_EXISTS`] or [`DEADLINE_PAST`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn accept(&self, ask: Accept, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (place, by) = (new_id(), by.to_owned());
        self.change("pickup.accept", key, move |tx, changed| {
            let (ask, place, by) = (ask.clone(), place.clone(), by.clone());
            Box::pin(async move { accept(tx, &ask, &place, &by, &changed).await })
        })
        .await
    }
}

async fn accept(tx: &mut Tx, ask: &Accept, place: &str, by: &str, changed: &Changed) -> Result<Told, Error> {
    let (now_ms, was_done) = standing(tx, place).await?;
    let storage_until_ms = ask.storage_until.as_millisecond();
    if storage_until_ms <= now_ms && !was_done {
        return Ok(Err(DEADLINE_PAST));
    }
    let order = Order {
        id: ask.order.0.clone(),
        place: place.to_owned(),
        owner: ask.user.0.clone(),
        state: "accepted".into(),
        storage_until_ms,
        accepted_at_ms: now_ms,
        issued_at_ms: None,
        returned_at_ms: None,
    };
    let inserted = query(
        "-- pickup.accept
        insert into pickup_orders (id, place, owner, state, storage_until_ms, accepted_at_ms)
        values ($1, $2, $3, 'accepted', $4, $5)
        on conflict (id) do nothing returning id",
    );
    let inserted =
        inserted.bind(order.id.as_str()).bind(place).bind(order.owner.as_str()).bind(storage_until_ms).bind(now_ms);
    if tx.fetch_optional(inserted).await?.is_none() {
        // Ours, from a commit that was not heard of?
        return Ok(match hold(tx, &order.id).await? {
            Some(there) if there.place == place => Ok(there.to_json()),
            _ => Err(ORDER_EXISTS),
        });
    }
    // The line of history has the place as its id: both are made once.
    let event = Event { id: place, order: &order.id, owner: &order.owner, event: "accepted", at_ms: now_ms, by };
    note(tx, event, changed).await?;
    Ok(Ok(order.to_json()))
}
