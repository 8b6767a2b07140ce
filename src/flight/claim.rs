//! T3, claim: a worker takes a run. T4, renew: it keeps it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::{Flight, Flights, Outcome, RunState, flight_columns};
use crate::clock::{Millis, millis};
use crate::store::{Batch, Error, Store, Tx, query, rows};

/// A worker that wants to run a generation of a flight.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimAsk {
    pub flight: String,
    pub generation: i64,
    /// Fences the worker: made anew for each claim.
    pub token: String,
    pub lease_ms: i64,
}

/// A run in hand, until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub flight: String,
    pub scope: String,
    pub key: String,
    pub queue: String,
    pub generation: i64,
    pub token: String,
    pub name: String,
    /// JSON text.
    pub data: String,
    /// 1 on the first attempt.
    pub attempt: i64,
    pub max_attempts: i64,
}

/// What SQL says to a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    Claimed(Box<Claimed>),
    /// The generation has ended (or a later one has begun): settle the job so.
    Over(Outcome),
    /// Not due, or under somebody's live lease, for this long.
    In(Duration),
    /// The attempts are used up, the last by a crash: rescue it, then look again.
    Exhausted,
    /// No such flight or generation.
    Unknown,
}

/// A lease to renew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Held {
    pub id: String,
    pub token: String,
}

impl Flights {
    /// T3. PENDING and due, or RUNNING with its lease ended, becomes RUNNING under a new token.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when SQL is away: do not run; put the job back.
    pub async fn claim(&self, ask: ClaimAsk) -> Result<Claim, Error> {
        self.claims.run(ask).await
    }

    /// T4. Renews the leases of runs; those that it does not return are lost (taken, ended or cancelled).
    ///
    /// # Errors
    /// [`Error::Unreachable`] when SQL is away: the leases run on until their end.
    pub async fn renew_runs(&self, held: Vec<Held>, lease: Duration) -> Result<Vec<Held>, Error> {
        self.renew(
            held,
            lease,
            "-- flight.renew
            update flights set lease_until_ms = {now} + $2, touched_at_ms = {now}
            from {rows $1: id text, token text} r
            where flights.id = r.id and flights.run_token = r.token and flights.state = 'running'
              and flights.id in (select l.id from flights l where l.id in (select q.id from {rows $1: id text} q)
                order by l.id {for update})
            returning flights.id as id, flights.run_token as token",
        )
        .await
    }

    /// T4 for deliveries.
    ///
    /// # Errors
    /// As [`Flights::renew_runs`].
    pub async fn renew_deliveries(&self, held: Vec<Held>, lease: Duration) -> Result<Vec<Held>, Error> {
        self.renew(
            held,
            lease,
            "-- delivery.renew
            update deliveries set lease_until_ms = {now} + $2, touched_at_ms = {now}
            from {rows $1: id text, token text} r
            where deliveries.id = r.id and deliveries.lease_token = r.token and deliveries.state = 'leased'
              and deliveries.id in (select l.id from deliveries l where l.id in (select q.id from {rows $1: id text} q)
                order by l.id {for update})
            returning deliveries.id as id, deliveries.lease_token as token",
        )
        .await
    }

    async fn renew(&self, held: Vec<Held>, lease: Duration, sql: &'static str) -> Result<Vec<Held>, Error> {
        if held.is_empty() {
            return Ok(held);
        }
        let list = rows(&held);
        self.store
            .unit_of_work("lease.renew", move |tx| {
                let list = list.clone();
                Box::pin(async move {
                    let kept = tx.fetch_all(query(sql).bind(list).bind(millis(lease))).await?;
                    kept.iter().map(|row| Ok(Held { id: row.get("id")?, token: row.get("token")? })).collect()
                })
            })
            .await
    }
}

pub(super) fn batch(store: &Store) -> Batch<ClaimAsk, Claim> {
    store.batch("flight.claim", |tx, asks| Box::pin(async move { claim(tx, &asks).await }))
}

