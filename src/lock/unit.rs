//! Guarded, short: a unit of work during which nobody else has these names.
//!
//! ```text
//! line in this process -> gate in Redis -> BEGIN with pg_advisory_xact_lock -> the work -> COMMIT
//!       (few connections)    (few servers)       (the lock)                     (and its end)
//! ```
//!
//! Only the database's lock counts, and it is part of the transaction: who holds it may be paused, cut off or killed at any
//! point, and either commits while it has it or not at all. On SQLite `begin immediate` is that lock: it has one writer.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use metrics::{counter, histogram};

use super::gate::{Passage, Place};
use super::line::Turn;
use super::name::{Kind, LockName, in_order};
use super::{Locks, until};
use crate::store::{self, Guard, Tx};

/// How a guarded unit of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded<T> {
    /// Committed.
    Done(T),
    /// Nothing was begun: somebody else has one of the names, and had it until the deadline.
    Busy,
}

/// What keeps a crowd away while a unit of work is under way. In the order of dropping: out of the gate, then of the line.
struct Inside {
    _places: Vec<Place>,
    _turns: Vec<Turn>,
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
        let Some(inside) = self.come_in(&names, until).await else {
            counter!("onetake_lock_busy_total", "kind" => "unit").increment(1);
            return Ok(Guarded::Busy);
        };
        let guard = Guard::new(names.iter().map(|name| name.key64(Kind::Unit)), until);
        let store = self.store.clone();
        // In a task of its own: whoever goes away now must not open the gate before the transaction has ended.
        let task = tokio::spawn(async move {
            let done = store.guarded(unit, guard, work).await;
            drop(inside);
            done
        });
        let done = match task.await {
            Ok(done) => done?,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => return Err(store::Error::Setup("the server is stopping".into()).into()),
        };
        Ok(match done {
            Some((value, held)) => {
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

    async fn come_in(&self, names: &[LockName], until: Option<Instant>) -> Option<Inside> {
        let mut turns = Vec::with_capacity(names.len());
        for name in names {
            turns.push(self.units.turn(name.as_str(), until).await?);
        }
        let mut places = Vec::new();
        // On SQLite this process is the only one, and the line above is all.
        if self.store.is_shared() {
            for name in names {
                match self.unit_gate.pass(name, until).await {
                    Passage::Open(place) => places.push(place),
                    Passage::Busy => return None,
                }
            }
        }
        Some(Inside { _places: places, _turns: turns })
    }
}

/// Names in text, for those who have them as constants or from ids of their own.
///
/// # Errors
/// The first that is none.
pub fn names<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Arc<[LockName]>, super::NameError> {
    texts.into_iter().map(|text| LockName::parse(text.as_ref())).collect()
}
