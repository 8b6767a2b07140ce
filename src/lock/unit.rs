//! Guarded, short: a unit of work during which nobody else has these names.
//!
//! ```text
//! line in this process -> gate in Redis -> BEGIN with pg_advisory_xact_lock -> the work -> COMMIT
//!       (one of many)       (few servers)       (the lock)                     (and its end)
//! ```
//!
//! Only the database's lock counts, and it is part of the transaction: who holds it may be paused, cut off or killed at any
//! point, and either commits while it has it or not at all. On SQLite `begin immediate` is that lock: it has one writer.
//!
//! So the way may be shorter. Who comes alone tries the lock at once, and the gate is told only if it is inside for longer
//! than a moment: until then few are kept waiting, at the database. And who commits begins for the next in line in the same
//! flight, if nobody else stands at the lock: a crowd of one process costs one connection, and Redis nothing.

use std::any::Any;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use metrics::{counter, histogram};

use super::gate::Place;
use super::line::Turn;
use super::name::{Kind, LockName, in_order};
use super::{Locks, until};
use crate::store::{self, Committed, Guard, Relay, Tx};

/// How long one unit of work may be inside of which Redis knows nothing. Others stand at the database meanwhile: of all other
/// servers no more than the gate is wide, and where somebody stands there, nobody hands on.
const UNTOLD_FOR: Duration = Duration::from_millis(20);

/// How a guarded unit of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded<T> {
    /// Committed.
    Done(T),
    /// Nothing was begun: somebody else has one of the names, and had it until the deadline.
    Busy,
}

/// What goes from one who has committed to the next in line of the same name: an open transaction that has the lock.
pub(super) struct Handed {
    tx: Tx,
    places: Vec<Place>,
}

/// What keeps a crowd away while a unit of work is under way. In the order of dropping: out of the gate, then of the line.
struct Inside {
    begun: Option<Tx>,
    places: Vec<Place>,
    turns: Vec<Turn<Handed>>,
}

/// What became of an attempt to begin.
enum Attempt<T> {
    Ended(Option<Committed<T>>),
    /// Somebody else has the lock: as far as it came.
    NotFree(Inside),
}

