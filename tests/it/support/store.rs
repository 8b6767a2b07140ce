//! The two stores, so that each fact runs on both.

use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use tempfile::TempDir;

use super::postgres::PostgresServer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
    Postgres,
}

/// An empty database of the test's own.
pub enum TestStore {
    Sqlite(TempDir),
    Postgres(PostgresServer),
}

impl TestStore {
    pub async fn start(kind: StoreKind) -> Self {
        match kind {
            StoreKind::Sqlite => {
                Self::Sqlite(TempDir::with_prefix("onetake-sqlite-").expect("the temporary folder can be written"))
            }
            StoreKind::Postgres => Self::Postgres(PostgresServer::start().await),
        }
    }

    /// As `DATABASE_URL` takes it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("onetake.db").display()),
            Self::Postgres(server) => server.url(),
        }
    }

    /// The first column of a query that yields whole numbers (`bigint`), past the server under test.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(_) => sqlx::query_scalar(sql).fetch_all(&self.sqlite().await).await,
            Self::Postgres(server) => sqlx::query_scalar(sql).fetch_all(&connect(server).await).await,
        }
        .expect("the query is valid")
    }

    /// The first column of a query that yields texts that are never null.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(_) => sqlx::query_scalar(sql).fetch_all(&self.sqlite().await).await,
            Self::Postgres(server) => sqlx::query_scalar(sql).fetch_all(&connect(server).await).await,
        }
        .expect("the query is valid")
    }

    /// Changes rows past the server under test; returns how many.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn change(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(_) => sqlx::query(sql).execute(&self.sqlite().await).await.map(|done| done.rows_affected()),
            Self::Postgres(server) => {
                sqlx::query(sql).execute(&connect(server).await).await.map(|done| done.rows_affected())
            }
        }
        .expect("the statement is valid")
    }

    async fn sqlite(&self) -> SqlitePool {
        SqlitePool::connect(&format!("{}?mode=rwc", self.url())).await.expect("SQLite opens its file")
    }
}

async fn connect(server: &PostgresServer) -> PgPool {
    PgPool::connect(&server.url()).await.expect("Postgres is up")
}
