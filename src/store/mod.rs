//! SQL: what must never be lost. The only module that knows sqlx.
//!
//! `DATABASE_URL` alone chooses the database; the statements are the same texts for both (see [`Query`]). Every write goes
//! through [`Store::unit_of_work`]; single reads may go past it.

mod error;
mod guard;
mod line;
mod migrate;
mod sql;
mod unit_of_work;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, Row as _, SqlitePool};

use crate::batch::Ride;
use crate::clock::Clock;
use crate::config;

use line::Line;

pub use error::Error;
pub use guard::Guard;
pub use sql::{Arg, Query, Row, query, rows};
pub use unit_of_work::{Committed, Relay, Tx};

/// A group commit into the store: see [`Store::batch`].
pub type Batch<I, O> = crate::batch::Batch<I, O, Error>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    clock: Clock,
    slow: Duration,
    batch: usize,
}

enum Pools {
    /// One connection writes, so that no writer ever finds the database busy; the others read beside it (WAL).
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        _lock: std::fs::File,
    },
    Postgres {
        pool: PgPool,
        line: Line,
    },
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if Postgres does not answer; [`Error::Setup`] if the URL is unusable, another server process has
    /// the SQLite file, or a migration fails.
    pub async fn open(settings: &config::Store, clock: Clock) -> Result<Self, Error> {
        let url = settings.url.expose_secret();
        let pools = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let line = Line::new(settings.max_connections);
            Pools::Postgres { pool: open_postgres(url, settings).await?, line }
        } else if let Some(path) = url.strip_prefix("sqlite:") {
            open_sqlite(path.trim_start_matches("//"), settings).await?
        } else {
            return Err(Error::Setup("the store's URL must begin with sqlite:// or postgres://".into()));
        };
        let store = Self { inner: Arc::new(Inner { pools, clock, slow: settings.slow.0, batch: settings.batch }) };
        migrate::run(&store).await?;
        Ok(store)
    }

    /// Looks at a database without changing it: what it is and how far its schema is. `None`: there is none yet.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Setup`] if the URL is unusable.
    pub async fn look(settings: &config::Store) -> Result<Option<String>, Error> {
        let url = settings.url.expose_secret();
        let newest = "select coalesce(max(version), 0) as version from _sqlx_migrations where success";
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.trim_start_matches("//");
            if !std::path::Path::new(path).exists() {
                return Ok(None);
            }
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut conn = sqlx::SqliteConnection::connect_with(&options).await?;
            let row = sqlx::query(newest).fetch_one(&mut conn).await?;
            return Ok(Some(format!("SQLite {path}, schema {}", row.try_get::<i64, _>("version")?)));
        }
        let options =
            PgConnectOptions::from_str(url).map_err(|e| Error::Setup(format!("the store's URL is unusable: {e}")))?;
        let mut conn = sqlx::PgConnection::connect_with(&options).await?;
        let there =
            sqlx::query("select to_regclass('_sqlx_migrations') is not null as there").fetch_one(&mut conn).await?;
        if !there.try_get::<bool, _>("there")? {
            return Ok(Some("Postgres, empty: the server makes the schema when it starts".into()));
        }
        let row = sqlx::query(newest).fetch_one(&mut conn).await?;
        Ok(Some(format!("Postgres, schema {}", row.try_get::<i64, _>("version")?)))
    }

    /// How much rides together in one unit of work.
    pub fn ride(&self, name: &'static str) -> Ride {
        Ride { name, most: self.inner.batch }
    }

    /// "sqlite" or "postgres".
    pub fn kind(&self) -> &'static str {
        match self.inner.pools {
            Pools::Sqlite { .. } => "sqlite",
            Pools::Postgres { .. } => "postgres",
        }
    }

    /// True if other server processes can share this store.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.pools, Pools::Postgres { .. })
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// One read outside any transaction.
    ///
    /// # Errors
    /// [`Error`], by what the caller can do.
    pub async fn fetch_all(&self, query: Query) -> Result<Vec<Row>, Error> {
        match &self.inner.pools {
            Pools::Sqlite { readers, .. } => {
                let mut conn = readers.acquire().await?;
                query.fetch_sqlite(&mut conn, &self.inner.clock).await
            }
            Pools::Postgres { pool, line } => {
                let _turn = line.turn().await?;
                let mut conn = line.told(pool.acquire().await)?;
                query.fetch_postgres(&mut conn).await
            }
        }
    }

    /// One read of at most one row outside any transaction.
    ///
    /// # Errors
    /// [`Error`], by what the caller can do.
    pub async fn fetch_optional(&self, query: Query) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(query).await?.into_iter().next())
    }

    /// The time by which leases and due times are judged: the database's on Postgres, [`Clock`]'s on SQLite.
    ///
    /// # Errors
    /// [`Error`] when the database does not answer.
    pub async fn now_ms(&self) -> Result<i64, Error> {
        let row = self.fetch_optional(query("-- store.now\nselect {now} as now_ms")).await?;
        row.ok_or_else(|| Error::Setup("the database told no time".into()))?.get("now_ms")
    }

    /// Whether the database answers at all.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.fetch_all(query("-- store.ping\nselect 1 as one")).await.map(|_| ())
    }

    /// Closes every connection; later calls fail as unreachable.
    pub async fn close(&self) {
        match &self.inner.pools {
            Pools::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres { pool, .. } => pool.close().await,
        }
    }
}

