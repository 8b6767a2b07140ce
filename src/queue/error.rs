//! What the queue's verbs can fail with.

use super::SchedulerError;
use crate::redis;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Redis is away, or refused a script; see there.
    #[error("the queue's script did not answer")]
    Redis(#[from] redis::Error),
    /// The job at `index` cannot be added; none of its batch was.
    #[error("job {index} cannot be added")]
    Add { index: usize, source: AddError },
    /// There cannot be such a scheduler, or such a next run; nothing was written.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// A job cannot be changed so; nothing was.
    #[error("the job cannot be changed so")]
    Unfit(#[source] AddError),
    /// Pause the queue first: then nobody adds to what is being removed.
    #[error("the queue is not paused")]
    NotPaused,
    /// Wait for them, or insist.
    #[error("jobs of the queue are active")]
    JobsActive,
}

impl Error {
    /// Redis is away: the outcome is unknown, and the call may be repeated.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_unreachable())
    }
}

/// Why a job cannot be added. BullMQ's producers refuse the same; its scripts would let most of it break the queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    #[error("a job id must not be empty")]
    EmptyId,
    #[error("a job id must not be an integer: those are given out by the queue itself")]
    IntegerId,
    #[error("a job id must not contain ':'")]
    ColonId,
    #[error("the job id \"{0}\" is the name of one of the queue's own keys")]
    ReservedId(String),
    #[error("a job id has at most 512 bytes")]
    LongId,
    #[error("this job needs an id of its own")]
    MissingId,
    #[error("the priority must be between 0 and 2097151")]
    Priority,
    #[error("the delay must not be negative, and must end before the year 2039")]
    Delay,
    #[error("a deduplication id must not be empty")]
    EmptyDeduplicationId,
    #[error("a group's id has 1 to {0} characters, none of them a control character")]
    GroupId(usize),
    #[error("{0} cannot be in a group")]
    GroupTogether(&'static str),
}
