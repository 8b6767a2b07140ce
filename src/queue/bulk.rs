//! Work over all jobs of a state, which may be millions: in steps, each of them one short script call.
//!
//! A step is complete in itself. Whoever stops between two has done a part; whoever goes on does the rest.

use super::change::flag;
use super::{Error, Finished, Queue, State, plain, scripts};
use crate::clock::Millis;
use crate::redis::Error as RedisError;

/// Jobs in one step: what Redis does in some ten milliseconds, so that others need not wait.
const STEP: u64 = 1_000;
/// Events in one step; they go by the hundred.
const EVENTS: u64 = 10_000;

/// What to do to how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// Finished jobs wait again, by their priorities: those that had finished `until` then.
    Retry { from: Finished, until: Millis },
    /// Delayed jobs wait, by their priorities.
    Promote,
    /// Waiting jobs are removed, and with `delayed` those as well. The runs that schedulers wait for stay.
    Drain { delayed: bool },
    /// Jobs of a state that are `grace_ms` old are removed, `most` of them. Of the active only those without a lock;
    /// none of those that wait for children. What moves meanwhile may be missed.
    Clean { state: State, grace_ms: Millis, most: Option<u64> },
    /// Everything of a paused queue is removed, the queue itself as well. `force`: also what is active.
    Obliterate { force: bool },
    /// All but about so many of the newest events are removed.
    TrimEvents { keep: u64 },
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub processed: u64,
    /// With what to call the next step; `None` at the end.
    pub next: Option<u64>,
}

impl Queue {
    /// One step of `bulk`: the first from 0, each further one from the `next` of the one before.
    ///
    /// # Errors
    /// `Redis`; for an obliteration `NotPaused` and `JobsActive`.
    pub async fn step(&self, bulk: &Bulk, from: u64, now: Millis) -> Result<Step, Error> {
        let (script, args) = match *bulk {
            Bulk::Retry { from, until } => (&scripts::RETRY_ALL, vec![plain(from.as_str()), plain(until), plain(STEP)]),
            Bulk::Promote => (&scripts::PROMOTE_ALL, vec![plain(STEP)]),
            Bulk::Drain { delayed } => (&scripts::DRAIN, vec![plain(now), plain(STEP), flag(delayed)]),
            Bulk::Clean { state: State::WaitingChildren, .. } | Bulk::Clean { most: Some(0), .. } => {
                return Ok(Step { processed: 0, next: None });
            }
            Bulk::Clean { state, grace_ms, most } => {
                let until = now.saturating_sub(grace_ms);
                let most = most.unwrap_or(u64::MAX);
                let args = [plain(now), plain(state), plain(until), plain(from), plain(STEP), plain(most)];
                (&scripts::CLEAN, args.to_vec())
            }
            Bulk::Obliterate { force } => (&scripts::OBLITERATE, vec![plain(now), plain(STEP), flag(force)]),
            Bulk::TrimEvents { keep } => (&scripts::TRIM_EVENTS, vec![plain(keep), plain(EVENTS)]),
        };
        let Ok([processed, next]) = <[_; 2]>::try_from(self.run(script, args).await?.items()?) else {
            return Err(RedisError::protocol("a step is a count and where to go on").into());
        };
        let next = match next.int()? {
            -2 => return Err(Error::NotPaused),
            -3 => return Err(Error::JobsActive),
            next => u64::try_from(next).ok(),
        };
        Ok(Step { processed: u64::try_from(processed.int()?).unwrap_or(0), next })
    }

    /// All steps of `bulk`; how many jobs or events it was.
    ///
    /// # Errors
    /// As [`Queue::step`]: then a part is done.
    pub async fn run_to_end(&self, bulk: &Bulk, now: Millis) -> Result<u64, Error> {
        let (mut bulk, mut from, mut processed) = (*bulk, 0, 0);
        loop {
            let step = self.step(&bulk, from, now).await?;
            processed += step.processed;
            bulk = bulk.after(&step);
            match step.next {
                Some(next) => from = next,
                None => return Ok(processed),
            }
        }
    }
}

impl Bulk {
    /// What is left to do after a step.
    pub fn after(self, step: &Step) -> Self {
        match self {
            Self::Clean { state, grace_ms, most: Some(most) } => {
                Self::Clean { state, grace_ms, most: Some(most.saturating_sub(step.processed)) }
            }
            other => other,
        }
    }
}
