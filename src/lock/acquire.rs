//! Acquiring leases: all of the wanted names, or none.
//!
//! The database decides, in a transaction that has these names to itself. The request's id names one grant: whoever repeats
//! it, after a lost answer or an unknown commit, is given that very grant; once it has ended, it is over, as long as nobody
//! else was granted the name since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use rand::RngExt;
use serde::Serialize;

use super::gate::Place;
use super::keys::lease_word;
use super::lease::{Grant, LeaseRow, lock_rows, margin};
use super::line::Turn;
use super::mirror::Seen;
use super::name::{Kind, LockName, in_order};
use super::{Error, Locks, until};
use crate::clock::{Millis, millis};
use crate::fault;
use crate::id;
use crate::store::{self, Guard, Relay, Tx, query, rows};

/// Between two looks at a lease that somebody else holds.
const LOOKS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// A wish for leases.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub names: Vec<LockName>,
    pub ttl: Duration,
    /// Zero: now or not at all.
    pub wait: Duration,
    /// Who asks: the id of an API key, or a word for a part of this server.
    pub principal: String,
    /// The same again, by the same principal, is given the same grant again.
    pub request: String,
    /// For people: who has it and why.
    pub note: String,
}

/// Who has a lease that somebody else wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: LockName,
    pub principal: String,
    pub note: String,
    pub fencing_token: i64,
    /// For how long at most, unless it is renewed.
    pub left: Duration,
}

/// What became of a wish.
#[derive(Clone, Debug)]
pub enum Acquired {
    /// In the order of the names.
    Granted(Vec<Grant>),
    /// Somebody else has one of them, and had it until the deadline.
    Busy(Holder),
    /// This request was granted before, and that grant has ended. Of each name the last grant is known.
    Over(LockName),
}

/// What SQL decided.
enum Decided {
    Granted(Vec<LeaseRow>),
    Busy(LeaseRow),
    Over(LockName),
}

/// What keeps a crowd away while its head waits.
struct AtHead {
    places: Vec<Place>,
    _turns: Vec<Turn<()>>,
}

impl Locks {
    /// Acquires leases, waiting for at most as long as `wanted` says. Nobody renews them: see [`Locks::lease`] for that.
    ///
    /// # Errors
    /// `Ttl`, or the store's. The outcome of an unreachable store is unknown: ask again with the same request.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line. If SQL was granting just then, the lease stands until its end, and the same
    /// request finds it.
    pub async fn acquire(&self, wanted: Wanted) -> Result<Acquired, Error> {
        self.check_ttl(wanted.ttl)?;
        let asked = Instant::now();
        let wanted = Arc::new(Wanted { names: in_order(&wanted.names), ..wanted });
        let acquired = self.wait_for(&wanted, until(asked, wanted.wait)).await?;
        match &acquired {
            Acquired::Granted(grants) => {
                counter!("onetake_lock_grants_total", "kind" => "lease").increment(grants.len() as u64);
                histogram!("onetake_lock_wait_seconds", "kind" => "lease").record(asked.elapsed().as_secs_f64());
            }
            Acquired::Busy(_) => counter!("onetake_lock_busy_total", "kind" => "lease").increment(1),
            Acquired::Over(_) => {}
        }
        Ok(acquired)
    }