async fn claim(tx: &mut Tx, asks: &[ClaimAsk]) -> Result<Vec<Claim>, Error> {
    let mut flights = lock(tx, asks.iter().map(|ask| ask.flight.as_str())).await?;
    let mut claims = Vec::with_capacity(asks.len());
    let mut taken = Vec::new();
    for ask in asks {
        let claim = match flights.get_mut(&ask.flight) {
            None => Claim::Unknown,
            Some(flight) if ask.generation > flight.generation => Claim::Unknown,
            Some(flight) if ask.generation < flight.generation || !flight.state.is_open() => {
                match outcome(tx, &ask.flight, ask.generation).await? {
                    Some(outcome) => Claim::Over(outcome),
                    None => Claim::Unknown,
                }
            }
            // Our own token: the first try of this transaction committed, and its answer was lost.
            Some(flight) if flight.run_token.as_deref() == Some(&ask.token) => claimed(flight, ask),
            Some(flight) if flight.state == RunState::Pending && flight.next_at_ms > flight.now_ms => {
                Claim::In(left(flight.next_at_ms, flight.now_ms))
            }
            Some(flight) if flight.state == RunState::Running && !flight.is_lease_over() => {
                Claim::In(left(flight.lease_until_ms.unwrap_or(flight.now_ms), flight.now_ms))
            }
            Some(flight) if flight.attempt >= flight.max_attempts => Claim::Exhausted,
            Some(flight) => {
                flight.state = RunState::Running;
                flight.attempt += 1;
                flight.lease_until_ms = Some(flight.now_ms + ask.lease_ms);
                flight.run_token = Some(ask.token.clone());
                taken.push(ask);
                claimed(flight, ask)
            }
        };
        claims.push(claim);
    }
    if !taken.is_empty() {
        tx.execute(
            query(
                "-- flight.claim.take
                update flights set state = 'running', attempt = attempt + 1, run_token = r.token,
                  lease_until_ms = {now} + r.lease_ms, started_at_ms = {now}, touched_at_ms = {now}
                from {rows $1: flight text, token text, lease_ms bigint} r
                where flights.id = r.flight",
            )
            .bind(rows(&taken)),
        )
        .await?;
    }
    Ok(claims)
}

fn claimed(flight: &Flight, ask: &ClaimAsk) -> Claim {
    Claim::Claimed(Box::new(Claimed {
        flight: flight.id.clone(),
        scope: flight.scope.clone(),
        key: flight.key.clone(),
        queue: flight.queue.clone(),
        generation: flight.generation,
        token: ask.token.clone(),
        name: flight.name.clone(),
        data: flight.data.clone(),
        attempt: flight.attempt,
        max_attempts: flight.max_attempts,
    }))
}

/// How long it is until then: never an absolute time, which a server with another clock would read wrongly.
pub(super) fn left(until_ms: Millis, now_ms: Millis) -> Duration {
    Duration::from_millis(u64::try_from(until_ms - now_ms).unwrap_or(0))
}

/// Locks flights in the order of their ids.
pub(super) async fn lock<'a>(
    tx: &mut Tx,
    ids: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Flight>, Error> {
    let ids: Vec<_> = ids.map(|id| serde_json::json!({"id": id})).collect();
    let found = tx
        .fetch_all(
            query(concat!(
                "-- flight.lock\nselect ",
                flight_columns!(),
                " from flights f where f.id in (select r.id from {rows $1: id text} r) order by f.id {for update}"
            ))
            .bind(rows(&ids)),
        )
        .await?;
    found.iter().map(|row| Flight::read(row).map(|flight| (flight.id.clone(), flight))).collect()
}

/// How a generation ended, if it has.
async fn outcome(tx: &mut Tx, flight: &str, generation: i64) -> Result<Option<Outcome>, Error> {
    let row = tx
        .fetch_optional(
            query("-- flight.outcome\nselect state, result, error from runs where flight_id = $1 and generation = $2")
                .bind(flight)
                .bind(generation),
        )
        .await?;
    row.map(|row| Outcome::read(&row)).transpose()
}

impl Outcome {
    pub(super) fn read(row: &crate::store::Row) -> Result<Self, Error> {
        let error = || row.get::<Option<String>>("error").map(Option::unwrap_or_default);
        Ok(match row.get::<String>("state")?.as_str() {
            "succeeded" => Self::Succeeded(row.get::<Option<String>>("result")?.unwrap_or_else(|| "null".into())),
            "cancelled" => Self::Cancelled(error()?),
            _ => Self::Failed(error()?),
        })
    }
}
