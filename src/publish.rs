//! T2, publish: gives due rows their jobs in Redis, so that runners wake.
//!
//! The rows are the outbox. A job here is a wake-up that carries no truth, so publishing is "ensure": it may be repeated,
//! may come late, and may fail: the reconciler finds what was left out. What arrives together rides in one call.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::catalog::{Catalog, Kind};
use crate::clock::{Millis, millis};
use crate::config;
use crate::dedupe::{Dedupe, Mark, Wakes, What};
use crate::fault;
use crate::flight::{DueDelivery, DueRun, Finished, Flights, Snapshot};
use crate::id::{QueueName, hash_tag};
use crate::queue::{Add, Error, GroupDefaults, JobOptions, Keep, LOWEST_PRIORITY, Queue, RateLimit, Retention, Terms};
use crate::redis::Redis;

/// Something that Redis should be told.
#[derive(Clone, Debug)]
pub enum Publish {
    Run(Box<DueRun>),
    /// A flight as it is now, for the mirror.
    Mark(Box<Snapshot>),
    Delivery(DueDelivery),
    /// All queued deliveries of a generation that has just ended.
    DeliveriesOf {
        flight: String,
        generation: i64,
    },
}

/// The handles of all queues, and the way to publish to them. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    sender: mpsc::Sender<Publish>,
    queues: Arc<Queues>,
}

/// A handle for every queue that this server knows.
pub struct Queues {
    redis: Redis,
    prefix: String,
    catalog: Catalog,
    known: BTreeMap<String, Queue>,
}

