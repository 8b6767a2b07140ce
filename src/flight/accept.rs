//! T1, accept: decides what an asker gets, and writes down that they asked.
//!
//! Redis has looked already; this is the answer that counts. Asks that arrive together are decided in one transaction:
//! merged by key (a row may appear once in an update), locked in the order of the ids as by all other verbs, and inserted in
//! the order of the keys (opposite orders deadlock).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::idempotency::{Idempotency, replays};
use super::opening::{Locked, Standing, lock_flights, restart};
use super::subscribe::{known_subscriptions, subscribe};
use super::{Channel, Flights, Outcome, RunState, Snapshot};
use crate::clock::Millis;
use crate::id;
use crate::idempotency::{self, StoredAnswer};
use crate::store::{Batch, Error, Store, Tx};

/// One wish for one result.
#[derive(Clone)]
pub struct Ask {
    pub scope: String,
    /// A JSON array of the key's parts.
    pub key: String,
    /// The run to start if there is neither a fresh result nor an open run.
    pub run: RunSpec,
    /// The result may be this old at most.
    pub max_age_ms: Option<i64>,
    /// Want a new run even if the result is fresh.
    pub refresh: bool,
    pub subscriptions: Vec<NewSubscription>,
    /// The subscriptions' ids were derived from a Node job: asking again finds them, even when they are closed.
    pub is_repeatable: bool,
    /// A remembered failure will not do: somebody wants another try.
    pub despite_failure: bool,
    pub idempotency: Option<Idempotency>,
}

/// How a run is to be made.
#[derive(Clone, Debug, Serialize)]
pub struct RunSpec {
    /// The work queue.
    pub queue: String,
    /// The job's name.
    pub name: String,
    /// The job's data, JSON text.
    pub data: String,
    pub priority: i64,
    pub delay_ms: i64,
    pub max_attempts: i64,
    /// A [`crate::retry::Backoff`] as JSON.
    pub backoff: String,
    pub cancel_when_abandoned: bool,
}

/// Somebody who wants to be given the result. The id is made by the caller, before.
#[derive(Clone, Debug, Serialize)]
pub struct NewSubscription {
    pub id: String,
    pub subscriber: String,
    pub channel: Channel,
    /// Where to, as JSON.
    pub target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A fresh result exists.
    Ready,
    /// Joined a run that was open.
    Subscribed,
    /// Started a run.
    Queued,
    /// A remembered failure.
    Failed,
}

/// What SQL decided.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub status: Status,
    pub flight: String,
    pub scope: String,
    pub key: String,
    pub queue: String,
    /// The generation that answers this ask.
    pub generation: i64,
    /// The flight's current one.
    pub current: i64,
    pub attempt: i64,
    pub run_state: RunState,
    /// The effective id of each subscription that was asked for: an open one of the same subscriber and target wins.
    /// Empty if nobody needs to be told (`ready` for an asker who only polls).
    pub requests: Vec<String>,
    /// How the generation ended, if it has.
    pub outcome: Option<Outcome>,
    /// The last good result, fresh or not: JSON, generation, made at.
    pub result: Option<(String, i64, Millis)>,
    pub next_at_ms: Millis,
    pub priority: i64,
    pub now_ms: Millis,
    /// Deliveries that this call made due.
    pub deliveries: Vec<String>,
}

impl Accepted {
    /// The flight, for telling Redis.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            flight: self.flight.clone(),
            scope: self.scope.clone(),
            key: self.key.clone(),
            queue: self.queue.clone(),
            generation: self.current,
            state: self.run_state,
            result: self.result.clone(),
            // Nothing was concluded here, so that nothing is to be noted as told.
            touched_at_ms: 0,
        }
    }
}

/// What became of an ask.
#[derive(Clone, Debug)]
pub enum Answer {
    Accepted(Box<Accepted>),
    /// The same key and body were answered before.
    Replayed(StoredAnswer),
    /// The same key came with another body.
    KeyReused,
}

impl Flights {
    /// T1. Acknowledge nothing before this has returned.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when SQL is away: nothing was accepted, as far as the asker may be told.
    pub async fn accept(&self, ask: Ask) -> Result<Answer, Error> {
        self.accepts.run(ask).await
    }

    /// T1 inside somebody else's unit of work: the wish is there if and only if that is committed. `fresh_id` is made
    /// before it begins. What is to be published the caller publishes after the commit; if it dies before, the reconciler
    /// does.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn accept_in(tx: &mut Tx, ask: &Ask, fresh_id: &str) -> Result<Answer, Error> {
        let answers = accept(tx, std::slice::from_ref(ask), &[fresh_id.to_owned()]).await?;
        Ok(answers.into_iter().next().expect("one ask has one answer"))
    }
}

pub(super) fn batch(store: &Store) -> Batch<Ask, Answer> {
    let owner = store.clone();
    Batch::new(store.ride("flight.accept"), move |asks| {
        let store = owner.clone();
        // Made before the transaction, so that its repetition makes no second row.
        let fresh_ids: Arc<Vec<String>> = Arc::new(asks.iter().map(|_| id::new_id()).collect());
        Box::pin(async move {
            let decide = || {
                let (asks, fresh_ids) = (asks.clone(), fresh_ids.clone());
                store.unit_of_work("flight.accept", move |tx| {
                    let (asks, fresh_ids) = (asks.clone(), fresh_ids.clone());
                    Box::pin(async move { accept(tx, &asks, &fresh_ids).await })
                })
            };
            match decide().await {
                // Another server stored this `Idempotency-Key` meanwhile: the second time, its answer is found.
                Err(Error::Constraint(_)) if asks.iter().any(|ask| ask.idempotency.is_some()) => decide().await,
                answers => answers,
            }
        })
    })
}

