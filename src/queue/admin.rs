//! What an operator or a running job does beside the jobs' own walk.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::change::flag;
use super::keys::is_job_id;
use super::{Error, Queue, plain, scripts};
use crate::clock::Millis;
use crate::redis::Error as RedisError;

/// The most descendants that are removed in one script call.
const MOST_DESCENDANTS: u32 = 5_000;

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// There was nothing of that id.
    Absent,
    /// Somebody runs it.
    Locked,
    /// It is the present run of a scheduler: remove that instead.
    Scheduled,
    /// With so many descendants it would hold everybody up: remove some of them first.
    TooManyChildren,
}

impl Queue {
    /// Stops jobs from being taken; those that run go on. Pausing twice is harmless.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn pause(&self) -> Result<(), Error> {
        self.run(&scripts::PAUSE, Vec::new()).await.map(drop)
    }

    /// Undoes [`Queue::pause`], also one by BullMQ 5, which keeps the waiting jobs in a list of their own meanwhile.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn resume(&self) -> Result<(), Error> {
        // Each call moves a bounded number of ids.
        while self.run(&scripts::RESUME, Vec::new()).await?.int()? > 0 {}
        Ok(())
    }

    /// # Errors
    /// `Redis`.
    pub async fn is_paused(&self) -> Result<bool, Error> {
        Ok(self.redis().hget(&self.keys().meta(), "paused").await?.is_some())
    }

    /// Stores a job's progress and tells it. `false` if there is no such job.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn progress(&self, id: &str, progress: &RawValue) -> Result<bool, Error> {
        if !is_job_id(id) {
            return Ok(false);
        }
        let args = vec![Bytes::copy_from_slice(id.as_bytes()), Bytes::copy_from_slice(progress.get().as_bytes())];
        Ok(self.run(&scripts::PROGRESS, args).await?.int()? == 1)
    }

    /// Appends a line to a job's log and keeps the last `keep`. The number of lines, or `None` without such a job.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn log(&self, id: &str, line: &str, keep: Option<u32>) -> Result<Option<u64>, Error> {
        if !is_job_id(id) {
            return Ok(None);
        }
        let args = vec![
            Bytes::copy_from_slice(id.as_bytes()),
            Bytes::copy_from_slice(line.as_bytes()),
            plain(keep.unwrap_or(0)),
        ];
        Ok(u64::try_from(self.run(&scripts::LOG, args).await?.int()?).ok())
    }

    /// Removes a job in whatever state, unless somebody runs it. Its children stay.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn remove(&self, id: &str, now: Millis) -> Result<Removal, Error> {
        self.remove_job(id, false, now).await
    }

    /// Removes a job with its children and theirs, unless somebody runs one of them.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn remove_with_children(&self, id: &str, now: Millis) -> Result<Removal, Error> {
        self.remove_job(id, true, now).await
    }

    async fn remove_job(&self, id: &str, children: bool, now: Millis) -> Result<Removal, Error> {
        if !is_job_id(id) {
            return Ok(Removal::Absent); // the queue's own keys are no jobs
        }
        let args = vec![plain(now), Bytes::copy_from_slice(id.as_bytes()), flag(children), plain(MOST_DESCENDANTS)];
        let reply = self.run(&scripts::REMOVE, args).await?;
        Ok(match reply.int()? {
            0 => Removal::Removed,
            1 => Removal::Absent,
            2 => Removal::Locked,
            3 => Removal::Scheduled,
            4 => Removal::TooManyChildren,
            other => return Err(RedisError::protocol(format!("no outcome of remove: {other}")).into()),
        })
    }
}
