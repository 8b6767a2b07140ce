//! Leases for operators: looking at them, taking one from its holder, and forgetting what nobody has used for long.

use std::time::Duration;

use super::lease::{LeaseRow, NameRow, lock_rows};
use super::name::LockName;
use super::owner::end;
use super::{Error, Locks};
use crate::clock::{Millis, millis};
use crate::store::{self, Row, Tx, query};

/// Entries that are shown with a lease.
const SHOWN: i64 = 20;

/// A lease as it is shown: without its owner's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub id: String,
    pub name: LockName,
    pub fencing_token: i64,
    pub principal: String,
    pub note: String,
    pub ttl_ms: Millis,
    pub granted_at_ms: Millis,
    pub until_ms: Millis,
    pub released_at_ms: Option<Millis>,
    pub is_held: bool,
}

/// Which leases to list, and from where on.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What the names begin with; empty: any.
    pub prefix: String,
    /// Only those that are held, or that are not.
    pub is_held: Option<bool>,
    /// Whose they are; empty: anybody's.
    pub principal: String,
    /// The id of the last one of the page before; empty: from the newest on.
    pub before: String,
    pub limit: u32,
}

/// A lease that was taken from its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: String,
    pub fencing_token: i64,
    pub holder: String,
    pub note: String,
    pub principal: String,
    pub reason: String,
    pub at_ms: Millis,
}

/// What became of taking a lease away.
#[derive(Clone, Debug)]
pub enum Forced {
    Done(LeaseView),
    NotHeld,
    Unknown,
}

impl Locks {
    /// A lease with those that were taken away under its name, the newest first. `None` for a name nobody had.
    ///
    /// # Errors
    /// Of the store.
    pub async fn show(&self, name: &LockName) -> Result<Option<(LeaseView, Vec<AuditEntry>)>, Error> {
        let Some(row) = self.read_rows(std::slice::from_ref(name)).await?.pop() else { return Ok(None) };
        let audit = query(
            "-- lock.audit
            select id, token, holder, note, principal, reason, at_ms from lock_audit
            where name = $1 order by id desc limit $2",
        );
        let found = self.store.fetch_all(audit.bind(name.as_str()).bind(SHOWN)).await?;
        Ok(Some((LeaseView::of(row), found.iter().map(AuditEntry::read).collect::<Result<_, _>>()?)))
    }

