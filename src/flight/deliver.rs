//! T7, deliver: each delivery is leased by itself, sent by its holder, and marked by the lease's token.
//!
//! At least once: a crash after sending and before marking sends again. The delivery's id is the same each time, so that a
//! receiver can tell.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::cancel::id_rows;
use super::claim::left;
use super::{Channel, Flights, OnEnded, Outcome};
use crate::clock::{Millis, millis};
use crate::id;
use crate::store::{Batch, Error, Query, Row, Store, Tx, query, rows};

/// Someone who wants to send a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryAsk {
    pub id: String,
    pub token: String,
    pub lease_ms: i64,
}

/// A delivery in hand.
#[derive(Clone, Debug)]
pub struct DeliveryLease {
    pub id: String,
    pub token: String,
    pub flight: String,
    pub scope: String,
    pub key: String,
    pub generation: i64,
    pub channel: Channel,
    /// JSON.
    pub target: String,
    pub subscriber: String,
    /// This one counted.
    pub attempts: i64,
    /// How often it may have been sent without our knowing.
    pub ambiguous: i64,
    pub slot_at_ms: Option<Millis>,
    /// What the run was given, JSON.
    pub data: String,
    pub outcome: Outcome,
    pub now_ms: Millis,
}

#[derive(Clone, Debug)]
pub enum LeaseAnswer {
    Leased(Box<DeliveryLease>),
    /// Not due, or leased by somebody else, for this long.
    In(Duration),
    /// It has ended.
    Over,
    Unknown,
}

/// How a sending ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    Delivered {
        receipt: String,
    },
    /// To be sent again after this long; `counts` says whether this was an attempt. `slot`: a place in the pace was
    /// reserved for then. An empty reason is not noted in the history.
    Again {
        after: Duration,
        reason: String,
        counts: bool,
        ambiguous: bool,
        slot: bool,
    },
    Suppressed {
        reason: String,
    },
    Dead {
        reason: String,
        ambiguous: bool,
    },
}

impl Verdict {
    /// Text in Postgres has no NUL; what others say may.
    fn make_storable(&mut self) {
        let (Self::Delivered { receipt: text }
        | Self::Again { reason: text, .. }
        | Self::Suppressed { reason: text }
        | Self::Dead { reason: text, .. }) = self;
        text.retain(|character| character != '\0');
    }
}

/// A holder's report.
#[derive(Clone)]
pub struct DeliveryMark {
    pub id: String,
    pub token: String,
    pub verdict: Verdict,
    /// Rows written in the same transaction if it was delivered (a mailbox item).
    pub with: Vec<Query>,
}

#[derive(Serialize)]
struct MarkRow<'a> {
    id: &'a str,
    token: &'a str,
    state: &'static str,
    attempts_back: i64,
    ambiguous: i64,
    after_ms: Option<i64>,
    slot: i64,
    error: Option<&'a str>,
    receipt: Option<&'a str>,
    event: &'static str,
}

impl<'a> MarkRow<'a> {
    fn of(mark: &'a DeliveryMark) -> Self {
        let row = Self {
            id: &mark.id,
            token: &mark.token,
            state: "queued",
            attempts_back: 0,
            ambiguous: 0,
            after_ms: None,
            slot: 0,
            error: None,
            receipt: None,
            event: "delivered",
        };
        match &mark.verdict {
            Verdict::Delivered { receipt } => Self { state: "delivered", receipt: Some(receipt), ..row },
            Verdict::Again { after, reason, counts, ambiguous, slot } => Self {
                attempts_back: i64::from(!counts),
                ambiguous: i64::from(*ambiguous),
                after_ms: Some(millis(*after)),
                slot: i64::from(*slot),
                error: Some(reason),
                event: match (ambiguous, slot) {
                    (true, _) => "ambiguous",
                    (false, true) => "paced",
                    (false, false) => "retry",
                },
                ..row
            },
            Verdict::Suppressed { reason } => {
                Self { state: "suppressed", error: Some(reason), event: "suppressed", ..row }
            }
            Verdict::Dead { reason, ambiguous } => {
                Self { state: "dead", ambiguous: i64::from(*ambiguous), error: Some(reason), event: "dead", ..row }
            }
        }
    }
}

