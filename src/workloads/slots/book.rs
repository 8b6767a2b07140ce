//! Booking a slot, and giving one's own booking back.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    BOOKING_FOREIGN, BOOKING_UNKNOWN, Booking, NAME, SLOT_PAST, SLOT_TAKEN, SLOT_UNKNOWN, Slots, hold, standing,
};
use crate::id::{Name, new_id};
use crate::idempotency::{self, Answered, Key, Told};
use crate::store::{Error, Tx, query};
use crate::workloads::audit::{self, Line};

/// A wish for a slot, or to give it back.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SlotAsk)]
pub struct Ask {
    /// The slot's id, as it is listed.
    #[schema(value_type = crate::id::TextOrInteger)]
    pub slot: Name,
    /// Who asks: a text or an integer.
    #[schema(value_type = crate::id::TextOrInteger)]
    pub user: Name,
}

/// The ids that a change needs, made before its transaction, so that repeating it writes the same rows.
#[derive(Clone)]
struct Ids {
    booking: String,
    line: String,
}

impl Ids {
    fn new() -> Self {
        Self { booking: new_id(), line: new_id() }
    }
}

impl Slots {
    /// Books a slot. Whoever has it already is given their booking again.
    ///
    /// Refused with [`SLOT_TAKEN`], [`SLOT_UNKNOWN`] or [`SLOT_PAST`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn book(&self, ask: Ask, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (ids, by) = (Ids::new(), by.to_owned());
        idempotency::unit_of_work(&self.store, "slots.book", key, move |tx| {
            let (ask, ids, by) = (ask.clone(), ids.clone(), by.clone());
            Box::pin(async move { book(tx, &ask, &ids, &by).await })
        })
        .await
    }

    /// Gives a booking back, until its slot begins.
    ///
    /// Refused with [`BOOKING_FOREIGN`], [`BOOKING_UNKNOWN`], [`SLOT_UNKNOWN`] or [`SLOT_PAST`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cancel(&self, ask: Ask, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (ids, by) = (Ids::new(), by.to_owned());
        idempotency::unit_of_work(&self.store, "slots.cancel", key, move |tx| {
            let (ask, ids, by) = (ask.clone(), ids.clone(), by.clone());
            Box::pin(async move { cancel(tx, &ask, &ids, &by).await })
        })
        .await
    }
}

async fn book(tx: &mut Tx, ask: &Ask, ids: &Ids, by: &str) -> Result<Told, Error> {
    let Some(slot) = hold(tx, &ask.slot.0).await? else { return Ok(Err(SLOT_UNKNOWN)) };
    let stands = standing(tx, &slot).await?;
    match stands.booking {
        Some(booking) if booking.owner == ask.user.0 => return Ok(Ok(booking.to_json())),
        _ if slot.is_withdrawn => return Ok(Err(SLOT_UNKNOWN)),
        _ if slot.starts_at_ms <= stands.now_ms => return Ok(Err(SLOT_PAST)),
        Some(_) => return Ok(Err(SLOT_TAKEN)),
        None => {}
    }
    let booking = Booking {
        id: ids.booking.clone(),
        slot: slot.id.clone(),
        owner: ask.user.0.clone(),
        starts_at_ms: slot.starts_at_ms,
        state: "booked".into(),
        booked_at_ms: stands.now_ms,
        cancelled_at_ms: None,
    };
    tx.execute(
        query(
            "-- slot.book
            insert into bookings (id, slot_id, starts_at_ms, owner, state, booked_at_ms) values ($1, $2, $3, $4, 'booked', $5)",
        )
        .bind(booking.id.as_str())
        .bind(booking.slot.as_str())
        .bind(booking.starts_at_ms)
        .bind(booking.owner.as_str())
        .bind(booking.booked_at_ms),
    )
    .await?;
    audit::write(tx, line(ask, ids, by, "booked", Some(&booking.id))).await?;
    Ok(Ok(booking.to_json()))
}

async fn cancel(tx: &mut Tx, ask: &Ask, ids: &Ids, by: &str) -> Result<Told, Error> {
    let Some(slot) = hold(tx, &ask.slot.0).await? else { return Ok(Err(SLOT_UNKNOWN)) };
    let stands = standing(tx, &slot).await?;
    let Some(booking) = stands.booking else { return Ok(Err(BOOKING_UNKNOWN)) };
    if booking.owner != ask.user.0 {
        audit::write(tx, line(ask, ids, by, &BOOKING_FOREIGN.code, Some(&booking.id))).await?;
        return Ok(Err(BOOKING_FOREIGN));
    }
    if slot.starts_at_ms <= stands.now_ms {
        return Ok(Err(SLOT_PAST));
    }
    let booking = Booking { state: "cancelled".into(), cancelled_at_ms: Some(stands.now_ms), ..booking };
    tx.execute(
        query("-- slot.cancel\nupdate bookings set state = 'cancelled', cancelled_at_ms = $2 where id = $1")
            .bind(booking.id.as_str())
            .bind(stands.now_ms),
    )
    .await?;
    if slot.is_withdrawn {
        tx.execute(query("-- slot.drop\ndelete from slots where id = $1").bind(slot.id.as_str())).await?;
    }
    audit::write(tx, line(ask, ids, by, "cancelled", Some(&booking.id))).await?;
    Ok(Ok(booking.to_json()))
}

fn line<'a>(ask: &'a Ask, ids: &'a Ids, by: &'a str, event: &'a str, detail: Option<&'a str>) -> Line<'a> {
    Line { id: &ids.line, workload: NAME, subject: &ask.slot.0, actor: &ask.user.0, by, event, detail }
}
