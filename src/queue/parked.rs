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

/// A parked job that has a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub id: String,
    pub timestamp: Millis,
    pub mark: String,
}

/// Some of those that are parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedPage {
    /// Ids that had no job.
    pub removed: u64,
    pub marked: Vec<Parked>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
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

    /// Looks at one page of the parked ids. Those without a job, left by tools that delete only the hash, are removed.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn look_at_parked(
        &self,
        cursor: Option<String>,
        page: u32,
        mark_field: &str,
    ) -> Result<ParkedPage, Error> {
        let cursor = Bytes::from(cursor.unwrap_or_else(|| "0".to_owned()));
        let args = vec![cursor, plain(page.clamp(1, 1000)), Bytes::from(mark_field.to_owned())];
        let reply = self.run(&scripts::LOOK_AT_PARKED, args).await?;
        let [next, removed, marked] = <[Reply; 3]>::try_from(reply.items()?)
            .map_err(|_| RedisError::protocol("a page of parked jobs is a cursor, a count and a list"))?;
        let next = next.text()?;
        Ok(ParkedPage {
            removed: u64::try_from(removed.int()?).unwrap_or(0),
            marked: marked.items()?.into_iter().map(Parked::read).collect::<Result<_, _>>()?,
            next: (next != "0").then_some(next),
        })
    }
}

impl Parked {
    fn read(reply: Reply) -> Result<Self, Error> {
        match reply.items()?.as_slice() {
            [id, timestamp, mark] => Ok(Self {
                id: id.text()?,
                // Anything may stand there; what is no time is no job that we parked.
                timestamp: timestamp.text()?.parse().unwrap_or(-1),
                mark: mark.text()?,
            }),
            _ => Err(RedisError::protocol("a parked job is an id, a time and a mark").into()),
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
