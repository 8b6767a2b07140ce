//! One SQL text for both databases.
//!
//! A statement's first line is a comment that names it (`-- flight.claim`); the name shows in logs. Parameters are `$1`,
//! `$2`, ... A few fragments in braces become what the database at hand needs:
//!
//! | fragment | Postgres | SQLite |
//! |---|---|---|
//! | `{now}` | the database's clock in ms | the process's [`Clock`], as a parameter |
//! | `{rows $1: id text, n bigint}` | `jsonb_to_recordset` | `json_each` |
//! | `{for update}`, `{for update skip locked}` | as it says | nothing: one writer |
//!
//! `{rows ...}` stands where a table stands (give it an alias) and takes its rows from a JSON array of objects
//! ([`rows`]): the text stays the same however many rows ride in one call, so that it is prepared once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

use serde::Serialize;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Row as _, SqliteConnection};

use super::Error;
use crate::clock::Clock;

/// A parameter.
#[derive(Clone, Debug)]
pub enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
    Bool(bool),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Arg {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}
impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}
impl From<Option<String>> for Arg {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}
impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub struct Query {
    sql: &'static str,
    args: Vec<Arg>,
}

/// A statement without parameters yet.
pub fn query(sql: &'static str) -> Query {
    Query { sql, args: Vec::new() }
}

/// Rows for a `{rows ...}` fragment: a JSON array of objects, each field named as its column.
pub fn rows<T: Serialize>(items: &[T]) -> String {
    serde_json::to_string(items).expect("rows of texts and numbers are JSON")
}

impl Query {
    #[must_use]
    pub fn bind(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The name in the statement's first line.
    pub fn name(&self) -> &'static str {
        self.sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or("unnamed")
    }

    /// Whether it waits for rows that others hold.
    pub(super) fn waits_for_locks(&self) -> bool {
        self.sql.contains("{for update}")
    }

    pub(super) async fn fetch_sqlite(self, conn: &mut SqliteConnection, clock: &Clock) -> Result<Vec<Row>, Error> {
        let text = expanded(Dialect::Sqlite, self.sql);
        let mut args = SqliteArguments::default();
        for arg in self.args {
            add_sqlite(&mut args, arg)?;
        }
        if self.sql.contains("{now}") {
            add_sqlite(&mut args, Arg::Int(Some(clock.now_ms())))?;
        }
        let rows = sqlx::query_with(AssertSqlSafe(text), args).fetch_all(conn).await?;
        Ok(rows.into_iter().map(Row::Sqlite).collect())
    }

    pub(super) async fn fetch_postgres(self, conn: &mut PgConnection) -> Result<Vec<Row>, Error> {
        let text = expanded(Dialect::Postgres, self.sql);
        let mut args = PgArguments::default();
        for arg in self.args {
            match arg {
                Arg::Int(value) => args.add(value),
                Arg::Text(value) => args.add(value),
                Arg::Bool(value) => args.add(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        let rows = sqlx::query_with(AssertSqlSafe(text), args).fetch_all(conn).await?;
        Ok(rows.into_iter().map(Row::Postgres).collect())
    }
}

fn add_sqlite(args: &mut SqliteArguments, arg: Arg) -> Result<(), Error> {
    match arg {
        Arg::Int(value) => args.add(value),
        Arg::Text(value) => args.add(value),
        Arg::Bool(value) => args.add(value),
    }
    .map_err(sqlx::Error::Encode)?;
    Ok(())
}

/// A row of either database.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column by its name: `i64`, `String`, `bool`, or an `Option` of these.
    ///
    /// # Errors
    /// [`Error::Statement`] if there is no such column or it has another type: a bug.
    pub fn get<T>(&self, column: &str) -> Result<T, Error>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(Error::from)
    }
}

/// Texts by dialect and the place of the statement in the program.
type Texts = HashMap<(Dialect, usize), Arc<str>>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// The text for the database at hand; worked out once per statement.
fn expanded(dialect: Dialect, sql: &'static str) -> Arc<str> {
    static KNOWN: LazyLock<RwLock<Texts>> = LazyLock::new(RwLock::default);
    let place = (dialect, sql.as_ptr() as usize);
    if let Some(text) = KNOWN.read().expect("no user panics inside").get(&place) {
        return text.clone();
    }
    let text: Arc<str> = expand(dialect, sql).into();
    KNOWN.write().expect("no user panics inside").insert(place, text.clone());
    text
}

fn expand(dialect: Dialect, sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 200);
    let mut rest = sql;
    let clock_parameter = format!("${}", highest_parameter(sql) + 1);
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}').expect("a fragment ends with }");
        text.push_str(&rest[..open]);
        let fragment = &rest[open + 1..close];
        match (fragment, dialect) {
            ("now", Dialect::Postgres) => text.push_str("(extract(epoch from clock_timestamp()) * 1000)::bigint"),
            ("now", Dialect::Sqlite) => text.push_str(&clock_parameter),
            ("for update" | "for update skip locked", Dialect::Postgres) => text.push_str(fragment),
            ("for update" | "for update skip locked", Dialect::Sqlite) => {}
            _ => {
                let rows = fragment.strip_prefix("rows ").expect("a known fragment");
                text.push_str(&expand_rows(dialect, rows));
            }
        }
        rest = &rest[close + 1..];
    }
    text.push_str(rest);
    text
}

/// `$1: id text, n bigint` as a table expression.
fn expand_rows(dialect: Dialect, rows: &str) -> String {
    let (parameter, columns) = rows.split_once(':').expect("rows PARAMETER: COLUMNS");
    let columns: Vec<(&str, &str)> =
        columns.split(',').map(|c| c.trim().split_once(' ').expect("a column has a type")).collect();
    match dialect {
        Dialect::Postgres => {
            let typed: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            format!("(select * from jsonb_to_recordset({}::jsonb) as listed({}))", parameter.trim(), typed.join(", "))
        }
        Dialect::Sqlite => {
            let taken: Vec<_> = columns.iter().map(|(name, _)| format!("value ->> '{name}' as {name}")).collect();
            format!("(select {} from json_each({}))", taken.join(", "), parameter.trim())
        }
    }
}

fn highest_parameter(sql: &str) -> usize {
    sql.split('$')
        .skip(1)
        .filter_map(|tail| {
            let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            tail[..digits].parse().ok()
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_what_each_database_needs() {
        let sql = "-- t\nselect {now} from {rows $2: id text, n bigint} r where a = $1 {for update}";
        assert_eq!(
            expand(Dialect::Sqlite, sql),
            "-- t\nselect $3 from (select value ->> 'id' as id, value ->> 'n' as n from json_each($2)) r where a = $1 "
        );
        let postgres = expand(Dialect::Postgres, sql);
        assert!(postgres.contains("jsonb_to_recordset($2::jsonb) as listed(id text, n bigint)"), "{postgres}");
        assert!(postgres.ends_with("for update"));
    }
}
