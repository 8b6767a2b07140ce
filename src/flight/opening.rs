//! Opening flights for a batch of asks: their rows locked, the missing ones inserted, the next generation begun.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::RunState;
use super::accept::{Answer, Ask};
use crate::clock::Millis;
use crate::store::{Error, Row, Tx, query, rows};

/// What a flight's row, under our lock, says to an asker. Its scope and key are the ask's.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub id: String,
    pub queue: String,
    pub generation: i64,
    pub state: RunState,
    pub attempt: i64,
    pub priority: i64,
    pub next_at_ms: Millis,
    pub error: Option<String>,
    pub negative_until_ms: Option<Millis>,
    /// The last good result: JSON, generation, made at.
    pub result: Option<(String, i64, Millis)>,
    pub now_ms: Millis,
}

/// A flight's row under our lock.
pub(super) struct Locked {
    pub flight: Standing,
    /// This transaction inserted the row, with its first run open. The ask that did so has not been answered yet.
    pub is_new: bool,
}

/// The flights of a batch.
pub(super) struct Opened {
    /// For each ask the first one of the same key: a row is locked and written once.
    first: Vec<usize>,
    /// By first ask.
    locked: HashMap<usize, Locked>,
}

impl Opened {
    pub(super) fn get_mut(&mut self, ask: usize) -> Result<&mut Locked, Error> {
        self.locked
            .get_mut(&self.first[ask])
            .ok_or_else(|| Error::Setup("a flight vanished while it was locked".into()))
    }
}

#[derive(Serialize)]
struct KeyRow<'a> {
    place: usize,
    scope: &'a str,
    key: &'a str,
}

/// Locks the flight of every ask that is not answered yet, in the order of the ids, and inserts those that are missing,
/// with their first run.
pub(super) async fn lock_flights(
    tx: &mut Tx,
    asks: &[Ask],
    fresh_ids: &[String],
    answers: &[Option<Answer>],
) -> Result<Opened, Error> {
    let mut by_key: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut opened = Opened { first: (0..asks.len()).collect(), locked: HashMap::new() };
    for (index, ask) in asks.iter().enumerate().filter(|(index, _)| answers[*index].is_none()) {
        opened.first[index] = *by_key.entry((&ask.scope, &ask.key)).or_insert(index);
    }
    let wanted: Vec<usize> = by_key.into_values().collect();
    lock_existing(tx, asks, &wanted, &mut opened).await?;
    let missing: Vec<usize> = wanted.into_iter().filter(|index| !opened.locked.contains_key(index)).collect();
    if missing.is_empty() {
        return Ok(opened);
    }
    let new_rows: Vec<_> = missing.iter().map(|&index| NewFlight::of(&asks[index], &fresh_ids[index])).collect();
    let inserted = tx
        .fetch_all(
            query(
                "-- flight.accept.insert
                insert into flights (id, scope, key, queue, generation, state, name, data, priority, attempt, max_attempts,
                  backoff, next_at_ms, cancel_when_abandoned, dirty, created_at_ms, touched_at_ms)
                select r.id, r.scope, r.key, r.queue, 1, 'pending', r.name, r.data, r.priority, 0, r.max_attempts,
                  r.backoff, {now} + r.delay_ms, r.cancel_when_abandoned = 1, false, {now}, {now}
                from {rows $1: id text, scope text, key text, queue text, name text, data text, priority bigint,
                  max_attempts bigint, backoff text, delay_ms bigint, cancel_when_abandoned bigint} r
                where true
                order by r.scope, r.key
                on conflict (scope, key) do nothing
                returning id, next_at_ms, created_at_ms",
            )
            .bind(rows(&new_rows)),
        )
        .await?;
    let place_of: HashMap<&str, usize> = missing.iter().map(|&index| (fresh_ids[index].as_str(), index)).collect();
    for row in inserted {
        let id: String = row.get("id")?;
        let place = place_of[id.as_str()];
        let run = &asks[place].run;
        let flight = Standing {
            id,
            queue: run.queue.clone(),
            generation: 1,
            state: RunState::Pending,
            attempt: 0,
            priority: run.priority,
            next_at_ms: row.get("next_at_ms")?,
            error: None,
            negative_until_ms: None,
            result: None,
            now_ms: row.get("created_at_ms")?,
        };
        opened.locked.insert(place, Locked { flight, is_new: true });
    }
    // Keys that another server inserted at the same time: they exist now.
    let raced: Vec<usize> = missing.into_iter().filter(|index| !opened.locked.contains_key(index)).collect();
    lock_existing(tx, asks, &raced, &mut opened).await?;
    Ok(opened)
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

/// Locks the rows for the keys of the asks at `places`.
async fn lock_existing(tx: &mut Tx, asks: &[Ask], places: &[usize], opened: &mut Opened) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> =
        places.iter().map(|&place| KeyRow { place, scope: &asks[place].scope, key: &asks[place].key }).collect();
    let found = tx
        .fetch_all(
            query(
                "-- flight.accept.lock
                select r.place, f.id, f.queue, f.generation, f.state, f.attempt, f.priority, f.next_at_ms, f.error,
                  f.negative_until_ms, f.result, f.result_generation, f.made_at_ms, {now} as now_ms
                from {rows $1: place bigint, scope text, key text} r
                join flights f on f.scope = r.scope and f.key = r.key
                order by f.id
                {for update}",
            )
            .bind(rows(&keys)),
        )
        .await?;
    for row in found {
        let place = row.get::<i64>("place")?;
        let place = usize::try_from(place).expect("a place in the batch");
        opened.locked.insert(place, Locked { flight: Standing::read(&row)?, is_new: false });
    }
    Ok(())
}

impl Standing {
    fn read(row: &Row) -> Result<Self, Error> {
        let result: Option<String> = row.get("result")?;
        let result = match (result, row.get("result_generation")?, row.get("made_at_ms")?) {
            (Some(result), Some(generation), Some(made_at_ms)) => Some((result, generation, made_at_ms)),
            _ => None,
        };
        Ok(Self {
            id: row.get("id")?,
            queue: row.get("queue")?,
            generation: row.get("generation")?,
            state: RunState::parse(&row.get::<String>("state")?)?,
            attempt: row.get("attempt")?,
            priority: row.get("priority")?,
            next_at_ms: row.get("next_at_ms")?,
            error: row.get("error")?,
            negative_until_ms: row.get("negative_until_ms")?,
            result,
            now_ms: row.get("now_ms")?,
        })
    }

    /// The last good result, if it may still be served: JSON and generation.
    pub(super) fn fresh(&self, max_age_ms: Option<i64>) -> Option<(&str, i64)> {
        let (result, generation, made_at_ms) = self.result.as_ref()?;
        let is_fresh = max_age_ms.is_none_or(|max| self.now_ms - made_at_ms <= max);
        is_fresh.then_some((result.as_str(), *generation))
    }
}

#[derive(Serialize)]
struct Restart<'a> {
    generation: i64,
    #[serde(flatten)]
    run: NewFlight<'a>,
}

/// Opens the next generation of flights that have neither a fresh result nor an open run: (id, generation, ask).
pub(super) async fn restart(tx: &mut Tx, asks: &[Ask], restarted: &[(String, i64, usize)]) -> Result<(), Error> {
    if restarted.is_empty() {
        return Ok(());
    }
    let runs: Vec<_> = restarted
        .iter()
        .map(|(id, generation, ask)| Restart { generation: *generation, run: NewFlight::of(&asks[*ask], id) })
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