impl Flights {
    /// T7, first half.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn lease_delivery(&self, ask: DeliveryAsk) -> Result<LeaseAnswer, Error> {
        self.leases.run(ask).await
    }

    /// T7, second half. False: the lease was lost, nothing was changed.
    ///
    /// # Errors
    /// [`Error`] of the store: try again; the mark is safe to repeat.
    pub async fn mark_delivery(&self, mut mark: DeliveryMark) -> Result<bool, Error> {
        mark.verdict.make_storable();
        self.marks.run(mark).await
    }

    /// Puts a dead or suppressed delivery back in the line. False if it is neither; `None` if there is no such delivery.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn replay_delivery(&self, id: &str) -> Result<Option<bool>, Error> {
        let id = id.to_owned();
        self.store
            .unit_of_work("delivery.replay", move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let lock = "-- delivery.replay.lock\nselect state from deliveries where id = $1 {for update}";
                    let Some(row) = tx.fetch_optional(query(lock).bind(id.as_str())).await? else { return Ok(None) };
                    if !matches!(row.get::<String>("state")?.as_str(), "dead" | "suppressed") {
                        return Ok(Some(false));
                    }
                    tx.execute(
                        query(
                            "-- delivery.replay
                            update deliveries set state = 'queued', attempts = 0, ambiguous = 0, next_at_ms = {now},
                              slot_at_ms = null, lease_token = null, lease_until_ms = null, touched_at_ms = {now}
                            where id = $1",
                        )
                        .bind(id.as_str()),
                    )
                    .await?;
                    tx.execute(
                        query(
                            "-- delivery.replay.event
                            insert into delivery_events (delivery_id, at_ms, event, detail) values ($1, {now}, 'replayed', null)",
                        )
                        .bind(id.as_str()),
                    )
                    .await?;
                    Ok(Some(true))
                })
            })
            .await
    }
}

pub(super) fn lease_batch(store: &Store) -> Batch<DeliveryAsk, LeaseAnswer> {
    store.batch("delivery.lease", |tx, asks| Box::pin(async move { lease(tx, &asks).await }))
}

