//! What was taken and cannot be worked on: it is ended instead, whoever took it.

use tracing::warn;

use crate::id::QueueName;
use crate::queue::{How, Job, Record};

/// Why a job cannot complete yet.
pub(super) const CHILDREN_PENDING: &str = "the job has children that are not done";

/// A job that nobody may work on, and how it ends.
#[derive(Debug)]
pub struct Refused {
    pub id: String,
    pub how: How,
    /// It is a scheduler's run: see to the next one before it ends.
    pub run: Option<Box<Job>>,
}

/// # Errors
/// A job whose data or options nobody can read, and, where it `heeds` that, one that BullMQ marked to be failed.
pub fn admit(record: Record, queue: &QueueName, heeds: bool) -> Result<Box<Job>, Refused> {
    match record {
        Record::Unreadable { id, reason } => {
            warn!(%queue, job.id = %id, "job {id} is unreadable: {reason}");
            Err(Refused { id, how: for_good(reason), run: None })
        }
        Record::Job(job) => match job.deferred_failure.clone().filter(|_| heeds) {
            Some(reason) => {
                let id = job.id.clone();
                Err(Refused { id, how: for_good(reason), run: job.scheduler.is_some().then_some(job) })
            }
            None => Ok(job),
        },
    }
}

/// How a job ends that was taken more often than its queue allows, whoever let it go; nothing if it was not.
pub fn started_too_often(job: &Job, max_started: Option<u32>) -> Option<How> {
    let is_too_often = max_started.is_some_and(|most| job.attempts_started > most);
    // BullMQ's words.
    is_too_often.then(|| How::Fail { reason: "job started more than allowable limit".to_owned(), stack: None })
}

/// Failed for good, with the reason in place of a stack: dashboards show the last one.
pub fn for_good(reason: String) -> How {
    How::Fail { stack: Some(reason.clone()), reason }
}
