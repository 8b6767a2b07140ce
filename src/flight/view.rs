//! Reading a request: what its asker is shown.

use super::{Channel, DeliveryView, Flights, Outcome, RunState};
use crate::clock::Millis;
use crate::store::{Error, Row, query};

/// A request with its flight and its delivery, as stored.
#[derive(Clone, Debug)]
pub struct RequestRow {
    pub id: String,
    pub flight: String,
    pub scope: String,
    pub key: String,
    pub queue: String,
    pub generation: i64,
    pub subscriber: String,
    pub channel: Channel,
    pub has_left: bool,
    /// The flight's current generation; the request may be of an earlier one.
    pub current: i64,
    pub run_state: RunState,
    pub attempt: i64,
    pub outcome: Option<Outcome>,
    pub finished_at_ms: Option<Millis>,
    pub created_at_ms: Millis,
    pub delivery: Option<DeliveryView>,
}

/// The columns that [`RequestRow::read`] takes.
macro_rules! request_select {
    ($name:literal, $where:literal) => {
        concat!(
            "-- ",
            $name,
            "
            select s.id, s.flight_id, s.generation, s.subscriber, s.channel, s.state as subscription_state, s.target,
              s.created_at_ms, f.scope, f.key, f.queue, f.generation as current_generation, f.state as run_state, f.attempt,
              n.state, n.result, n.error, n.finished_at_ms,
              d.state as delivery_state, d.attempts, d.next_at_ms, d.error as delivery_error, d.receipt,
              d.created_at_ms as delivery_created_at_ms, d.touched_at_ms
            from subscriptions s
            join flights f on f.id = s.flight_id
            left join runs n on n.flight_id = s.flight_id and n.generation = s.generation
            left join deliveries d on d.id = s.id
            ",
            $where
        )
    };
}

impl RequestRow {
    fn read(row: &Row) -> Result<Self, Error> {
        let outcome = match row.get::<Option<String>>("state")? {
            Some(_) => Some(Outcome::read(row)?),
            None => None,
        };
        let delivery = match row.get::<Option<String>>("delivery_state")? {
            Some(state) => Some(DeliveryView {
                id: row.get("id")?,
                channel: Channel::parse(&row.get::<String>("channel")?)?,
                target: row.get("target")?,
                state,
                attempts: row.get::<Option<i64>>("attempts")?.unwrap_or(0),
                next_at_ms: row.get::<Option<i64>>("next_at_ms")?.unwrap_or(0),
                error: row.get("delivery_error")?,
                receipt: row.get("receipt")?,
                scope: row.get("scope")?,
                key: row.get("key")?,
                generation: row.get("generation")?,
                created_at_ms: row.get::<Option<i64>>("delivery_created_at_ms")?.unwrap_or(0),
                updated_at_ms: row.get::<Option<i64>>("touched_at_ms")?.unwrap_or(0),
            }),
            None => None,
        };
        Ok(Self {
            id: row.get("id")?,
            flight: row.get("flight_id")?,
            scope: row.get("scope")?,
            key: row.get("key")?,
            queue: row.get("queue")?,
            generation: row.get("generation")?,
            subscriber: row.get("subscriber")?,
            channel: Channel::parse(&row.get::<String>("channel")?)?,
            has_left: row.get::<String>("subscription_state")? == "left",
            current: row.get("current_generation")?,
            run_state: RunState::parse(&row.get::<String>("run_state")?)?,
            attempt: row.get("attempt")?,
            outcome,
            finished_at_ms: row.get("finished_at_ms")?,
            created_at_ms: row.get("created_at_ms")?,
            delivery,
        })
    }
}

impl Flights {
    /// # Errors
    /// [`Error`] of the store.
    pub async fn request(&self, id: &str) -> Result<Option<RequestRow>, Error> {
        let row = self.store.fetch_optional(query(request_select!("request.read", "where s.id = $1")).bind(id)).await?;
        row.map(|row| RequestRow::read(&row)).transpose()
    }

    /// Requests before the id `before` (empty: the newest), newest first, of a subscriber and a queue (empty: of any).
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn requests(
        &self,
        subscriber: &str,
        scope: &str,
        before: &str,
        limit: u32,
    ) -> Result<Vec<RequestRow>, Error> {
        let found = self
            .store
            .fetch_all(
                query(request_select!(
                    "request.list",
                    "where ($1 = '' or s.subscriber = $1) and ($2 = '' or f.scope = $2) and ($3 = '' or s.id < $3)
                    order by s.id desc limit $4"
                ))
                .bind(subscriber)
                .bind(scope)
                .bind(before)
                .bind(i64::from(limit)),
            )
            .await?;
        found.iter().map(RequestRow::read).collect()
    }
}
