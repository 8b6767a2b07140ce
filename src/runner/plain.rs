//! Plain jobs: the job is the work, and lives in Redis alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};
use tracing::{Instrument, debug, info_span};

use super::admit::{CHILDREN_PENDING, for_good, started_too_often};
use super::branch::{self, ReadFlows};
use super::{Handler, Hold, Stopped, limit, progress};
use crate::clock::{Clock, Millis, millis};
use crate::config;
use crate::processor::{Failure, Next, Processor, Trace, Unfinished, Work};
use crate::queue::{How, Job, JobBackoff, Move, Queue};
use crate::retry::{self, Backoff};

/// How soon a job is looked at again whose children could not be read.
const REDIS_AWAY: Duration = Duration::from_secs(1);

/// Runs a queue's processor over its jobs.
pub struct PlainJobs {
    pub queue: Queue,
    pub processor: Arc<dyn Processor>,
    pub settings: Arc<config::Queue>,
    pub clock: Clock,
    pub scratch: PathBuf,
    /// Of the children that a processor gives its job.
    pub flows: ReadFlows,
}

#[async_trait]
impl Handler for PlainJobs {
    async fn handle(&self, job: Job, hold: Hold) -> How {
        if let Some(too_often) = started_too_often(&job, self.settings.max_started) {
            return too_often;
        }
        let Some(trace) = Trace::of_options(&job.options.extra) else { return self.run(job, hold, None).await };
        let span = info_span!("job", queue = %self.queue.name(), job.id = %job.id, trace_id = trace.id());
        async {
            debug!(traceparent = trace.parent(), "working on job {}", job.id);
            self.run(job, hold, Some(trace.clone())).await
        }
        .instrument(span)
        .await
    }

    /// As BullMQ: an attempt that failed.
    fn completed_early(&self, job: &Job) -> How {
        self.failed(job, &Failure::retry(CHILDREN_PENDING))
    }
}

impl PlainJobs {
    async fn run(&self, job: Job, hold: Hold, trace: Option<Trace>) -> How {
        let scratch = match Scratch::make(&self.scratch, &job.id, self.processor.uses_scratch()) {
            Ok(scratch) => scratch,
            Err(reason) => return self.failed(&job, &Failure::retry(reason)),
        };
        let children = match job.step() {
            0 => None,
            _ => match branch::children_of(&self.queue, &job.id).await {
                Ok(children) => children,
                Err(error) if error.is_unreachable() => {
                    return How::Delay { until_ms: self.clock.now_ms() + millis(REDIS_AWAY) };
                }
                Err(error) => return self.failed(&job, &Failure::retry(format!("what its children left: {error}"))),
            },
        };
        let work = Work {
            id: job.id.clone(),
            identity: format!("{}@{}", job.id, job.timestamp),
            queue: self.queue.name().to_string(),
            name: job.name.clone(),
            data: job.data.clone(),
            attempt: job.attempts_made.saturating_add(1),
            step: job.step(),
            children,
            trace,
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
        let limit = limit::shorter(self.settings.timeout.map(|limit| limit.0), job.options.timeout());
        let ended = tokio::select! {
            // Dropped: the attempt ends, and leaves nothing running.
            ended = limit::within(limit, self.processor.process(work, progress)) => ended,
            why = hold.stopped() => match why {
                // The answer will be refused: the job has another owner.
                Stopped::Lost => Err(Failure::retry("the job's lock was lost")),
                Stopped::Stopping => return How::Wait,
                Stopped::Cancelled(reason) => {
                    passing_on.ended().await;
                    return How::Fail { reason: reason.to_string(), stack: None };
                }
            },
        };
        passing_on.ended().await;
        match ended {
            Ok(value) => How::Complete { value: value.into_raw() },
            Err(failure) => self.failed(&job, &failure),
        }
    }

    fn failed(&self, job: &Job, failure: &Failure) -> How {
        let now = self.clock.now_ms();
        let how = failed(job, failure, &self.settings, now);
        match failure {
            Failure::Unfinished(Unfinished { add: Some(list), .. }) => {
                branch::branch(&self.queue, &job.id, list, &self.flows, how, now)
            }
            _ => how,
        }
    }
}

/// What becomes of a plain job whose attempt failed: tried again if it has an attempt left, by BullMQ's rules. `settings` say
/// what the job's own options do not.
pub fn failed(job: &Job, failure: &Failure, settings: &config::Queue, now: Millis) -> How {
    let reason = failure.reason().to_owned();
    match failure {
        Failure::Later { delay, .. } => return How::Delay { until_ms: now + millis(*delay) },
        Failure::Unfinished(unfinished) => return moved(job, unfinished, now),
        Failure::Retry { .. } | Failure::Final { .. } => {}
    }
    let attempts = if job.options.attempts == 0 { settings.attempts } else { job.options.attempts };
    let attempt = job.attempts_made.saturating_add(1);
    // The next taker would only fail it.
    let is_last_start = settings.max_started.is_some_and(|most| job.attempts_started >= most);
    if matches!(failure, Failure::Final { .. }) || attempt >= attempts || is_last_start {
        return for_good(reason);
    }
    let delay_ms = millis(backoff(settings, job.options.backoff.as_ref(), attempt));
    How::Retry { delay_ms, stack: Some(reason.clone()), reason }
}

/// The wait after failed attempt number `attempt`.
fn backoff(settings: &config::Queue, wanted: Option<&JobBackoff>, attempt: u32) -> Duration {
    let formula = |backoff: Backoff| retry::delay(backoff, attempt, &mut rand::rng());
    let name = match wanted {
        Some(JobBackoff::Known(backoff)) => return formula(*backoff),
        Some(JobBackoff::Custom(name)) => name,
        None => "default",
    };
    match settings.backoffs.get(name).or_else(|| settings.backoffs.get("default")) {
        Some(waits) => retry::nth(waits, attempt),
        None => formula(settings.backoff),
    }
}

/// The job as its processor wants it for the next step.
fn moved(job: &Job, unfinished: &Unfinished, now: Millis) -> How {
    let to = match unfinished.next {
        Next::Delay(delay) => Move::Delayed { until_ms: now + millis(delay) },
        Next::Wait => Move::Wait,
        Next::Children => Move::Children,
        Next::Limit(time) => Move::Limited { for_ms: millis(time).max(1) },
    };
    // A builtin may have written something that nobody could read.
    match unfinished.data.clone().map(RawValue::from_string).transpose() {
        Ok(data) => How::Move { to, data, step: job.step().saturating_add(1) },
        Err(error) => for_good(format!("the job's next data is not JSON: {error}")),
    }
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
