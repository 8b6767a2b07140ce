//! Ending attempts, and taking the next jobs in the same call.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::flow::{self, FlowError, Packed as NewJob, Plan};
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
    /// One step of the job is done and another follows; not counted as an attempt.
    Move {
        to: Move,
        /// Replaces the job's data.
        data: Option<Box<RawValue>>,
        /// How many steps are done now.
        step: u32,
    },
    /// As a move to [`Move::Children`], and in the same step the job is given more of them: all of them, or none.
    Branch {
        children: Plan,
        data: Option<Box<RawValue>>,
        step: u32,
    },
    /// Into waiting-children without children, until [`Queue::finish_parked`]. The fields are written into its hash.
    Park {
        fields: Vec<(String, String)>,
    },
}

/// Where a job goes that has a step left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Delayed {
        until_ms: Millis,
    },
    /// To the front.
    Wait,
    /// Until its children are done; to the front if none is pending.
    Children,
    /// To the front, and nobody takes jobs of the queue for so long.
    Limited {
        for_ms: Millis,
    },
}

/// The field of a job that says how many of its steps are done.
pub(super) const STEP: &str = "onetake-step";

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
    /// There cannot be such new children, as [`Plan::refusal`] tells by the code and the place. Still held: fail it.
    ChildrenRefused {
        code: i64,
        place: usize,
    },
}

impl Settlement {
    /// Why a job cannot be given the new children that its end asked for.
    pub fn children_refused(self, how: &How) -> Option<FlowError> {
        match (self, how) {
            (Self::ChildrenRefused { code, place }, How::Branch { children, .. }) => children.refusal(code, place),
            _ => None,
        }
    }
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
    fields: Option<Vec<(Cow<'a, str>, Cow<'a, str>)>>,
    /// Bases of other queues, and the jobs.
    children: Option<(&'a [String], &'a [NewJob])>,
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
        let terms = self.terms();
        let wish = take.map(|take| take.packed(terms.limiter)).unwrap_or_default();
        let reply = self.run(&scripts::SETTLE, vec![plain(now), pack(&packed), pack(&terms.packed()), wish]).await?;
        let Ok([settled, taken]) = <[Reply; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("settle answers two things").into());
        };
        let settlements = settled.items()?.iter().map(settlement).collect::<Result<_, _>>()?;
        let taken = take.map(|take| Taken::read(taken, take, now)).transpose()?.unwrap_or_default();
        Ok((settlements, taken))
    }
}

impl Ended {
    fn packed(&self) -> Packed<'_> {
        let Self { id, token, how } = self;
        let packed = |act| Packed { id, token, act, text: None, stack: None, ms: None, fields: None, children: None };
        match how {
            How::Complete { value } => Packed { text: Some(value.get()), ..packed("complete") },
            How::Fail { reason, stack } => Packed { text: Some(reason), stack: stack.as_deref(), ..packed("fail") },
            How::Retry { delay_ms, reason, stack } => {
                Packed { text: Some(reason), stack: stack.as_deref(), ms: Some(*delay_ms), ..packed("retry") }
            }
            How::Delay { until_ms } => Packed { ms: Some(*until_ms), ..packed("delay") },
            How::Wait => packed("wait"),
            How::Move { to, data, step } => {
                let fields = Some(fields_of_step(data.as_deref(), *step));
                match to {
                    Move::Delayed { until_ms } => Packed { ms: Some(*until_ms), fields, ..packed("delay") },
                    Move::Wait => Packed { fields, ..packed("wait") },
                    Move::Children => Packed { fields, ..packed("children") },
                    Move::Limited { for_ms } => Packed { ms: Some(*for_ms), fields, ..packed("limit") },
                }
            }
            How::Branch { children, data, step } => Packed {
                fields: Some(fields_of_step(data.as_deref(), *step)),
                children: Some((children.other_bases(), children.jobs())),
                ..packed("children")
            },
            How::Park { fields } => {
                let fields = fields.iter().map(|(name, value)| (Cow::from(name), Cow::from(value)));
                Packed { fields: Some(fields.collect()), ..packed("park") }
            }
        }
    }
}

/// What a step writes into the job's hash.
fn fields_of_step(data: Option<&RawValue>, step: u32) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let data = data.map(|data| (Cow::from("data"), Cow::from(data.get())));
    let step = (Cow::from(STEP), Cow::from(step.to_string()));
    data.into_iter().chain([step]).collect()
}

fn settlement(reply: &Reply) -> Result<Settlement, Error> {
    if let Reply::Array(_) = reply {
        let (code, place) = flow::outcome(reply)?;
        return Ok(Settlement::ChildrenRefused { code, place });
    }
    Ok(match reply.int()? {
        0 => Settlement::Settled,
        1 => Settlement::Lost,
        2 => Settlement::ChildrenPending,
        3 => Settlement::ChildFailed,
        other => return Err(RedisError::protocol(format!("no outcome of settle: {other}")).into()),
    })
}