/// An ask's place in the decision.
pub(super) struct Decision {
    pub accepted: Accepted,
    /// Subscriptions to insert, as (index in the ask, generation).
    pub subscribe: bool,
    pub deliver: bool,
}

async fn accept(tx: &mut Tx, asks: &[Ask], fresh_ids: &[String]) -> Result<Vec<Answer>, Error> {
    let mut answers: Vec<Option<Answer>> = replays(tx, asks).await?;
    let known = known_subscriptions(tx, asks).await?;
    let mut flights = lock_flights(tx, asks, fresh_ids, &answers).await?;

    let mut decisions: Vec<(usize, Decision)> = Vec::with_capacity(asks.len());
    let mut restarted = Vec::new();
    for (index, ask) in asks.iter().enumerate() {
        if answers[index].is_some() {
            continue;
        }
        let locked = flights.get_mut(index)?;
        let earlier = ask.subscriptions.iter().find_map(|s| known.get(&s.id));
        let decision = match earlier {
            Some((generation, outcome)) if ask.is_repeatable => {
                again(ask, &locked.flight, *generation, outcome.clone())
            }
            _ => decide(ask, locked, index, &mut restarted),
        };
        decisions.push((index, decision));
    }

    restart(tx, asks, &restarted).await?;
    subscribe(tx, asks, &mut decisions).await?;

    let mut stored = Vec::new();
    for (index, decision) in decisions {
        if let Some(write) = &asks[index].idempotency {
            stored.push((write.key.clone(), (write.render)(&decision.accepted)));
        }
        answers[index] = Some(Answer::Accepted(Box::new(decision.accepted)));
    }
    idempotency::store_all(tx, &stored).await?;
    Ok(answers.into_iter().map(|a| a.expect("each ask was answered")).collect())
}

/// The decision itself: ready, subscribed or queued.
fn decide(ask: &Ask, locked: &mut Locked, index: usize, restarted: &mut Vec<(String, i64, usize)>) -> Decision {
    let flight = &mut locked.flight;
    let only_polls = ask.subscriptions.iter().all(|s| s.channel == Channel::Poll);
    if std::mem::take(&mut locked.is_new) {
        return Decision { accepted: accepted(ask, flight, Status::Queued), subscribe: true, deliver: false };
    }
    if let Some((result, generation)) = flight.fresh(ask.max_age_ms).filter(|_| !ask.refresh) {
        let mut accepted = accepted(ask, flight, Status::Ready);
        accepted.generation = generation;
        accepted.outcome = Some(Outcome::Succeeded(result.to_owned()));
        return Decision { accepted, subscribe: !only_polls, deliver: true };
    }
    if flight.state.is_open() {
        return Decision { accepted: accepted(ask, flight, Status::Subscribed), subscribe: true, deliver: false };
    }
    let is_remembered = flight.state == RunState::Failed && flight.negative_until_ms.is_some_and(|t| t > flight.now_ms);
    if is_remembered && !ask.refresh && !ask.despite_failure {
        let mut accepted = accepted(ask, flight, Status::Failed);
        accepted.outcome = Some(Outcome::Failed(flight.error.clone().unwrap_or_default()));
        return Decision { accepted, subscribe: !only_polls, deliver: true };
    }
    flight.generation += 1;
    flight.state = RunState::Pending;
    flight.attempt = 0;
    flight.queue.clone_from(&ask.run.queue);
    flight.priority = ask.run.priority;
    flight.next_at_ms = flight.now_ms + ask.run.delay_ms;
    restarted.push((flight.id.clone(), flight.generation, index));
    Decision { accepted: accepted(ask, flight, Status::Queued), subscribe: true, deliver: false }
}

/// A Node job that comes again, after a crash or by somebody's hand: what it was told before still holds.
fn again(ask: &Ask, flight: &Standing, generation: i64, outcome: Option<Outcome>) -> Decision {
    let status = match outcome {
        Some(Outcome::Succeeded(_)) => Status::Ready,
        Some(_) => Status::Failed,
        None => Status::Subscribed,
    };
    let mut accepted = accepted(ask, flight, status);
    accepted.generation = generation;
    accepted.outcome = outcome;
    accepted.requests = ask.subscriptions.iter().map(|s| s.id.clone()).collect();
    Decision { accepted, subscribe: false, deliver: false }
}

fn accepted(ask: &Ask, flight: &Standing, status: Status) -> Accepted {
    Accepted {
        status,
        flight: flight.id.clone(),
        scope: ask.scope.clone(),
        key: ask.key.clone(),
        queue: flight.queue.clone(),
        generation: flight.generation,
        current: flight.generation,
        attempt: flight.attempt,
        run_state: flight.state,
        requests: Vec::new(),
        outcome: None,
        result: flight.result.clone(),
        next_at_ms: flight.next_at_ms,
        priority: flight.priority,
        now_ms: flight.now_ms,
        deliveries: Vec::new(),
    }
}
