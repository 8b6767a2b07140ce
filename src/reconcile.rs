//! T6 and T8: looks after what others left behind, so that nothing acknowledged is ever forgotten.
//!
//! Every step is repeatable, and bounded but for the sweep, which walks through all keys once an hour; several servers may do
//! it side by side. SQL is read and Redis corrected, never the other way round.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::catalog::Kind;
use crate::clock::Clock;
use crate::config;
use crate::dedupe::{Dedupe, Mark};
use crate::files::FileStore;
use crate::flight::{Flights, Retention};
use crate::intake::{PARKED_FIELD, parked_end, parked_mark, read_parked_mark};
use crate::pace::Pace;
use crate::publish::{Announcer, Publish, Publisher};
use crate::queue::{Parked, Queue};
use crate::redis::{self, Redis};
use crate::{queue, store};

/// The names of our workers, as `getWorkers()` shows them, begin so.
pub const WORKER_PREFIX: &str = "onetake-";

const SERVERS_SEEN_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether others take from our intake queues.
const STRANGERS_EVERY: Duration = Duration::from_secs(60);
/// A full comparison of Redis's keys with SQL, even if nothing looks wrong.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// What cut a step short.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Redis(#[from] queue::Error),
}

impl From<redis::Error> for Error {
    fn from(error: redis::Error) -> Self {
        Self::Redis(error.into())
    }
}

/// Compares SQL and Redis, and rescues what has no owner.
pub struct Reconciler {
    pub flights: Flights,
    pub dedupe: Dedupe,
    pub publisher: Publisher,
    pub announcer: Announcer,
    pub redis: Redis,
    pub pace: Option<Pace>,
    pub files: FileStore,
    pub settings: Arc<config::Settings>,
    pub clock: Clock,
    pub server: String,
    pub memory: Memory,
}

/// What one reconciler remembers from step to step.
#[derive(Default)]
pub struct Memory {
    redis: Option<(String, String)>,
    needs_sweep: bool,
    /// When SQL did not answer last.
    sql_away_at: Option<Instant>,
    seen_at: Option<Instant>,
    swept_at: Option<Instant>,
    retained_at: Option<Instant>,
    /// How far the parked jobs of each queue were looked at.
    parked: BTreeMap<String, Option<String>>,
    /// Files that are old, and were not looked at yet.
    old_files: Vec<String>,
    strangers_at: Option<Instant>,
    /// As written down last.
    paused: Option<Vec<String>>,
}

