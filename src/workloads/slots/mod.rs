//! Interview slots: of any number of people who want one at the same moment, one gets it and each other is told so.
//!
//! Whoever decides about a slot holds its row (`select ... for update`), then looks at its bookings in a statement of its
//! own, which sees what the one before committed, then writes. The database's clock says what is past.
//!
//! ```text
//! SLOT     listed by an administrator, one list for all; a booked one that is not listed any more is withdrawn, not dropped
//! BOOKING  booked -cancel by its owner-> cancelled
//! ```

mod book;
mod list;
mod sync;
mod verbs;

use serde_json::{Value, json};

use crate::clock::{Millis, rfc3339};
use crate::refusal::{Kind, Refusal};
use crate::store::{Error, Row, Store, Tx, query};

pub use book::Ask;
pub use list::{BookingFilter, Place, SlotFilter, SlotView};
pub use sync::{Listed, Sync, Unfit};

/// The workload's name, in audit lines and as a queue.
pub const NAME: &str = "slots";

pub const SLOT_TAKEN: Refusal = Refusal::new(
    "slot_taken",
    Kind::Conflict,
    "Somebody else has just booked this time. Please choose another one.",
    "Это время уже занято. Пожалуйста, выберите другое.",
);
pub const SLOT_UNKNOWN: Refusal = Refusal::new(
    "slot_unknown",
    Kind::Unknown,
    "There is no such time any more. Please look at the list again.",
    "Такого времени больше нет. Пожалуйста, обновите список.",
);
pub const SLOT_PAST: Refusal = Refusal::new(
    "slot_past",
    Kind::Conflict,
    "This time has already begun or is over.",
    "Это время уже началось или прошло.",
);
pub const BOOKING_UNKNOWN: Refusal =
    Refusal::new("booking_unknown", Kind::Unknown, "There is no booking for this time.", "На это время нет записи.");
pub const BOOKING_FOREIGN: Refusal = Refusal::new(
    "booking_foreign",
    Kind::Foreign,
    "This booking belongs to somebody else.",
    "Эта запись принадлежит другому человеку.",
);

/// The slots. Cheap to clone.
#[derive(Clone)]
pub struct Slots {
    store: Store,
}

impl Slots {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

/// A booking as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    pub id: String,
    pub slot: String,
    pub owner: String,
    pub starts_at_ms: Millis,
    pub state: String,
    pub booked_at_ms: Millis,
    pub cancelled_at_ms: Option<Millis>,
}

impl Booking {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            slot: row.get("slot_id")?,
            owner: row.get("owner")?,
            starts_at_ms: row.get("starts_at_ms")?,
            state: row.get("state")?,
            booked_at_ms: row.get("booked_at_ms")?,
            cancelled_at_ms: row.get("cancelled_at_ms")?,
        })
    }

    /// As it is told over HTTP and in queues.
    pub fn to_json(&self) -> Value {
        json!({
            "booking": self.id,
            "slot": self.slot,
            "user": self.owner,
            "starts_at": rfc3339(self.starts_at_ms),
            "state": self.state,
            "booked_at": rfc3339(self.booked_at_ms),
            "cancelled_at": self.cancelled_at_ms.map(rfc3339),
        })
    }
}

/// A slot's row, held until the transaction ends.
struct Held {
    id: String,
    starts_at_ms: Millis,
    is_withdrawn: bool,
}

/// How a slot stands after its row was taken.
struct Standing {
    now_ms: Millis,
    booking: Option<Booking>,
}

async fn hold(tx: &mut Tx, slot: &str) -> Result<Option<Held>, Error> {
    let row = query("-- slot.hold\nselect id, starts_at_ms, withdrawn from slots where id = $1 {for update}");
    let row = tx.fetch_optional(row.bind(slot)).await?;
    row.map(|row| {
        Ok(Held { id: row.get("id")?, starts_at_ms: row.get("starts_at_ms")?, is_withdrawn: row.get("withdrawn")? })
    })
    .transpose()
}

/// A statement of its own after [`hold`], as the one that waited still sees what was there when it began; so is the time.
async fn standing(tx: &mut Tx, slot: &Held) -> Result<Standing, Error> {
    let row = query(
        "-- slot.standing
        select {now} as now_ms, b.id, b.slot_id, b.owner, b.starts_at_ms, b.state, b.booked_at_ms, b.cancelled_at_ms
        from (select 1 as one) o left join bookings b on b.slot_id = $1 and b.state = 'booked'",
    );
    let row = tx.fetch_optional(row.bind(slot.id.as_str())).await?;
    let row = row.ok_or_else(|| Error::Setup("one row was asked for, and none came".into()))?;
    let booking = row.get::<Option<String>>("id")?.map(|_| Booking::read(&row)).transpose()?;
    Ok(Standing { now_ms: row.get("now_ms")?, booking })
}
