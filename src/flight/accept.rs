//! T1, accept: decides what an asker gets, and writes down that they asked.
//!
//! Redis has looked already; this is the answer that counts. Asks that arrive together are decided in one transaction:
//! merged by key (a row may appear once in an update), locked in the order of the ids as by all other verbs, and inserted in
//! the order of the keys (opposite orders deadlock).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Channel, Flight, Flights, Outcome, RunState, Snapshot, flight_columns};
use crate::clock::Millis;
use crate::id;
use crate::store::{Batch, Error, Store, Tx, query, rows};

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
}

pub(super) fn batch(store: &Store) -> Batch<Ask, Answer> {
    let owner = store.clone();
    Batch::new(store, "flight.accept", move |asks| {
        let store = owner.clone();
        // Made before the transaction, so that its repetition makes no second row.
        let fresh_ids: Arc<Vec<String>> = Arc::new(asks.iter().map(|_| id::new_id()).collect());
        let asks = Arc::new(asks);
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
struct Decision {
    accepted: Accepted,
    /// Subscriptions to insert, as (index in the ask, generation).
    subscribe: bool,
    deliver: bool,
}

async fn accept(tx: &mut Tx, asks: &[Ask], fresh_ids: &[String]) -> Result<Vec<Answer>, Error> {
    let mut answers: Vec<Option<Answer>> = replays(tx, asks).await?;
    let known = known_subscriptions(tx, asks).await?;
    let mut flights = lock_flights(tx, asks, fresh_ids, &answers).await?;

    let mut decisions: Vec<(usize, Decision)> = Vec::with_capacity(asks.len());
    let mut restarted: BTreeMap<String, usize> = BTreeMap::new();
    for (index, ask) in asks.iter().enumerate() {
        if answers[index].is_some() {
            continue;
        }
        let locked = flights
            .get_mut(&(ask.scope.clone(), ask.key.clone()))
            .ok_or_else(|| Error::Setup("a flight vanished while it was locked".into()))?;
        let earlier = ask.subscriptions.iter().find_map(|s| known.get(&s.id));
        let decision = match earlier {
            Some((generation, outcome)) if ask.is_repeatable => {
                again(ask, &locked.flight, *generation, outcome.clone())
            }
            _ => decide(ask, locked, index, &mut restarted),
        };
        decisions.push((index, decision));
    }

    restart(tx, asks, &flights, &restarted).await?;
    subscribe(tx, asks, &mut decisions).await?;

    let mut stored = Vec::new();
    for (index, decision) in decisions {
        if let Some(idempotency) = &asks[index].idempotency {
            let answer = (idempotency.render)(&decision.accepted);
            stored.push(IdempotencyRow {
                principal: idempotency.principal.clone(),
                key: idempotency.key.clone(),
                fingerprint: idempotency.fingerprint.clone(),
                status: i64::from(answer.status),
                body: answer.body,
                location: answer.location,
            });
        }
        answers[index] = Some(Answer::Accepted(Box::new(decision.accepted)));
    }
    store_answers(tx, &stored).await?;
    Ok(answers.into_iter().map(|a| a.expect("each ask was answered")).collect())
}

#[derive(Serialize)]
struct IdempotencyRow {
    principal: String,
    key: String,
    fingerprint: String,
    status: i64,
    body: String,
    location: Option<String>,
}

/// The answers that were given before, by `Idempotency-Key`.
async fn replays(tx: &mut Tx, asks: &[Ask]) -> Result<Vec<Option<Answer>>, Error> {
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

async fn store_answers(tx: &mut Tx, stored: &[IdempotencyRow]) -> Result<(), Error> {
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

/// Subscriptions that these very asks made before, by id: (generation, its outcome).
async fn known_subscriptions(tx: &mut Tx, asks: &[Ask]) -> Result<HashMap<String, (i64, Option<Outcome>)>, Error> {
    let ids: Vec<_> = asks
        .iter()
        .filter(|ask| ask.is_repeatable)
        .flat_map(|ask| &ask.subscriptions)
        .map(|s| serde_json::json!({"id": s.id}))
        .collect();
    let mut known = HashMap::new();
    if ids.is_empty() {
        return Ok(known);
    }
    let found = tx
        .fetch_all(
            query(
                "-- flight.accept.known
                select s.id, s.generation, n.state, n.result, n.error
                from subscriptions s
                left join runs n on n.flight_id = s.flight_id and n.generation = s.generation
                where s.channel = 'follower' and s.id in (select r.id from {rows $1: id text} r)",
            )
            .bind(rows(&ids)),
        )
        .await?;
    for row in found {
        let outcome = match row.get::<Option<String>>("state")?.as_deref() {
            None => None,
            Some("succeeded") => row.get::<Option<String>>("result")?.map(Outcome::Succeeded),
            Some("cancelled") => Some(Outcome::Cancelled(row.get::<Option<String>>("error")?.unwrap_or_default())),
            Some(_) => Some(Outcome::Failed(row.get::<Option<String>>("error")?.unwrap_or_default())),
        };
        known.insert(row.get("id")?, (row.get("generation")?, outcome));
    }
    Ok(known)
}

struct Locked {
    flight: Flight,
    /// This transaction inserted the row, with its first run open. The ask that did so has not been answered yet.
    is_new: bool,
}

type FlightsByKey = HashMap<(String, String), Locked>;

/// Locks the flight of every ask, in the order of the ids, and inserts those that are missing with their first run.
async fn lock_flights(
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

/// The decision itself: ready, subscribed or queued.
fn decide(ask: &Ask, locked: &mut Locked, index: usize, restarted: &mut BTreeMap<String, usize>) -> Decision {
    let flight = &mut locked.flight;
    let only_polls = ask.subscriptions.iter().all(|s| s.channel == Channel::Poll);
    if std::mem::take(&mut locked.is_new) {
        return Decision { accepted: accepted(flight, Status::Queued), subscribe: true, deliver: false };
    }
    if flight.is_fresh(ask.max_age_ms) && !ask.refresh {
        let mut accepted = accepted(flight, Status::Ready);
        accepted.generation = flight.result_generation.unwrap_or(flight.generation);
        accepted.outcome = flight.result.clone().map(Outcome::Succeeded);
        return Decision { accepted, subscribe: !only_polls, deliver: true };
    }
    if flight.state.is_open() {
        return Decision { accepted: accepted(flight, Status::Subscribed), subscribe: true, deliver: false };
    }
    let is_remembered = flight.state == RunState::Failed && flight.negative_until_ms.is_some_and(|t| t > flight.now_ms);
    if is_remembered && !ask.refresh {
        let mut accepted = accepted(flight, Status::Failed);
        accepted.outcome = Some(Outcome::Failed(flight.error.clone().unwrap_or_default()));
        return Decision { accepted, subscribe: !only_polls, deliver: true };
    }
    flight.generation += 1;
    flight.state = RunState::Pending;
    flight.attempt = 0;
    flight.queue.clone_from(&ask.run.queue);
    flight.priority = ask.run.priority;
    flight.next_at_ms = flight.now_ms + ask.run.delay_ms;
    restarted.insert(flight.id.clone(), index);
    Decision { accepted: accepted(flight, Status::Queued), subscribe: true, deliver: false }
}

/// A Node job that comes again, after a crash or by somebody's hand: what it was told before still holds.
fn again(ask: &Ask, flight: &Flight, generation: i64, outcome: Option<Outcome>) -> Decision {
    let status = match outcome {
        Some(Outcome::Succeeded(_)) => Status::Ready,
        Some(_) => Status::Failed,
        None => Status::Subscribed,
    };
    let mut accepted = accepted(flight, status);
    accepted.generation = generation;
    accepted.outcome = outcome;
    accepted.requests = ask.subscriptions.iter().map(|s| s.id.clone()).collect();
    Decision { accepted, subscribe: false, deliver: false }
}

fn accepted(flight: &Flight, status: Status) -> Accepted {
    Accepted {
        status,
        flight: flight.id.clone(),
        scope: flight.scope.clone(),
        key: flight.key.clone(),
        queue: flight.queue.clone(),
        generation: flight.generation,
        current: flight.generation,
        attempt: flight.attempt,
        run_state: flight.state,
        requests: Vec::new(),
        outcome: None,
        result: flight.standing(),
        next_at_ms: flight.next_at_ms,
        priority: flight.priority,
        now_ms: flight.now_ms,
        deliveries: Vec::new(),
    }
}

/// Opens the next generation of flights that have neither a fresh result nor an open run.
async fn restart(
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

#[derive(Serialize)]
struct SubscriptionRow<'a> {
    id: &'a str,
    flight_id: &'a str,
    generation: i64,
    subscriber: &'a str,
    channel: &'static str,
    target: &'a str,
    deliver: i64,
}

/// Inserts the subscriptions (or finds the open ones that stand for them) and the deliveries that are due at once.
async fn subscribe(tx: &mut Tx, asks: &[Ask], decisions: &mut [(usize, Decision)]) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for (index, decision) in decisions.iter().filter(|(_, d)| d.subscribe) {
        for s in &asks[*index].subscriptions {
            // A follower that is answered at once is ended by whoever took it: there is nothing to deliver later.
            if decision.deliver && matches!(s.channel, Channel::Follower | Channel::Poll) {
                continue;
            }
            wanted.push(SubscriptionRow {
                id: &s.id,
                flight_id: &decision.accepted.flight,
                generation: decision.accepted.generation,
                subscriber: &s.subscriber,
                channel: s.channel.as_str(),
                target: &s.target,
                deliver: i64::from(decision.deliver),
            });
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let list = rows(&wanted);
    let inserted = tx
        .fetch_all(
            query(
                "-- flight.accept.subscribe
                insert into subscriptions (id, flight_id, generation, subscriber, channel, target, state, created_at_ms)
                select r.id, r.flight_id, r.generation, r.subscriber, r.channel, r.target, 'open', {now}
                from {rows $1: id text, flight_id text, generation bigint, subscriber text, channel text, target text} r
                where true
                order by r.id
                on conflict do nothing
                returning id",
            )
            .bind(list.clone()),
        )
        .await?;
    let mut effective: HashMap<String, String> = HashMap::new();
    let mut is_new = std::collections::HashSet::new();
    for row in inserted {
        let id: String = row.get("id")?;
        is_new.insert(id.clone());
        effective.insert(id.clone(), id);
    }
    if effective.len() < wanted.len() {
        let standing = tx
            .fetch_all(
                query(
                    "-- flight.accept.standing
                    select r.id as wanted, s.id
                    from {rows $1: id text, flight_id text, generation bigint, subscriber text, channel text, target text} r
                    join subscriptions s on s.flight_id = r.flight_id and s.generation = r.generation
                      and s.subscriber = r.subscriber and s.channel = r.channel and s.target = r.target and s.state = 'open'",
                )
                .bind(list.clone()),
            )
            .await?;
        for row in standing {
            effective.entry(row.get("wanted")?).or_insert(row.get("id")?);
        }
    }
    let due: Vec<_> = wanted.iter().filter(|row| row.deliver == 1 && is_new.contains(row.id)).collect();
    if !due.is_empty() {
        tx.execute(
            query(
                "-- flight.accept.deliver
                insert into deliveries (id, flight_id, generation, channel, target, state, attempts, ambiguous, next_at_ms,
                  created_at_ms, touched_at_ms)
                select r.id, r.flight_id, r.generation, r.channel, r.target, 'queued', 0, 0, {now}, {now}, {now}
                from {rows $1: id text, flight_id text, generation bigint, channel text, target text} r",
            )
            .bind(rows(&due)),
        )
        .await?;
    }
    for (index, decision) in decisions.iter_mut().filter(|(_, d)| d.subscribe) {
        for s in &asks[*index].subscriptions {
            let id = effective.get(&s.id).unwrap_or(&s.id);
            if decision.deliver && matches!(s.channel, Channel::Follower | Channel::Poll) {
                continue;
            }
            // Of two in one batch that share a delivery, one tells of it.
            if decision.deliver && *id == s.id && is_new.contains(id) {
                decision.accepted.deliveries.push(id.clone());
            }
            decision.accepted.requests.push(id.clone());
        }
    }
    Ok(())
}
