//! Subscribing to flights: who asked, under which id, and what is due to them at once.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::accept::{Ask, Decision};
use super::{Channel, Outcome};
use crate::store::{Error, Tx, query, rows};

/// Subscriptions that these very asks made before, by id: (generation, its outcome).
pub(super) async fn known_subscriptions(
    tx: &mut Tx,
    asks: &[Ask],
) -> Result<HashMap<String, (i64, Option<Outcome>)>, Error> {
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
        let has_ended = row.get::<Option<String>>("state")?.is_some();
        let outcome = has_ended.then(|| Outcome::read(&row)).transpose()?;
        known.insert(row.get("id")?, (row.get("generation")?, outcome));
    }
    Ok(known)
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
pub(super) async fn subscribe(tx: &mut Tx, asks: &[Ask], decisions: &mut [(usize, Decision)]) -> Result<(), Error> {
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
    let mut is_new = HashSet::new();
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
