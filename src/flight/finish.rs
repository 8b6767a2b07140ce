//! T5, finish: a worker says how its attempt ended. T6, rescue: a lost worker's run is put back, or ended.
//!
//! The first statement locks the flights; the copy of subscriptions to deliveries is a later statement. In one statement
//! the copy would read the snapshot from before the lock was granted, and miss a subscriber who came meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::claim::{left, lock};
use super::{DueRun, Flight, Flights, Outcome, RunState, Snapshot};
use crate::clock::{Millis, millis};
use crate::retry::{self, Backoff};
use crate::store::{Batch, Error, Query, Store, Tx, query, rows};

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// JSON text.
    Succeeded(String),
    /// Another attempt follows if one is left.
    Failed(String),
    /// No other attempt.
    FailedForGood(String),
    /// Again after this long, without counting as an attempt.
    Later(Duration, String),
}

/// A worker's report.
#[derive(Clone)]
pub struct Finish {
    pub flight: String,
    pub token: String,
    pub ending: Ending,
    /// How long a failure for good is remembered.
    pub negative_ttl: Duration,
    /// Rows that the workload writes in the same transaction if the run succeeded.
    pub with: Vec<Query>,
}

/// What the report led to.
#[derive(Clone, Debug)]
pub enum Finished {
    /// The generation has ended; its deliveries are due.
    Over { flight: Box<Snapshot>, outcome: Outcome },
    /// Another attempt follows.
    Again(Box<DueRun>),
    /// The run is not this worker's any more: nothing was changed.
    Lost,
}

/// A row of `runs` to write, and the flight's new state.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Conclusion {
    pub id: String,
    pub generation: i64,
    pub state: &'static str,
    pub result: Option<String>,
    pub error: Option<String>,
    pub attempt: i64,
    pub next_at_ms: Millis,
    pub started_at_ms: Option<Millis>,
    pub negative_ms: i64,
    /// The time of the decision, by the database's clock.
    at_ms: Millis,
    /// What the row says as long as this is not written.
    #[serde(skip)]
    flight: Flight,
}

impl Conclusion {
    fn of(flight: &Flight, state: RunState) -> Self {
        Self {
            id: flight.id.clone(),
            generation: flight.generation,
            state: state.as_str(),
            result: None,
            error: None,
            attempt: flight.attempt,
            next_at_ms: flight.now_ms,
            started_at_ms: flight.started_at_ms,
            negative_ms: 0,
            at_ms: flight.now_ms,
            flight: flight.clone(),
        }
    }

    pub(super) fn cancelled(flight: &Flight, reason: &str) -> Self {
        Self { error: Some(reason.to_owned()), ..Self::of(flight, RunState::Cancelled) }
    }

    fn finished(&self) -> Finished {
        let error = || self.error.clone().unwrap_or_default();
        let outcome = match self.state {
            "succeeded" => Outcome::Succeeded(self.result.clone().unwrap_or_else(|| "null".into())),
            "failed" => Outcome::Failed(error()),
            "cancelled" => Outcome::Cancelled(error()),
            _ => {
                return Finished::Again(Box::new(DueRun {
                    flight: Snapshot { state: RunState::Pending, ..self.flight.snapshot() },
                    attempt: self.attempt,
                    name: self.flight.name.clone(),
                    data: self.flight.data.clone(),
                    priority: self.flight.priority,
                    due_in: left(self.next_at_ms, self.flight.now_ms),
                }));
            }
        };
        let mut flight = self.flight.snapshot();
        flight.state = RunState::parse(self.state).unwrap_or(flight.state);
        if let Outcome::Succeeded(result) = &outcome {
            flight.result = Some((result.clone(), self.generation, self.flight.now_ms));
        }
        Finished::Over { flight: Box::new(flight), outcome }
    }
}

impl Flights {
    /// T5. Only the token is asked for: a lease that ended but was taken by nobody may still finish.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when SQL is away: try again; the report is safe to repeat.
    pub async fn finish(&self, finish: Finish) -> Result<Finished, Error> {
        self.finishes.run(finish).await
    }

