//! Followers: jobs parked in waiting-children without children, ended from outside when their run ends.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Error, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// A parked job to end, and how to know that it is still the same one: after a wipe BullMQ's ids start again.
#[derive(Clone, Debug)]
pub struct ParkedEnd {
    pub id: String,
    /// The job's own timestamp, as it was when it was parked.
    pub timestamp: Millis,
    /// A field written by parking it, and its value.
    pub mark_field: String,
    pub mark_value: String,
    pub how: ParkedHow,
}

#[derive(Clone, Debug)]
pub enum ParkedHow {
    Complete { value: Box<RawValue> },
    Fail { reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedOutcome {
    Finished,
    /// It is that job, but it runs or waits now: it will be parked again. Try later.
    NotParked,
    AlreadyFinished,
    /// There is no such job, or another one has its id.
    Gone,
}

/// As the script wants it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    id: &'a str,
    timestamp: Millis,
    mark_field: &'a str,
    mark_value: &'a str,
    completes: bool,
    text: &'a str,
}

impl Queue {
    /// Ends parked jobs as if they had run: BullMQ's events say `prev` = active. May be repeated.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn finish_parked(&self, ends: &[ParkedEnd], now: Millis) -> Result<Vec<ParkedOutcome>, Error> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let packed: Vec<Packed<'_>> = ends.iter().map(ParkedEnd::packed).collect();
        let keep = self.terms().packed();
        let reply = self.run(&scripts::FINISH_PARKED, vec![plain(now), pack(&packed), pack(&keep)]).await?;
        reply.items()?.iter().map(outcome).collect()
    }

    /// Looks at one page of the parked ids and removes those without a job, left by tools that delete only the hash.
    /// Returns how many were removed, and where to go on; `None` at the end.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn prune_parked_ghosts(&self, cursor: Option<String>, page: u32) -> Result<(u64, Option<String>), Error> {
        let cursor = Bytes::from(cursor.unwrap_or_else(|| "0".to_owned()));
        let reply = self.run(&scripts::PRUNE_PARKED_GHOSTS, vec![cursor, plain(page.clamp(1, 1000))]).await?;
        match reply.items()?.as_slice() {
            [next, removed] => {
                let next = next.text()?;
                let removed = u64::try_from(removed.int()?).unwrap_or(0);
                Ok((removed, (next != "0").then_some(next)))
            }
            _ => Err(RedisError::protocol("a page of ghosts is a cursor and a count").into()),
        }
    }
}

impl ParkedEnd {
    fn packed(&self) -> Packed<'_> {
        let (completes, text) = match &self.how {
            ParkedHow::Complete { value } => (true, value.get()),
            ParkedHow::Fail { reason } => (false, reason.as_str()),
        };
        Packed {
            id: &self.id,
            timestamp: self.timestamp,
            mark_field: &self.mark_field,
            mark_value: &self.mark_value,
            completes,
            text,
        }
    }
}

fn outcome(reply: &Reply) -> Result<ParkedOutcome, Error> {
    Ok(match reply.int()? {
        0 => ParkedOutcome::Finished,
        1 => ParkedOutcome::NotParked,
        2 => ParkedOutcome::AlreadyFinished,
        3 => ParkedOutcome::Gone,
        other => return Err(RedisError::protocol(format!("no outcome of finish_parked: {other}")).into()),
    })
}
