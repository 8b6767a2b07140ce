//! The loop over one queue: settle what ended, take what is next, wait to be woken.
//!
//! Whatever ends while a script call is under way rides in the next, which also takes new jobs: batches form by themselves
//! under load, and a lone job goes at once. Only large batches ride two at a time, so that neither Redis nor we wait for the
//! other; and where there are few places and the work is short, some jobs are taken [ahead]. There is no polling: an idle
//! consumer blocks on the queue's marker.

mod ahead;
mod call;
mod renew;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admit::{CHILDREN_PENDING, Refused, admit, for_good};
use super::branch::together;
use super::control::{self, Control, Running};
use super::{Handler, Hold, Stopped, schedule, upkeep};
use crate::clock::{Clock, millis};
use crate::id;
use crate::queue::{Ended, How, Queue, Record, Settlement};
use crate::redis::Wake;

use ahead::Ahead;
use call::{Answered, Call, Meters};

/// Settlements in one call at most: more gain nothing, and hold Redis up.
const SETTLE_MOST: usize = 100;
/// Calls under way at most.
const CALLS: usize = 2;
/// With room for fewer jobs, all ride in one call.
const WORTH_TWO: usize = 16;
/// How soon a call that Redis did not answer is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often SQL is asked for due work while Redis is away.
const POLL: Duration = Duration::from_millis(500);
/// How soon it is looked what became of a job that is still worked on, though it was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The bounds of a consumer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Jobs in hand at once.
    pub concurrency: usize,
    /// Jobs taken in one call at most.
    pub batch: usize,
    pub lease: Duration,
    pub renew: Duration,
    pub stalled_interval: Duration,
    pub max_stalled: u32,
    pub drain_delay: Duration,
    /// For how long work may be taken ahead of its turn; zero: never.
    pub ahead: Duration,
    pub shutdown_grace: Duration,
}

/// Works one queue off.
pub struct Consumer {
    queue: Queue,
    handler: Arc<dyn Handler>,
    limits: Limits,
    clock: Clock,
    worker: String,
    /// How the tokens of its takes begin. Each take has one of its own: should a job come back while an attempt that lost it
    /// still runs, the end of that attempt does not end the other.
    owner: String,
    takes: u64,
    /// Jobs that are asked for in calls under way.
    asked: usize,
    /// Jobs that wait for a place.
    ahead: Ahead,
    /// Jobs that were started and have not told yet how they ended.
    working: usize,
    running: Running,
    control: Control,
    meters: Meters,
    tasks: JoinSet<()>,
    done: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Polled work, which has no job.
    polled: Arc<()>,
    poll_hold: Hold,
}

impl Consumer {
    /// `worker` is the name that `getWorkers()` shows.
    pub fn new(queue: Queue, handler: Arc<dyn Handler>, limits: Limits, clock: Clock, worker: String) -> Self {
        let (done, ended) = mpsc::unbounded_channel();
        let running = Running::default();
        let control = Control::new(queue.clone(), limits.concurrency, running.clone());
        let meters = Meters::of(&queue);
        let ahead = Ahead::new(limits.ahead, Instant::now());
        Self {
            queue,
            handler,
            limits,
            clock,
            worker,
            owner: id::new_token(),
            takes: 0,
            asked: 0,
            ahead,
            working: 0,
            running,
            control,
            meters,
            tasks: JoinSet::new(),
            done,
            ended,
            polled: Arc::new(()),
            poll_hold: Hold::default(),
        }
    }

