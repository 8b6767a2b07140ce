//! Ending attempts, and taking the next jobs in the same call.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Error, Queue, Take, Taken, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// An attempt that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub id: String,
    /// By which the job was taken. With another owner's lock on it, nothing is changed.
    pub token: String,
    pub how: How,
}

#[derive(Clone, Debug)]
pub enum How {
    Complete {
        value: Box<RawValue>,
    },
    /// For good. `stack` joins those of earlier attempts.
    Fail {
        reason: String,
        stack: Option<String>,
    },
    /// The attempt failed and another follows: at once (behind those that wait) or after a delay.
    Retry {
        delay_ms: Millis,
        reason: String,
        stack: Option<String>,
    },
    /// Not now, and not counted as an attempt.
    Delay {
        until_ms: Millis,
    },
    /// Put back to the front, not counted as an attempt.
    Wait,
    /// Into waiting-children without children, until [`Queue::finish_parked`]. The fields are written into its hash.
    Park {
        fields: Vec<(String, String)>,
    },
}

/// What became of an [`Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    Settled,
    /// The job is not the caller's any more (or settled before): nothing was changed.
    Lost,
    /// It has children that are not done, so it cannot complete. Still held: end it otherwise.
    ChildrenPending,
    /// A child failed that fails its parent with it. Still held: fail it for good.
    ChildFailed,
}

/// As the script wants it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    id: &'a str,
    token: &'a str,
    act: &'static str,
    /// The value or the reason.
    text: Option<&'a str>,
    stack: Option<&'a str>,
    /// A delay or a time.
    ms: Option<Millis>,
    fields: &'a [(String, String)],
}

impl Queue {
    /// Ends the attempts in `ended`, in their order, then takes what `take` asks for. One script call.
    ///
    /// May be repeated after an unknown outcome: what was settled the first time is then `Lost`.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn settle(
        &self,
        ended: &[Ended],
        take: Option<&Take>,
        now: Millis,
    ) -> Result<(Vec<Settlement>, Taken), Error> {
        let packed: Vec<Packed<'_>> = ended.iter().map(Ended::packed).collect();
        let retention = self.retention();
        let keep = (retention.completed.packed(), retention.failed.packed());
        let take = take.map(Take::packed).unwrap_or_default();
        let reply = self.run(&scripts::SETTLE, vec![plain(now), pack(&packed), pack(&keep), take]).await?;
        let Ok([settled, taken]) = <[Reply; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("settle answers two things").into());
        };
        let settlements = settled.items()?.iter().map(settlement).collect::<Result<_, _>>()?;
        let taken = if taken.is_nil() { Taken::default() } else { Taken::read(taken)? };
        Ok((settlements, taken))
    }
}

impl Ended {
    fn packed(&self) -> Packed<'_> {
        let Self { id, token, how } = self;
        let packed = |act| Packed { id, token, act, text: None, stack: None, ms: None, fields: &[] };
        match how {
            How::Complete { value } => Packed { text: Some(value.get()), ..packed("complete") },
            How::Fail { reason, stack } => Packed { text: Some(reason), stack: stack.as_deref(), ..packed("fail") },
            How::Retry { delay_ms, reason, stack } => {
                Packed { text: Some(reason), stack: stack.as_deref(), ms: Some(*delay_ms), ..packed("retry") }
            }
            How::Delay { until_ms } => Packed { ms: Some(*until_ms), ..packed("delay") },
            How::Wait => packed("wait"),
            How::Park { fields } => Packed { fields, ..packed("park") },
        }
    }
}

fn settlement(reply: &Reply) -> Result<Settlement, Error> {
    Ok(match reply.int()? {
        0 => Settlement::Settled,
        1 => Settlement::Lost,
        2 => Settlement::ChildrenPending,
        3 => Settlement::ChildFailed,
        other => return Err(RedisError::protocol(format!("no outcome of settle: {other}")).into()),
    })
}
