//! The local mailbox: what users without a chat were given, for them to fetch.

use crate::clock::Millis;
use crate::store::{Error, Store, query};

/// One thing in a mailbox.
#[derive(Clone, Debug)]
pub struct Item {
    pub id: String,
    pub owner: String,
    pub chat: Option<String>,
    /// "video", "message" or "result".
    pub kind: String,
    pub text: String,
    /// The name of a rendered file.
    pub file: Option<String>,
    pub scope: String,
    /// The dedupe key, a JSON array.
    pub key: String,
    pub created_at_ms: Millis,
}

/// The mailbox of `owner` before the id `before` (empty: from the newest), newest first.
///
/// # Errors
/// [`Error`] of the store.
pub async fn list(store: &Store, owner: &str, before: &str, limit: u32) -> Result<Vec<Item>, Error> {
    let found = store
        .fetch_all(
            query(
                "-- mailbox.list
                select m.id, m.owner, m.chat, m.kind, m.text, m.file, f.scope, f.key, m.created_at_ms
                from mailbox m join flights f on f.id = m.flight_id
                where m.owner = $1 and ($2 = '' or m.id < $2)
                order by m.id desc limit $3",
            )
            .bind(owner)
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
