//! The tables at one moment, as plain data.

use std::collections::BTreeMap;

use onetake::store::{Error, Row, Store, query};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// By key.
    pub flights: BTreeMap<String, Flight>,
    /// By key and generation.
    pub runs: BTreeMap<(String, i64), Run>,
    /// By id.
    pub requests: BTreeMap<String, Request>,
    /// By the request's id.
    pub deliveries: BTreeMap<String, Delivery>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flight {
    pub generation: i64,
    pub state: String,
    pub attempt: i64,
    pub token: Option<String>,
    pub lease_until_ms: Option<i64>,
    pub next_at_ms: i64,
    pub negative_until_ms: Option<i64>,
    pub result: Option<Made>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub value: String,
    pub generation: i64,
    pub at_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub state: String,
    /// The result, or the reason.
    pub told: String,
    /// Of the worker in whose hands it ended.
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub key: String,
    pub generation: i64,
    pub subscriber: String,
    pub polls: bool,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub state: String,
    pub attempts: i64,
    pub ambiguous: i64,
    pub next_at_ms: i64,
    pub token: Option<String>,
    pub lease_until_ms: Option<i64>,
}

impl Flight {
    pub fn is_open(&self) -> bool {
        self.state == "pending" || self.state == "running"
    }
}

impl Picture {
    pub async fn of(store: &Store) -> Result<Self, Error> {
        let flights = store
            .fetch_all(query(
                "-- test.flights
                select key, generation, state, attempt, run_token, lease_until_ms, next_at_ms, negative_until_ms,
                  result, result_generation, made_at_ms
                from flights",
            ))
            .await?;
        let runs = store
            .fetch_all(query(
                "-- test.runs
                select f.key, n.generation, n.state, coalesce(n.result, n.error) as told, n.token
                from runs n join flights f on f.id = n.flight_id",
            ))
            .await?;
        let requests = store
            .fetch_all(query(
                "-- test.requests
                select s.id, f.key, s.generation, s.subscriber, s.channel, s.state
                from subscriptions s join flights f on f.id = s.flight_id",
            ))
            .await?;
        let deliveries = store
            .fetch_all(query(
                "-- test.deliveries
                select id, state, attempts, ambiguous, next_at_ms, lease_token, lease_until_ms from deliveries",
            ))
            .await?;
        Ok(Self {
            flights: flights.iter().map(|row| Ok((key(row)?, flight(row)?))).collect::<Result<_, Error>>()?,
            runs: runs
                .iter()
                .map(|row| Ok(((key(row)?, row.get("generation")?), run(row)?)))
                .collect::<Result<_, Error>>()?,
            requests: requests.iter().map(|row| Ok((row.get("id")?, request(row)?))).collect::<Result<_, Error>>()?,
            deliveries: deliveries
                .iter()
                .map(|row| Ok((row.get("id")?, delivery(row)?)))
                .collect::<Result<_, Error>>()?,
        })
    }
}

/// The one part of the key.
fn key(row: &Row) -> Result<String, Error> {
    Ok(row.get::<String>("key")?.trim_matches(['[', ']', '"']).to_owned())
}

fn flight(row: &Row) -> Result<Flight, Error> {
    let (value, generation): (Option<String>, Option<i64>) = (row.get("result")?, row.get("result_generation")?);
    let made = value.zip(generation).zip(row.get::<Option<i64>>("made_at_ms")?);
    Ok(Flight {
        generation: row.get("generation")?,
        state: row.get("state")?,
        attempt: row.get("attempt")?,
        token: row.get("run_token")?,
        lease_until_ms: row.get("lease_until_ms")?,
        next_at_ms: row.get("next_at_ms")?,
        negative_until_ms: row.get("negative_until_ms")?,
        result: made.map(|((value, generation), at_ms)| Made { value, generation, at_ms }),
    })
}

fn run(row: &Row) -> Result<Run, Error> {
    Ok(Run { state: row.get("state")?, told: row.get("told")?, token: row.get("token")? })
}

fn request(row: &Row) -> Result<Request, Error> {
    Ok(Request {
        key: key(row)?,
        generation: row.get("generation")?,
        subscriber: row.get("subscriber")?,
        polls: row.get::<String>("channel")? == "poll",
        state: row.get("state")?,
    })
}

fn delivery(row: &Row) -> Result<Delivery, Error> {
    Ok(Delivery {
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        ambiguous: row.get("ambiguous")?,
        next_at_ms: row.get("next_at_ms")?,
        token: row.get("lease_token")?,
        lease_until_ms: row.get("lease_until_ms")?,
    })
}
