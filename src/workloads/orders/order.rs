//! An order's row: read under a lock, moved from state to state, and the line of the audit that belongs to each move.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{Millis, rfc3339};
use crate::id::is_id;
use crate::store::{Error, Row, Tx, query};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    AwaitingPayment,
    Paid,
    Fulfilled,
    Cancelled,
    Expired,
    Refunded,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::AwaitingPayment, Self::Paid, Self::Fulfilled, Self::Cancelled, Self::Expired, Self::Refunded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingPayment => "awaiting_payment",
            Self::Paid => "paid",
            Self::Fulfilled => "fulfilled",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An order as stored.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub id: String,
    pub user: String,
    pub chat: Option<String>,
    pub name: String,
    pub gender: String,
    pub template: String,
    pub amount: i64,
    pub currency: String,
    pub state: State,
    pub request: Option<String>,
    pub expires_at_ms: Millis,
    pub created_at_ms: Millis,
    pub updated_at_ms: Millis,
    /// By the database's clock.
    pub now_ms: Millis,
}

/// The columns of [`Order`].
macro_rules! order_columns {
    () => {
        "o.id, o.user_id, o.chat, o.name, o.gender, o.template, o.amount, o.currency, o.state, o.request_id, \
         o.expires_at_ms, o.created_at_ms, o.touched_at_ms, {now} as now_ms"
    };
}
pub(super) use order_columns;

impl Order {
    pub fn read(row: &Row) -> Result<Self, Error> {
        let state: String = row.get("state")?;
        Ok(Self {
            id: row.get("id")?,
            user: row.get("user_id")?,
            chat: row.get("chat")?,
            name: row.get("name")?,
            gender: row.get("gender")?,
            template: row.get("template")?,
            amount: row.get("amount")?,
            currency: row.get("currency")?,
            state: State::parse(&state).ok_or_else(|| Error::Setup(format!("an order is \"{state}\"")))?,
            request: row.get("request_id")?,
            expires_at_ms: row.get("expires_at_ms")?,
            created_at_ms: row.get("created_at_ms")?,
            updated_at_ms: row.get("touched_at_ms")?,
            now_ms: row.get("now_ms")?,
        })
    }

    /// Locks an order's row for the rest of the unit of work.
    pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Self>, Error> {
        if !is_id(id) {
            return Ok(None);
        }
        let lock = concat!("-- order.lock\nselect ", order_columns!(), " from orders o where o.id = $1 {for update}");
        tx.fetch_optional(query(lock).bind(id)).await?.map(|row| Self::read(&row)).transpose()
    }

    /// Moves a locked order on, and says so in the audit.
    pub async fn move_to(&mut self, tx: &mut Tx, state: State, event: Event<'_>) -> Result<(), Error> {
        let from = self.state;
        let update = "-- order.move
            update orders set state = $2, request_id = $3, touched_at_ms = {now} where id = $1";
        let update = query(update).bind(self.id.as_str()).bind(state.as_str()).bind(self.request.clone());
        tx.execute(update).await?;
        self.state = state;
        note(tx, &self.id, Some((from, state)), event).await
    }

    /// As callers are shown it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "user": self.user,
            "chat": self.chat,
            "name": self.name,
            "gender": self.gender,
            "template": self.template,
            "amount": self.amount,
            "currency": self.currency,
            "state": self.state,
            "request": self.request,
            "expires_at": rfc3339(self.expires_at_ms),
            "created_at": rfc3339(self.created_at_ms),
            "updated_at": rfc3339(self.updated_at_ms),
        })
    }
}

/// A line of the audit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Event<'a> {
    pub actor: &'a str,
    pub event: &'a str,
    pub reason: Option<&'a str>,
    pub transaction: Option<&'a str>,
}

/// Writes a line of the audit; `moved` from one state to another, or not.
pub(super) async fn note(
    tx: &mut Tx,
    order: &str,
    moved: Option<(State, State)>,
    event: Event<'_>,
) -> Result<(), Error> {
    let text = |text: Option<&str>| text.map(ToOwned::to_owned);
    let (from, to) = (moved.map(|(from, _)| from.as_str()), moved.map(|(_, to)| to.as_str()));
    tx.execute(
        query(
            "-- order.note
            insert into order_events (order_id, at_ms, actor, event, from_state, to_state, reason, transaction_id)
            values ($1, {now}, $2, $3, $4, $5, $6, $7)",
        )
        .bind(order)
        .bind(event.actor)
        .bind(event.event)
        .bind(text(from))
        .bind(text(to))
        .bind(text(event.reason))
        .bind(text(event.transaction)),
    )
    .await
}
