//! The loop over one queue: settle what ended, take what is next, wait to be woken.
//!
//! One script call is under way at a time. Whatever ends meanwhile rides in the next, which also takes new jobs: batches
//! form by themselves under load, and a lone job goes at once. There is no polling: an idle consumer blocks on the queue's
//! marker.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admit::{Refused, admit, for_good};
use super::control::{Control, Running};
use super::{Handler, Hold, Stopped, schedule, upkeep};
use crate::clock::{Clock, millis};
use crate::id;
use crate::queue::{Ended, Queue, Record, Settlement, Take, Taken};
use crate::redis::Wake;

/// Settlements in one call at most: more gain nothing, and hold Redis up.
const SETTLE_MOST: usize = 100;
/// How soon a call that Redis did not answer is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often SQL is asked for due work while Redis is away.
const POLL: Duration = Duration::from_millis(500);

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
    pub shutdown_grace: Duration,
}

/// Works one queue off.
pub struct Consumer {
    queue: Queue,
    handler: Arc<dyn Handler>,
    limits: Limits,
    clock: Clock,
    worker: String,
    token: String,
    running: Running,
    control: Control,
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
        Self {
            queue,
            handler,
            limits,
            clock,
            worker,
            token: id::new_token(),
            running,
            control,
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
        let renewing = tokio::spawn(renew(
            self.queue.clone(),
            self.handler.clone(),
            self.control.clone(),
            self.token.clone(),
            self.limits.clone(),
        ));
        let mut watch = self.queue.watch(&self.worker);
        let mut up = self.queue.redis().watch();
        let mut concurrency = self.control.watch();
        let mut unsettled: Vec<Ended> = Vec::new();
        let mut next_stalled_check = Instant::now();
        // Set when a take's answer was lost: what it took is put back first.
        let mut is_unsure = false;
        let mut stopping_since: Option<Instant> = None;

        loop {
            // Tasks first: each tells how its job ended before it ends itself, so that none slips between the two looks.
            while self.tasks.try_join_next().is_some() {}
            while let Ok(ended) = self.ended.try_recv() {
                unsettled.push(ended);
            }
            if stop.is_cancelled() && stopping_since.is_none() {
                stopping_since = Some(Instant::now());
            }
            if let Some(since) = stopping_since {
                let in_hand = self.tasks.len();
                if in_hand == 0
                    && (unsettled.is_empty() || since.elapsed() > self.limits.shutdown_grace || !*up.borrow())
                {
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

            let mut wait = self.limits.drain_delay;
            if *up.borrow_and_update() {
                if Instant::now() >= next_stalled_check && stopping_since.is_none() {
                    upkeep::look_after(&self.queue, &self.clock, self.limits.stalled_interval, self.limits.max_stalled)
                        .await;
                    next_stalled_check = Instant::now() + self.limits.stalled_interval;
                }
                if is_unsure && self.reclaim(&mut unsettled).await {
                    is_unsure = false;
                }
                let room = if stopping_since.is_some() || is_unsure { 0 } else { self.room() };
                if room > 0 || !unsettled.is_empty() {
                    let rest = unsettled.split_off(unsettled.len().min(SETTLE_MOST));
                    let batch = std::mem::replace(&mut unsettled, rest);
                    match self.call(&batch, room).await {
                        Ok((settlements, taken)) => {
                            unsettled.extend(refused(batch, &settlements));
                            let took = taken.jobs.len();
                            wait = taken.look_again(self.limits.drain_delay, self.clock.now_ms());
                            for record in taken.jobs {
                                self.start(record);
                            }
                            if !unsettled.is_empty() || (took > 0 && took == room && self.room() > 0) {
                                continue;
                            }
                        }
                        Err(error) => {
                            debug!(queue = %self.queue.name(), %error, "redis did not answer; trying again");
                            unsettled.splice(0..0, batch);
                            is_unsure |= room > 0;
                            wait = AGAIN;
                        }
                    }
                }
                if stopping_since.is_none() {
                    wait = wait.min(next_stalled_check.saturating_duration_since(Instant::now()));
                }
            } else {
                if stopping_since.is_none() {
                    self.poll().await;
                }
                wait = POLL;
            }
            if stopping_since.is_some() {
                wait = wait.min(Duration::from_millis(50));
            }

            let can_take = stopping_since.is_none() && self.room() > 0 && *up.borrow();
            if can_take {
                // Also when the next look at stalled jobs is due by now: the wait of a watch that is not armed never ends.
                watch.arm(wait);
            }
            tokio::select! {
                // Dropped: nothing; what was sent stays in the channel.
                Some(ended) = self.ended.recv() => unsettled.push(ended),
                // Dropped: nothing; the watch stays armed and keeps its wake.
                wake = watch.wait(), if can_take => if wake == Wake::Lost { tokio::time::sleep(AGAIN).await },
                // Dropped: a hint only.
                _ = up.changed() => {}
                // Dropped: nothing; what it is now is read above.
                _ = concurrency.changed() => {}
                () = stop.cancelled(), if stopping_since.is_none() => {}
                // An armed watch ends its wait by itself; this is for the rest.
                () = tokio::time::sleep(wait), if !can_take => {}
            }
        }
        renewing.abort();
        self.tasks.abort_all();
        watch.stop().await;
        if !unsettled.is_empty() {
            info!(queue = %self.queue.name(), "left {} ended jobs to their leases: redis is away", unsettled.len());
        }
    }

    fn room(&self) -> usize {
        let in_hand = self.tasks.len();
        self.control.concurrency().saturating_sub(in_hand).min(self.limits.batch)
    }

    async fn call(&self, ended: &[Ended], room: usize) -> Result<(Vec<Settlement>, Taken), crate::queue::Error> {
        let take = (room > 0).then(|| Take {
            max: u32::try_from(room).unwrap_or(u32::MAX),
            token: self.token.clone(),
            lease_ms: millis(self.limits.lease),
            worker_name: Some(self.worker.clone()),
        });
        let started = Instant::now();
        let answer = self.queue.settle(ended, take.as_ref(), self.clock.now_ms()).await?;
        let queue = self.queue.name().to_string();
        histogram!("onetake_queue_settle_seconds", "queue" => queue.clone()).record(started.elapsed().as_secs_f64());
        counter!("onetake_queue_taken_total", "queue" => queue.clone()).increment(answer.1.jobs.len() as u64);
        counter!("onetake_queue_settled_total", "queue" => queue.clone()).increment(ended.len() as u64);
        gauge!("onetake_runner_active", "queue" => queue).set(self.tasks.len() as f64);
        Ok(answer)
    }

    fn start(&mut self, record: Record) {
        let token = self.token.clone();
        let job = match admit(record, self.queue.name(), !self.handler.is_durable()) {
            Ok(job) => job,
            Err(Refused { id, how }) => {
                let _ = self.done.send(Ended { id, token, how });
                return;
            }
        };
        let id = job.id.clone();
        let hold = Hold::default();
        self.running.lock().expect("no user panics inside").insert(id.clone(), hold.clone());
        let (handler, running, done) = (self.handler.clone(), self.running.clone(), self.done.clone());
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        debug!(queue = %self.queue.name(), job.id = %id, "took job {id}");
        self.tasks.spawn(async move {
            let handling = async {
                match schedule::make_next(&queue, &clock, &job, &hold).await {
                    Ok(()) => handler.handle(*job, hold).await,
                    Err(how) => how,
                }
            };
            let handled = AssertUnwindSafe(handling).catch_unwind().await;
            let how = handled.unwrap_or_else(|_| for_good("the processor panicked".into()));
            let _ = done.send(Ended { id: id.clone(), token, how });
            running.lock().expect("no user panics inside").remove(&id);
        });
    }

    async fn poll(&mut self) {
        // Work of an earlier poll that is still under way counts: it sits in `tasks`.
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
        for hold in self.running.lock().expect("no user panics inside").values() {
            hold.stop(why.clone());
        }
    }

    /// Puts back what a lost answer had taken. True when that is known to be done.
    async fn reclaim(&mut self, unsettled: &mut Vec<Ended>) -> bool {
        let mut held: Vec<String> = self.running.lock().expect("no user panics inside").keys().cloned().collect();
        // A task tells how its job ended before it takes it from `running`: one that is in neither place has not been taken
        // here. In another order, a job that ends just now would be given away with its result in hand.
        while let Ok(ended) = self.ended.try_recv() {
            unsettled.push(ended);
        }
        held.extend(unsettled.iter().map(|ended| ended.id.clone()));
        self.queue.reclaim(&self.token, &held).await.is_ok()
    }
}

/// Jobs that could not end as they wanted, because of their children: failed instead.
fn refused(batch: Vec<Ended>, settlements: &[Settlement]) -> Vec<Ended> {
    let mut again = Vec::new();
    for (ended, settlement) in batch.into_iter().zip(settlements) {
        let reason = match settlement {
            Settlement::Settled => continue,
            Settlement::Lost => {
                debug!(job.id = %ended.id, "job {} was lost before it was settled", ended.id);
                continue;
            }
            Settlement::ChildrenPending => "the job has children that are not done",
            Settlement::ChildFailed => "a child of the job failed",
        };
        again.push(Ended { how: for_good(reason.into()), ..ended });
    }
    again
}

/// T4 in Redis: keeps the locks of what is in hand.
async fn renew(queue: Queue, handler: Arc<dyn Handler>, control: Control, token: String, limits: Limits) {
    loop {
        tokio::time::sleep(limits.renew).await;
        let held: Vec<(String, String)> = control.in_hand().into_iter().map(|id| (id, token.clone())).collect();
        if held.is_empty() {
            continue;
        }
        match queue.extend(&held, millis(limits.lease)).await {
            Ok(lost) if !handler.is_durable() => {
                for id in lost {
                    control.stop(&id, Stopped::Lost);
                }
                // Whatever was published and not heard is found here.
                control.stop_cancelled(&control.in_hand()).await;
            }
            Ok(_) => {}
            Err(error) => debug!(queue = %queue.name(), %error, "could not renew locks"),
        }
    }
}
