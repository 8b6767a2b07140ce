//! Looking at slots by their time, and at somebody's bookings.

use serde_json::{Value, json};

use super::{Booking, Slots};
use crate::clock::{Millis, rfc3339};
use crate::store::{Error, Row, query};

/// A slot as anybody sees it: whose a booking is, is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    pub id: String,
    pub starts_at_ms: Millis,
    pub title: String,
    pub is_booked: bool,
}

/// Where a page of slots begins: after this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub starts_at_ms: Millis,
    pub id: String,
}

/// Which slots.
#[derive(Clone, Debug)]
pub struct SlotFilter {
    /// Only those that can be booked now.
    pub is_free: bool,
    pub after: Place,
    pub limit: u32,
}

/// Whose bookings.
#[derive(Clone, Debug)]
pub struct BookingFilter {
    pub owner: String,
    /// The id of the last one of the page before, or nothing.
    pub before: String,
    pub limit: u32,
}

impl SlotView {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            starts_at_ms: row.get("starts_at_ms")?,
            title: row.get("title")?,
            is_booked: row.get::<Option<String>>("booking")?.is_some(),
        })
    }

    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "starts_at": rfc3339(self.starts_at_ms),
            "title": self.title,
            "booked": self.is_booked,
        })
    }

    pub fn place(&self) -> Place {
        Place { starts_at_ms: self.starts_at_ms, id: self.id.clone() }
    }
}

impl Slots {
    /// Slots by their time, the earliest first. Withdrawn ones are not shown.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn list(&self, filter: &SlotFilter) -> Result<Vec<SlotView>, Error> {
        let found = query(
            "-- slots.list
            select s.id, s.starts_at_ms, s.title, b.id as booking
            from slots s left join bookings b on b.slot_id = s.id and b.state = 'booked'
            where (s.starts_at_ms, s.id) > ($1, $2) and not s.withdrawn
              and (not $3 or (b.id is null and s.starts_at_ms > {now}))
            order by s.starts_at_ms, s.id limit $4",
        );
        let found = found
            .bind(filter.after.starts_at_ms)
            .bind(filter.after.id.as_str())
            .bind(filter.is_free)
            .bind(i64::from(filter.limit));
        self.store.fetch_all(found).await?.iter().map(SlotView::read).collect()
    }

    /// Somebody's bookings, the newest first.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn bookings(&self, filter: &BookingFilter) -> Result<Vec<Booking>, Error> {
        let found = query(
            "-- bookings.list
            select id, slot_id, owner, starts_at_ms, state, booked_at_ms, cancelled_at_ms from bookings
            where owner = $1 and ($2 = '' or id < $2) order by id desc limit $3",
        );
        let found = found.bind(filter.owner.as_str()).bind(filter.before.as_str()).bind(i64::from(filter.limit));
        self.store.fetch_all(found).await?.iter().map(Booking::read).collect()
    }
}
