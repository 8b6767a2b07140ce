//! T8's half in SQL: what was left alone for too long, and what Redis must be told again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::json;

use super::cancel::id_rows;
use super::claim::left;
use super::{Flights, Outcome, RunState};
use crate::clock::{Millis, millis};
use crate::store::{Batch, Error, Row, Store, query, rows};

/// A flight as SQL has it, for telling Redis.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub flight: String,
    pub scope: String,
    pub key: String,
    /// The work queue.
    pub queue: String,
    pub generation: i64,
    pub state: RunState,
    /// The last good result: JSON, generation, made at.
    pub result: Option<(String, i64, Millis)>,
    /// When the row was changed last: what is told to Redis is as of then.
    pub touched_at_ms: Millis,
}

/// A flight as far as Redis must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub is_open: bool,
    /// Of the last good result.
    pub result_generation: Option<i64>,
}

/// A run that should have a job in Redis.
#[derive(Clone, Debug)]
pub struct DueRun {
    pub flight: Snapshot,
    /// Attempts made so far.
    pub attempt: i64,
    pub name: String,
    /// JSON text.
    pub data: String,
    pub priority: i64,
    pub due_in: Duration,
}

/// A delivery that should have a job in Redis.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    pub id: String,
    pub due_in: Duration,
}

