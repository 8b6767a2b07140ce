//! What may be forgotten: rows that are older than they are kept, and files that nothing names any more.

use std::time::Duration;

use super::Flights;
use crate::clock::millis;
use crate::store::{Error, query};

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub idempotency_keys: Duration,
    pub requests: Duration,
    pub mailbox: Duration,
    pub histories: Duration,
    pub sagas: Duration,
}

impl Flights {
    /// Deletes what is older than its retention, a bounded number of rows of each kind; true if there may be more.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn forget_old(&self, retention: Retention, page: u32) -> Result<bool, Error> {
        self.store
            .unit_of_work("retention.step", move |tx| {
                Box::pin(async move {
                    let mut more = false;
                    for (sql, age) in [
                        (
                            "-- retention.idempotency
                            delete from idempotency where (principal, key) in (select i.principal, i.key from idempotency i
                              where i.created_at_ms < {now} - $1 limit $2) returning key as id",
                            retention.idempotency_keys,
                        ),
                        (
                            "-- retention.requests
                            delete from subscriptions where id in (select s.id from subscriptions s
                              where s.state <> 'open' and s.created_at_ms < {now} - $1 limit $2) returning id",
                            retention.requests,
                        ),
                        (
                            // The run whose result is served, and those that somebody can still ask for, stay.
                            "-- retention.runs
                            delete from runs where (flight_id, generation) in (select n.flight_id, n.generation from runs n
                              join flights f on f.id = n.flight_id
                              where n.finished_at_ms < {now} - $1 and n.generation <> f.generation
                                and (f.result_generation is null or n.generation <> f.result_generation)
                                and not exists (select 1 from subscriptions s
                                  where s.flight_id = n.flight_id and s.generation = n.generation)
                              limit $2) returning flight_id as id",
                            retention.requests,
                        ),
                        (
                            "-- retention.mailbox
                            delete from mailbox where id in (select m.id from mailbox m
                              where m.created_at_ms < {now} - $1 limit $2) returning id",
                            retention.mailbox,
                        ),
                        (
                            // One that is booked for a time long ago has been used.
                            "-- retention.bookings
                            delete from bookings where id in (select b.id from bookings b
                              where b.starts_at_ms < {now} - $1 limit $2) returning id",
                            retention.histories,
                        ),
                        (
                            "-- retention.slots
                            delete from slots where id in (select s.id from slots s
                              where s.starts_at_ms < {now} - $1
                                and not exists (select 1 from bookings b where b.slot_id = s.id and b.state = 'booked')
                              limit $2) returning id",
                            retention.histories,
                        ),
                        (
                            // Of orders that are gone: what is here keeps its history.
                            "-- retention.pickup
                            delete from pickup_history where id in (select h.id from pickup_history h
                              where h.at_ms < {now} - $1
                                and not exists (select 1 from pickup_orders o where o.id = h.order_id)
                              limit $2) returning id",
                            retention.histories,
                        ),
                        (
                            // Their steps go with them; what they came to stands where they belong to, such as in a payment.
                            "-- retention.sagas
                            delete from sagas where id in (select s.id from sagas s
                              where s.state in ('confirmed', 'compensated') and s.touched_at_ms < {now} - $1
                              limit $2) returning id",
                            retention.sagas,
                        ),
                        (
                            "-- retention.audit
                            delete from ownership_audit where id in (select a.id from ownership_audit a
                              where a.at_ms < {now} - $1 limit $2) returning id",
                            retention.histories,
                        ),
                    ] {
                        let gone = tx.fetch_all(query(sql).bind(millis(age)).bind(i64::from(page))).await?;
                        more |= gone.len() >= page as usize;
                    }
                    Ok(more)
                })
            })
            .await
    }

    /// Whether a result or a mailbox still names a stored file.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn names_file(&self, file: &str) -> Result<bool, Error> {
        let row = self
            .store
            .fetch_optional(
                query(
                    "-- file.named
                    select 1 as one from generated_videos where file = $1
                    union all select 1 from mailbox where file = $1
                    union all select 1 from deliveries d
                      join runs n on n.flight_id = d.flight_id and n.generation = d.generation
                      where d.state in ('queued', 'leased') and n.result like '%' || $1 || '%'
                    limit 1",
                )
                .bind(file),
            )
            .await?;
        Ok(row.is_some())
    }
}
