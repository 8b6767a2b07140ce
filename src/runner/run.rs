//! Runs: T3 claim, the work itself, T5 finish. The Redis job is a wake-up; SQL says whether there is anything to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use metrics::{counter, histogram};
use serde_json::Value;
use tracing::warn;

use super::hold::Holds;
use super::plain::{Scratch, raw};
use super::{Handler, Hold, Stopped, Workload, limit, progress};
use crate::clock::{Clock, millis};
use crate::config;
use crate::dedupe::{Dedupe, What};
use crate::fault;
use crate::flight::{Claim, ClaimAsk, Claimed, Ending, Finish, Finished, Flights, Outcome};
use crate::id;
use crate::processor::{Failure, Next, Processor, Unfinished, Work};
use crate::publish::{Announcer, parse_leader_id};
use crate::queue::{How, Job, Queue};

/// How soon a run is looked at again when SQL was away.
const SQL_AWAY: Duration = Duration::from_secs(1);
/// How soon a job is looked at again whose run this very process is making.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes the runs of one work queue. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    pub queue: Queue,
    pub flights: Flights,
    pub dedupe: Dedupe,
    pub announcer: Announcer,
    pub holds: Holds,
    pub processor: Arc<dyn Processor>,
    pub workload: Arc<dyn Workload>,
    pub settings: Arc<config::Queue>,
    pub clock: Clock,
    pub lease: Duration,
    pub scratch: PathBuf,
}

#[async_trait]
impl Handler for Runs {
    async fn handle(&self, job: Job, hold: Hold) -> How {
        let Some((flight, generation)) = parse_leader_id(&job.id) else {
            return fail("this queue takes no jobs from outside: its jobs are made by requests");
        };
        fault::point("run.taken");
        let how = self.advance(flight, generation, Some(&job.id), hold).await;
        fault::point("settle.published");
        how
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn poll(&self, most: usize, hold: Hold) -> Vec<BoxFuture<'static, ()>> {
        let queue = self.queue.name().as_str();
        if self.flights.was_paused(queue).await.unwrap_or(true) {
            return Vec::new();
        }
        let due = self.flights.due_runs(queue, u32::try_from(most).unwrap_or(u32::MAX)).await.unwrap_or_default();
        due.into_iter()
            .map(|run| {
                let (runs, hold) = (self.clone(), hold.one());
                Box::pin(async move {
                    runs.advance(&run.flight.flight, run.flight.generation, None, hold).await;
                }) as BoxFuture<'static, ()>
            })
            .collect()
    }
}

impl Runs {
    /// Takes a run as far as it goes now, and says what its job should become.
    async fn advance(&self, flight: &str, generation: i64, job: Option<&str>, hold: Hold) -> How {
        if self.holds.makes(flight) {
            // Its lease may have ended while SQL was away. Nobody is better off if we take it over from ourselves.
            return self.delay(LOOK_AGAIN);
        }
        let ask =
            ClaimAsk { flight: flight.to_owned(), generation, token: id::new_token(), lease_ms: millis(self.lease) };
        match self.flights.claim(ask).await {
            Ok(Claim::Claimed(run)) => self.make(*run, job, hold).await,
            Ok(Claim::Over(outcome)) => end_as(outcome),
            Ok(Claim::In(wait)) => self.delay(wait),
            Ok(Claim::Exhausted) => {
                for finished in self.flights.rescue(100).await.unwrap_or_default() {
                    self.announcer.announce(finished).await;
                }
                self.delay(Duration::from_millis(50))
            }
            Ok(Claim::Unknown) => fail("no such run"),
            Err(error) => {
                warn!(%error, "put a run back: SQL is away");
                self.delay(SQL_AWAY)
            }
        }
    }

    async fn make(&self, run: Claimed, job: Option<&str>, hold: Hold) -> How {
        fault::point("run.claimed");
        let _held = self.holds.run(&run.flight, &run.token, &hold);
        let started = Instant::now();
        let ending = tokio::select! {
            // Dropped: the attempt ends, and leaves nothing running.
            ending = self.attempt(&run, job) => ending,
            why = hold.stopped() => match why {
                // Its job is nobody's to cancel: the run is.
                Stopped::Lost | Stopped::Cancelled(_) => return self.lost(&run),
                Stopped::Stopping => (Ending::Later(Duration::ZERO, "the server stopped".into()), Vec::new()),
            },
        };
        fault::point("run.processed");
        histogram!("onetake_run_seconds", "queue" => run.queue.clone()).record(started.elapsed().as_secs_f64());
        let is_handed_back = matches!(ending.0, Ending::Later(..));
        let negative_ttl = self.settings.dedupe.as_ref().map_or(Duration::ZERO, |d| d.negative_ttl.0);
        let finish = Finish {
            flight: run.flight.clone(),
            token: run.token.clone(),
            ending: ending.0,
            negative_ttl,
            with: ending.1,
        };
        let finished = self.finish(finish).await;
        fault::point("run.completed");
        let how = match &finished {
            Some(Finished::Over { outcome, .. }) => end_as(outcome.clone()),
            // The next attempt has a job of its own; one that was handed back keeps this one.
            Some(Finished::Again(next)) if is_handed_back => self.delay(next.due_in),
            Some(Finished::Again(next)) => {
                let reason = format!("attempt {} failed; the next is in {:?}", next.attempt, next.due_in);
                How::Fail { reason, stack: None }
            }
            Some(Finished::Lost) => self.lost(&run),
            None => self.delay(Duration::ZERO),
        };
        if let Some(finished) = finished {
            self.announcer.announce(finished).await;
        }
        how
    }

