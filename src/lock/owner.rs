//! What the owner of a lease can do: renew it and give it back. Both are safe to repeat.

use std::time::{Duration, Instant};

use metrics::{counter, histogram};

use super::acquire::grant;
use super::lease::{Grant, LeaseRow, NameRow, lock_rows};
use super::name::{LockName, in_order};
use super::{Error, Locks};
use crate::clock::millis;
use crate::fault;
use crate::store::{self, Row, Tx, query, rows};

/// What an owner was told.
#[derive(Clone, Debug)]
pub enum Owned<T> {
    Done(T),
    /// It has ended, or is somebody else's: the token is none that is in force.
    Lost(LockName),
    /// Nobody ever had this name, or it was forgotten.
    Unknown(LockName),
}

impl Locks {
    /// Lets leases that are still held run for `ttl` from now; all of them, or none.
    ///
    /// # Errors
    /// `Ttl`, or the store's: the lease runs on until its end, and renewing again is harmless.
    pub async fn renew(&self, names: &[LockName], owner: &str, ttl: Duration) -> Result<Owned<Vec<Grant>>, Error> {
        self.check_ttl(ttl)?;
        let names = in_order(names);
        let seen = self.mirror.look(&names).await;
        let asked = Instant::now();
        let (wanted, owner) = (names.clone(), owner.to_owned());
        let renewed = self
            .store
            .unit_of_work::<_, store::Error, _>("lease.renew", move |tx| {
                let (names, owner) = (wanted.clone(), owner.clone());
                Box::pin(async move { renew(tx, &names, &owner, ttl).await })
            })
            .await?;
        Ok(match renewed {
            Owned::Done(renewed) => {
                self.mirror.write(&renewed, &seen).await;
                Owned::Done(renewed.into_iter().map(|row| grant(row, asked)).collect())
            }
            Owned::Lost(name) => {
                counter!("onetake_lock_losses_total", "kind" => "lease").increment(1);
                Owned::Lost(name)
            }
            Owned::Unknown(name) => Owned::Unknown(name),
        })
    }

    /// Gives leases back; all of them, or none. Doing so again says the same.
    ///
    /// # Errors
    /// The store's: giving back again is harmless, and without that the lease ends by itself.
    pub async fn release(&self, names: &[LockName], owner: &str) -> Result<Owned<()>, Error> {
        let names = in_order(names);
        let (wanted, owner) = (names.clone(), owner.to_owned());
        let released = self
            .store
            .unit_of_work::<_, store::Error, _>("lease.release", move |tx| {
                let (names, owner) = (wanted.clone(), owner.clone());
                Box::pin(async move { release(tx, &names, &owner).await })
            })
            .await?;
        Ok(match released {
            Owned::Done(released) => {
                fault::point("lease.released");
                for row in &released {
                    self.was_released(row).await;
                }
                Owned::Done(())
            }
            Owned::Lost(name) => Owned::Lost(name),
            Owned::Unknown(name) => Owned::Unknown(name),
        })
    }

    /// Tells Redis and those who wait that a lease has ended before its time.
    pub(super) async fn was_released(&self, row: &LeaseRow) {
        let held_ms = u64::try_from(row.now_ms - row.granted_at_ms).unwrap_or(0);
        let held = Duration::from_millis(held_ms).as_secs_f64();
        histogram!("onetake_lock_hold_seconds", "kind" => "lease").record(held);
        // Those in this process first: they need no Redis for it.
        self.wakes.tell(&super::keys::lease_word(&row.name));
        self.mirror.forget(&row.name, row.token).await;
    }

    pub(super) async fn read_rows(&self, names: &[LockName]) -> Result<Vec<LeaseRow>, store::Error> {
        let wanted: Vec<_> = names.iter().map(|name| NameRow { name }).collect();
        let found = self
            .store
            .fetch_all(
                query(
                    "-- lease.read
                    select l.name, l.id, l.token, l.owner, l.principal, l.request, l.note, l.ttl_ms, l.granted_at_ms,
                      l.until_ms, l.released_at_ms, {now} as now_ms
                    from leases l
                    where l.name in (select r.name from {rows $1: name text} r)
                    order by l.name",
                )
                .bind(rows(&wanted)),
            )
            .await?;
        found.iter().map(LeaseRow::read).collect()
    }
}

async fn renew(
    tx: &mut Tx,
    names: &[LockName],
    owner: &str,
    ttl: Duration,
) -> Result<Owned<Vec<LeaseRow>>, store::Error> {
    let known = lock_rows(tx, names).await?;
    for name in names {
        match known.iter().find(|row| row.name == *name) {
            None => return Ok(Owned::Unknown(name.clone())),
            // One that has ended is over even if nobody took it yet: its holder was told so.
            Some(row) if row.owner != owner || !row.is_held() => return Ok(Owned::Lost(name.clone())),
            Some(_) => {}
        }
    }
    let wanted: Vec<_> = names.iter().map(|name| NameRow { name }).collect();
    let renewed = tx
        .fetch_all(
            query(
                "-- lease.renew
                update leases set ttl_ms = $2, until_ms = {now} + $2
                where name in (select r.name from {rows $1: name text} r)
                returning name, id, token, owner, principal, request, note, ttl_ms, granted_at_ms, until_ms,
                  released_at_ms, {now} as now_ms",
            )
            .bind(rows(&wanted))
            .bind(millis(ttl)),
        )
        .await?;
    sorted(&renewed).map(Owned::Done)
}

async fn release(tx: &mut Tx, names: &[LockName], owner: &str) -> Result<Owned<Vec<LeaseRow>>, store::Error> {
    let known = lock_rows(tx, names).await?;
    for name in names {
        match known.iter().find(|row| row.name == *name) {
            None => return Ok(Owned::Unknown(name.clone())),
            Some(row) if row.owner != owner => return Ok(Owned::Lost(name.clone())),
            // It ended by itself, or was taken away: who gives it back now did not hold it to the end.
            Some(row) if !row.is_held() && row.released_at_ms.is_none() => return Ok(Owned::Lost(name.clone())),
            Some(_) => {}
        }
    }
    let held: Vec<_> = known.iter().filter(|row| row.is_held()).map(|row| NameRow { name: &row.name }).collect();
    end(tx, &held, true).await.map(Owned::Done)
}

/// Ends leases now, given back by their owner or taken away. The rows are locked already.
pub(super) async fn end(tx: &mut Tx, held: &[NameRow<'_>], is_given_back: bool) -> Result<Vec<LeaseRow>, store::Error> {
    let ended = tx
        .fetch_all(
            query(
                "-- lease.end
                update leases set until_ms = {now}, released_at_ms = case when $2 then {now} end
                where name in (select r.name from {rows $1: name text} r)
                returning name, id, token, owner, principal, request, note, ttl_ms, granted_at_ms, until_ms,
                  released_at_ms, {now} as now_ms",
            )
            .bind(rows(held))
            .bind(is_given_back),
        )
        .await?;
    sorted(&ended)
}

fn sorted(rows: &[Row]) -> Result<Vec<LeaseRow>, store::Error> {
    let mut rows = rows.iter().map(LeaseRow::read).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}