impl Flights {
    /// Runs that wait and that nobody touched for `untouched`, oldest first. Each is touched, so that one server at a time looks after it.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn take_untouched_runs(&self, untouched: Duration, page: u32) -> Result<Vec<DueRun>, Error> {
        self.store
            .unit_of_work("flight.untouched", move |tx| {
                Box::pin(async move {
                    let found = tx
                        .fetch_all(
                            query(
                                "-- flight.untouched
                                update flights set touched_at_ms = {now}
                                where id in (select f.id from flights f
                                  where f.state = 'pending' and f.touched_at_ms <= {now} - $1
                                  order by f.touched_at_ms limit $2 {for update skip locked})
                                returning id, scope, key, queue, generation, attempt, name, data, priority, next_at_ms, state,
                                  result, result_generation, made_at_ms, touched_at_ms, {now} as now_ms",
                            )
                            .bind(millis(untouched))
                            .bind(i64::from(page)),
                        )
                        .await?;
                    found.iter().map(read_run).collect()
                })
            })
            .await
    }

    /// Runs of a queue that are due now, for a runner that has no Redis to be woken by.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn due_runs(&self, queue: &str, most: u32) -> Result<Vec<DueRun>, Error> {
        let found = self
            .store
            .fetch_all(
                query(
                    "-- flight.due
                    select id, scope, key, queue, generation, attempt, name, data, priority, next_at_ms, state,
                      result, result_generation, made_at_ms, touched_at_ms, {now} as now_ms
                    from flights
                    where queue = $1 and ((state = 'pending' and next_at_ms <= {now})
                      or (state = 'running' and lease_until_ms <= {now}))
                    order by case when priority = 0 then 0 else 1 end, priority, next_at_ms limit $2",
                )
                .bind(queue)
                .bind(i64::from(most)),
            )
            .await?;
        found.iter().map(read_run).collect()
    }

    /// Deliveries that nobody touched for `untouched`; each is touched.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn take_untouched_deliveries(&self, untouched: Duration, page: u32) -> Result<Vec<DueDelivery>, Error> {
        self.store
            .unit_of_work("delivery.untouched", move |tx| {
                Box::pin(async move {
                    let found = tx
                        .fetch_all(
                            query(
                                "-- delivery.untouched
                                update deliveries set touched_at_ms = {now}
                                where id in (select d.id from deliveries d
                                  where d.state in ('queued', 'leased') and d.touched_at_ms <= {now} - $1
                                  order by d.touched_at_ms limit $2 {for update skip locked})
                                returning id, next_at_ms, {now} as now_ms",
                            )
                            .bind(millis(untouched))
                            .bind(i64::from(page)),
                        )
                        .await?;
                    found.iter().map(read_delivery).collect()
                })
            })
            .await
    }

    /// Deliveries that are due now, for a runner that has no Redis.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn due_deliveries(&self, most: u32) -> Result<Vec<DueDelivery>, Error> {
        let found = self
            .store
            .fetch_all(
                query(
                    "-- delivery.due
                    select id, next_at_ms, {now} as now_ms from deliveries
                    where (state = 'queued' and next_at_ms <= {now}) or (state = 'leased' and lease_until_ms <= {now})
                    order by next_at_ms limit $1",
                )
                .bind(i64::from(most)),
            )
            .await?;
        found.iter().map(read_delivery).collect()
    }

    /// The queued deliveries of a generation after `after`, in the order of their ids.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn deliveries_of(
        &self,
        flight: &str,
        generation: i64,
        after: &str,
        page: u32,
    ) -> Result<Vec<DueDelivery>, Error> {
        let found = self
            .store
            .fetch_all(
                query(
                    "-- delivery.of_generation
                    select id, next_at_ms, {now} as now_ms from deliveries
                    where flight_id = $1 and generation = $2 and state = 'queued' and id > $3
                    order by id limit $4",
                )
                .bind(flight)
                .bind(generation)
                .bind(after)
                .bind(i64::from(page)),
            )
            .await?;
        found.iter().map(read_delivery).collect()
    }

    /// Open subscriptions of finished generations that have no delivery, which no path of ours leaves behind: insurance.
    /// Gives them one, and says how many there were.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn repair_deliveries(&self, page: u32) -> Result<u64, Error> {
        self.store
            .unit_of_work("delivery.repair", move |tx| {
                Box::pin(async move {
                    let made = tx
                        .fetch_all(
                            query(
                                "-- delivery.repair
                                insert into deliveries (id, flight_id, generation, channel, target, state, attempts, ambiguous,
                                  next_at_ms, created_at_ms, touched_at_ms)
                                select s.id, s.flight_id, s.generation, s.channel, s.target,
                                  case when s.channel = 'poll' then 'delivered' else 'queued' end, 0, 0, {now}, {now}, 0
                                from subscriptions s
                                join runs n on n.flight_id = s.flight_id and n.generation = s.generation
                                left join deliveries d on d.id = s.id
                                where s.state = 'open' and d.id is null
                                order by s.id limit $1
                                on conflict (id) do nothing
                                returning id",
                            )
                            .bind(i64::from(page)),
                        )
                        .await?;
                    Ok(made.len() as u64)
                })
            })
            .await
    }

    /// Flights of which Redis must be told again.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn dirty(&self, untouched: Duration, page: u32) -> Result<Vec<Snapshot>, Error> {
        let found = self
            .store
            .fetch_all(
                query(
                    "-- flight.dirty
                    select id, scope, key, queue, generation, state, result, result_generation, made_at_ms, touched_at_ms
                    from flights where dirty and touched_at_ms <= {now} - $1 order by touched_at_ms limit $2",
                )
                .bind(millis(untouched))
                .bind(i64::from(page)),
            )
            .await?;
        found.iter().map(read_snapshot).collect()
    }

    /// Of the flights of some keys, by scope and key: whether a run is open, and of which generation the result is.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn standings(&self, keys: &[(String, String)]) -> Result<HashMap<(String, String), Standing>, Error> {
        let list: Vec<_> = keys.iter().map(|(scope, key)| json!({"scope": scope, "key": key})).collect();
        let find = query(
            "-- flight.standings
            select scope, key, state, result_generation
            from flights where (scope, key) in (select r.scope, r.key from {rows $1: scope text, key text} r)",
        );
        let found = self.store.fetch_all(find.bind(rows(&list))).await?;
        let read = |row: &Row| {
            let is_open = RunState::parse(&row.get::<String>("state")?)?.is_open();
            let standing = Standing { is_open, result_generation: row.get("result_generation")? };
            Ok(((row.get("scope")?, row.get("key")?), standing))
        };
        found.iter().map(read).collect()
    }

    /// The flights of some keys as they are now.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn by_keys(&self, keys: &[(String, String)]) -> Result<Vec<Snapshot>, Error> {
        let list: Vec<_> = keys.iter().map(|(scope, key)| json!({"scope": scope, "key": key})).collect();
        let found = self
            .store
            .fetch_all(
                query(
                    "-- flight.by_keys
                    select id, scope, key, queue, generation, state, result, result_generation, made_at_ms, touched_at_ms
                    from flights where (scope, key) in (select r.scope, r.key from {rows $1: scope text, key text} r)",
                )
                .bind(rows(&list)),
            )
            .await?;
        found.iter().map(read_snapshot).collect()
    }

    /// How those of these generations of flights have ended that have, and all of whose followers were told.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn all_told(&self, generations: &BTreeSet<(String, i64)>) -> Result<Vec<(String, i64, Outcome)>, Error> {
        let list: Vec<_> =
            generations.iter().map(|(id, generation)| json!({"id": id, "generation": generation})).collect();
        let find = query(
            "-- flight.all_told
            select n.flight_id, n.generation, n.state, n.result, n.error
            from runs n join {rows $1: id text, generation bigint} r on r.id = n.flight_id and r.generation = n.generation
            where not exists (select 1 from deliveries d where d.flight_id = n.flight_id
              and d.generation = n.generation and d.channel = 'follower' and d.state in ('queued', 'leased'))",
        );
        let found = self.store.fetch_all(find.bind(rows(&list))).await?;
        found.iter().map(|row| Ok((row.get("flight_id")?, row.get("generation")?, Outcome::read(row)?))).collect()
    }

    /// Redis was told of a flight as it was at `touched_at_ms`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn mirrored(&self, flight: &str, touched_at_ms: Millis) -> Result<(), Error> {
        self.mirrored.run((flight.to_owned(), touched_at_ms)).await
    }

    /// Every run in hand is put back, and every delivery: for the only process of a store, when it starts.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn disown_all(&self) -> Result<(), Error> {
        self.store
            .unit_of_work("flight.disown_all", move |tx| {
                Box::pin(async move {
                    tx.execute(query("-- flight.disown_all\nupdate flights set lease_until_ms = 0 where state = 'running'"))
                        .await?;
                    tx.execute(query(
                        "-- delivery.disown_all\nupdate deliveries set lease_until_ms = 0, touched_at_ms = 0 where state = 'leased'",
                    ))
                    .await
                })
            })
            .await
    }

    /// Makes every open row look untouched: Redis was replaced, and all of it must be told again.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn forget_touches(&self) -> Result<(), Error> {
        self.store
            .unit_of_work("flight.forget_touches", move |tx| {
                Box::pin(async move {
                    tx.execute(query(
                        "-- flight.forget_touches\nupdate flights set touched_at_ms = 0 where state in ('pending', 'running')",
                    ))
                    .await?;
                    tx.execute(query(
                        "-- delivery.forget_touches\nupdate deliveries set touched_at_ms = 0 where state in ('queued', 'leased')",
                    ))
                    .await
                })
            })
            .await
    }

    /// Says that this server is alive, and how many are (itself included).
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn server_seen(&self, server: &str, role: &str, alive_for: Duration) -> Result<u32, Error> {
        let (server, role) = (server.to_owned(), role.to_owned());
        self.store
            .unit_of_work("server.seen", move |tx| {
                let (server, role) = (server.clone(), role.clone());
                Box::pin(async move {
                    tx.execute(
                        query(
                            "-- server.seen
                            insert into servers (id, role, started_at_ms, seen_at_ms) values ($1, $2, {now}, {now})
                            on conflict (id) do update set seen_at_ms = excluded.seen_at_ms",
                        )
                        .bind(server.as_str())
                        .bind(role.as_str()),
                    )
                    .await?;
                    tx.execute(query("-- server.forget\ndelete from servers where seen_at_ms < {now} - 86400000"))
                        .await?;
                    let row = tx
                        .fetch_optional(
                            query(
                                "-- server.alive
                                select count(*) as alive from servers where seen_at_ms > {now} - $1 and role <> 'http'",
                            )
                            .bind(millis(alive_for)),
                        )
                        .await?;
                    let alive: i64 = row.map(|row| row.get("alive")).transpose()?.unwrap_or(1);
                    Ok(u32::try_from(alive.max(1)).unwrap_or(1))
                })
            })
            .await
    }

    /// Writes down which queues are paused, for the time when Redis cannot be asked.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remember_paused(&self, queues: Vec<String>) -> Result<(), Error> {
        self.store
            .unit_of_work("queue.remember_paused", move |tx| {
                let list = id_rows(queues.iter().map(String::as_str));
                Box::pin(async move {
                    tx.execute(
                        query(
                            "-- queue.forget_paused
                            delete from paused_queues where queue not in (select r.id from {rows $1: id text} r)",
                        )
                        .bind(list.clone()),
                    )
                    .await?;
                    tx.execute(
                        query(
                            "-- queue.remember_paused
                            insert into paused_queues (queue) select r.id from {rows $1: id text} r where true
                            on conflict do nothing",
                        )
                        .bind(list),
                    )
                    .await
                })
            })
            .await
    }

    /// Whether a queue was paused when Redis was last seen.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn was_paused(&self, queue: &str) -> Result<bool, Error> {
        let row = self
            .store
            .fetch_optional(query("-- queue.was_paused\nselect queue from paused_queues where queue = $1").bind(queue))
            .await?;
        Ok(row.is_some())
    }
}