impl Locks {
    /// Runs `work` in one transaction that has all of `names` to itself, among all servers of this database.
    ///
    /// Waits for at most `wait`, first come, first served as long as Redis is there; with no wait at all, it is `Busy` if
    /// anybody is at one of the names. `unit` labels logs and metrics, and `work` is repeated as in
    /// [`Store::unit_of_work`](crate::store::Store::unit_of_work).
    ///
    /// # Errors
    /// What `work` failed with, or the store's.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits leaves the line. Once the transaction is asked for, it runs to its end.
    pub async fn guarded<T, E, F>(
        &self,
        unit: &'static str,
        names: &[LockName],
        wait: Duration,
        work: F,
    ) -> Result<Guarded<T>, E>
    where
        T: Send + 'static,
        E: From<store::Error> + Send + Any,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let asked = Instant::now();
        let names = in_order(names);
        let until = until(asked, wait);
        let guard = Arc::new(Guard::new(names.iter().map(|name| name.key64(Kind::Unit)), until));
        let work = Arc::new(work);
        let mut attempt = match self.line_up(&names, until).await {
            None => Attempt::Ended(None),
            Some(inside) if inside.may_try(until) && self.store.is_shared() => {
                self.begin(unit, guard.clone(), self.up_to_the_gate(inside, &names), true, work.clone()).await?
            }
            Some(inside) => Attempt::NotFree(inside),
        };
        if let Attempt::NotFree(inside) = attempt {
            attempt = match self.through_the_gate(inside, &names, until).await {
                Some(inside) => self.begin(unit, guard, inside, false, work).await?,
                None => Attempt::Ended(None),
            };
        }
        let done = match attempt {
            Attempt::Ended(done) => done,
            Attempt::NotFree(_) => None,
        };
        Ok(match done {
            Some(Committed { value, held, .. }) => {
                counter!("onetake_lock_grants_total", "kind" => "unit").increment(1);
                histogram!("onetake_lock_hold_seconds", "kind" => "unit").record(held.as_secs_f64());
                let waited = asked.elapsed().saturating_sub(held);
                histogram!("onetake_lock_wait_seconds", "kind" => "unit").record(waited.as_secs_f64());
                Guarded::Done(value)
            }
            None => {
                counter!("onetake_lock_busy_total", "kind" => "unit").increment(1);
                Guarded::Busy
            }
        })
    }

    /// In a task of its own: whoever goes away now must not open the gate before the transaction has ended.
    async fn begin<T, E, F>(
        &self,
        unit: &'static str,
        guard: Arc<Guard>,
        inside: Inside,
        tries: bool,
        work: Arc<F>,
    ) -> Result<Attempt<T>, E>
    where
        T: Send + 'static,
        E: From<store::Error> + Send + Any,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            let mut inside = inside;
            if tries {
                inside.begun = store.begin_if_free(&guard).await?;
                if inside.begun.is_none() {
                    return Ok(Attempt::NotFree(inside));
                }
            }
            let Inside { begun, places, mut turns } = inside;
            // Of several names each has a line of its own.
            let has_heir = || matches!(turns.as_slice(), [turn] if turn.has_heir());
            let relay = Relay { guard: &guard, begun, has_heir: &has_heir };
            let mut done = told_if_long(&places, store.guarded(unit, relay, &*work)).await;
            let next = done.as_mut().ok().and_then(|done| done.as_mut()?.next.take());
            match next {
                // It was begun for the one line there is.
                Some(tx) => turns.remove(0).hand_on(Handed { tx, places }),
                None => drop(places),
            }
            done.map(Attempt::Ended)
        });
        match task.await {
            Ok(attempt) => attempt,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => Err(store::Error::Setup("the server is stopping".into()).into()),
        }
    }

    /// Waits for its turn among those of this process.
    async fn line_up(&self, names: &[LockName], until: Option<Instant>) -> Option<Inside> {
        let mut inside = Inside { begun: None, places: Vec::new(), turns: Vec::with_capacity(names.len()) };
        for name in names {
            let mut turn = self.units.turn(name.as_str(), until, names.len() == 1).await?;
            if let Some(handed) = turn.handed.take() {
                (inside.begun, inside.places) = (Some(handed.tx), handed.places);
            }
            inside.turns.push(turn);
        }
        Some(inside)
    }

    /// With a place at each gate, of which Redis is to be told yet.
    fn up_to_the_gate(&self, mut inside: Inside, names: &[LockName]) -> Inside {
        inside.places = names.iter().map(|name| self.unit_gate.place(name)).collect();
        inside
    }

    /// Waits for its turn among the servers.
    async fn through_the_gate(&self, mut inside: Inside, names: &[LockName], until: Option<Instant>) -> Option<Inside> {
        // On SQLite this process is the only one, and its line is all.
        if inside.begun.is_some() || !self.store.is_shared() {
            return Some(inside);
        }
        if inside.places.is_empty() {
            inside = self.up_to_the_gate(inside, names);
        }
        let mut passed = Vec::with_capacity(names.len());
        for place in std::mem::take(&mut inside.places) {
            passed.push(place.pass(until).await?);
        }
        inside.places = passed;
        Some(inside)
    }
}

impl Inside {
    /// Whether the lock is worth a try before the gate is asked: nobody of this process is there. A caller who does not wait
    /// is rather told by Redis.
    fn may_try(&self, until: Option<Instant>) -> bool {
        self.begun.is_none() && until.is_some() && self.turns.iter().all(|turn| turn.came_alone)
    }
}

/// Runs what happens inside. Once it has taken longer than a moment, the gate is told that somebody is there.
async fn told_if_long<T>(places: &[Place], unit: impl Future<Output = T>) -> T {
    let mut unit = pin!(unit);
    let told_late = async {
        tokio::time::sleep(UNTOLD_FOR).await;
        join_all(places.iter().filter(|place| !place.is_told()).map(Place::keep)).await;
    };
    tokio::select! {
        biased;
        // Dropped: a pause, or what we waited to be told; the place is left all the same.
        ended = &mut unit => ended,
        () = told_late => unit.await,
    }
}

/// Names in text, for those who have them as constants or from ids of their own.
///
/// # Errors
/// The first that is none.
pub fn names<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Arc<[LockName]>, super::NameError> {
    texts.into_iter().map(|text| LockName::parse(text.as_ref())).collect()
}
