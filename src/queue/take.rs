//! Taking jobs to run them.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{Error, Queue, RateLimit, Record, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// The most that one call takes.
const MOST: u32 = 256;

/// Who takes how much.
#[derive(Clone, Debug, Serialize)]
pub struct Take {
    /// At most so many jobs; more than 256 count as 256, and 0 only promotes what is due.
    pub max: u32,
    /// How many of those are taken ahead of their turn, and may be put back. None are where a limit holds for the whole queue,
    /// by their priority, or beside a job whose worker died.
    pub ahead: u32,
    /// The owner's mark on each lock. Never "0", which BullMQ reads as "no lock".
    pub token: String,
    /// How long the locks hold unless they are extended.
    pub lease_ms: i64,
    /// Written into each job.
    pub worker_name: Option<String>,
}

/// What was taken, and if that is less than asked for, when to ask again.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// In the order in which they are to be started. Each is in `active` with a lock by the caller's token.
    pub jobs: Vec<Record>,
    /// When the next delayed job is due.
    pub next_due_ms: Option<Millis>,
    /// A rate limit: nothing can be taken for so long.
    pub rate_limited_ms: Option<i64>,
    pub is_paused: bool,
}

impl Queue {
    /// Takes jobs that may run now: promotes what is due, honours pause, global concurrency and rate limit (the queue's,
    /// else this handle's), and locks each job taken. Ids whose job is gone are dropped on the way.
    ///
    /// After an error what was taken is unknown: [`Queue::reclaim`] puts it back.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn take(&self, take: &Take, now: Millis) -> Result<Taken, Error> {
        let reply = self.run(&scripts::TAKE, vec![plain(now), take.packed(self.terms().limiter)]).await?;
        Taken::read(reply, take, now)
    }

    /// As [`Queue::take`], under a token that may have taken before: what it still holds is answered again, with renewed
    /// locks, and only where it holds nothing are jobs taken. So a call whose answer was lost is simply repeated.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn claim(&self, take: &Take, now: Millis) -> Result<Taken, Error> {
        let reply = self.run(&scripts::CLAIM, vec![plain(now), take.packed(self.terms().limiter)]).await?;
        let Ok([taken, is_held]) = <[Reply; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("a claim answers two things").into());
        };
        if is_held.int()? == 1 { Taken::read_as(taken, |record| record) } else { Taken::read(taken, take, now) }
    }

    /// Puts back to the front of the queue what is in `active` under a token that begins with `owner`, but not in `held` (id
    /// and token): it was taken by a call whose answer was lost, or ahead of its turn. No attempt is counted, neither as made
    /// nor as started. Returns the ids.
    ///
    /// Call it only while no take with such a token is under way.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn reclaim(&self, owner: &str, held: &[(String, String)]) -> Result<Vec<String>, Error> {
        let reply = self.run(&scripts::RECLAIM, vec![Bytes::copy_from_slice(owner.as_bytes()), pack(held)]).await?;
        Ok(reply.texts()?)
    }
}

impl Take {
    pub(super) fn packed(&self, limiter: Option<RateLimit>) -> Bytes {
        debug_assert_ne!(self.token, "0", "BullMQ reads this token as no lock");
        let (max, window_ms) = limiter.map(|limiter| (limiter.max, limiter.duration)).unzip();
        let (most, places) = (self.max.min(MOST), self.max.saturating_sub(self.ahead));
        pack(&(most, &self.token, self.lease_ms.max(1), &self.worker_name, max, window_ms, places))
    }
}

impl Taken {
    /// How long an idle worker may block before it asks again: `longest`, or until a delayed job is due or the rate limit
    /// allows more.
    pub fn look_again(&self, longest: Duration, now: Millis) -> Duration {
        if let Some(ms) = self.rate_limited_ms {
            return Duration::from_millis(u64::try_from(ms).unwrap_or(0).clamp(1, 30_000));
        }
        match self.next_due_ms.filter(|_| !self.is_paused) {
            Some(due_ms) => {
                let left = u64::try_from(due_ms - now).unwrap_or(0);
                longest.min(Duration::from_millis(left.max(1)))
            }
            None => longest,
        }
    }

    /// From `[[id, ...], [flat hash, ...], next due or -1, rate limit or -1, paused]`. The hashes are those before `take`.
    pub(super) fn read(reply: Reply, take: &Take, now: Millis) -> Result<Self, Error> {
        Self::read_as(reply, |record| record.started(take.worker_name.as_deref(), now))
    }

    fn read_as(reply: Reply, as_is_now: impl Fn(Record) -> Record) -> Result<Self, Error> {
        let Ok([ids, hashes, next_due, rate_limit, paused]) = <[Reply; 5]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("a take answers five things").into());
        };
        let jobs = ids.items()?.into_iter().zip(hashes.items()?);
        let record = |(id, hash): (Reply, Reply)| Ok(as_is_now(Record::read(id.text()?, hash.items()?)?));
        let time = |reply: Reply| reply.int().map(|n| (n >= 0).then_some(n));
        Ok(Self {
            jobs: jobs.map(record).collect::<Result<_, Error>>()?,
            next_due_ms: time(next_due)?,
            rate_limited_ms: time(rate_limit)?,
            is_paused: paused.int()? == 1,
        })
    }
}
