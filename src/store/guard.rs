//! Locks that a transaction takes as its own first act, before it reads anything.
//!
//! Taken inside the statement that reads, a lock comes too late: that statement's snapshot is older than the lock, and an
//! update by whoever had it before is lost. Under a stricter isolation than READ COMMITTED even the first statement's
//! snapshot would be too old. So `begin`, the isolation and the locks travel to Postgres as one text, in one flight.

use std::time::{Duration, Instant};

use super::Error;

/// So long a connection stands at a lock at most, whatever the deadline: it is one of few.
const LONGEST_STAND: Duration = Duration::from_secs(30);

const BEGIN: &str = "begin isolation level read committed";

/// What a unit of work holds from its first act to its end.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Sorted, each once: two that want the same keys in opposite orders would wait for each other for ever.
    keys: Vec<i64>,
    until: Option<Instant>,
}

impl Guard {
    /// Waits for `keys` until then; not at all without an `until`.
    pub fn new(keys: impl IntoIterator<Item = i64>, until: Option<Instant>) -> Self {
        let mut keys: Vec<i64> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self { keys, until }
    }

    /// Whether the caller waits for the locks at all.
    pub(super) fn waits(&self) -> bool {
        self.until.is_some()
    }

    /// The beginning of a transaction on Postgres that stands at the locks until it has them.
    pub(super) fn begin(&self) -> String {
        let left = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        // Zero would mean without end.
        let stand_ms = left.min(LONGEST_STAND).as_millis().max(1);
        let mut text = format!("{BEGIN}; set local lock_timeout = {stand_ms}");
        for key in &self.keys {
            text.push_str(&format!("; select pg_advisory_xact_lock({key})"));
        }
        // What the work itself waits for is bounded as in any other unit of work.
        text.push_str("; set local lock_timeout to default");
        text
    }

    /// The beginning of a transaction on Postgres that has the locks if its last row says so: nobody waits. Somebody who
    /// stands at one of them comes first.
    pub(super) fn try_begin(&self) -> String {
        let taken: Vec<String> = self.keys.iter().map(|key| format!("pg_try_advisory_xact_lock({key})")).collect();
        let taken = if taken.is_empty() { "true".to_owned() } else { taken.join(" and ") };
        format!("{BEGIN}; select {taken}")
    }
}

/// Whether a lock was somebody else's for too long.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(db) if db.code().as_deref() == Some("55P03"))
}

/// A guard is only waited for where one was given.
pub(super) fn without_guard<T, E: From<Error>>(done: Option<T>) -> Result<T, E> {
    done.ok_or_else(|| Error::Setup("a unit of work without a guard was told to wait for one".into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_in_order_and_each_once_after_begin() {
        let text = Guard::new([7, -3, 7], None).begin();
        assert_eq!(
            text,
            "begin isolation level read committed; set local lock_timeout = 1; select pg_advisory_xact_lock(-3); \
             select pg_advisory_xact_lock(7); set local lock_timeout to default"
        );
        let far = Guard::new([1], Some(Instant::now() + Duration::from_secs(3600))).begin();
        assert!(far.contains("lock_timeout = 30000;"), "{far}");
        assert_eq!(
            Guard::new([2, 1], None).try_begin(),
            "begin isolation level read committed; select pg_try_advisory_xact_lock(1) and pg_try_advisory_xact_lock(2)"
        );
    }
}
