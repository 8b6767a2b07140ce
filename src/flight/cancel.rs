//! Leaving and releasing: how an asker, or an operator, ends a wish before it is fulfilled.

use super::claim::lock;
use super::finish::{Conclusion, conclude};
use super::{Flights, Outcome};
use crate::store::{Error, Tx, query, rows};

/// What became of a request whose asker left.
#[derive(Clone, Debug, PartialEq)]
pub enum Left {
    /// `cancelled`: it was the last one, and the run was ended with it.
    Left {
        flight: String,
        generation: i64,
        cancelled: bool,
    },
    /// Its delivery has ended, or it had left before.
    Final,
    Unknown,
}

/// What a release found.
#[derive(Clone, Debug, PartialEq)]
pub enum Released {
    /// The open run that was cancelled, if there was one.
    Released {
        flight: String,
        cancelled: Option<i64>,
    },
    Unknown,
}

const ABANDONED: &str = "everyone who asked has left";

impl Flights {
    /// The asker of a request leaves. Its delivery, if it waits, is suppressed; the last one to leave ends the run where the
    /// queue says so.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn leave(&self, request: &str) -> Result<Left, Error> {
        let request = request.to_owned();
        self.store
            .unit_of_work("flight.leave", move |tx| {
                let request = request.clone();
                Box::pin(async move { leave(tx, &request).await })
            })
            .await
    }

    /// An operator frees a key: an open run is cancelled (and its subscribers are told), the result is forgotten.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn release(&self, scope: &str, key: &str, reason: &str) -> Result<Released, Error> {
        let (scope, key, reason) = (scope.to_owned(), key.to_owned(), reason.to_owned());
        self.store
            .unit_of_work("flight.release", move |tx| {
                let (scope, key, reason) = (scope.clone(), key.clone(), reason.clone());
                Box::pin(async move { release(tx, &scope, &key, &reason).await })
            })
            .await
    }
}

async fn leave(tx: &mut Tx, request: &str) -> Result<Left, Error> {
    let find = "-- flight.leave.find\nselect flight_id, generation, state from subscriptions where id = $1";
    let Some(row) = tx.fetch_optional(query(find).bind(request)).await? else { return Ok(Left::Unknown) };
    let (flight_id, generation): (String, i64) = (row.get("flight_id")?, row.get("generation")?);
    let flights = lock(tx, std::iter::once(flight_id.as_str())).await?;
    let Some(flight) = flights.get(&flight_id) else { return Ok(Left::Unknown) };
    // Under the flight's lock, as a run that ended meanwhile has made the delivery; locked itself, as a sender takes it
    // without the flight's. The subscription is read after it: its sender closes it.
    let delivery = "-- flight.leave.delivery\nselect state from deliveries where id = $1 {for update}";
    let delivery = tx.fetch_optional(query(delivery).bind(request)).await?;
    let delivery = delivery.map(|row| row.get::<String>("state")).transpose()?;
    let Some(row) = tx.fetch_optional(query(find).bind(request)).await? else { return Ok(Left::Unknown) };
    if row.get::<String>("state")? != "open" || delivery.as_deref().is_some_and(|state| state != "queued") {
        return Ok(Left::Final);
    }
    tx.execute(query("-- flight.leave.mark\nupdate subscriptions set state = 'left' where id = $1").bind(request))
        .await?;
    if delivery.is_some() {
        tx.execute(
            query(
                "-- flight.leave.suppress
                update deliveries set state = 'suppressed', error = 'the asker left', touched_at_ms = {now}
                where id = $1 and state = 'queued'",
            )
            .bind(request),
        )
        .await?;
    }
    let is_current = flight.state.is_open() && flight.generation == generation;
    let mut cancelled = false;
    if is_current && flight.cancel_when_abandoned {
        let left = tx
            .fetch_optional(
                query(
                    "-- flight.leave.others
                    select 1 as one from subscriptions where flight_id = $1 and generation = $2 and state = 'open' limit 1",
                )
                .bind(flight_id.as_str())
                .bind(generation),
            )
            .await?;
        if left.is_none() {
            conclude(tx, &[Conclusion::cancelled(flight, ABANDONED)]).await?;
            cancelled = true;
        }
    }
    Ok(Left::Left { flight: flight_id, generation, cancelled })
}

async fn release(tx: &mut Tx, scope: &str, key: &str, reason: &str) -> Result<Released, Error> {
    let row = tx
        .fetch_optional(
            query("-- flight.release.find\nselect id from flights where scope = $1 and key = $2").bind(scope).bind(key),
        )
        .await?;
    let Some(row) = row else { return Ok(Released::Unknown) };
    let id: String = row.get("id")?;
    let flights = lock(tx, std::iter::once(id.as_str())).await?;
    let Some(flight) = flights.get(&id) else { return Ok(Released::Unknown) };
    let cancelled = flight.state.is_open().then_some(flight.generation);
    if cancelled.is_some() {
        conclude(tx, &[Conclusion::cancelled(flight, reason)]).await?;
    }
    tx.execute(
        query(
            "-- flight.release.forget
            update flights set result = null, result_generation = null, made_at_ms = null, negative_until_ms = null,
              dirty = true,
              touched_at_ms = case when touched_at_ms < {now} then {now} else touched_at_ms + 1 end
            where id = $1",
        )
        .bind(id.as_str()),
    )
    .await?;
    // The workload's own record of the result goes with it.
    tx.execute(query("-- video.forget\ndelete from generated_videos where flight_id = $1").bind(id.as_str())).await?;
    Ok(Released::Released { flight: id, cancelled })
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }
}

/// Rows of ids, for statements that take a list of them.
pub(super) fn id_rows<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let list: Vec<_> = ids.map(|id| serde_json::json!({"id": id})).collect();
    rows(&list)
}