    /// How it is turned from outside while it runs.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Works until `stop`; then finishes what it holds, or hands it back after the grace.
    pub async fn run(mut self, stop: CancellationToken) {
        let renewing = tokio::spawn(renew::keep(
            self.queue.clone(),
            self.handler.clone(),
            self.control.clone(),
            self.limits.clone(),
        ));
        let mut watch = self.queue.watch(&self.worker);
        let mut up = self.queue.redis().watch();
        let mut concurrency = self.control.watch();
        let mut calls: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
        let mut unsettled: Vec<Ended> = Vec::new();
        let mut next_stalled_check = Instant::now();
        // Whether there may be something to take.
        let mut looks = true;
        // Until when it is of no use to look, or to call at all.
        let mut wait = self.limits.drain_delay;
        // Set when a take's answer was lost: what it took is put back first.
        let mut is_unsure = false;
        // Whether jobs were started that may have ended by now.
        let mut has_started = false;
        // Told once, not five times a second.
        let mut was_refused = false;
        let mut stopping_since: Option<Instant> = None;

        loop {
            // Tasks first: each tells how its job ended before it ends itself, so that none slips between the two looks.
            while self.tasks.try_join_next().is_some() {}
            while let Ok(ended) = self.ended.try_recv() {
                unsettled.push(self.heard(ended));
            }
            if stop.is_cancelled() && stopping_since.is_none() {
                stopping_since = Some(Instant::now());
            }
            // What is let go is put back as what a lost answer had taken.
            is_unsure |= self.ahead.let_go(stopping_since.is_some(), Instant::now());
            self.start_waiting();
            if let Some(since) = stopping_since {
                let in_hand = self.tasks.len();
                let is_settled = unsettled.is_empty() && !is_unsure && calls.is_empty();
                if in_hand == 0 && (is_settled || since.elapsed() > self.limits.shutdown_grace || !*up.borrow()) {
                    break;
                }
                if since.elapsed() > self.limits.shutdown_grace {
                    self.stop_all(Stopped::Stopping);
                    if since.elapsed() > self.limits.shutdown_grace + Duration::from_secs(5) {
                        warn!(queue = %self.queue.name(), "{in_hand} jobs did not stop; their leases will end");
                        break;
                    }
                }
            }

            let is_up = *up.borrow_and_update();
            if is_up {
                if Instant::now() >= next_stalled_check && stopping_since.is_none() {
                    upkeep::look_after(&self.queue, &self.clock, self.limits.stalled_interval, self.limits.max_stalled)
                        .await;
                    next_stalled_check = Instant::now() + self.limits.stalled_interval;
                }
                if is_unsure && calls.is_empty() && self.reclaim(&mut unsettled).await {
                    is_unsure = false;
                    looks = true;
                }
                let may_take = stopping_since.is_none() && !is_unsure;
                while let Some(call) = self.next_call(&mut unsettled, calls.len(), &mut looks, may_take) {
                    calls.push(call);
                }
            } else if calls.is_empty() {
                if stopping_since.is_none() {
                    self.poll().await;
                }
                looks = true;
                wait = POLL;
            }
            let pause = if stopping_since.is_some() {
                wait.min(Duration::from_millis(50))
            } else if is_unsure {
                wait.min(AGAIN)
            } else if is_up {
                wait.min(next_stalled_check.saturating_duration_since(Instant::now()))
            } else {
                wait
            };

            let idles = calls.is_empty();
            let is_free = stopping_since.is_none() && self.room() > 0 && !self.ahead.holds_calls();
            let can_take = idles && is_free && *up.borrow() && !looks;
            if can_take && std::mem::take(&mut has_started) {
                // What is done at once is settled before anything else is asked of Redis.
                tokio::task::yield_now().await;
                continue;
            }
            if can_take {
                // Also when the next look at stalled jobs is due by now: the wait of a watch that is not armed never ends.
                watch.arm(pause);
            }
            tokio::select! {
                // Dropped: nothing; what was sent stays in the channel. While Redis has all calls that it can have, nobody
                // needs to know how the next job ended.
                Some(ended) = self.ended.recv(), if calls.len() < CALLS => unsettled.push(self.heard(ended)),
                // Dropped: nothing; the calls stay where they are.
                Some(Answered { call, answer }) = calls.next() => match answer {
                    Ok((settlements, taken)) => {
                        was_refused = false;
                        self.asked -= call.asked;
                        unsettled.extend(self.refused(call.ended, &settlements).await);
                        if call.asked > 0 {
                            looks |= taken.jobs.len() >= call.asked - call.ahead;
                            wait = taken.look_again(self.limits.drain_delay, self.clock.now_ms());
                            self.ahead.bring(taken.jobs, &call.token, call.asked, Instant::now());
                            self.start_waiting();
                            has_started = true;
                        }
                    }
                    Err(error) => {
                        if error.is_unreachable() {
                            debug!(queue = %self.queue.name(), %error, "redis did not answer; trying again");
                        } else if !std::mem::replace(&mut was_refused, true) {
                            let error: &dyn std::error::Error = &error; // so that the log names its causes
                            warn!(queue = %self.queue.name(), error, "redis refuses to settle and take; trying again");
                        }
                        self.asked -= call.asked;
                        unsettled.splice(0..0, call.ended);
                        is_unsure |= call.asked > 0;
                        tokio::time::sleep(AGAIN).await;
                        looks = true;
                    }
                },
                // Dropped: nothing; the watch stays armed and keeps its wake.
                wake = watch.wait(), if can_take => {
                    looks = true;
                    if wake == Wake::Lost {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                // Dropped: a pause only.
                () = tokio::time::sleep_until(self.ahead.ends()), if self.ahead.holds_calls() => {}
                // Dropped: a hint only.
                _ = up.changed() => looks = true,
                // Dropped: nothing; what it is now is read above.
                _ = concurrency.changed() => looks = true,
                () = stop.cancelled(), if stopping_since.is_none() => {}
                // An armed watch ends its wait by itself, and a call its own; this is for the rest.
                () = tokio::time::sleep(pause), if idles && !can_take => looks = true,
            }
        }
        renewing.abort();
        self.tasks.abort_all();
        watch.stop().await;
        if !unsettled.is_empty() {
            info!(queue = %self.queue.name(), "left {} ended jobs to their leases: redis is away", unsettled.len());
        }
    }

    /// What is worked on: jobs, and polled work.
    fn in_hand(&self) -> usize {
        self.working + Arc::strong_count(&self.polled) - 1
    }

    /// How many places there are for jobs that may be asked for.
    fn room(&self) -> usize {
        self.control.concurrency().saturating_sub(self.in_hand() + self.ahead.len() + self.asked)
    }

    /// How many of the jobs in hand ride in a call. With many places that is half of them: while Redis is busy with one call,
    /// the jobs of the other are worked on.
    fn share(&self) -> usize {
        let concurrency = self.control.concurrency();
        if concurrency < WORTH_TWO { SETTLE_MOST } else { concurrency.div_ceil(CALLS) }
    }

    /// The next call, if there is something to settle or to take: a second one beside one that is `under_way` only when it is
    /// full. Whatever ends meanwhile rides in the next.
    fn next_call(
        &mut self,
        unsettled: &mut Vec<Ended>,
        under_way: usize,
        looks: &mut bool,
        may_take: bool,
    ) -> Option<BoxFuture<'static, Answered>> {
        let (room, share) = (if may_take { self.room() } else { 0 }, self.share());
        let most_ended = share.min(SETTLE_MOST);
        let is_worth_it = match under_way {
            0 => (!unsettled.is_empty() || *looks && room > 0) && !self.ahead.holds_calls(),
            1..CALLS => unsettled.len() >= most_ended,
            _ => false,
        };
        if !is_worth_it {
            return None;
        }
        let is_free = room > 0 && room == self.control.concurrency() && room < WORTH_TWO;
        let asked = (room + self.ahead.more(is_free, Instant::now())).min(share).min(self.limits.batch);
        let most = unsettled.len().min(most_ended);
        let rest = unsettled.split_off(together(&unsettled[..most]));
        let ended = std::mem::replace(unsettled, rest);
        *looks &= asked == 0;
        self.takes += 1;
        self.asked += asked;
        let call =
            Call { ended, asked, ahead: asked.saturating_sub(room), token: format!("{}-{}", self.owner, self.takes) };
        let (now, meters) = (self.clock.now_ms(), self.meters.clone());
        Some(call.make(self.queue.clone(), now, self.limits.lease, &self.worker, meters).boxed())
    }

    /// Starts what waits for a place, as far as there are places.
    fn start_waiting(&mut self) {
        while self.in_hand() < self.control.concurrency()
            && let Some((record, token)) = self.ahead.next()
        {
            self.start(record, token);
        }
    }

    fn start(&mut self, record: Record, token: String) {
        self.working += 1;
        self.meters.active.set(self.in_hand() as f64);
        let (job, refused) = match admit(record, self.queue.name(), !self.handler.is_durable()) {
            Ok(job) => (job, None),
            Err(Refused { how, run: Some(job), .. }) => (job, Some(how)),
            Err(Refused { id, how, run: None }) => {
                let _ = self.done.send(Ended { id, token, how });
                return;
            }
        };
        let id = job.id.clone();
        if self.handler.is_durable() && self.control.has(&id) {
            // That attempt has lost the job, not its lease: it goes on, and what it comes to is looked up.
            let how = How::Delay { until_ms: self.clock.now_ms() + millis(LOOK_AGAIN) };
            let _ = self.done.send(Ended { id, token, how });
            return;
        }
        let hold = Hold::default();
        let earlier = control::insert(&self.running, &id, &token, &hold);
        if let Some(earlier) = earlier {
            earlier.stop(Stopped::Lost);
        }
        let (handler, running, done) = (self.handler.clone(), self.running.clone(), self.done.clone());
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        debug!(queue = %self.queue.name(), job.id = %id, "took job {id}");
        self.tasks.spawn(async move {
            let handling = async {
                match schedule::make_next(&queue, &clock, &job, &hold).await {
                    Ok(()) => match refused {
                        Some(how) => how,
                        None => handler.handle(*job, hold).await,
                    },
                    Err(how) => how,
                }
            };
            let handled = AssertUnwindSafe(handling).catch_unwind().await;
            let how = handled.unwrap_or_else(|_| for_good("the processor panicked".into()));
            let _ = done.send(Ended { id: id.clone(), token: token.clone(), how });
            control::remove(&running, &id, &token);
        });
    }

    /// A job tells how it ended.
    fn heard(&mut self, ended: Ended) -> Ended {
        self.working -= 1;
        self.meters.active.set(self.in_hand() as f64);
        self.ahead.end(&ended.how);
        ended
    }

    async fn poll(&mut self) {
        let room = self.room();
        if room == 0 {
            return;
        }
        for work in self.handler.poll(room, self.poll_hold.clone()).await {
            let mark = self.polled.clone();
            self.tasks.spawn(async move {
                let _mark = mark;
                let _ = AssertUnwindSafe(work).catch_unwind().await;
            });
        }
    }

    fn stop_all(&self, why: Stopped) {
        self.poll_hold.stop(why.clone());
        for in_hand in self.running.lock().expect("no user panics inside").values() {
            in_hand.hold.stop(why.clone());
        }
    }

    /// Puts back what a lost answer had taken. True when that is known to be done.
    async fn reclaim(&mut self, unsettled: &mut Vec<Ended>) -> bool {
        let mut held = self.control.held();
        // A task tells how its job ended before it takes it from `running`: one that is in neither place has not been taken
        // here. In another order, a job that ends just now would be given away with its result in hand.
        while let Ok(ended) = self.ended.try_recv() {
            unsettled.push(self.heard(ended));
        }
        held.extend(unsettled.iter().map(|ended| (ended.id.clone(), ended.token.clone())));
        self.queue.reclaim(&self.owner, &held).await.is_ok()
    }

    /// Jobs that could not end as they wanted, because of their children: failed instead.
    async fn refused(&self, batch: Vec<Ended>, settlements: &[Settlement]) -> Vec<Ended> {
        let mut again = Vec::new();
        for (ended, settlement) in batch.into_iter().zip(settlements) {
            let how = match settlement {
                Settlement::Settled => continue,
                Settlement::Lost => {
                    debug!(job.id = %ended.id, "job {} was lost before it was settled", ended.id);
                    continue;
                }
                Settlement::ChildrenPending => match self.queue.job(&ended.id).await {
                    Ok(Some(Record::Job(job))) => self.handler.completed_early(&job),
                    Ok(_) => for_good(CHILDREN_PENDING.into()),
                    // Settled again, and refused again.
                    Err(_) => ended.how,
                },
                Settlement::ChildFailed => for_good("a child of the job failed".into()),
                Settlement::ChildrenRefused { .. } => {
                    let why = settlement.children_refused(&ended.how).map(|error| error.told("add"));
                    for_good(why.unwrap_or_else(|| "it cannot have these children".into()))
                }
            };
            again.push(Ended { how, ..ended });
        }
        again
    }
}