async fn open_postgres(url: &str, settings: &config::Store) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| Error::Setup(format!("the store's URL is unusable: {e}")))?
        .application_name("onetake")
        .statement_cache_capacity(512)
        // A server that froze inside a transaction must not hold its row locks for ever.
        .options([
            ("idle_in_transaction_session_timeout", "30000"),
            ("lock_timeout", "10000"),
            // Whoever waited for a row looks again in a statement of its own, which must see what was committed meanwhile.
            ("default_transaction_isolation", "read committed"),
            // Every statement of a job's way finds its rows by an index. A plan made while the tables were small, and kept,
            // reads whole tables when they have grown; one made anew looks at their size first.
            ("plan_cache_mode", "force_custom_plan"),
            ("enable_seqscan", "off"),
            // What reads a whole table all the same is priced so high by that, that it would be compiled first.
            ("jit", "off"),
        ]);
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(Duration::from_secs(2))
        .after_release(|conn, _| {
            Box::pin(async move {
                // A `begin()` future that was dropped leaves its connection inside a transaction: the next user's writes
                // would be rolled back with it. The `begin` spares the server's log a warning in the good case.
                sqlx::raw_sql("begin; rollback").execute(conn).await?;
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .map_err(Error::from)
}

async fn open_sqlite(path: &str, settings: &config::Store) -> Result<Pools, Error> {
    if path.is_empty() || path == ":memory:" {
        return Err(Error::Setup("an SQLite store needs a file: sqlite://PATH".into()));
    }
    let path = PathBuf::from(path);
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::Setup(format!("cannot create {}: {e}", folder.display())))?;
    }
    // Under whatever name it is told (a link is another name), it is one file.
    let path = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|_| path.canonicalize())
        .map_err(|e| Error::Setup(format!("cannot write {}: {e}", path.display())))?;
    let lock = lock_file(&path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What is acknowledged survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .foreign_keys(true)
        .statement_cache_capacity(512);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .after_release(|conn, _| {
            Box::pin(async move {
                // Fails when no transaction is open, which is the good case.
                let _ = sqlx::raw_sql("rollback").execute(conn).await;
                Ok(true)
            })
        })
        .connect_with(
            options
                .clone()
                // The pages that every batch writes stay in memory, and reach the file once for many batches: 32 MiB each.
                .pragma("cache_size", "-32768")
                .pragma("wal_autocheckpoint", "8192"),
        )
        .await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(settings.max_connections.max(1))
        .connect_with(options.read_only(false))
        .await?;
    Ok(Pools::Sqlite { writer, readers, _lock: lock })
}

/// Takes the file for this process until it ends: two server processes on one SQLite file would each believe that the
/// runs of the other are lost.
fn lock_file(path: &std::path::Path) -> Result<std::fs::File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = std::fs::File::create(&name)
        .map_err(|e| Error::Setup(format!("cannot write {}: {e}", PathBuf::from(&name).display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Setup(format!(
            "another server process has {} open; SQLite serves one process, use Postgres for more",
            path.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => Err(Error::Setup(format!("cannot lock {}: {e}", path.display()))),
    }
}
