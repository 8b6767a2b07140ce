//! What others than the worker know of a saga: a person who has looked, or the other side that tells by itself.

use std::sync::Arc;

use serde_json::json;

use super::decide::Next;
use super::settle::{tell, write};
use super::{Saga, Sagas, note};
use crate::idempotency::{self, Answered, Key, Told};
use crate::refusal::{Kind, Refusal};
use crate::store::{Error, Tx, query};

/// What a person found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Done,
    NotDone,
}

/// A person's word about a parked saga.
#[derive(Clone, Debug)]
pub struct Resolve {
    pub id: String,
    pub decision: Decision,
    pub reason: String,
    /// Who says so.
    pub actor: String,
}

pub const UNKNOWN: Refusal =
    Refusal::new("saga_unknown", Kind::Unknown, "There is no such external effect.", "Такого внешнего действия нет.");
const NOT_PARKED: Refusal = Refusal::new(
    "saga_not_parked",
    Kind::Conflict,
    "The effect does not wait for a decision.",
    "Это действие не ждёт решения.",
);
const FOREIGN: Refusal = Refusal::new(
    "saga_foreign",
    Kind::Conflict,
    "This server is not set up for the effect.",
    "Этот сервер не настроен для такого действия.",
);

impl Sagas {
    /// Ends a parked saga by a person's word: confirmed or compensated, with their reason in its history.
    ///
    /// # Errors
    /// [`Error`] of the store, or of the domain's own change.
    pub async fn resolve(&self, resolve: Resolve, key: Option<Key>) -> Result<Answered, Error> {
        let sagas = self.clone();
        idempotency::unit_of_work(&self.store, "saga.resolve", key, move |tx| {
            let (sagas, resolve) = (sagas.clone(), resolve.clone());
            Box::pin(async move { sagas.resolve_in(tx, &resolve).await })
        })
        .await
    }

    async fn resolve_in(&self, tx: &mut Tx, resolve: &Resolve) -> Result<Told, Error> {
        let lock = "-- saga.resolve.lock
            select id, name, subject, input, calls, asks, state from sagas where id = $1 {for update}";
        let Some(row) = tx.fetch_optional(query(lock).bind(resolve.id.as_str())).await? else {
            return Ok(Err(UNKNOWN));
        };
        let saga = Saga::read(&row)?;
        if row.get::<String>("state")? != "parked" {
            return Ok(Err(NOT_PARKED));
        }
        let Some(effect) = self.effects.get(saga.name.as_str()).map(Arc::clone) else { return Ok(Err(FOREIGN)) };
        let (next, state) = match resolve.decision {
            Decision::Done => (Next::Confirm { receipt: format!("by {}", resolve.actor) }, "confirmed"),
            Decision::NotDone => (Next::Compensate { reason: resolve.reason.clone() }, "compensated"),
        };
        note(tx, &saga.id, &resolve.actor, "resolved", Some(resolve.reason.clone())).await?;
        write(tx, &saga, &*effect, &next, &resolve.actor).await?;
        tell(&saga, &next);
        Ok(Ok(json!({"id": saga.id, "name": saga.name, "subject": saga.subject, "state": state})))
    }

    /// Ends an open saga whose effect the other side has reported by itself. The caller changes the domain, and has locked
    /// nothing yet but perhaps this saga. A worker that has it in hand loses it. False: it had ended.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn performed(tx: &mut Tx, id: &str, receipt: &str) -> Result<bool, Error> {
        let end = "-- saga.performed
            update sagas set state = 'confirmed', receipt = $2, lease_token = null, lease_until_ms = null,
              touched_at_ms = {now}
            where id = $1 and state not in ('confirmed', 'compensated') returning id";
        let ended = tx.fetch_optional(query(end).bind(id).bind(receipt)).await?.is_some();
        if ended {
            note(tx, id, "provider", "confirmed", Some(receipt.to_owned())).await?;
        }
        Ok(ended)
    }
}
