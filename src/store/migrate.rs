//! Brings the schema up to date. The two folders of migrations are twins.

use sqlx::migrate::Migrator;

use super::{Error, Pools, Store};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

pub(super) async fn run(store: &Store) -> Result<(), Error> {
    let done = match &store.inner.pools {
        Pools::Sqlite { writer, .. } => SQLITE.run(writer).await,
        // sqlx takes an advisory lock, so that servers that start together do not migrate together.
        Pools::Postgres { pool, .. } => POSTGRES.run(pool).await,
    };
    done.map_err(|e| Error::Setup(format!("cannot bring the schema up to date: {e}")))
}