async fn lease(tx: &mut Tx, asks: &[DeliveryAsk]) -> Result<Vec<LeaseAnswer>, Error> {
    let found = tx
        .fetch_all(
            query(
                "-- delivery.lease.lock
                select d.id, d.state, d.channel, d.next_at_ms, d.lease_token, d.lease_until_ms, {now} as now_ms
                from deliveries d where d.id in (select r.id from {rows $1: id text} r) order by d.id {for update}",
            )
            .bind(id_rows(asks.iter().map(|ask| ask.id.as_str()))),
        )
        .await?;
    let mut by_id: HashMap<String, &Row> = HashMap::new();
    for row in &found {
        by_id.insert(row.get("id")?, row);
    }
    let mut answers = Vec::with_capacity(asks.len());
    let mut taken: HashMap<&str, &DeliveryAsk> = HashMap::new();
    let mut silent: Vec<serde_json::Value> = Vec::new();
    for ask in asks {
        let Some(row) = by_id.get(&ask.id) else {
            answers.push(LeaseAnswer::Unknown);
            continue;
        };
        let now_ms: i64 = row.get("now_ms")?;
        let next_at_ms: i64 = row.get("next_at_ms")?;
        let lease_until_ms = row.get::<Option<i64>>("lease_until_ms")?.unwrap_or(0);
        let is_ours = row.get::<Option<String>>("lease_token")?.as_ref() == Some(&ask.token);
        answers.push(match row.get::<String>("state")?.as_str() {
            "queued" if next_at_ms > now_ms => LeaseAnswer::In(left(next_at_ms, now_ms)),
            "leased" if lease_until_ms > now_ms && !is_ours => LeaseAnswer::In(left(lease_until_ms, now_ms)),
            "queued" | "leased" if taken.contains_key(ask.id.as_str()) => LeaseAnswer::In(left(ask.lease_ms, 0)),
            state @ ("queued" | "leased") => {
                taken.insert(&ask.id, ask);
                let is_external = matches!(row.get::<String>("channel")?.as_str(), "telegram" | "webhook");
                if state == "leased" && !is_ours && is_external {
                    silent.push(serde_json::json!({"id": ask.id}));
                }
                // Filled in below, from the row as it is then.
                LeaseAnswer::Unknown
            }
            _ => LeaseAnswer::Over,
        });
    }
    if taken.is_empty() {
        return Ok(answers);
    }
    let list: Vec<_> = taken
        .values()
        .map(|ask| serde_json::json!({"id": ask.id, "token": ask.token, "lease_ms": ask.lease_ms}))
        .collect();
    // A lease that ended under a sender is a sending whose outcome nobody knows.
    tx.execute(
        query(
            "-- delivery.lease.take
            update deliveries set
              ambiguous = deliveries.ambiguous
                + case when deliveries.state = 'leased' and deliveries.lease_token <> r.token then 1 else 0 end,
              attempts = deliveries.attempts + case when deliveries.lease_token = r.token then 0 else 1 end,
              state = 'leased', lease_token = r.token, lease_until_ms = {now} + r.lease_ms, touched_at_ms = {now}
            from {rows $1: id text, token text, lease_ms bigint} r
            where deliveries.id = r.id",
        )
        .bind(rows(&list)),
    )
    .await?;
    if !silent.is_empty() {
        tx.execute(
            query(
                "-- delivery.lease.event
                insert into delivery_events (delivery_id, at_ms, event, detail)
                select r.id, {now}, 'ambiguous', 'its sender fell silent: it may have been sent'
                from {rows $1: id text} r",
            )
            .bind(rows(&silent)),
        )
        .await?;
    }
    let full = tx
        .fetch_all(
            query(
                "-- delivery.lease.read
                select d.id, d.flight_id, d.generation, d.channel, d.target, d.attempts, d.ambiguous, d.slot_at_ms,
                  s.subscriber, f.scope, f.key, f.data, n.state, n.result, n.error, {now} as now_ms
                from deliveries d
                join subscriptions s on s.id = d.id
                join flights f on f.id = d.flight_id
                join runs n on n.flight_id = d.flight_id and n.generation = d.generation
                where d.id in (select r.id from {rows $1: id text} r)",
            )
            .bind(rows(&list)),
        )
        .await?;
    let mut leases = HashMap::new();
    for row in full {
        let id: String = row.get("id")?;
        let token = taken.get(id.as_str()).map(|ask| ask.token.clone()).unwrap_or_default();
        let lease = DeliveryLease {
            token,
            flight: row.get("flight_id")?,
            scope: row.get("scope")?,
            key: row.get("key")?,
            generation: row.get("generation")?,
            channel: Channel::parse(&row.get::<String>("channel")?)?,
            target: row.get("target")?,
            subscriber: row.get("subscriber")?,
            attempts: row.get("attempts")?,
            ambiguous: row.get("ambiguous")?,
            slot_at_ms: row.get("slot_at_ms")?,
            data: row.get("data")?,
            outcome: Outcome::read(&row)?,
            now_ms: row.get("now_ms")?,
            id: id.clone(),
        };
        leases.insert(id, lease);
    }
    for (answer, ask) in answers.iter_mut().zip(asks) {
        let holds = taken.get(ask.id.as_str()).is_some_and(|t| t.token == ask.token);
        if matches!(answer, LeaseAnswer::Unknown)
            && holds
            && let Some(lease) = leases.remove(&ask.id)
        {
            *answer = LeaseAnswer::Leased(Box::new(lease));
        }
    }
    Ok(answers)
}

