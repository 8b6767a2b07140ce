//! Ending a job from outside, with a reason.

use bytes::Bytes;

use super::keys::is_job_id;
use super::{Error, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// What became of a cancellation. One that did not happen has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Nobody ran it: it has failed.
    Failed,
    /// A worker of ours runs it and is to stop it: see [`Queue::cancelled`]. It fails unless it ends just now, and is never
    /// run again, whatever becomes of that worker.
    Marked,
    /// There is no job of that id.
    Absent,
    /// It ended before.
    Ended,
    /// It is the present run of a scheduler, which would end with it.
    Scheduled,
    /// A worker runs it that does not listen.
    Foreign,
}

impl Queue {
    /// Ends a job as failed, for good. `ours`: how the names of workers begin that ask [`Queue::cancelled`].
    ///
    /// May be repeated: the first reason of a running job is replaced.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn cancel(&self, id: &str, reason: &str, ours: &str, now: Millis) -> Result<Cancelled, Error> {
        if !is_job_id(id) {
            return Ok(Cancelled::Absent);
        }
        let keep = self.terms().packed();
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let args = vec![plain(now), text(id), text(reason), text(ours), pack(&keep)];
        Ok(match self.run(&scripts::CANCEL, args).await?.int()? {
            0 => Cancelled::Failed,
            1 => Cancelled::Absent,
            2 => Cancelled::Ended,
            3 => Cancelled::Scheduled,
            4 => Cancelled::Foreign,
            5 => Cancelled::Marked,
            other => return Err(RedisError::protocol(format!("no outcome of cancel: {other}")).into()),
        })
    }

    /// Of the jobs `ids`, which the caller runs: those that it is to stop, each with the reason.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn cancelled(&self, ids: &[String]) -> Result<Vec<(String, String)>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let reply = self.run(&scripts::CANCELLED, vec![pack(ids)]).await?;
        let pair = |pair: Reply| match pair.items()?.as_slice() {
            [id, reason] => Ok((id.text()?, reason.text()?)),
            _ => Err(Error::from(RedisError::protocol("a cancelled job is its id and a reason"))),
        };
        reply.items()?.into_iter().map(pair).collect()
    }
}
