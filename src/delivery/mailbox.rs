//! The local mailbox: a table, so that delivering to it is one row in the transaction that marks the delivery.

use serde_json::Value;

use super::dispatch::{Sent, target};
use super::message::Message;
use crate::clock::Millis;
use crate::config;
use crate::flight::{DeliveryLease, Verdict};
use crate::store::{Error, Store, query};

/// Puts a delivery into its subscriber's mailbox.
pub fn put(lease: &DeliveryLease, videos: &config::Videos) -> Sent {
    let message = Message::of(lease, videos);
    let chat: Option<String> = Some(target(lease, "chat")).filter(|chat| !chat.is_empty());
    let row = query(
        "-- mailbox.put
        insert into mailbox (id, owner, chat, kind, text, file, flight_id, generation, created_at_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8, {now})
        on conflict (id) do nothing",
    )
    .bind(lease.id.as_str())
    .bind(lease.subscriber.as_str())
    .bind(chat)
    .bind(message.kind())
    .bind(message.text)
    .bind(message.file)
    .bind(lease.flight.as_str())
    .bind(lease.generation);
    (Verdict::Delivered { receipt: "mailbox".into() }, vec![row])
}

/// Something in a mailbox.
#[derive(Clone, Debug)]
pub struct Item {
    pub id: String,
    pub owner: String,
    pub chat: Option<String>,
    pub kind: String,
    pub text: String,
    /// The stored file's name.
    pub file: Option<String>,
    pub scope: String,
    pub key: String,
    pub created_at_ms: Millis,
}

/// A page of a user's mailbox, newest first, before the item `before` (empty: from the newest).
///
/// # Errors
/// The store's.
pub async fn list(store: &Store, user: &str, before: &str, limit: u32) -> Result<Vec<Item>, Error> {
    let found = store
        .fetch_all(
            query(
                "-- mailbox.list
                select m.id, m.owner, m.chat, m.kind, m.text, m.file, m.created_at_ms, f.scope, f.key
                from mailbox m join flights f on f.id = m.flight_id
                where m.owner = $1 and ($2 = '' or m.id < $2)
                order by m.id desc limit $3",
            )
            .bind(user)
            .bind(before)
            .bind(i64::from(limit)),
        )
        .await?;
    found
        .iter()
        .map(|row| {
            Ok(Item {
                id: row.get("id")?,
                owner: row.get("owner")?,
                chat: row.get("chat")?,
                kind: row.get("kind")?,
                text: row.get("text")?,
                file: row.get("file")?,
                scope: row.get("scope")?,
                key: row.get("key")?,
                created_at_ms: row.get("created_at_ms")?,
            })
        })
        .collect()
}

/// A JSON value as a text for people.
pub(super) fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