impl Queues {
    pub fn new(redis: Redis, prefix: &str, catalog: &Catalog) -> Self {
        let known = catalog
            .entries()
            .map(|entry| {
                let retention = Retention {
                    completed: Keep::last(entry.settings.keep_completed),
                    failed: Keep::last(entry.settings.keep_failed),
                };
                // Taking a wish in is not the work: an intake queue goes as fast as it can.
                let limiter = entry.settings.limiter.filter(|_| entry.kind != Kind::Intake);
                let limiter = limiter.and_then(|limiter| limit(NonZeroU32::new(limiter.max)?, limiter.duration.0));
                let groups = group_defaults(entry.settings.groups);
                let terms = Terms { retention, limiter, metrics: entry.settings.metrics, groups };
                let queue = Queue::on_terms(redis.clone(), prefix, entry.name.clone(), terms);
                (entry.name.as_str().to_owned(), queue)
            })
            .collect();
        Self { redis, prefix: prefix.to_owned(), catalog: catalog.clone(), known }
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The queue of that name, if it is declared, or if undeclared queues are served too. On a cluster none whose keys
    /// would lie apart.
    pub fn get(&self, name: &str) -> Option<Queue> {
        if let Some(queue) = self.known.get(name) {
            return Some(queue.clone());
        }
        let is_together = |name: &str| matches!(hash_tag(name), Ok(Some(_)));
        let is_fit = !self.redis.is_cluster() || is_together(&self.prefix) || is_together(name);
        let name = QueueName::parse(name).ok().filter(|_| self.catalog.is_open() && is_fit)?;
        Some(Queue::new(self.redis.clone(), &self.prefix, name))
    }
}

fn group_defaults(declared: config::Groups) -> GroupDefaults {
    let config::Groups { concurrency, rate, ahead } = declared;
    let rate = rate.and_then(|rate| limit(rate.max, rate.duration.0));
    GroupDefaults { concurrency, rate, ahead: ahead.unwrap_or(NonZeroU32::MIN) }
}

/// As the scripts want it; `None` for what no configuration passes.
fn limit(max: NonZeroU32, duration: Duration) -> Option<RateLimit> {
    let duration = u32::try_from(millis(duration)).ok().and_then(NonZeroU32::new)?;
    Some(RateLimit { max, duration })
}

impl Publisher {
    pub fn new(queues: Arc<Queues>) -> (Self, mpsc::Receiver<Publish>) {
        let (sender, receiver) = mpsc::channel(10_000);
        (Self { sender, queues }, receiver)
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Hands something over for publishing. When too much waits already it is dropped: the reconciler comes by.
    pub fn send(&self, publish: Publish) {
        if self.sender.try_send(publish).is_err() {
            debug!("publishing is behind; leaving the rest to the reconciler");
        }
    }

    /// Publishes what arrives, until the last sender is gone.
    pub async fn drive(self, mut receiver: mpsc::Receiver<Publish>, flights: Flights, dedupe: Dedupe) {
        let mut items = Vec::new();
        while receiver.recv_many(&mut items, 250).await > 0 {
            let now_ms = flights.store().clock().now_ms();
            if let Err(error) = self.step(std::mem::take(&mut items), &flights, &dedupe, now_ms).await {
                debug!(%error, "not published; leaving it to the reconciler");
            }
        }
    }

    /// Publishes `items` now.
    ///
    /// # Errors
    /// [`Error`] of the queue: some of them may have been published.
    pub async fn step(
        &self,
        items: Vec<Publish>,
        flights: &Flights,
        dedupe: &Dedupe,
        now_ms: Millis,
    ) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let mut jobs: HashMap<String, Vec<Add>> = HashMap::new();
        let mut marks: Vec<Mark> = Vec::new();
        let mut refused = Ok(());
        for item in items {
            match item {
                Publish::Run(run) => {
                    jobs.entry(run.flight.queue.clone()).or_default().push(self.leader(&run));
                    let leader = leader_id(&run.flight.flight, run.flight.generation, run.attempt + 1);
                    marks.push(self.mark(run.flight, leader));
                }
                Publish::Mark(flight) => marks.push(self.mark(*flight, String::new())),
                Publish::Delivery(delivery) => {
                    let queue = self.queues.catalog.delivery().as_str().to_owned();
                    jobs.entry(queue).or_default().push(delivery_job(&delivery));
                }
                Publish::DeliveriesOf { flight, generation } => {
                    match self.deliveries_of(flights, &flight, generation, now_ms).await {
                        Err(error) if error.is_unreachable() => return Err(error),
                        Err(error) => refused = Err(error),
                        Ok(()) => {}
                    }
                }
            }
        }
        for (name, adds) in jobs {
            let Some(queue) = self.queues.get(&name) else { continue };
            if let Err(error) = queue.ensure(adds, now_ms).await {
                if error.is_unreachable() {
                    return Err(error);
                }
                // One queue's trouble is not another's.
                warn!(%error, queue = %name, "cannot publish to queue {name}");
                refused = Err(error);
            }
        }
        dedupe.mark(&marks).await?;
        let told = marks.into_iter().map(|mark| mark.flight);
        for flight in told.filter(|flight| !flight.state.is_open() && flight.touched_at_ms > 0) {
            let flights = flights.clone();
            // Not waited for: what is not noted is told again, which is harmless.
            tokio::spawn(async move { flights.mirrored(&flight.flight, flight.touched_at_ms).await });
        }
        fault::point("publish.done");
        refused
    }

    fn mark(&self, flight: Snapshot, leader: String) -> Mark {
        let fresh_for = self.queues.catalog.get(&flight.scope).and_then(|e| e.settings.dedupe.as_ref()?.max_age);
        Mark { flight, leader, fresh_for: fresh_for.map(|age| age.0) }
    }

    async fn deliveries_of(
        &self,
        flights: &Flights,
        flight: &str,
        generation: i64,
        now_ms: Millis,
    ) -> Result<(), Error> {
        let Some(queue) = self.queues.get(self.queues.catalog.delivery().as_str()) else { return Ok(()) };
        let mut after = String::new();
        loop {
            let Ok(page) = flights.deliveries_of(flight, generation, &after, 250).await else { return Ok(()) };
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.id);
            queue.ensure(page.iter().map(delivery_job).collect(), now_ms).await?;
        }
    }

