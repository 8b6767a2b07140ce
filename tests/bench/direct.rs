//! The same rows by plain SQL: multi-row inserts in one transaction each, over the same schema, on one connection.
//!
//! Directly, and behind a bare axum handler: what accepting over HTTP costs on this machine before Redis is asked, keys are
//! compared and askers are told apart.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Database, PgPool, Postgres, QueryBuilder, Sqlite, SqlitePool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::store::TestStore;

/// Requests whose rows ride in one transaction: as many as the connections of the load can have under way.
pub const BATCH: usize = 100;
/// Flights that subscriptions are spread over, as in the load.
const FLIGHTS: usize = 100;

/// Which rows a request writes.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    Subscriptions,
    FlightsAndSubscriptions,
}

/// A database of its own with Onetake's schema, on the server (or the disk) of a store.
pub struct Direct {
    pool: Pool,
    /// Flights that stand, for new subscriptions.
    flights: Vec<String>,
    inserted: u64,
    /// Where SQLite has its file.
    _folder: TempDir,
}

enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Direct {
    /// `server` is the address of a Postgres server, or empty for SQLite.
    pub async fn open(server: &str, database: &str) -> Self {
        let folder = TempDir::with_prefix("onetake-direct-").expect("the temporary folder can be written");
        let pool = match server {
            "" => {
                let options = SqliteConnectOptions::new()
                    .filename(folder.path().join("direct.db"))
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true);
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
                let pool = pool.expect("SQLite opens its file");
                sqlx::migrate!("migrations/sqlite").run(&pool).await.expect("the schema is valid");
                Pool::Sqlite(pool)
            }
            server => {
                let admin = PgPool::connect(server).await.expect("Postgres is up");
                let create = sqlx::AssertSqlSafe(format!("create database {database}"));
                sqlx::raw_sql(create).execute(&admin).await.expect("its user may make one");
                let options: PgConnectOptions = server.parse().expect("a server's address is one");
                let options = options.database(database);
                let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("Postgres is up");
                sqlx::migrate!("migrations/postgres").run(&pool).await.expect("the schema is valid");
                Pool::Postgres(pool)
            }
        };
        let mut direct = Self { pool, flights: Vec::new(), inserted: 0, _folder: folder };
        direct.insert(Rows::FlightsAndSubscriptions, FLIGHTS).await;
        direct
    }

    /// Inserts for `measured`; returns how many requests' rows a second.
    pub async fn rate(&mut self, rows: Rows, measured: Duration) -> f64 {
        // The statement is prepared, and the pages are at hand.
        self.insert(rows, BATCH).await;
        let (started, before) = (Instant::now(), self.inserted);
        while started.elapsed() < measured {
            self.insert(rows, BATCH).await;
        }
        (self.inserted - before) as f64 / started.elapsed().as_secs_f64()
    }

    /// One transaction with the rows of so many requests.
    pub async fn insert(&mut self, rows: Rows, count: usize) {
        let requests: Vec<Request> = (0..count).map(|_| self.request(rows)).collect();
        if self.flights.is_empty() {
            self.flights = requests.iter().map(|request| request.flight.clone()).collect();
        }
        let has_flights = rows == Rows::FlightsAndSubscriptions;
        match &self.pool {
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin().await.expect("SQLite begins");
                if has_flights {
                    flights::<Sqlite>(&requests).build().execute(&mut *tx).await.expect("the flights are valid");
                }
                subscriptions::<Sqlite>(&requests).build().execute(&mut *tx).await.expect("the askers are valid");
                tx.commit().await.expect("SQLite commits");
            }
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await.expect("Postgres begins");
                if has_flights {
                    flights::<Postgres>(&requests).build().execute(&mut *tx).await.expect("the flights are valid");
                }
                subscriptions::<Postgres>(&requests).build().execute(&mut *tx).await.expect("the askers are valid");
                tx.commit().await.expect("Postgres commits");
            }
        }
    }

    fn request(&mut self, rows: Rows) -> Request {
        self.inserted += 1;
        let number = self.inserted;
        let flight = match rows {
            Rows::Subscriptions => self.flights[number as usize % self.flights.len()].clone(),
            Rows::FlightsAndSubscriptions => new_id(),
        };
        Request { id: new_id(), flight, number }
    }
}

/// The address of a store's server, or nothing for SQLite.
pub fn server_of(store: &TestStore) -> String {
    match store {
        TestStore::Sqlite(_) => String::new(),
        TestStore::Postgres(server) => server.url(),
    }
}

struct Request {
    id: String,
    flight: String,
    number: u64,
}

fn flights<DB: Database>(requests: &[Request]) -> QueryBuilder<DB>
where
    for<'q> i64: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'q> bool: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'q> String: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'q> &'q str: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    let now_ms = 1_780_000_000_000_i64;
    let mut insert = QueryBuilder::new(
        "insert into flights (id, scope, key, queue, generation, state, name, data, priority, attempt, max_attempts, \
         backoff, next_at_ms, cancel_when_abandoned, dirty, created_at_ms, touched_at_ms) ",
    );
    insert.push_values(requests, |mut row, request| {
        let key = format!("key-{}", request.number);
        row.push_bind(request.flight.clone())
            .push_bind("echo")
            .push_bind(format!("[\"{key}\"]"))
            .push_bind("echo-work")
            .push_bind(1_i64)
            .push_bind("pending")
            .push_bind("make")
            .push_bind(format!(r#"{{"name":"{key}","gender":"girl","template":"default"}}"#))
            .push_bind(0_i64)
            .push_bind(0_i64)
            .push_bind(1_i64)
            .push_bind(r#"{"kind":"exponential","delay":"1s"}"#)
            .push_bind(now_ms)
            .push_bind(false)
            .push_bind(false)
            .push_bind(now_ms)
            .push_bind(now_ms);
    });
    insert
}

fn subscriptions<DB: Database>(requests: &[Request]) -> QueryBuilder<DB>
where
    for<'q> i64: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'q> String: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    for<'q> &'q str: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    let mut insert = QueryBuilder::new(
        "insert into subscriptions (id, flight_id, generation, subscriber, channel, target, state, created_at_ms) ",
    );
    insert.push_values(requests, |mut row, request| {
        row.push_bind(request.id.clone())
            .push_bind(request.flight.clone())
            .push_bind(1_i64)
            .push_bind(format!("user-1-{}", request.number))
            .push_bind("poll")
            .push_bind("{}")
            .push_bind("open")
            .push_bind(1_780_000_000_000_i64);
    });
    insert
}

/// Sorts by time, as the server's ids do.
fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// How long the disk of the temporary folder, on which all stores are, takes to make 4 KiB durable: the median of 200.
pub fn fsync_seconds() -> f64 {
    let mut file = tempfile::tempfile().expect("the temporary folder can be written");
    let page = [7_u8; 4096];
    // Room for all writes, so that none changes the file's length.
    file.write_all(&[0_u8; 4096 * 200]).and_then(|()| file.sync_all()).expect("the disk takes it");
    let mut took: Vec<f64> = (0..200_u64)
        .map(|place| {
            let started = Instant::now();
            file.write_all_at(&page, place * 4096).and_then(|()| file.sync_data()).expect("the disk takes it");
            started.elapsed().as_secs_f64()
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}