impl Reconciler {
    /// Steps at every interval, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let interval = self.settings.reconcile.interval.0;
        loop {
            if let Err(error) = self.step().await {
                self.memory.sql_away_at = Some(Instant::now());
                debug!(%error, "reconciling was cut short: SQL is away");
            }
            // Dropped: a wait only.
            if stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
                return;
            }
        }
    }

    /// One bounded look at everything.
    ///
    /// # Errors
    /// The store's; what Redis does not answer is left to the next step.
    pub async fn step(&mut self) -> Result<(), store::Error> {
        let page = self.settings.reconcile.page;
        // So that a SQL that is away is noticed also while nothing is rescued.
        self.flights.store().ping().await?;
        if !self.was_sql_away() {
            for finished in self.flights.rescue(page).await? {
                self.announcer.announce(finished).await;
            }
        }
        self.be_seen().await?;
        if self.redis.is_up() {
            match self.tell_redis(page).await {
                Err(Error::Redis(error)) => debug!(%error, "redis did not take everything; the next step goes on"),
                Err(Error::Store(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        self.retain(page).await
    }

    /// Leases that ended while SQL was away say nothing about their holders: these first have the time of a lease to renew
    /// them, or to report what they have made meanwhile.
    fn was_sql_away(&self) -> bool {
        self.memory.sql_away_at.is_some_and(|at| at.elapsed() < self.settings.runner.lease.0)
    }

    async fn tell_redis(&mut self, page: u32) -> Result<(), Error> {
        if self.is_replaced().await? {
            info!("this Redis is new, was wiped or changed its role: telling it everything again");
            self.flights.forget_touches().await?;
            self.memory.needs_sweep = true;
        }
        let untouched = self.settings.reconcile.untouched.0;
        let runs = self.flights.take_untouched_runs(untouched, page).await?;
        let deliveries = self.flights.take_untouched_deliveries(untouched, page).await?;
        let dirty = self.flights.dirty(untouched, page).await?;
        let items = runs
            .into_iter()
            .map(|run| Publish::Run(Box::new(run)))
            .chain(deliveries.into_iter().map(Publish::Delivery))
            .chain(dirty.into_iter().map(|flight| Publish::Mark(Box::new(flight))))
            .collect();
        // What one queue refuses keeps nobody from the rest.
        let published = self.publisher.step(items, &self.flights, &self.dedupe, self.clock.now_ms()).await;
        let is_due = self.memory.swept_at.is_none_or(|at| at.elapsed() > SWEEP_EVERY);
        if self.memory.needs_sweep || is_due {
            self.sweep().await?;
            self.memory.needs_sweep = false;
            self.memory.swept_at = Some(Instant::now());
        }
        self.look_after_queues(page).await?;
        Ok(published?)
    }

    /// Whether everything must be told again: the data are new, or another server answers (a failover loses the last writes).
    async fn is_replaced(&mut self) -> Result<bool, redis::Error> {
        let is_new = self.dedupe.is_new_instance().await?;
        let info = self.redis.info().await?;
        let now = (info.run_id, info.role);
        let has_changed = self.memory.redis.as_ref().is_some_and(|before| *before != now);
        self.memory.redis = Some(now);
        Ok(is_new || has_changed)
    }

    /// Every key of which Redis knows is compared with SQL: what it believes to be open, and whose result it serves.
    async fn sweep(&self) -> Result<(), Error> {
        let mut cursor: Option<String> = None;
        loop {
            let (known, next) = self.dedupe.known_keys(cursor.as_deref()).await?;
            let keys: Vec<_> = known.iter().map(|known| (known.scope.clone(), known.key.clone())).collect();
            let standings = self.flights.standings(&keys).await?;
            let mut wrong = Vec::new();
            for (known, key) in known.iter().zip(keys) {
                match standings.get(&key) {
                    Some(standing) if standing.is_open => {}
                    Some(standing) if known.is_open || known.result_generation != standing.result_generation => {
                        wrong.push(key);
                    }
                    Some(_) => {}
                    None => self.dedupe.release(&known.scope, &known.key).await?,
                }
            }
            let over = self.flights.by_keys(&wrong).await?.into_iter().filter(|flight| !flight.state.is_open());
            let over: Vec<_> = over.map(|flight| Mark { flight, leader: String::new(), fresh_for: None }).collect();
            self.dedupe.mark(&over).await?;
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Which queues are paused, and who is parked in them.
    async fn look_after_queues(&mut self, page: u32) -> Result<(), Error> {
        let mut paused = Vec::new();
        let looks_for_strangers = self.memory.strangers_at.is_none_or(|at| at.elapsed() > STRANGERS_EVERY);
        if looks_for_strangers {
            self.memory.strangers_at = Some(Instant::now());
        }
        for entry in self.publisher.queues().catalog().entries() {
            let name = entry.name.as_str();
            let Some(queue) = self.publisher.queues().get(name) else { continue };
            if queue.is_paused().await? {
                paused.push(name.to_owned());
            }
            if entry.kind == Kind::Intake {
                if looks_for_strangers {
                    warn_of_strangers(name, &queue.workers().await?);
                }
                let cursor = self.memory.parked.get(name).cloned().flatten();
                let looked = queue.look_at_parked(cursor, page, PARKED_FIELD).await?;
                if looked.removed > 0 {
                    info!(queue = name, "removed {} parked ids without a job", looked.removed);
                }
                self.end_parked(&queue, looked.marked).await?;
                self.memory.parked.insert(name.to_owned(), looked.next);
            }
        }
        if self.memory.paused.as_ref() != Some(&paused) {
            self.flights.remember_paused(paused.clone()).await?;
            self.memory.paused = Some(paused);
        }
        Ok(())
    }

    /// Followers that wait for a run that has ended: a Redis that lost its last second parked them again, and their deliveries
    /// have been done.
    async fn end_parked(&self, queue: &Queue, parked: Vec<Parked>) -> Result<(), Error> {
        let wanted: BTreeSet<_> = parked
            .iter()
            .filter_map(|parked| read_parked_mark(&parked.mark))
            .map(|(flight, generation)| (flight.to_owned(), generation))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let outcomes = self.flights.all_told(&wanted).await?;
        let outcomes: HashMap<_, _> =
            outcomes.iter().map(|(flight, generation, outcome)| (parked_mark(flight, *generation), outcome)).collect();
        for Parked { id, timestamp, mark } in parked {
            let Some(outcome) = outcomes.get(&mark) else { continue };
            queue.finish_parked(&[parked_end(id, timestamp, mark, outcome)], self.clock.now_ms()).await?;
        }
        Ok(())
    }

    async fn be_seen(&mut self) -> Result<(), store::Error> {
        if self.memory.seen_at.is_some_and(|at| at.elapsed() < SERVERS_SEEN_EVERY) {
            return Ok(());
        }
        let role = format!("{:?}", self.settings.role).to_lowercase();
        let alive = self.flights.server_seen(&self.server, &role, 3 * SERVERS_SEEN_EVERY).await?;
        if let Some(pace) = &self.pace {
            pace.share_among(alive);
        }
        self.memory.seen_at = Some(Instant::now());
        let repaired = self.flights.repair_deliveries(self.settings.reconcile.page).await?;
        if repaired > 0 {
            warn!("gave {repaired} subscriptions of finished runs the delivery that they lacked");
        }
        Ok(())
    }

    async fn retain(&mut self, page: u32) -> Result<(), store::Error> {
        let kept = &self.settings.retention;
        if self.memory.retained_at.is_some_and(|at| at.elapsed() < kept.every.0) {
            return Ok(());
        }
        let retention = Retention {
            idempotency_keys: kept.idempotency_keys.0,
            requests: kept.requests.0,
            mailbox: kept.mailbox.0,
            histories: kept.histories.0,
            sagas: kept.sagas.0,
        };
        if self.flights.forget_old(retention, page).await? {
            // More is left: the next step goes on.
            return Ok(());
        }
        if self.memory.old_files.is_empty() {
            self.memory.old_files = self.files.older_than(kept.files.0).unwrap_or_default();
        }
        // A page in each step: the rest of this loop is not to wait for a folder full of files.
        for _ in 0..page {
            let Some(name) = self.memory.old_files.pop() else { break };
            if !self.flights.names_file(&name).await? {
                info!(file = %name, "removed file {name}: no result names it any more");
                let _ = self.files.remove(&name);
            }
        }
        if self.memory.old_files.is_empty() {
            self.memory.retained_at = Some(Instant::now());
        }
        Ok(())
    }
}

/// An intake queue is Onetake's alone: a job that another worker takes coalesces with nothing.
fn warn_of_strangers(queue: &str, workers: &BTreeSet<String>) {
    let strangers: Vec<_> = workers.iter().filter(|name| !name.starts_with(WORKER_PREFIX)).collect();
    if !strangers.is_empty() {
        warn!(queue, "other workers take jobs from the intake queue {queue} ({strangers:?}): stop them");
    }
}
