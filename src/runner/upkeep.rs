//! What every worker of a queue does beside the work, and this server alone where all workers pull: finding jobs whose
//! workers fell silent and schedules that have stopped, letting delayed jobs wait when they are due.

use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Limits;
use crate::clock::{Clock, millis};
use crate::id;
use crate::queue::{Queue, Take};

/// Jobs that are due one by one are let go in one step.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Looks after a queue that no runner consumes.
///
/// It does not wait for the queue's marker, which would take the wake-up away from a worker: workers that wait for jobs
/// find what is due themselves, at its time, and this is for when none of them waits.
pub struct Upkeep {
    pub queue: Queue,
    pub clock: Clock,
    pub limits: Limits,
}

impl Upkeep {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut next_look = Instant::now();
        loop {
            let mut wait = self.limits.drain_delay;
            if self.queue.redis().is_up() {
                if Instant::now() >= next_look {
                    look_after(&self.queue, &self.clock, self.limits.stalled_interval, self.limits.max_stalled).await;
                    next_look = Instant::now() + self.limits.stalled_interval;
                }
                wait = self.promote().await.min(next_look.saturating_duration_since(Instant::now()));
            }
            // Dropped: nothing, a step is never cut off.
            if stop.run_until_cancelled(tokio::time::sleep(wait.max(SHORTEST_WAIT))).await.is_none() {
                return;
            }
        }
    }

    /// Lets wait what is due. How long until the next look.
    async fn promote(&self) -> Duration {
        let nothing = Take { max: 0, ahead: 0, token: id::new_token(), lease_ms: 1, worker_name: None };
        let now = self.clock.now_ms();
        match self.queue.take(&nothing, now).await {
            // Paused or not: BullMQ's workers let due jobs wait during a pause as well.
            Ok(taken) => match taken.next_due_ms {
                Some(due) => self.limits.drain_delay.min(Duration::from_millis((due - now).max(1).unsigned_abs())),
                None => self.limits.drain_delay,
            },
            Err(error) => {
                debug!(queue = %self.queue.name(), %error, "could not let due jobs wait");
                self.limits.drain_delay
            }
        }
    }
}

/// Puts jobs of silent workers back, and makes the next runs of schedulers that have stopped. Nobody needs its outcome:
/// what Redis did not do now is done by the next look.
pub(super) async fn look_after(queue: &Queue, clock: &Clock, interval: Duration, max_stalled: u32) {
    match queue.recover_stalled(clock.now_ms(), millis(interval), max_stalled).await {
        Ok(recovered) if !recovered.is_empty() => {
            counter!("onetake_queue_stalled_total", "queue" => queue.name().to_string())
                .increment(recovered.len() as u64);
            info!(queue = %queue.name(), "recovered {} stalled jobs", recovered.len());
        }
        Ok(_) => {}
        Err(error) => debug!(queue = %queue.name(), %error, "could not look for stalled jobs"),
    }
    match queue.mend_schedulers(clock.now_ms()).await {
        Ok(runs) if !runs.is_empty() => {
            counter!("onetake_queue_schedulers_mended_total", "queue" => queue.name().to_string())
                .increment(runs.len() as u64);
            info!(queue = %queue.name(), "made the next runs of {} schedulers that had stopped", runs.len());
        }
        Ok(_) => {}
        Err(error) => debug!(queue = %queue.name(), %error, "could not look for schedulers that have stopped"),
    }
}