    /// Leases, those granted last first.
    ///
    /// # Errors
    /// Of the store.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<LeaseView>, store::Error> {
        let state = match filter.is_held {
            Some(true) => "held",
            Some(false) => "free",
            None => "",
        };
        let list = query(
            "-- lease.list
            select l.name, l.id, l.token, l.owner, l.principal, l.request, l.note, l.ttl_ms, l.granted_at_ms,
              l.until_ms, l.released_at_ms, {now} as now_ms
            from leases l
            where ($1 = '' or l.id < $1)
              and ($2 = '' or substr(l.name, 1, length($2)) = $2)
              and ($3 = '' or ($3 = 'held') = (l.until_ms > {now}))
              and ($4 = '' or l.principal = $4)
            order by l.id desc
            limit $5",
        );
        let found = self
            .store
            .fetch_all(
                list.bind(filter.before.as_str())
                    .bind(filter.prefix.as_str())
                    .bind(state)
                    .bind(filter.principal.as_str())
                    .bind(i64::from(filter.limit)),
            )
            .await?;
        found.iter().map(|row| LeaseRow::read(row).map(LeaseView::of)).collect()
    }

    /// Takes a lease from its holder, who learns it at its next renewal; until then only the fencing token keeps it from
    /// what it guards. Who did it and why is noted in the same transaction.
    ///
    /// # Errors
    /// Of the store.
    pub async fn force_release(&self, name: &LockName, principal: &str, reason: &str) -> Result<Forced, Error> {
        // Made before, so that a repetition finds its own entry.
        let audit_id = crate::id::new_id();
        let (name, principal, reason) = (name.clone(), principal.to_owned(), reason.to_owned());
        let taken = self
            .store
            .unit_of_work::<_, store::Error, _>("lease.force_release", move |tx| {
                let (id, name, principal, reason) = (audit_id.clone(), name.clone(), principal.clone(), reason.clone());
                Box::pin(async move { take_away(tx, &id, &name, &principal, &reason).await })
            })
            .await?;
        Ok(match taken {
            Taken::Done(row) => {
                self.was_released(&row).await;
                Forced::Done(LeaseView::of(*row))
            }
            Taken::NotHeld => Forced::NotHeld,
            Taken::Unknown => Forced::Unknown,
        })
    }

    /// How many leases are held now.
    ///
    /// # Errors
    /// Of the store.
    pub async fn held(&self) -> Result<i64, store::Error> {
        let count = query("-- lease.held\nselect count(*) as n from leases where until_ms > {now}");
        self.store.fetch_optional(count).await?.map_or(Ok(0), |row| row.get("n"))
    }

    /// Forgets leases that nobody has had for as long as the settings say, and old entries of the audit; some of each. Their
    /// names begin anew with a larger fencing token, as tokens follow the time. True if there may be more.
    ///
    /// # Errors
    /// Of the store.
    pub async fn forget_old(&self, page: u32) -> Result<bool, store::Error> {
        let (kept, audit) = (millis(self.settings.keep.0), millis(self.settings.keep_audit.0));
        let gone = self
            .store
            .unit_of_work::<_, store::Error, _>("lease.forget", move |tx| {
                Box::pin(async move {
                    let leases = query(
                        "-- lease.forget
                        delete from leases where name in (
                          select name from leases where until_ms < {now} - $1
                          order by until_ms limit $2 {for update skip locked}
                        ) and until_ms < {now} - $1
                        returning name",
                    );
                    let entries = query(
                        "-- lock.forget_audit
                        delete from lock_audit where id in (
                          select id from lock_audit where at_ms < {now} - $1 order by id limit $2
                        )
                        returning id",
                    );
                    let page = i64::from(page);
                    let leases = tx.fetch_all(leases.bind(kept).bind(page)).await?.len();
                    let entries = tx.fetch_all(entries.bind(audit).bind(page)).await?.len();
                    Ok(leases.max(entries) as i64 >= page)
                })
            })
            .await?;
        Ok(gone)
    }
}

enum Taken {
    Done(Box<LeaseRow>),
    NotHeld,
    Unknown,
}

async fn take_away(
    tx: &mut Tx,
    audit_id: &str,
    name: &LockName,
    principal: &str,
    reason: &str,
) -> Result<Taken, store::Error> {
    let Some(row) = lock_rows(tx, std::slice::from_ref(name)).await?.pop() else { return Ok(Taken::Unknown) };
    let before = query("-- lock.audit_of\nselect id from lock_audit where id = $1").bind(audit_id);
    if tx.fetch_optional(before).await?.is_some() {
        return Ok(Taken::Done(Box::new(row)));
    }
    if !row.is_held() {
        return Ok(Taken::NotHeld);
    }
    tx.execute(
        query(
            "-- lock.note
            insert into lock_audit (id, name, token, holder, note, principal, reason, at_ms)
            values ($1, $2, $3, $4, $5, $6, $7, {now})",
        )
        .bind(audit_id)
        .bind(name.as_str())
        .bind(row.token)
        .bind(row.principal.as_str())
        .bind(row.note.as_str())
        .bind(principal)
        .bind(reason),
    )
    .await?;
    let ended = end(tx, &[NameRow { name }], false).await?.pop();
    Ok(ended.map_or(Taken::Unknown, |row| Taken::Done(Box::new(row))))
}

impl LeaseView {
    fn of(row: LeaseRow) -> Self {
        Self {
            is_held: row.is_held(),
            id: row.id,
            name: row.name,
            fencing_token: row.token,
            principal: row.principal,
            note: row.note,
            ttl_ms: row.ttl_ms,
            granted_at_ms: row.granted_at_ms,
            until_ms: row.until_ms,
            released_at_ms: row.released_at_ms,
        }
    }

    /// For how long it is held still, if it is not renewed.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.ttl_ms).unwrap_or(0))
    }
}

impl AuditEntry {
    fn read(row: &Row) -> Result<Self, store::Error> {
        Ok(Self {
            id: row.get("id")?,
            fencing_token: row.get("token")?,
            holder: row.get("holder")?,
            note: row.get("note")?,
            principal: row.get("principal")?,
            reason: row.get("reason")?,
            at_ms: row.get("at_ms")?,
        })
    }
}
