//! Plain jobs: the job is the work, and lives in Redis alone.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};

use super::{Handler, Hold, Stopped, progress};
use crate::clock::{Clock, Millis, millis};
use crate::config;
use crate::processor::{Failure, Processor, Work};
use crate::queue::{How, Job, JobBackoff, Queue};
use crate::retry;

/// Runs a queue's processor over its jobs.
pub struct PlainJobs {
    pub queue: Queue,
    pub processor: Arc<dyn Processor>,
    pub settings: Arc<config::Queue>,
    pub clock: Clock,
    pub scratch: PathBuf,
}

#[async_trait]
impl Handler for PlainJobs {
    async fn handle(&self, job: Job, hold: Hold) -> How {
        let scratch = match Scratch::make(&self.scratch, &job.id, self.processor.uses_scratch()) {
            Ok(scratch) => scratch,
            Err(reason) => return self.failed(&job, &Failure::retry(reason)),
        };
        let work = Work {
            id: job.id.clone(),
            identity: format!("{}@{}", job.id, job.timestamp),
            queue: self.queue.name().to_string(),
            name: job.name.clone(),
            data: job.data.clone(),
            attempt: job.attempts_made.saturating_add(1),
            scratch: scratch.path.clone(),
        };
        let (queue, id) = (self.queue.clone(), job.id.clone());
        let (progress, passing_on) = progress::forward(move |value| {
            let (queue, id) = (queue.clone(), id.clone());
            Box::pin(async move {
                if let Ok(json) = to_raw_value(&value) {
                    let _ = queue.progress(&id, &json).await;
                }
            })
        });
        let ended = tokio::select! {
            // Dropped: the attempt ends, and leaves nothing running.
            ended = self.processor.process(work, progress) => ended,
            why = hold.stopped() => match why {
                // The answer will be refused: the job has another owner.
                Stopped::Lost => Err(Failure::retry("the job's lock was lost")),
                Stopped::Stopping => return How::Wait,
            },
        };
        passing_on.ended().await;
        match ended {
            Ok(value) => match to_raw_value(&value) {
                Ok(value) => How::Complete { value },
                Err(error) => self.failed(&job, &Failure::fatal(format!("the result is not JSON: {error}"))),
            },
            Err(failure) => self.failed(&job, &failure),
        }
    }
}

impl PlainJobs {
    fn failed(&self, job: &Job, failure: &Failure) -> How {
        failed(job, failure, &self.settings, self.clock.now_ms())
    }
}

/// What becomes of a plain job whose attempt failed: tried again if it has an attempt left, by BullMQ's rules. `settings` say
/// what the job's own options do not.
pub fn failed(job: &Job, failure: &Failure, settings: &config::Queue, now: Millis) -> How {
    let reason = failure.reason().to_owned();
    if let Failure::Later { delay, .. } = failure {
        return How::Delay { until_ms: now + millis(*delay) };
    }
    let attempts = if job.options.attempts == 0 { settings.attempts } else { job.options.attempts };
    let attempt = job.attempts_made.saturating_add(1);
    if matches!(failure, Failure::Final { .. }) || attempt >= attempts {
        return How::Fail { stack: Some(reason.clone()), reason };
    }
    let backoff = match &job.options.backoff {
        Some(JobBackoff::Known(backoff)) => *backoff,
        Some(JobBackoff::Custom(_)) | None => settings.backoff,
    };
    let delay_ms = millis(retry::delay(backoff, attempt, &mut rand::rng()));
    How::Retry { delay_ms, stack: Some(reason.clone()), reason }
}

/// A folder of one attempt's own; removed with it.
pub(super) struct Scratch {
    pub path: PathBuf,
    is_made: bool,
}

impl Scratch {
    /// The folder is there only if it `is_used`.
    pub fn make(under: &std::path::Path, id: &str, is_used: bool) -> Result<Self, String> {
        if !is_used {
            return Ok(Self { path: PathBuf::new(), is_made: false });
        }
        // Ids may hold anything; the folder's name must not.
        let path = under.join(crate::id::derived_id(&[id, &crate::id::new_token()]));
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot create {}: {e}", path.display()))?;
        Ok(Self { path, is_made: true })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_made {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// JSON text as a raw value; what is none becomes null.
pub(super) fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
