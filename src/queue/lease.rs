//! Holding on to jobs, and finding those that nobody holds any more.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Error, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::Error as RedisError;

/// What a worker says of a job while it works on it.
#[derive(Clone, Debug)]
pub struct Heartbeat<'a> {
    pub id: &'a str,
    /// By which the job was taken. With another owner's lock on it, nothing is changed.
    pub token: &'a str,
    pub lease_ms: i64,
    pub progress: Option<&'a RawValue>,
    /// For the job's log: 1,000 at most.
    pub lines: &'a [String],
}

/// What became of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The job is held for another lease. It may have been cancelled meanwhile, for a reason: see [`Queue::cancel`].
    Renewed { cancelled: Option<String> },
    /// It is not the caller's any more, and nothing was written.
    Lost,
}

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

    /// Renews a lock and writes down what its owner tells, in one step.
    ///
    /// # Errors
    /// `Redis`: then it may have been done. Repeated, it tells its lines twice.
    pub async fn heartbeat(&self, beat: &Heartbeat<'_>) -> Result<Beat, Error> {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let args = vec![
            text(beat.id),
            text(beat.token),
            plain(beat.lease_ms.max(1)),
            text(beat.progress.map_or("", RawValue::get)),
            pack(beat.lines),
        ];
        Ok(match self.run(&scripts::HEARTBEAT, args).await?.items()?.as_slice() {
            [] => Beat::Lost,
            [reason] => Beat::Renewed { cancelled: Some(reason.text()?).filter(|reason| !reason.is_empty()) },
            _ => return Err(RedisError::protocol("a heartbeat answers one thing at most").into()),
        })
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
