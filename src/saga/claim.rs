//! Taking sagas in hand: one holder each, by a lease with a token. A lease that ended under a call leaves its end unknown.

use std::time::Duration;

use super::{Leased, Saga, Sagas, note};
use crate::clock::millis;
use crate::id;
use crate::store::{Error, query, rows};

/// Leases that one look ends, at most.
const LAPSED: i64 = 100;

impl Sagas {
    /// Ends every lease: for the only process of a store, when it starts. What was in hand has an unknown end.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn disown_all(&self) -> Result<(), Error> {
        let disown = "-- saga.disown_all
            update sagas set lease_until_ms = 0 where state in ('calling', 'asking')";
        self.store
            .unit_of_work("saga.disown_all", move |tx| Box::pin(async move { tx.execute(query(disown)).await }))
            .await
    }

    /// Leases sagas that are due, at most `most`.
    pub(super) async fn claim(&self, most: usize) -> Result<Vec<Leased>, Error> {
        let names: Vec<_> = self.effects.keys().map(|name| serde_json::json!({"name": name})).collect();
        let (names, token) = (rows(&names), id::new_token());
        let (lease_ms, most) = (millis(self.settings.lease.0), i64::try_from(most).unwrap_or(i64::MAX));
        let asks = i64::from(self.settings.asks);
        self.store
            .unit_of_work("saga.claim", move |tx| {
                let (names, token) = (names.clone(), token.clone());
                Box::pin(async move {
                    // Nobody knows what became of a call whose caller fell silent. Asking may be given up, too: a worker
                    // that dies at the same saga again and again must not do so for ever.
                    let lapsed = tx
                        .fetch_all(
                            query(
                                "-- saga.lapse
                                update sagas set state = case when sagas.asks >= $1 then 'parked' else 'unknown' end,
                                  error = 'its worker fell silent', lease_token = null, lease_until_ms = null,
                                  next_at_ms = {now}, touched_at_ms = {now}
                                where id in (select s.id from sagas s
                                  where s.state in ('calling', 'asking') and s.lease_until_ms <= {now}
                                  order by s.id limit $2 {for update skip locked})
                                returning id, state",
                            )
                            .bind(asks)
                            .bind(LAPSED),
                        )
                        .await?;
                    for row in &lapsed {
                        let (id, state): (String, String) = (row.get("id")?, row.get("state")?);
                        note(tx, &id, "worker", &state, Some("its worker fell silent".into())).await?;
                    }
                    let taken = tx
                        .fetch_all(
                            query(
                                "-- saga.claim
                                update sagas set lease_token = $1, lease_until_ms = {now} + $2,
                                  calls = sagas.calls + case when sagas.state = 'due' then 1 else 0 end,
                                  asks = sagas.asks + case when sagas.state = 'due' then 0 else 1 end,
                                  called_at_ms = coalesce(sagas.called_at_ms, {now}),
                                  state = case when sagas.state = 'due' then 'calling' else 'asking' end,
                                  touched_at_ms = {now}
                                where id in (select s.id from sagas s
                                  where s.state in ('due', 'unknown') and s.next_at_ms <= {now}
                                    and s.name in (select r.name from {rows $3: name text} r)
                                  order by s.next_at_ms limit $4 {for update skip locked})
                                returning id, name, subject, input, state, calls, asks, called_at_ms, next_at_ms,
                                  {now} as now_ms",
                            )
                            .bind(token.as_str())
                            .bind(lease_ms)
                            .bind(names)
                            .bind(most),
                        )
                        .await?;
                    let mut leased = Vec::with_capacity(taken.len());
                    for row in &taken {
                        let age_ms = row.get::<i64>("now_ms")? - row.get::<i64>("called_at_ms")?;
                        leased.push(Leased {
                            saga: Saga::read(row)?,
                            token: token.clone(),
                            is_asking: row.get::<String>("state")? == "asking",
                            age: Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)),
                            next_at_ms: row.get("next_at_ms")?,
                        });
                    }
                    // The rows come in no order.
                    leased.sort_by(|a, b| (a.next_at_ms, &a.saga.id).cmp(&(b.next_at_ms, &b.saga.id)));
                    Ok(leased)
                })
            })
            .await
    }
}