    async fn attempt(&self, run: &Claimed, job: Option<&str>) -> (Ending, Vec<crate::store::Query>) {
        let scratch = match Scratch::make(&self.scratch, &run.flight, self.processor.uses_scratch()) {
            Ok(scratch) => scratch,
            Err(reason) => return (Ending::Failed(reason), Vec::new()),
        };
        let work = Work {
            id: format!("{}-{}-{}", run.flight, run.generation, run.attempt),
            identity: format!("{}-{}", run.flight, run.generation),
            queue: run.scope.clone(),
            name: run.name.clone(),
            data: raw(run.data.clone()),
            attempt: u32::try_from(run.attempt).unwrap_or(u32::MAX),
            step: 0,
            children: None,
            trace: None,
            scratch: scratch.path.clone(),
        };
        let (progress, passing_on) = progress::forward(self.progress_of(run, job));
        progress(Value::from(0));
        let limit = self.settings.timeout.map(|limit| limit.0);
        let made = limit::within(limit, self.processor.process(work, progress)).await;
        let kept = match made {
            Ok(made) => self.workload.keep(run, made).await,
            Err(failure) => Err(failure),
        };
        passing_on.ended().await;
        match kept {
            Ok((value, rows)) => (Ending::Succeeded(value.get().to_owned()), rows),
            Err(Failure::Retry { reason }) => (Ending::Failed(reason), Vec::new()),
            Err(Failure::Final { reason }) => (Ending::FailedForGood(reason), Vec::new()),
            Err(Failure::Later { delay, reason }) => (Ending::Later(delay, reason), Vec::new()),
            Err(Failure::Unfinished(unfinished)) => (later(&unfinished), Vec::new()),
        }
    }

    fn progress_of(&self, run: &Claimed, job: Option<&str>) -> impl Fn(Value) -> BoxFuture<'static, ()> + use<> {
        let (runs, run, job) = (self.clone(), run.clone(), job.map(ToOwned::to_owned));
        move |value| {
            let (runs, run, job) = (runs.clone(), run.clone(), job.clone());
            Box::pin(async move {
                let json = value.to_string();
                if let Some(job) = job {
                    let _ = runs.queue.progress(&job, &raw(json.clone())).await;
                }
                let noted = runs.dedupe.progress(&run.scope, &run.key, &run.flight, run.generation, &json).await;
                if noted.unwrap_or(false) {
                    runs.dedupe.wake(&run.flight, What::Progress).await;
                }
            })
        }
    }

    /// T5, tried until it holds: the work is done, and must not be lost because SQL is away for a while. `None` when it was
    /// away for so long that the lease has ended anyway.
    async fn finish(&self, finish: Finish) -> Option<Finished> {
        let started = Instant::now();
        loop {
            match self.flights.finish(finish.clone()).await {
                Ok(finished) => return Some(finished),
                Err(error) if error.is_repeatable() && started.elapsed() < self.lease.max(Duration::from_secs(60)) => {
                    warn!(%error, "could not write the end of a run down; trying again");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(error) => {
                    warn!(%error, "could not write the end of a run down; its lease will end");
                    return None;
                }
            }
        }
    }

    /// The run is somebody else's by now, or was cancelled: its job looks again at once.
    fn lost(&self, run: &Claimed) -> How {
        counter!("onetake_runs_lost_total", "queue" => run.queue.clone()).increment(1);
        self.delay(Duration::ZERO)
    }

    fn delay(&self, wait: Duration) -> How {
        How::Delay { until_ms: self.clock.now_ms() + millis(wait) }
    }
}

/// A run can wait like any job. What it is about is its key, and nobody is its child.
fn later(unfinished: &Unfinished) -> Ending {
    match unfinished {
        Unfinished { next: Next::Delay(delay) | Next::Limit(delay), data: None, .. } => {
            Ending::Later(*delay, "there is more to do".into())
        }
        Unfinished { next: Next::Wait, data: None, .. } => Ending::Later(Duration::ZERO, "there is more to do".into()),
        _ => Ending::FailedForGood("the run of a dedupe key has no children, and its data cannot change".into()),
    }
}

fn end_as(outcome: Outcome) -> How {
    match outcome {
        Outcome::Succeeded(value) => How::Complete { value: raw(value) },
        Outcome::Failed(reason) | Outcome::Cancelled(reason) => How::Fail { reason, stack: None },
    }
}

fn fail(reason: &str) -> How {
    How::Fail { reason: reason.to_owned(), stack: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_can_wait_but_has_no_children_and_no_other_data() {
        let second = Duration::from_secs(1);
        let ending = |next, data: Option<&str>| later(&Unfinished { next, data: data.map(str::to_owned), add: None });
        for (next, wait) in [(Next::Delay(second), second), (Next::Limit(second), second), (Next::Wait, Duration::ZERO)]
        {
            assert!(matches!(ending(next, None), Ending::Later(for_so_long, _) if for_so_long == wait), "{next:?}");
            assert!(matches!(ending(next, Some("1")), Ending::FailedForGood(_)), "{next:?}");
        }
        assert!(matches!(ending(Next::Children, None), Ending::FailedForGood(_)));
    }
}
