//! What does the work of a job: Rust code in this binary, a program, or an HTTP endpoint.
//!
//! A processor knows nothing of Redis or SQL. It gets the job, says how it ended, and may be dropped at any time: then
//! it must leave nothing running (a program is killed with its children).

pub mod builtin;
pub mod command;
pub(crate) mod group;
pub mod http;
pub mod make;
mod next;
pub(crate) mod program;
pub(crate) mod tail;
mod trace;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub use next::{Next, Unfinished, given};
pub use trace::Trace;
pub use value::ReturnValue;

/// The job, as a processor sees it.
#[derive(Clone, Debug)]
pub struct Work {
    /// The id of the job in its queue, for logs.
    pub id: String,
    /// The same for each attempt of this job, and of no other job of the queue, also after its Redis was wiped and ids begin
    /// anew: for the processor's own idempotency.
    pub identity: String,
    pub queue: String,
    pub name: String,
    /// The job's data: JSON text as the producer wrote it, no number rounded.
    pub data: Box<RawValue>,
    /// 1 on the first attempt.
    pub attempt: u32,
    /// How many steps of the job are done: see [`Unfinished`].
    pub step: u32,
    /// In a later step of a job with children: what they left.
    pub children: Option<Children>,
    /// Where the job belongs in a distributed trace, if its producer said so.
    pub trace: Option<Trace>,
    /// A folder of this attempt's own, for a processor that [uses it](Processor::uses_scratch), else nothing. It is empty,
    /// and is removed when the attempt has ended.
    pub scratch: PathBuf,
}

/// What the children of a job left for it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Children {
    /// Of those that have ended, in the order of their keys.
    Told(Vec<Child>),
    /// There is more than can be handed over: null, so that nobody takes it for nothing.
    TooMuch,
}

/// What a child of the job left for it; as `GET /v1/queues/{queue}/jobs/{id}/children` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Child {
    /// `<prefix>:<queue>:<id>`
    pub key: String,
    /// `processed`, or `ignored`: it failed, and its parent goes on.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_reason: Option<String>,
}

/// Why an attempt brought no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Worth another attempt, if the job has one left.
    Retry { reason: String },
    /// Never worth another attempt.
    Final { reason: String },
    /// Not now: to be tried again after `delay`, without counting as an attempt.
    Later { delay: Duration, reason: String },
    /// Nothing failed: the processor has more to do with the job.
    Unfinished(Unfinished),
}

impl Failure {
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into() }
    }

    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::Final { reason: reason.into() }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason } | Self::Final { reason } | Self::Later { reason, .. } => reason,
            Self::Unfinished(_) => "there is more to do",
        }
    }
}

/// Takes the progress that a processor reports: any JSON value, by BullMQ's custom a number of percent.
pub type Progress = Arc<dyn Fn(Value) + Send + Sync>;

/// Does the work of one kind of job.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Whether it writes into [`Work::scratch`]. Not by default: making and removing a folder costs more than all else that
    /// is done for a small job.
    fn uses_scratch(&self) -> bool {
        false
    }

    /// Runs one attempt to its end. The value becomes the job's return value.
    ///
    /// # Errors
    /// How the attempt failed, and whether another is worth it.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt: nothing that it started goes on.
    async fn process(&self, work: Work, progress: Progress) -> Result<ReturnValue, Failure>;
}
