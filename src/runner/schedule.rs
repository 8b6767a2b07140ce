//! Runs of job schedulers: taking one makes the next, as Node workers do it, before the job is worked on.
//!
//! A process that dies in between leaves its run to be found as stalled, and whoever takes it again makes the next one.

use std::time::Duration;

use tracing::{debug, warn};

use super::Hold;
use crate::clock::Clock;
use crate::fault;
use crate::queue::{How, Job, Next, Queue};

/// How soon Redis is asked again if it does not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// Sees to it that the scheduler of `job` has its next run; nothing for a job without one.
///
/// # Errors
/// What to do with the job instead of working on it: the server stops or lost the job before Redis answered.
pub(super) async fn make_next(queue: &Queue, clock: &Clock, job: &Job, hold: &Hold) -> Result<(), How> {
    let Some(scheduler) = &job.scheduler else { return Ok(()) };
    fault::point("schedule.taken");
    loop {
        match queue.schedule_next(job, clock.now_ms()).await {
            Ok(next) => {
                match next {
                    Next::Run { id, .. } => debug!(queue = %queue.name(), job.id = %id, "made run {id}"),
                    other => debug!(queue = %queue.name(), "scheduler {scheduler}: no next run: {other:?}"),
                }
                fault::point("schedule.made");
                return Ok(());
            }
            Err(error) if error.is_unreachable() => {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    // Put back: whoever takes it next makes the run. If it was lost, the answer is refused anyway.
                    _ = hold.stopped() => return Err(How::Wait),
                }
            }
            Err(error) => {
                warn!(queue = %queue.name(), job.id = %job.id, %error, "no run follows job {}", job.id);
                return Ok(());
            }
        }
    }
}