    /// The job that makes a run's next attempt. Its id says which; a finished one of that id is replaced.
    fn leader(&self, run: &DueRun) -> Add {
        let (completed, failed) = self
            .queues
            .catalog
            .get(&run.flight.queue)
            .map_or((1000, 1000), |entry| (entry.settings.keep_completed, entry.settings.keep_failed));
        Add {
            id: Some(leader_id(&run.flight.flight, run.flight.generation, run.attempt + 1)),
            name: run.name.clone(),
            data: raw(run.data.clone()),
            options: JobOptions {
                // SQL alone counts attempts; the job is a wake-up.
                attempts: 1,
                delay_ms: millis(run.due_in),
                // BullMQ lets a job's priority be changed to anything.
                priority: u32::try_from(run.priority).unwrap_or(0).min(LOWEST_PRIORITY),
                remove_on_complete: Some(Keep::last(completed)),
                remove_on_fail: Some(Keep::last(failed)),
                ..JobOptions::default()
            },
        }
    }
}

/// JSON text from our own rows; what is none (a row changed by hand) becomes null rather than a poisoned batch.
fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Tells Redis and those who wait what became of a run. Cheap to clone.
#[derive(Clone)]
pub struct Announcer {
    pub publisher: Publisher,
    pub dedupe: Dedupe,
    pub wakes: Wakes,
}

impl Announcer {
    /// What is lost here (a crash, Redis away) the reconciler finds in SQL.
    pub async fn announce(&self, finished: Finished) {
        match finished {
            Finished::Over { flight, outcome } => {
                let word = if outcome.is_success() { "succeeded" } else { "failed" };
                counter!("onetake_runs_total", "queue" => flight.queue.clone(), "outcome" => word).increment(1);
                debug!(flight = %flight.flight, generation = flight.generation, "run of {} {} {word}", flight.scope, flight.key);
                let (id, generation) = (flight.flight.clone(), flight.generation);
                self.publisher.send(Publish::Mark(flight));
                fault::point("settle.mirrored");
                self.ended(&id, Some(generation), What::Ended).await;
            }
            Finished::Again(run) => self.publisher.send(Publish::Run(run)),
            Finished::Lost => {}
        }
    }

    /// A generation has ended (or none was open): its deliveries are due, and whoever waits may look.
    pub async fn ended(&self, flight: &str, generation: Option<i64>, what: What) {
        if let Some(generation) = generation {
            self.publisher.send(Publish::DeliveriesOf { flight: flight.to_owned(), generation });
        }
        self.wakes.tell(flight, what);
        self.dedupe.wake(flight, what).await;
    }
}

/// The id of the job that makes one attempt of a run. Never with a `:`, BullMQ's separator.
pub fn leader_id(flight: &str, generation: i64, attempt: i64) -> String {
    format!("{flight}-{generation}-{attempt}")
}

/// The flight and the generation in a leader's id.
pub fn parse_leader_id(id: &str) -> Option<(&str, i64)> {
    let mut parts = id.split('-');
    let (flight, generation, _attempt) = (parts.next()?, parts.next()?, parts.next()?);
    (flight.len() == 32 && parts.next().is_none()).then_some(())?;
    Some((flight, generation.parse().ok()?))
}

fn delivery_job(delivery: &DueDelivery) -> Add {
    Add {
        id: Some(delivery_job_id(&delivery.id)),
        name: "delivery".to_owned(),
        data: raw(json!({"delivery": delivery.id}).to_string()),
        options: JobOptions {
            attempts: 1,
            delay_ms: millis(delivery.due_in),
            remove_on_complete: Some(Keep::last(1000)),
            remove_on_fail: Some(Keep::last(1000)),
            ..JobOptions::default()
        },
    }
}

/// The id of a delivery's job: the delivery's, spelt so that BullMQ cannot take it for a number.
pub fn delivery_job_id(delivery: &str) -> String {
    format!("d-{delivery}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_id_says_which_run_it_makes() {
        let flight = crate::id::new_id();
        assert_eq!(parse_leader_id(&leader_id(&flight, 3, 2)), Some((flight.as_str(), 3)));
        for foreign in ["", "7", "a-b-c", "a-1-1", &format!("{flight}-x-1"), &format!("{flight}-1-1-1")] {
            assert_eq!(parse_leader_id(foreign), None, "{foreign}");
        }
    }
}
