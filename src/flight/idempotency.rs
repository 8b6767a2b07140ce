//! `Idempotency-Key`: the answer to a write is stored in the write's own transaction, and replayed.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::accept::{Accepted, Answer, Ask};
use crate::store::{Error, Tx, query, rows};

/// The `Idempotency-Key` of a write.
#[derive(Clone)]
pub struct Idempotency {
    pub principal: String,
    pub key: String,
    /// A hash over method, path and body.
    pub fingerprint: String,
    /// Writes the answer down as it will be sent.
    pub render: Arc<dyn Fn(&Accepted) -> StoredAnswer + Send + Sync>,
}

/// An answer as it was sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    pub status: u16,
    pub body: String,
    pub location: Option<String>,
}

/// An answer to be stored.
#[derive(Serialize)]
pub(super) struct IdempotencyRow {
    pub principal: String,
    pub key: String,
    pub fingerprint: String,
    pub status: i64,
    pub body: String,
    pub location: Option<String>,
}

/// The answers that were given before, by `Idempotency-Key`.
pub(super) async fn replays(tx: &mut Tx, asks: &[Ask]) -> Result<Vec<Option<Answer>>, Error> {
    let mut answers: Vec<Option<Answer>> = asks.iter().map(|_| None).collect();
    let wanted: Vec<_> = asks
        .iter()
        .filter_map(|ask| ask.idempotency.as_ref())
        .map(|i| serde_json::json!({"principal": i.principal, "key": i.key}))
        .collect();
    if wanted.is_empty() {
        return Ok(answers);
    }
    let found = tx
        .fetch_all(
            query(
                "-- idempotency.find
                select i.principal, i.key, i.fingerprint, i.status, i.body, i.location
                from idempotency i
                join {rows $1: principal text, key text} r on r.principal = i.principal and r.key = i.key",
            )
            .bind(rows(&wanted)),
        )
        .await?;
    let mut before = HashMap::new();
    for row in found {
        let answer = StoredAnswer {
            status: u16::try_from(row.get::<i64>("status")?).unwrap_or(500),
            body: row.get("body")?,
            location: row.get("location")?,
        };
        before.insert(
            (row.get::<String>("principal")?, row.get::<String>("key")?),
            (row.get::<String>("fingerprint")?, answer),
        );
    }
    for (answer, ask) in answers.iter_mut().zip(asks) {
        let Some(idempotency) = &ask.idempotency else { continue };
        if let Some((fingerprint, stored)) = before.get(&(idempotency.principal.clone(), idempotency.key.clone())) {
            *answer = Some(if *fingerprint == idempotency.fingerprint {
                Answer::Replayed(stored.clone())
            } else {
                Answer::KeyReused
            });
        }
    }
    Ok(answers)
}

pub(super) async fn store_answers(tx: &mut Tx, stored: &[IdempotencyRow]) -> Result<(), Error> {
    if stored.is_empty() {
        return Ok(());
    }
    // A key that was stored meanwhile is a violation here: whoever runs this tries again, and finds that answer.
    tx.execute(
        query(
            "-- idempotency.store
            insert into idempotency (principal, key, fingerprint, status, body, location, created_at_ms)
            select r.principal, r.key, r.fingerprint, r.status, r.body, r.location, {now}
            from {rows $1: principal text, key text, fingerprint text, status bigint, body text, location text} r
            order by r.principal, r.key",
        )
        .bind(rows(stored)),
    )
    .await
}
