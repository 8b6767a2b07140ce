//! A lease as it stands in SQL, and the check that makes a write safe.
//!
//! Held while `until_ms` is ahead by the database's clock. Each grant of a name has a larger fencing token. Rows are locked
//! in the order of their names before anything is decided about them.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::name::LockName;
use crate::clock::Millis;
use crate::store::{Error, Row, Tx, query, rows};

/// A lease that was granted.
#[derive(Clone, Debug)]
pub struct Grant {
    pub name: LockName,
    /// Of this grant.
    pub id: String,
    /// Larger than that of every earlier grant of the name.
    pub fencing_token: i64,
    /// Only who knows this renews and releases. Not for logs.
    pub owner: String,
    pub note: String,
    /// As asked for.
    pub ttl: Duration,
    /// What was left of it when the database answered.
    pub left: Duration,
    /// By the database's clock.
    pub until_ms: Millis,
    /// The holder may trust it until then: before the end, counted from before it was asked for.
    pub trusted_until: Instant,
}

/// A row of `leases`, read under its lock.
#[derive(Clone, Debug)]
pub(super) struct LeaseRow {
    pub name: LockName,
    pub id: String,
    pub token: i64,
    pub owner: String,
    pub principal: String,
    pub request: String,
    pub note: String,
    pub ttl_ms: Millis,
    pub granted_at_ms: Millis,
    pub until_ms: Millis,
    pub released_at_ms: Option<Millis>,
    pub now_ms: Millis,
}

/// A name, as rows ride into a statement.
#[derive(Serialize)]
pub(super) struct NameRow<'a> {
    pub name: &'a LockName,
}

impl LeaseRow {
    pub fn is_held(&self) -> bool {
        self.until_ms > self.now_ms
    }

    pub fn left_ms(&self) -> Millis {
        (self.until_ms - self.now_ms).max(0)
    }

    pub fn read(row: &Row) -> Result<Self, Error> {
        let name: String = row.get("name")?;
        Ok(Self {
            name: LockName::parse(&name)
                .map_err(|error| Error::Setup(format!("a lease in the database has no name: {error}")))?,
            id: row.get("id")?,
            token: row.get("token")?,
            owner: row.get("owner")?,
            principal: row.get("principal")?,
            request: row.get("request")?,
            note: row.get("note")?,
            ttl_ms: row.get("ttl_ms")?,
            granted_at_ms: row.get("granted_at_ms")?,
            until_ms: row.get("until_ms")?,
            released_at_ms: row.get("released_at_ms")?,
            now_ms: row.get("now_ms")?,
        })
    }
}

/// The rows of `names` that there are, locked in the order of the names.
pub(super) async fn lock_rows(tx: &mut Tx, names: &[LockName]) -> Result<Vec<LeaseRow>, Error> {
    let wanted: Vec<_> = names.iter().map(|name| NameRow { name }).collect();
    let found = tx
        .fetch_all(
            query(
                "-- lease.lock
                select l.name, l.id, l.token, l.owner, l.principal, l.request, l.note, l.ttl_ms, l.granted_at_ms,
                  l.until_ms, l.released_at_ms, {now} as now_ms
                from leases l
                where l.name in (select r.name from {rows $1: name text} r)
                order by l.name
                {for update}",
            )
            .bind(rows(&wanted)),
        )
        .await?;
    found.iter().map(LeaseRow::read).collect()
}

/// Whether all of `grants` (a name and its fencing token) are held now. If so, nobody else is granted one of them before
/// this transaction has ended: what it writes is written by the holder.
///
/// The caller rolls back if they are not.
///
/// # Errors
/// Of the store.
pub async fn check(tx: &mut Tx, grants: &[(LockName, i64)]) -> Result<bool, Error> {
    let mut names: Vec<LockName> = grants.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    let held = lock_rows(tx, &names).await?;
    let is_held = |(name, token): &(LockName, i64)| {
        held.iter().any(|row| row.name == *name && row.token == *token && row.is_held())
    };
    Ok(grants.iter().all(is_held))
}

/// How long before its end a lease is not trusted any more: clocks differ a little in speed, and whoever is told needs a
/// moment to stop.
pub(super) fn margin(ttl: Duration) -> Duration {
    ttl / 8
}
