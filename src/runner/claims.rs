//! Jobs for workers that come and ask for them: the same takes as a consumer's, on behalf of somebody outside.
//!
//! A claim that finds nothing may wait. All that wait for one queue stand in line for its [`Desk`]: the first of them watches
//! the marker, so that a server has one blocked connection a queue, however many wait, and none asks in vain.
//!
//! Invariant: what was taken is in its asker's hands, or goes back to the front of the queue. A take runs to its end in a task
//! of its own, and what it took is put back when the asker went away meanwhile ([`Handed`]). What nobody is left to put back
//! (this process died, the answer got lost on its way) goes back when its lease has ended.

mod desk;
mod handed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;

use super::admit::{Refused, admit, started_too_often};
use super::{Hold, schedule, upkeep};
use crate::clock::{Clock, Millis, millis};
use crate::fault;
use crate::queue::{Ended, Error, Queue, Record, Settlement, Take};

use desk::Desk;
pub use handed::Handed;

/// Rounds in which everything that was taken could not be worked on, until the claim is answered with nothing.
const ROUNDS: usize = 4;
/// More queues than a server has; only with undeclared ones there can be more names than these.
const REMEMBERED: usize = 1_000;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    pub max: u32,
    /// The mark on the locks; the asker needs it to end the jobs.
    pub token: String,
    /// The token may have taken before, in a call whose answer was lost: what it holds still is answered again.
    pub is_repeatable: bool,
    pub lease: Duration,
    /// Stands in the jobs as the one who works on them, marked as one who claimed them.
    pub worker: Option<String>,
    /// Of the queue: a job that was taken more often fails, instead of being handed out.
    pub max_started: Option<u32>,
    /// How long to wait for a job where there is none.
    pub wait: Duration,
}

/// How the names of those begin who claim jobs. It begins as those of our own workers do: they listen to cancellations, too,
/// with each heartbeat.
const CLAIMANT: &str = "onetake-claim";

impl Claim {
    fn worker_name(&self) -> String {
        self.worker.as_ref().map_or_else(|| CLAIMANT.to_owned(), |name| format!("{CLAIMANT}:{name}"))
    }
}

/// How claims are served.
#[derive(Clone, Debug)]
pub struct Rules {
    pub stalled_interval: Duration,
    pub max_stalled: u32,
    /// Whoever waits looks again after so long, even if nothing woke them.
    pub drain_delay: Duration,
}

/// Serves claims. Cheap to clone.
#[derive(Clone)]
pub struct Claims(Arc<Inner>);

struct Inner {
    clock: Clock,
    rules: Rules,
    places: Mutex<HashMap<String, Place>>,
}

/// What is remembered of a queue.
#[derive(Default)]
struct Place {
    /// While somebody waits.
    desk: Weak<Desk>,
    /// When its stalled jobs are to be looked for next.
    next_look: Option<Instant>,
}

impl Claims {
    pub fn new(clock: Clock, rules: Rules) -> Self {
        Self(Arc::new(Inner { clock, rules, places: Mutex::default() }))
    }