pub(super) fn mark_batch(store: &Store, on_ended: Arc<OnceLock<OnEnded>>) -> Batch<DeliveryMark, bool> {
    store.batch("delivery.mark", move |tx, marks| {
        let on_ended = on_ended.clone();
        Box::pin(async move { mark(tx, &marks, on_ended.get()).await })
    })
}

async fn mark(tx: &mut Tx, marks: &[DeliveryMark], on_ended: Option<&OnEnded>) -> Result<Vec<bool>, Error> {
    let asked: Vec<_> = marks.iter().map(MarkRow::of).collect();
    let owned = tx
        .fetch_all(
            query(
                "-- delivery.mark.lock
                select d.id, d.lease_token from deliveries d
                where d.state = 'leased'
                  and (d.id, d.lease_token) in (select r.id, r.token from {rows $1: id text, token text} r)
                order by d.id {for update}",
            )
            .bind(rows(&asked)),
        )
        .await?;
    let mut owned = owned
        .iter()
        .map(|row| Ok((row.get::<String>("id")?, row.get::<String>("lease_token")?)))
        .collect::<Result<HashSet<_>, Error>>()?;
    // One mark of each lease, and none of a sender who lost it: the present one's may ride in the same batch.
    let is_held: Vec<bool> = marks.iter().map(|mark| owned.remove(&(mark.id.clone(), mark.token.clone()))).collect();
    let held: Vec<_> = marks.iter().zip(&is_held).filter(|(_, is_held)| **is_held).map(|(mark, _)| mark).collect();
    let list: Vec<_> = held.iter().map(|mark| MarkRow::of(mark)).collect();
    tx.execute(
        query(
            "-- delivery.mark
            update deliveries set state = r.state, attempts = deliveries.attempts - r.attempts_back,
              ambiguous = deliveries.ambiguous + r.ambiguous,
              next_at_ms = coalesce({now} + r.after_ms, deliveries.next_at_ms),
              slot_at_ms = case when r.slot = 1 then {now} + r.after_ms end, lease_until_ms = null,
              error = case when r.error = '' then deliveries.error else r.error end, receipt = r.receipt, touched_at_ms = {now}
            from {rows $1: id text, token text, state text, attempts_back bigint, ambiguous bigint, after_ms bigint,
              slot bigint, error text, receipt text} r
            where deliveries.id = r.id and deliveries.lease_token = r.token and deliveries.state = 'leased'",
        )
        .bind(rows(&list)),
    )
    .await?;
    let events: Vec<_> = list.into_iter().filter(|row| row.error != Some("")).collect();
    tx.execute(
        query(
            "-- delivery.mark.event
            insert into delivery_events (delivery_id, at_ms, event, detail)
            select r.id, {now}, r.event, coalesce(r.error, r.receipt)
            from {rows $1: id text, event text, error text, receipt text} r",
        )
        .bind(rows(&events)),
    )
    .await?;
    tx.execute(
        query(
            "-- delivery.mark.close
            update subscriptions set state = 'closed'
            where state = 'open' and id in
              (select r.id from {rows $1: id text, state text} r where r.state in ('delivered', 'suppressed', 'dead'))",
        )
        .bind(rows(&events)),
    )
    .await?;
    for mark in &held {
        if matches!(mark.verdict, Verdict::Delivered { .. }) {
            for statement in mark.with.iter().cloned() {
                tx.execute(statement).await?;
            }
        }
    }
    if let Some(act) = on_ended {
        let ended = held.iter().filter(|mark| !matches!(mark.verdict, Verdict::Again { .. }));
        // Ids of other kinds belong to nobody but their askers: most batches need no further statement.
        let ended: Vec<_> = ended.map(|mark| mark.id.clone()).filter(|id| id::is_derived(id)).collect();
        if !ended.is_empty() {
            act(tx, &ended).await?;
        }
    }
    Ok(is_held)
}
