//! Unit of work: one short transaction, repeated as a whole when the database says so.
//!
//! The work gets a [`Tx`] and nothing else: it has no way to reach Redis, HTTP, files or a clock that sleeps. What must
//! happen outside is written as a row (a due run, a queued delivery) and done by others after the commit. Keep it so: a
//! `Tx` lends nothing that could call elsewhere, and no function that does is given one.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `onetake_store_unit_of_work_seconds` | `name` | from the first statement to the end of the commit |
//! | `onetake_store_commits_total`, `..._rollbacks_total` | `name` | |
//! | `onetake_store_retries_total` | `name`, `kind` | repeated as a whole |
//! | `onetake_store_slow_total` | `name` | longer than `store.slow` |
//! | `onetake_store_lock_wait_seconds` | `name` | of statements that lock rows, the time they took (Postgres); of units of work, the time until the one writer was free (SQLite) |
//! | `onetake_store_lock_waits_total` | `name` | of these, those over 10 ms |
//! | `onetake_store_connection_wait_seconds` | `name` | until a unit of work had its connection (Postgres) |

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use metrics::{counter, histogram};
use rand::RngExt;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Sqlite, Transaction};
use tracing::warn;

use super::guard::{Guard, is_lock_timeout, without_guard};
use super::line::{Line, Turn};
use super::{Batch, Error, Pools, Query, Row, Store};
use crate::batch::Failure as _;
use crate::clock::Clock;

const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// A statement that locks a row and takes longer has waited for somebody.
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// An open transaction.
pub struct Tx {
    inner: Inner,
    clock: Clock,
    /// Dropped after the connection.
    _turn: Option<Turn>,
}

enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    /// Inside a transaction that was begun in text, as its locks come with the `begin`. Dropped in there, the pool ends it.
    Postgres(PoolConnection<Postgres>),
}

/// How a guarded unit of work comes to its locks, and who has them afterwards.
pub struct Relay<'a> {
    pub guard: &'a Guard,
    /// A transaction that has them already, handed on by one that has ended.
    pub begun: Option<Tx>,
    /// Asked just before the commit: whether somebody would begin with the same locks at once.
    pub has_heir: &'a (dyn Fn() -> bool + Send + Sync),
}

impl<'a> Relay<'a> {
    /// With nobody before it, and nobody after.
    pub fn alone(guard: &'a Guard) -> Self {
        Self { guard, begun: None, has_heir: &|| false }
    }
}

/// What a guarded unit of work came to.
pub struct Committed<T> {
    pub value: T,
    /// So long it had its locks.
    pub held: Duration,
    /// For the heir, if nobody else stood at the locks: begun in the flight of the commit.
    pub next: Option<Tx>,
}

impl Tx {
    /// # Errors
    /// [`Error`]; the transaction is then lost, and the work should end with it.
    pub async fn fetch_all(&mut self, query: Query) -> Result<Vec<Row>, Error> {
        let name = query.name();
        let result = match &mut self.inner {
            Inner::Sqlite(tx) => query.fetch_sqlite(tx, &self.clock).await,
            Inner::Postgres(tx) if query.waits_for_locks() => {
                let asked = Instant::now();
                let result = query.fetch_postgres(tx).await;
                waited_for_lock(name, asked.elapsed());
                result
            }
            Inner::Postgres(tx) => query.fetch_postgres(tx).await,
        };
        if let Err(Error::Statement(source)) = &result {
            warn!(statement = name, error = %source, "statement {name} was refused");
        }
        result
    }

    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn fetch_optional(&mut self, query: Query) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(query).await?.into_iter().next())
    }

    /// Runs a statement for its effect.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn execute(&mut self, query: Query) -> Result<(), Error> {
        self.fetch_all(query).await.map(|_| ())
    }

    async fn commit(self) -> Result<(), Error> {
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(mut conn) => {
                sqlx::raw_sql("commit").execute(&mut *conn).await?;
            }
        }
        Ok(())
    }

    /// Commits, and begins the next transaction in the same flight. `None` if somebody else comes first at the locks; on
    /// SQLite always.
    async fn commit_and_begin(mut self, guard: &Guard) -> Result<Option<Self>, Error> {
        let Inner::Postgres(conn) = &mut self.inner else { return self.commit().await.map(|()| None) };
        let text = format!("commit; {}", guard.try_begin());
        if has_locks(conn, text).await? {
            return Ok(Some(self));
        }
        // Nobody waits for that.
        tokio::spawn(self.rollback());
        Ok(None)
    }

    /// If it cannot be told to end, its connection is broken, and it ends with that.
    async fn rollback(self) {
        let _ = match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await,
            Inner::Postgres(mut conn) => sqlx::raw_sql("rollback").execute(&mut *conn).await.map(drop),
        };
    }
}