    async fn wait_for(&self, wanted: &Arc<Wanted>, until: Option<Instant>) -> Result<Acquired, Error> {
        // Not waiting, it is enough that Redis says no, and SQL has said so a moment ago.
        let seen = self.mirror.look(&wanted.names).await;
        if until.is_none()
            && let Some(holder) = seen.busy(wanted)
            && self.mirror.is_confirmed(&holder)
        {
            return Ok(Acquired::Busy(holder));
        }
        match self.try_acquire(wanted, &seen).await? {
            Acquired::Busy(holder) if until.is_none() => return Ok(Acquired::Busy(holder)),
            // First come, first served: a newcomer goes before those in line only if it finds the lease free.
            Acquired::Busy(_) => {}
            acquired => return Ok(acquired),
        }
        let Some(until) = until else { unreachable!("whoever does not wait was answered above") };
        let Some(head) = self.come_to_the_head(&wanted.names, until).await else {
            return self.busy_now(wanted).await;
        };
        let waiting: Vec<_> = wanted.names.iter().map(|name| self.wakes.listen(lease_word(name))).collect();
        let mut pause = LOOKS.0;
        loop {
            let seen = self.mirror.look(&wanted.names).await;
            let holder = match self.try_acquire(wanted, &seen).await? {
                Acquired::Busy(holder) => holder,
                acquired => return Ok(acquired),
            };
            let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(Acquired::Busy(holder)) };
            for place in &head.places {
                place.keep().await;
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            // Its end is known; it may come sooner, and then we are woken, or look.
            let pause_now = pause.mul_f64(jitter).min(holder.left + Duration::from_millis(1)).min(left);
            let woken = futures::future::select_all(waiting.iter().map(|waiting| Box::pin(waiting.woken())));
            tokio::select! {
                // dropped: a pause only
                () = tokio::time::sleep(pause_now) => {}
                // dropped: a wake-up is kept until it is heard
                _ = woken => {}
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    async fn come_to_the_head(&self, names: &[LockName], until: Instant) -> Option<AtHead> {
        let (mut places, mut turns) = (Vec::new(), Vec::new());
        for name in names {
            turns.push(self.leases.turn(name.as_str(), Some(until), false).await?);
        }
        for name in names {
            places.push(self.lease_gate.pass(name, Some(until)).await?);
        }
        Some(AtHead { places, _turns: turns })
    }

    /// The deadline came while others stood before us: one last look, and who has it is told.
    async fn busy_now(&self, wanted: &Arc<Wanted>) -> Result<Acquired, Error> {
        let seen = self.mirror.look(&wanted.names).await;
        self.try_acquire(wanted, &seen).await
    }

    /// Asks SQL once.
    async fn try_acquire(&self, wanted: &Arc<Wanted>, seen: &Seen) -> Result<Acquired, Error> {
        // A read costs a tenth of a transaction, and most looks find what they found before.
        if let Some(holder) = self.held_by_another(wanted).await? {
            self.mirror.confirm(&holder.name, holder.fencing_token);
            return Ok(Acquired::Busy(holder));
        }
        // From here on its time runs, whenever the answer comes.
        let asked = Instant::now();
        let guard =
            Guard::new(wanted.names.iter().map(|name| name.key64(Kind::Lease)), Some(asked + Duration::from_secs(2)));
        // Made before the transaction, so that its repetition grants nothing else.
        let (owner, ids) = (id::new_token(), wanted.names.iter().map(|_| id::new_id()).collect::<Vec<_>>());
        let (store, with) = (self.store.clone(), wanted.clone());
        let task = tokio::spawn(async move {
            store
                .guarded::<_, store::Error, _>("lease.acquire", Relay::alone(&guard), move |tx| {
                    let (wanted, owner, ids) = (with.clone(), owner.clone(), ids.clone());
                    Box::pin(async move { decide(tx, &wanted, &owner, &ids).await })
                })
                .await
        });
        let decided = match task.await {
            Ok(decided) => decided?,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => return Err(store::Error::Setup("the server is stopping".into()).into()),
        };
        Ok(match decided.map(|committed| committed.value) {
            Some(Decided::Granted(granted)) => {
                fault::point("lease.granted");
                self.mirror.write(&granted, seen).await;
                Acquired::Granted(granted.into_iter().map(|row| grant(row, asked)).collect())
            }
            Some(Decided::Busy(row)) => Acquired::Busy(holder(row)),
            Some(Decided::Over(name)) => Acquired::Over(name),
            // Others were deciding about these names all the time.
            None => Acquired::Busy(Holder {
                name: wanted.names[0].clone(),
                principal: String::new(),
                note: String::new(),
                fencing_token: 0,
                left: Duration::ZERO,
            }),
        })
    }

    /// Somebody who has one of the names, by a plain read.
    async fn held_by_another(&self, wanted: &Wanted) -> Result<Option<Holder>, store::Error> {
        let found = self.read_rows(&wanted.names).await?;
        let other = found.into_iter().find(|row| row.is_held() && !is_same(row, wanted));
        Ok(other.map(holder))
    }
}

/// In one transaction that has the names to itself: look, decide, write.
async fn decide(tx: &mut Tx, wanted: &Wanted, owner: &str, ids: &[String]) -> Result<Decided, store::Error> {
    let known = lock_rows(tx, &wanted.names).await?;
    if let Some(row) = known.iter().find(|row| row.is_held() && !is_same(row, wanted)) {
        return Ok(Decided::Busy(row.clone()));
    }
    if let Some(row) = known.iter().find(|row| !row.is_held() && is_same(row, wanted)) {
        return Ok(Decided::Over(row.name.clone()));
    }
    let is_known = |name: &LockName| known.iter().any(|row| row.name == *name && row.is_held());
    let fresh: Vec<_> = wanted
        .names
        .iter()
        .zip(ids)
        .filter(|(name, _)| !is_known(name))
        .map(|(name, id)| FreshRow { name, id })
        .collect();
    let granted = tx
        .fetch_all(
            query(
                "-- lease.grant
                insert into leases as l
                  (name, id, token, owner, principal, request, note, ttl_ms, granted_at_ms, until_ms)
                select r.name, r.id, {now}, $2, $3, $4, $5, $6, {now}, {now} + $6
                from {rows $1: name text, id text} r
                where true
                order by r.name
                on conflict (name) do update set
                  id = excluded.id,
                  token = case when l.token >= excluded.token then l.token + 1 else excluded.token end,
                  owner = excluded.owner,
                  principal = excluded.principal,
                  request = excluded.request,
                  note = excluded.note,
                  ttl_ms = excluded.ttl_ms,
                  granted_at_ms = excluded.granted_at_ms,
                  until_ms = excluded.until_ms,
                  released_at_ms = null
                returning name, id, token, owner, principal, request, note, ttl_ms, granted_at_ms, until_ms,
                  released_at_ms, {now} as now_ms",
            )
            .bind(rows(&fresh))
            .bind(owner)
            .bind(wanted.principal.as_str())
            .bind(wanted.request.as_str())
            .bind(wanted.note.as_str())
            .bind(millis(wanted.ttl)),
        )
        .await?;
    let mut all: Vec<LeaseRow> = known.into_iter().filter(LeaseRow::is_held).collect();
    for row in &granted {
        all.push(LeaseRow::read(row)?);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Decided::Granted(all))
}

#[derive(Serialize)]
struct FreshRow<'a> {
    name: &'a LockName,
    id: &'a str,
}

fn is_same(row: &LeaseRow, wanted: &Wanted) -> bool {
    row.principal == wanted.principal && row.request == wanted.request
}

fn holder(row: LeaseRow) -> Holder {
    let left = duration(row.left_ms());
    Holder { name: row.name, principal: row.principal, note: row.note, fencing_token: row.token, left }
}

/// What the holder is given. A grant that is given again has run for a while: what is left counts, by the database.
pub(super) fn grant(row: LeaseRow, asked: Instant) -> Grant {
    let (ttl, left) = (duration(row.ttl_ms), duration(row.left_ms()));
    Grant {
        trusted_until: asked + left.min(ttl).saturating_sub(margin(ttl)),
        name: row.name,
        id: row.id,
        fencing_token: row.token,
        owner: row.owner,
        note: row.note,
        ttl,
        left,
        until_ms: row.until_ms,
    }
}

fn duration(ms: Millis) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
