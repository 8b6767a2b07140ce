//! Holding on to jobs, and finding those that nobody holds any more.

use super::{Error, Queue, pack, plain, scripts};
use crate::clock::Millis;

impl Queue {
    /// Renews the locks of `held` (id and token). Returns the ids that are not the caller's any more.
    ///
    /// # Errors
    /// `Redis`: whether the locks were renewed is unknown.
    pub async fn extend(&self, held: &[(String, String)], lease_ms: i64) -> Result<Vec<String>, Error> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.run(&scripts::EXTEND, vec![plain(lease_ms.max(1)), pack(held)]).await?.texts()?)
    }

    /// Puts jobs that are in `active` without a lock back to the front, if they were so at the last scan too; one found
    /// so more than `max_stalled` times is marked to be failed by whoever takes it next. Returns the ids put back.
    ///
    /// Does nothing if any worker, also a Node one, has scanned within its interval.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn recover_stalled(&self, now: Millis, interval_ms: i64, max_stalled: u32) -> Result<Vec<String>, Error> {
        let args = vec![plain(now), plain(interval_ms.max(1)), plain(max_stalled)];
        Ok(self.run(&scripts::RECOVER_STALLED, args).await?.texts()?)
    }
}