    /// Takes jobs, waiting for one if there is none.
    ///
    /// # Errors
    /// `Redis`: nothing is in the caller's hands.
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing taken: what a take under way still takes is put back.
    pub async fn claim(&self, queue: &Queue, claim: Claim) -> Result<Handed, Error> {
        let until = Instant::now() + claim.wait;
        let (claimed, _) = self.take(queue, &claim).await?;
        if !claimed.jobs().is_empty() || claim.wait.is_zero() {
            return Ok(claimed);
        }
        let desk = self.desk(queue);
        // Dropped: a place in the line.
        let Ok(mut watch) = tokio::time::timeout_at(until, desk.turn()).await else { return Ok(claimed) };
        loop {
            // Also after a wake that somebody before us left unanswered: whoever comes first in the line looks first.
            let (claimed, look_again) = self.take(queue, &claim).await?;
            let now = Instant::now();
            if !claimed.jobs().is_empty() || now >= until {
                return Ok(claimed);
            }
            watch.arm(look_again);
            // A watch that was armed by somebody before us may end later than we want to look.
            let rest = look_again.min(until - now);
            tokio::select! {
                // Dropped: nothing; the watch stays armed and keeps its wake. Between a wake and the take that follows it
                // there is no point at which this future could be dropped.
                _ = watch.wait() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Ends an attempt that is held under a token.
    ///
    /// # Errors
    /// `Redis`: whether it was ended is unknown; it may be tried again, and is then `Lost` if it was.
    pub async fn end(&self, queue: &Queue, ended: Ended) -> Result<Settlement, Error> {
        let (settlements, _) = queue.settle(&[ended], None, self.0.clock.now_ms()).await?;
        fault::point("claim.ended");
        counter!("onetake_queue_settled_total", "queue" => queue.name().to_string()).increment(1);
        Ok(settlements.first().copied().unwrap_or(Settlement::Lost))
    }

    /// One take, in a task of its own; how long to wait if it found nothing.
    async fn take(&self, queue: &Queue, claim: &Claim) -> Result<(Handed, Duration), Error> {
        let (inner, queue, claim) = (self.0.clone(), queue.clone(), claim.clone());
        // Before the first await: whoever was woken takes, whatever becomes of the asker.
        let task = tokio::spawn(async move { inner.take(&queue, &claim).await });
        match task.await {
            Ok(taken) => taken,
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }

    fn desk(&self, queue: &Queue) -> Arc<Desk> {
        let mut places = self.0.places.lock().expect("no user panics inside");
        let place = places.entry(queue.name().to_string()).or_default();
        place.desk.upgrade().unwrap_or_else(|| {
            let desk = Arc::new(Desk::new(queue));
            place.desk = Arc::downgrade(&desk);
            desk
        })
    }
}

impl Inner {
    async fn take(&self, queue: &Queue, claim: &Claim) -> Result<(Handed, Duration), Error> {
        // As every worker does: a queue may have no others.
        if self.is_look_due(queue) {
            upkeep::look_after(queue, &self.clock, self.rules.stalled_interval, self.rules.max_stalled).await;
        }
        let take = Take {
            max: claim.max,
            ahead: 0,
            token: claim.token.clone(),
            lease_ms: millis(claim.lease),
            worker_name: Some(claim.worker_name()),
        };
        let mut round = 0;
        loop {
            let now = self.clock.now_ms();
            let taken = if claim.is_repeatable { queue.claim(&take, now).await } else { queue.take(&take, now).await };
            let taken = taken.inspect_err(|_| handed::put_back_unknown(queue, claim))?;
            let look_again = taken.look_again(self.rules.drain_delay, now);
            let found = taken.jobs.len();
            counter!("onetake_queue_taken_total", "queue" => queue.name().to_string()).increment(found as u64);
            if found > 0 {
                fault::point("claim.taken");
            }
            let claimed = self.admit(queue, claim, taken.jobs, now).await?;
            round += 1;
            if found == 0 || !claimed.jobs().is_empty() || round == ROUNDS {
                return Ok((claimed, look_again));
            }
        }
    }

    /// Leaves those that can be worked on. The others are ended, or put back where Redis does not answer.
    async fn admit(&self, queue: &Queue, claim: &Claim, records: Vec<Record>, now: Millis) -> Result<Handed, Error> {
        let mut claimed = Handed::nothing(queue, &self.clock, claim, now);
        let mut left = Handed::nothing(queue, &self.clock, claim, now);
        let (mut ended, mut runs) = (Vec::new(), Vec::new());
        for record in records {
            let admitted =
                admit(record, queue.name(), true).and_then(|job| match started_too_often(&job, claim.max_started) {
                    Some(how) => {
                        let run = job.scheduler.is_some().then(|| job.clone());
                        Err(Refused { id: job.id.clone(), how, run })
                    }
                    None => Ok(job),
                });
            match admitted {
                Ok(job) => left.hold(job),
                Err(Refused { id, how, run }) => {
                    ended.push(Ended { id, token: claim.token.clone(), how });
                    runs.extend(run);
                }
            }
        }
        for run in runs {
            // Not made: the schedule is mended by whoever looks after it next.
            let hold = Hold::default();
            let made = schedule::make_next(queue, &self.clock, &run, &hold);
            let _ = tokio::time::timeout(claim.lease / 2, made).await;
        }
        if !ended.is_empty() {
            // Not settled: their leases end, and whoever finds them next comes here again.
            queue.settle(&ended, None, self.clock.now_ms()).await?;
        }
        for job in left.let_go() {
            let hold = Hold::default();
            let made = schedule::make_next(queue, &self.clock, &job, &hold);
            match tokio::time::timeout(claim.lease / 2, made).await {
                Ok(Ok(())) => claimed.hold(job),
                // A run whose scheduler has no next one is not handed out: the schedule would end.
                _ => left.hold(job),
            }
        }
        Ok(claimed)
    }

    fn is_look_due(&self, queue: &Queue) -> bool {
        let mut places = self.places.lock().expect("no user panics inside");
        if places.len() > REMEMBERED {
            places.retain(|_, place| place.desk.strong_count() > 0);
        }
        let place = places.entry(queue.name().to_string()).or_default();
        let now = Instant::now();
        let is_due = place.next_look.is_none_or(|next| now >= next);
        if is_due {
            place.next_look = Some(now + self.rules.stalled_interval);
        }
        is_due
    }
}