/// Runs the text of [`Guard::try_begin`].
async fn has_locks(conn: &mut PoolConnection<Postgres>, text: String) -> Result<bool, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut **conn).await?;
    rows.last().map_or(Ok(false), |row| row.try_get(0))
}

impl Store {
    /// Runs `work` in one transaction and commits it; an error rolls it back.
    ///
    /// Repeated as a whole, up to five times, on a serialization failure, a deadlock, a busy database, a lost connection and
    /// an unknown COMMIT: so `work` must be repeatable, which it is if its ids were made before.
    ///
    /// `name` labels logs and metrics.
    ///
    /// # Errors
    /// What `work` failed with, or [`Error`] from the transaction itself.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work: it runs in a task of its own to its end, so that no connection goes back
    /// to the pool inside an open transaction.
    pub async fn unit_of_work<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + Any,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let store = self.clone();
        let task = tokio::spawn(async move { store.repeat(name, None, work).await });
        match task.await {
            Ok(result) => without_guard(result?.map(|committed| committed.value)),
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => Err(Error::stopping().into()),
        }
    }

    /// As [`Store::unit_of_work`], holding the locks of a guard from its first act to its end. `None`, and nothing was done,
    /// if somebody else held one of them for too long.
    ///
    /// On SQLite every unit of work is alone with the database, so that there is nothing more to hold.
    ///
    /// # Errors
    /// As [`Store::unit_of_work`].
    ///
    /// # Cancel safety
    /// Not: to be called in a task of its own, which runs to its end.
    pub async fn guarded<T, E, F>(
        &self,
        name: &'static str,
        relay: Relay<'_>,
        work: F,
    ) -> Result<Option<Committed<T>>, E>
    where
        E: From<Error> + Send + Any,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
    {
        self.repeat(name, Some(relay), work).await
    }

    /// Begins a transaction that has the locks of `guard`; `None` if one of them is somebody else's now.
    ///
    /// # Errors
    /// The database is away.
    ///
    /// # Cancel safety
    /// Not: to be called in a task of its own, which runs to its end.
    pub async fn begin_if_free(&self, guard: &Guard) -> Result<Option<Tx>, Error> {
        self.begin(Some(guard), false).await
    }

    /// Group commit: what arrives together is worked off by `work` in one unit of work, which answers each item in order.
    pub fn batch<I, O, F>(&self, name: &'static str, work: F) -> Batch<I, O>
    where
        I: Clone + Send + Sync + 'static,
        O: Send + 'static,
        F: for<'t> Fn(&'t mut Tx, Arc<Vec<I>>) -> BoxFuture<'t, Result<Vec<O>, Error>> + Clone + Send + Sync + 'static,
    {
        let store = self.clone();
        Batch::new(self.ride(name), move |items| {
            let (store, work) = (store.clone(), work.clone());
            Box::pin(async move { store.unit_of_work(name, move |tx| work(tx, items.clone())).await })
        })
    }

    async fn repeat<T, E, F>(
        &self,
        name: &'static str,
        mut relay: Option<Relay<'_>>,
        work: F,
    ) -> Result<Option<Committed<T>>, E>
    where
        E: From<Error> + Send + Any,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
    {
        let mut attempt = 1;
        let mut before: Option<E> = None;
        loop {
            let asked = Instant::now();
            let guard = relay.as_ref().map(|relay| relay.guard);
            let begun = match relay.as_mut().and_then(|relay| relay.begun.take()) {
                Some(tx) => Ok(Some(tx)),
                None => self.begin(guard, guard.is_some_and(Guard::waits)).await,
            };
            let tx = match begun {
                Ok(Some(tx)) => tx,
                // After a commit of unknown outcome nobody may be told that nothing was done.
                Ok(None) => return before.map_or(Ok(None), Err),
                // SQLite says here that somebody else is writing.
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => {
                    before_next(name, attempt, "conflict").await;
                    attempt += 1;
                    continue;
                }
                // A database that cannot be reached now is told to the caller at once: nothing was begun.
                Err(error) => return Err(error.into()),
            };
            let started = Instant::now();
            match &tx.inner {
                // One writer at a time: whoever waits for it waits for a lock.
                Inner::Sqlite(_) => waited_for_lock(name, started - asked),
                // Its locks are taken as it begins.
                Inner::Postgres(_) if guard.is_some() => waited_for_lock(name, started - asked),
                Inner::Postgres(_) => histogram!("onetake_store_connection_wait_seconds", "name" => name)
                    .record((started - asked).as_secs_f64()),
            }
            let result = finish(tx, &work, relay.as_ref()).await;
            let took = started.elapsed();
            histogram!("onetake_store_unit_of_work_seconds", "name" => name).record(took.as_secs_f64());
            if took > self.inner.slow {
                counter!("onetake_store_slow_total", "name" => name).increment(1);
                warn!(unit_of_work = name, took_ms = took.as_millis() as u64, "unit of work {name} was slow");
            }
            let error = match result {
                Ok((value, next)) => {
                    counter!("onetake_store_commits_total", "name" => name).increment(1);
                    return Ok(Some(Committed { value, held: took, next }));
                }
                Err(error) => error,
            };
            counter!("onetake_store_rollbacks_total", "name" => name).increment(1);
            let kind = match (&error as &dyn Any).downcast_ref::<Error>() {
                Some(of_store) if of_store.is_repeatable() && attempt < ATTEMPTS => of_store.kind(),
                _ => return Err(error),
            };
            before_next(name, attempt, kind).await;
            attempt += 1;
            before = Some(error);
        }
    }

    /// `None` if a lock of `guard` was somebody else's, for too long if it `waits`.
    async fn begin(&self, guard: Option<&Guard>, waits: bool) -> Result<Option<Tx>, Error> {
        let (inner, turn) = match &self.inner.pools {
            Pools::Sqlite { writer, .. } => (Inner::Sqlite(writer.begin_with("begin immediate").await?), None),
            Pools::Postgres { pool, line } => match begin_postgres(pool, line, guard, waits).await? {
                Some((conn, turn)) => (Inner::Postgres(conn), Some(turn)),
                None => return Ok(None),
            },
        };
        Ok(Some(Tx { inner, clock: self.inner.clock.clone(), _turn: turn }))
    }
}