    /// T6. Runs whose lease has ended: put back with backoff, or failed (and fanned out) if no attempt is left.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn rescue(&self, most: u32) -> Result<Vec<Finished>, Error> {
        self.store
            .unit_of_work("flight.rescue", move |tx| {
                Box::pin(async move {
                    let silent = tx
                        .fetch_all(
                            query(
                                "-- flight.rescue.find
                                select id from flights
                                where state = 'running' and lease_until_ms <= {now}
                                order by id limit $1
                                {for update skip locked}",
                            )
                            .bind(i64::from(most)),
                        )
                        .await?;
                    let ids = silent.iter().map(|row| row.get::<String>("id")).collect::<Result<Vec<_>, _>>()?;
                    if ids.is_empty() {
                        return Ok(Vec::new());
                    }
                    let flights = lock(tx, ids.iter().map(String::as_str)).await?;
                    let reason = "the worker fell silent";
                    let mut conclusions: Vec<_> =
                        flights.values().map(|flight| retry_or_fail(flight, reason, Duration::ZERO)).collect();
                    conclusions.sort_by(|a, b| a.id.cmp(&b.id));
                    conclude(tx, &conclusions).await?;
                    Ok(conclusions.iter().map(Conclusion::finished).collect())
                })
            })
            .await
    }
}

pub(super) fn batch(store: &Store) -> Batch<Finish, Finished> {
    store.batch("flight.finish", |tx, reports| Box::pin(async move { finish(tx, &reports).await }))
}

async fn finish(tx: &mut Tx, reports: &[Finish]) -> Result<Vec<Finished>, Error> {
    let flights = lock(tx, reports.iter().map(|r| r.flight.as_str())).await?;
    let mut answers = Vec::with_capacity(reports.len());
    let mut conclusions: HashMap<&str, Conclusion> = HashMap::new();
    let mut with = Vec::new();
    for report in reports {
        let owned = flights
            .get(&report.flight)
            .filter(|flight| flight.state == RunState::Running && flight.run_token.as_ref() == Some(&report.token));
        let Some(flight) = owned else {
            answers.push(earlier_answer(tx, report, flights.get(&report.flight)).await?);
            continue;
        };
        // The same report, repeated while the first waited for this batch.
        if let Some(conclusion) = conclusions.get(report.flight.as_str()) {
            answers.push(conclusion.finished());
            continue;
        }
        let conclusion = match &report.ending {
            Ending::Succeeded(result) => {
                with.extend(report.with.iter().cloned());
                Conclusion { result: Some(result.clone()), ..Conclusion::of(flight, RunState::Succeeded) }
            }
            Ending::Failed(reason) => retry_or_fail(flight, reason, report.negative_ttl),
            Ending::FailedForGood(reason) => fail(flight, reason, report.negative_ttl),
            Ending::Later(delay, reason) => Conclusion {
                error: Some(reason.clone()),
                attempt: flight.attempt - 1,
                next_at_ms: flight.now_ms + millis(*delay),
                ..Conclusion::of(flight, RunState::Pending)
            },
        };
        answers.push(conclusion.finished());
        conclusions.insert(&report.flight, conclusion);
    }
    let mut conclusions: Vec<_> = conclusions.into_values().collect();
    conclusions.sort_by(|a, b| a.id.cmp(&b.id));
    conclude(tx, &conclusions).await?;
    for statement in with {
        tx.execute(statement).await?;
    }
    Ok(answers)
}

/// A report whose token is not in the row: lost, or the first try of this very transaction committed and said nothing.
async fn earlier_answer(tx: &mut Tx, report: &Finish, flight: Option<&Flight>) -> Result<Finished, Error> {
    let Some(flight) = flight else { return Ok(Finished::Lost) };
    let row = tx
        .fetch_optional(
            query(
                "-- flight.finish.earlier
                select state, result, error from runs where flight_id = $1 and token = $2",
            )
            .bind(report.flight.as_str())
            .bind(report.token.as_str()),
        )
        .await?;
    match row {
        Some(row) => Ok(Finished::Over { flight: Box::new(flight.snapshot()), outcome: Outcome::read(&row)? }),
        None => Ok(Finished::Lost),
    }
}