pub(super) fn mirrored_batch(store: &Store) -> Batch<(String, i64), ()> {
    store.batch("flight.mirrored", |tx, flights| {
        Box::pin(async move {
            let list: Vec<_> =
                flights.iter().map(|(id, at)| serde_json::json!({"id": id, "touched_at_ms": at})).collect();
            tx.execute(
                query(
                    "-- flight.mirrored
                    update flights set dirty = false
                    from {rows $1: id text, touched_at_ms bigint} r
                    where flights.id = r.id and flights.touched_at_ms <= r.touched_at_ms
                      and flights.id in (select l.id from flights l
                        where l.id in (select q.id from {rows $1: id text} q) order by l.id {for update})",
                )
                .bind(rows(&list)),
            )
            .await?;
            Ok(vec![(); flights.len()])
        })
    })
}

fn read_run(row: &Row) -> Result<DueRun, Error> {
    Ok(DueRun {
        flight: read_snapshot(row)?,
        attempt: row.get("attempt")?,
        name: row.get("name")?,
        data: row.get("data")?,
        priority: row.get("priority")?,
        due_in: left(row.get("next_at_ms")?, row.get("now_ms")?),
    })
}

fn standing(row: &Row) -> Result<Option<(String, i64, Millis)>, Error> {
    let (result, generation): (Option<String>, Option<i64>) = (row.get("result")?, row.get("result_generation")?);
    Ok(result.zip(generation).zip(row.get::<Option<i64>>("made_at_ms")?).map(|((r, g), at)| (r, g, at)))
}

fn read_delivery(row: &Row) -> Result<DueDelivery, Error> {
    Ok(DueDelivery { id: row.get("id")?, due_in: left(row.get("next_at_ms")?, row.get("now_ms")?) })
}

fn read_snapshot(row: &Row) -> Result<Snapshot, Error> {
    Ok(Snapshot {
        flight: row.get("id")?,
        scope: row.get("scope")?,
        key: row.get("key")?,
        generation: row.get("generation")?,
        state: RunState::parse(&row.get::<String>("state")?)?,
        queue: row.get("queue")?,
        result: standing(row)?,
        touched_at_ms: row.get("touched_at_ms")?,
    })
}