async fn begin_postgres(
    pool: &PgPool,
    line: &Line,
    guard: Option<&Guard>,
    waits: bool,
) -> Result<Option<(PoolConnection<Postgres>, Turn)>, Error> {
    let turn = line.turn().await?;
    let mut conn = line.told(pool.acquire().await)?;
    let begun = match guard {
        None => sqlx::raw_sql("begin").execute(&mut *conn).await.map(|_| true),
        Some(guard) if waits => sqlx::raw_sql(AssertSqlSafe(guard.begin())).execute(&mut *conn).await.map(|_| true),
        Some(guard) => has_locks(&mut conn, guard.try_begin()).await,
    };
    match begun {
        Ok(true) => return Ok(Some((conn, turn))),
        Ok(false) => {}
        Err(error) if is_lock_timeout(&error) => {}
        Err(error) => return line.told(Err(error)),
    }
    sqlx::raw_sql("rollback").execute(&mut *conn).await?;
    Ok(None)
}

/// Counts a repetition, and waits as long as is due before it.
async fn before_next(name: &'static str, attempt: u32, kind: &'static str) {
    counter!("onetake_store_retries_total", "name" => name, "kind" => kind).increment(1);
    warn!(unit_of_work = name, attempt, kind, "repeating unit of work {name}");
    let longest = FIRST_DELAY * 2u32.pow(attempt - 1);
    let kept = 0.5 + rand::rng().random::<f64>() / 2.0;
    tokio::time::sleep(longest.mul_f64(kept)).await;
}

fn waited_for_lock(name: &'static str, waited: Duration) {
    histogram!("onetake_store_lock_wait_seconds", "name" => name).record(waited.as_secs_f64());
    if waited > LOCK_WAIT {
        counter!("onetake_store_lock_waits_total", "name" => name).increment(1);
    }
}

async fn finish<T, E, F>(mut tx: Tx, work: &F, relay: Option<&Relay<'_>>) -> Result<(T, Option<Tx>), E>
where
    E: From<Error>,
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let value = match work(&mut tx).await {
        Ok(value) => value,
        Err(error) => {
            tx.rollback().await;
            return Err(error);
        }
    };
    let next = match relay.filter(|relay| (relay.has_heir)()) {
        Some(relay) => tx.commit_and_begin(relay.guard).await?,
        None => tx.commit().await.map(|()| None)?,
    };
    Ok((value, next))
}
