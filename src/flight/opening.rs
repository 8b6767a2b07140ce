//! Opening flights for a batch of asks: their rows locked, the missing ones inserted, the next generation begun.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::accept::{Answer, Ask};
use super::{Flight, flight_columns};
use crate::store::{Error, Tx, query, rows};

/// A flight's row under our lock.
pub(super) struct Locked {
    pub flight: Flight,
    /// This transaction inserted the row, with its first run open. The ask that did so has not been answered yet.
    pub is_new: bool,
}

/// By scope and key.
pub(super) type FlightsByKey = HashMap<(String, String), Locked>;

/// Locks the flight of every ask, in the order of the ids, and inserts those that are missing with their first run.
pub(super) async fn lock_flights(
    tx: &mut Tx,
    asks: &[Ask],
    fresh_ids: &[String],
    answers: &[Option<Answer>],
) -> Result<FlightsByKey, Error> {
    let mut first_asks: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (index, ask) in asks.iter().enumerate() {
        if answers[index].is_none() {
            first_asks.entry((&ask.scope, &ask.key)).or_insert(index);
        }
    }
    let mut locked: FlightsByKey = HashMap::new();
    let keys: Vec<_> = first_asks.keys().map(|(scope, key)| serde_json::json!({"scope": scope, "key": key})).collect();
    lock_existing(tx, &keys, &mut locked).await?;
    let missing: Vec<usize> = first_asks
        .iter()
        .filter(|((scope, key), _)| !locked.contains_key(&((*scope).to_owned(), (*key).to_owned())))
        .map(|(_, index)| *index)
        .collect();
    if missing.is_empty() {
        return Ok(locked);
    }
    let new_rows: Vec<_> = missing.iter().map(|&index| NewFlight::of(&asks[index], &fresh_ids[index])).collect();
    let inserted = tx
        .fetch_all(
            query(concat!(
                "-- flight.accept.insert
                insert into flights as f (id, scope, key, queue, generation, state, name, data, priority, attempt, max_attempts,
                  backoff, next_at_ms, cancel_when_abandoned, dirty, created_at_ms, touched_at_ms)
                select r.id, r.scope, r.key, r.queue, 1, 'pending', r.name, r.data, r.priority, 0, r.max_attempts,
                  r.backoff, {now} + r.delay_ms, r.cancel_when_abandoned = 1, false, {now}, {now}
                from {rows $1: id text, scope text, key text, queue text, name text, data text, priority bigint,
                  max_attempts bigint, backoff text, delay_ms bigint, cancel_when_abandoned bigint} r
                where true
                order by r.scope, r.key
                on conflict (scope, key) do nothing
                returning ",
                "id, scope, key, queue, generation, state, name, data, attempt, max_attempts, backoff, priority,
                  run_token, lease_until_ms, next_at_ms, started_at_ms, error, negative_until_ms, cancel_when_abandoned,
                  result, result_generation, made_at_ms, {now} as now_ms"
            ))
            .bind(rows(&new_rows)),
        )
        .await?;
    for row in inserted {
        let flight = Flight::read(&row)?;
        locked.insert((flight.scope.clone(), flight.key.clone()), Locked { flight, is_new: true });
    }
    // Keys that another server inserted at the same time: they exist now.
    let raced: Vec<_> = missing
        .iter()
        .map(|&index| &asks[index])
        .filter(|ask| !locked.contains_key(&(ask.scope.clone(), ask.key.clone())))
        .map(|ask| serde_json::json!({"scope": ask.scope, "key": ask.key}))
        .collect();
    lock_existing(tx, &raced, &mut locked).await?;
    Ok(locked)
}

#[derive(Serialize)]
struct NewFlight<'a> {
    id: &'a str,
    scope: &'a str,
    key: &'a str,
    queue: &'a str,
    name: &'a str,
    data: &'a str,
    priority: i64,
    max_attempts: i64,
    backoff: &'a str,
    delay_ms: i64,
    cancel_when_abandoned: i64,
}

impl<'a> NewFlight<'a> {
    fn of(ask: &'a Ask, id: &'a str) -> Self {
        Self {
            id,
            scope: &ask.scope,
            key: &ask.key,
            queue: &ask.run.queue,
            name: &ask.run.name,
            data: &ask.run.data,
            priority: ask.run.priority,
            max_attempts: ask.run.max_attempts,
            backoff: &ask.run.backoff,
            delay_ms: ask.run.delay_ms,
            cancel_when_abandoned: i64::from(ask.run.cancel_when_abandoned),
        }
    }
}

async fn lock_existing(tx: &mut Tx, keys: &[serde_json::Value], locked: &mut FlightsByKey) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let found = tx
        .fetch_all(
            query(concat!(
                "-- flight.accept.lock\nselect ",
                flight_columns!(),
                " from flights f
                where (f.scope, f.key) in (select r.scope, r.key from {rows $1: scope text, key text} r)
                order by f.id
                {for update}"
            ))
            .bind(rows(keys)),
        )
        .await?;
    for row in found {
        let flight = Flight::read(&row)?;
        locked.insert((flight.scope.clone(), flight.key.clone()), Locked { flight, is_new: false });
    }
    Ok(())
}

/// Opens the next generation of flights that have neither a fresh result nor an open run.
pub(super) async fn restart(
    tx: &mut Tx,
    asks: &[Ask],
    flights: &FlightsByKey,
    restarted: &BTreeMap<String, usize>,
) -> Result<(), Error> {
    if restarted.is_empty() {
        return Ok(());
    }
    let runs: Vec<_> = restarted
        .iter()
        .map(|(id, &index)| {
            let ask = &asks[index];
            let generation = flights[&(ask.scope.clone(), ask.key.clone())].flight.generation;
            serde_json::json!({"generation": generation, "run": NewFlight::of(ask, id)})
        })
        .map(|mut row| {
            let mut run = row["run"].take();
            run["generation"] = row["generation"].take();
            run
        })
        .collect();
    tx.execute(
        query(
            "-- flight.accept.restart
            update flights set generation = r.generation, state = 'pending', queue = r.queue, name = r.name, data = r.data,
              priority = r.priority, attempt = 0, max_attempts = r.max_attempts, backoff = r.backoff, run_token = null,
              lease_until_ms = null, next_at_ms = {now} + r.delay_ms, started_at_ms = null, error = null,
              negative_until_ms = null, cancel_when_abandoned = (r.cancel_when_abandoned = 1), touched_at_ms = {now}
            from {rows $1: id text, generation bigint, queue text, name text, data text, priority bigint,
              max_attempts bigint, backoff text, delay_ms bigint, cancel_when_abandoned bigint} r
            where flights.id = r.id",
        )
        .bind(rows(&runs)),
    )
    .await
}