fn retry_or_fail(flight: &Flight, reason: &str, negative_ttl: Duration) -> Conclusion {
    if flight.attempt >= flight.max_attempts {
        return fail(flight, reason, negative_ttl);
    }
    let backoff: Backoff = serde_json::from_str(&flight.backoff).unwrap_or(Backoff::NONE);
    let attempt = u32::try_from(flight.attempt).unwrap_or(1);
    let delay = retry::delay(backoff, attempt, &mut rand::rng());
    Conclusion {
        error: Some(reason.to_owned()),
        next_at_ms: flight.now_ms + millis(delay),
        ..Conclusion::of(flight, RunState::Pending)
    }
}

fn fail(flight: &Flight, reason: &str, negative_ttl: Duration) -> Conclusion {
    Conclusion {
        error: Some(reason.to_owned()),
        negative_ms: millis(negative_ttl),
        ..Conclusion::of(flight, RunState::Failed)
    }
}

/// Writes conclusions about locked flights: their rows, the history, and a delivery for every open subscription of a
/// generation that has ended. The only place where a run ends.
pub(super) async fn conclude(tx: &mut Tx, conclusions: &[Conclusion]) -> Result<(), Error> {
    if conclusions.is_empty() {
        return Ok(());
    }
    let ended: Vec<_> = conclusions.iter().filter(|c| c.state != RunState::Pending.as_str()).collect();
    if !ended.is_empty() {
        let list = rows(&ended);
        // The token still stands in the flight's row: it goes into the history, for a report that is repeated.
        tx.execute(
            query(
                "-- flight.conclude.history
                insert into runs (flight_id, generation, state, result, error, attempts, token, started_at_ms, finished_at_ms)
                select r.id, r.generation, r.state, r.result, r.error, r.attempt, f.run_token, r.started_at_ms, {now}
                from {rows $1: id text, generation bigint, state text, result text, error text, attempt bigint,
                  started_at_ms bigint} r
                join flights f on f.id = r.id
                where true
                on conflict (flight_id, generation) do nothing",
            )
            .bind(list.clone()),
        )
        .await?;
        tx.execute(
            query(
                "-- flight.conclude.deliver
                insert into deliveries (id, flight_id, generation, channel, target, state, attempts, ambiguous, next_at_ms,
                  created_at_ms, touched_at_ms)
                select s.id, s.flight_id, s.generation, s.channel, s.target,
                  case when s.channel = 'poll' then 'delivered' else 'queued' end, 0, 0, {now}, {now}, {now}
                from subscriptions s
                join {rows $1: id text, generation bigint} r on r.id = s.flight_id and r.generation = s.generation
                -- An expression, so that Postgres goes by flight: left to itself it may read all that are open anywhere.
                where s.state || '' = 'open'
                on conflict (id) do nothing",
            )
            .bind(list.clone()),
        )
        .await?;
        tx.execute(
            query(
                "-- flight.conclude.close_polls
                update subscriptions set state = 'closed'
                where channel || '' = 'poll' and state || '' = 'open' and (flight_id, generation) in
                  (select r.id, r.generation from {rows $1: id text, generation bigint} r)",
            )
            .bind(list),
        )
        .await?;
    }
    tx.execute(
        query(
            "-- flight.conclude
            update flights set state = r.state, error = r.error, attempt = r.attempt, run_token = null,
              lease_until_ms = null, next_at_ms = r.next_at_ms, dirty = (r.state <> 'pending'),
              negative_until_ms = case when r.negative_ms > 0 then {now} + r.negative_ms end,
              result = case when r.state = 'succeeded' then r.result else flights.result end,
              result_generation = case when r.state = 'succeeded' then r.generation else flights.result_generation end,
              made_at_ms = case when r.state = 'succeeded' then r.at_ms else flights.made_at_ms end,
              touched_at_ms = r.at_ms
            from {rows $1: id text, generation bigint, state text, result text, error text, attempt bigint,
              next_at_ms bigint, negative_ms bigint, at_ms bigint} r
            where flights.id = r.id",
        )
        .bind(rows(conclusions)),
    )
    .await
}
