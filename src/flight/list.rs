//! Lists for operators: flights and deliveries, newest first, by cursor.

use super::{Channel, Flights, RunState};
use crate::clock::Millis;
use crate::store::{Error, Row, query};

/// What to list. Empty texts mean "any"; `before` is the last id of the page before.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    pub state: String,
    pub scope: String,
    pub channel: String,
    pub before: String,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub struct FlightView {
    pub id: String,
    pub scope: String,
    pub key: String,
    pub queue: String,
    pub state: RunState,
    pub generation: i64,
    pub attempt: i64,
    pub max_attempts: i64,
    pub started_at_ms: Option<Millis>,
    pub next_at_ms: Millis,
    pub lease_until_ms: Option<Millis>,
    pub result: Option<String>,
    pub result_generation: Option<i64>,
    pub made_at_ms: Option<Millis>,
    pub error: Option<String>,
    /// Open subscriptions.
    pub subscribers: i64,
    pub created_at_ms: Millis,
    pub updated_at_ms: Millis,
}

#[derive(Clone, Debug)]
pub struct DeliveryView {
    pub id: String,
    pub channel: Channel,
    /// JSON.
    pub target: String,
    pub state: String,
    pub attempts: i64,
    pub next_at_ms: Millis,
    pub error: Option<String>,
    pub receipt: Option<String>,
    pub scope: String,
    pub key: String,
    pub generation: i64,
    pub created_at_ms: Millis,
    pub updated_at_ms: Millis,
}

#[derive(Clone, Debug)]
pub struct DeliveryEvent {
    pub at_ms: Millis,
    pub event: String,
    pub detail: Option<String>,
}

macro_rules! flight_select {
    ($name:literal, $where:literal) => {
        concat!(
            "-- ",
            $name,
            "
            select f.id, f.scope, f.key, f.queue, f.state, f.generation, f.attempt, f.max_attempts, f.started_at_ms,
              f.next_at_ms, f.lease_until_ms, f.result, f.result_generation, f.made_at_ms, f.error, f.created_at_ms,
              f.touched_at_ms, (select count(*) from subscriptions s where s.flight_id = f.id
                and s.generation = f.generation and s.state = 'open') as subscribers
            from flights f
            ",
            $where
        )
    };
}

macro_rules! delivery_select {
    ($name:literal, $where:literal) => {
        concat!(
            "-- ",
            $name,
            "
            select d.id, d.channel, d.target, d.state, d.attempts, d.next_at_ms, d.error, d.receipt, f.scope, f.key,
              d.generation, d.created_at_ms, d.touched_at_ms
            from deliveries d join flights f on f.id = d.flight_id
            ",
            $where
        )
    };
}

impl Flights {
    /// # Errors
    /// [`Error`] of the store.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<FlightView>, Error> {
        let found = self
            .store
            .fetch_all(
                query(flight_select!(
                    "flight.list",
                    "where ($1 = '' or f.state = $1) and ($2 = '' or f.scope = $2) and ($3 = '' or f.id < $3)
                    order by f.id desc limit $4"
                ))
                .bind(filter.state.as_str())
                .bind(filter.scope.as_str())
                .bind(filter.before.as_str())
                .bind(i64::from(filter.limit)),
            )
            .await?;
        found.iter().map(read_flight).collect()
    }

    /// # Errors
    /// [`Error`] of the store.
    pub async fn flight(&self, scope: &str, key: &str) -> Result<Option<FlightView>, Error> {
        let row = self
            .store
            .fetch_optional(
                query(flight_select!("flight.show", "where f.scope = $1 and f.key = $2")).bind(scope).bind(key),
            )
            .await?;
        row.map(|row| read_flight(&row)).transpose()
    }

    /// The open subscribers of a flight's current generation: (subscriber, channel), at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn subscribers(&self, flight: &str, limit: u32) -> Result<Vec<(String, Channel)>, Error> {
        let found = self
            .store
            .fetch_all(
                query(
                    "-- flight.subscribers
                    select s.subscriber, s.channel from subscriptions s
                    join flights f on f.id = s.flight_id and f.generation = s.generation
                    where s.flight_id = $1 and s.state = 'open' order by s.id limit $2",
                )
                .bind(flight)
                .bind(i64::from(limit)),
            )
            .await?;
        found.iter().map(|row| Ok((row.get("subscriber")?, Channel::parse(&row.get::<String>("channel")?)?))).collect()
    }

    /// # Errors
    /// [`Error`] of the store.
    pub async fn deliveries(&self, filter: &ListFilter) -> Result<Vec<DeliveryView>, Error> {
        let found = self
            .store
            .fetch_all(
                query(delivery_select!(
                    "delivery.list",
                    "where ($1 = '' or d.state = $1) and ($2 = '' or f.scope = $2) and ($3 = '' or d.id < $3)
                      and ($4 = '' or d.channel = $4)
                    order by d.id desc limit $5"
                ))
                .bind(filter.state.as_str())
                .bind(filter.scope.as_str())
                .bind(filter.before.as_str())
                .bind(filter.channel.as_str())
                .bind(i64::from(filter.limit)),
            )
            .await?;
        found.iter().map(read_delivery).collect()
    }

    /// # Errors
    /// [`Error`] of the store.
    pub async fn delivery(&self, id: &str) -> Result<Option<(DeliveryView, Vec<DeliveryEvent>)>, Error> {
        let row =
            self.store.fetch_optional(query(delivery_select!("delivery.show", "where d.id = $1")).bind(id)).await?;
        let Some(row) = row else { return Ok(None) };
        let history = self
            .store
            .fetch_all(
                query(
                    "-- delivery.history
                    select at_ms, event, detail from delivery_events where delivery_id = $1 order by at_ms limit 1000",
                )
                .bind(id),
            )
            .await?;
        let history = history
            .iter()
            .map(|row| {
                Ok(DeliveryEvent { at_ms: row.get("at_ms")?, event: row.get("event")?, detail: row.get("detail")? })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Some((read_delivery(&row)?, history)))
    }
}

fn read_flight(row: &Row) -> Result<FlightView, Error> {
    Ok(FlightView {
        id: row.get("id")?,
        scope: row.get("scope")?,
        key: row.get("key")?,
        queue: row.get("queue")?,
        state: RunState::parse(&row.get::<String>("state")?)?,
        generation: row.get("generation")?,
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        started_at_ms: row.get("started_at_ms")?,
        next_at_ms: row.get("next_at_ms")?,
        lease_until_ms: row.get("lease_until_ms")?,
        result: row.get("result")?,
        result_generation: row.get("result_generation")?,
        made_at_ms: row.get("made_at_ms")?,
        error: row.get("error")?,
        subscribers: row.get("subscribers")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("touched_at_ms")?,
    })
}

fn read_delivery(row: &Row) -> Result<DeliveryView, Error> {
    Ok(DeliveryView {
        id: row.get("id")?,
        channel: Channel::parse(&row.get::<String>("channel")?)?,
        target: row.get("target")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        next_at_ms: row.get("next_at_ms")?,
        error: row.get("error")?,
        receipt: row.get("receipt")?,
        scope: row.get("scope")?,
        key: row.get("key")?,
        generation: row.get("generation")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("touched_at_ms")?,
    })
}
