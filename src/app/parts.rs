//! The parts of a server, each built once from the settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use crate::cache::Cache;
use crate::catalog::{Catalog, Entry, Kind};
use crate::clock::Clock;
use crate::config::Settings;
use crate::dedupe::{Dedupe, Wakes};
use crate::delivery::telegram::Telegram;
use crate::delivery::webhook::Webhook;
use crate::delivery::{Chats, Deliveries, client};
use crate::files::FileStore;
use crate::flight::Flights;
use crate::http::read_flows;
use crate::intake::Intake;
use crate::lock::Locks;
use crate::pace::Pace;
use crate::processor::{Processor, builtin, make};
use crate::publish::{Announcer, Publish, Publisher, Queues};
use crate::reconcile::{Memory, Reconciler, WORKER_PREFIX};
use crate::redis::Redis;
use crate::runner::{
    Consumer, Controls, Followers, GroupTender, Handler, Holds, Limits, PlainJobs, Plainly, ReadFlows, Runs, Upkeep,
    Workload,
};
use crate::saga::{Effect, Sagas};
use crate::store::Store;
use crate::workloads::orders::cloudpayments::CloudPayments;
use crate::workloads::orders::{self, Refunds};
use crate::workloads::videos::keep::Videos;
use crate::workloads::videos::render::Renderer;
use crate::workloads::videos::wish;
use crate::workloads::{On, Workloads};

/// Jobs taken in one call by a queue that only accepts: its jobs are not worked on, so that nothing is gained by waiting.
const INTAKE_BATCH: usize = 256;
/// Jobs taken in one call by a queue whose jobs are worked on. More gain nothing, and hold Redis up.
const WORK_BATCH: usize = 50;

/// Everything that a server is made of.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub redis: Redis,
    pub store: Store,
    pub flights: Flights,
    pub dedupe: Dedupe,
    pub wakes: Wakes,
    pub publisher: Publisher,
    pub to_publish: mpsc::Receiver<Publish>,
    pub announcer: Announcer,
    pub intake: Intake,
    pub locks: Locks,
    pub holds: Holds,
    pub files: FileStore,
    pub chats: Option<Chats>,
    pub webhook: Webhook,
    pub sagas: Sagas,
    pub workloads: Workloads,
    /// Of the consumers, once they are made.
    pub controls: Controls,
    pub worker: String,
}

impl Parts {
    /// # Errors
    /// What cannot be built, and why.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let clock = clock();
        let redis = Redis::connect_lazy(&settings.redis).context("redis.url")?;
        let catalog = Catalog::new(&settings.queues, &settings.delivery);
        Box::pin(super::startup::check_redis(&redis, &settings.redis, &catalog)).await?;
        let store = Store::open(&settings.store, clock.clone()).await.context("cannot open the store")?;
        super::startup::check_keys(&settings, &store).await?;
        let locks = Locks::new(store.clone(), redis.clone(), &settings.redis.namespace, &settings.locks);
        super::startup::claim_namespace(&locks).await?;
        let files = FileStore::open(settings.files_dir.clone()).context("cannot use files_dir")?;
        let flights = Flights::new(store.clone());
        if !store.is_shared() {
            // The only process of this store has just started: whatever was in hand is in nobody's.
            flights.disown_all().await.context("cannot take the unfinished runs back")?;
        }
        let queues = Arc::new(Queues::new(redis.clone(), &settings.redis.prefix, &catalog));
        let (publisher, to_publish) = Publisher::new(queues);
        let dedupe = Dedupe::new(redis.clone(), &settings.redis.namespace, &settings.redis.prefix);
        let wakes = Wakes::default();
        let announcer = Announcer { publisher: publisher.clone(), dedupe: dedupe.clone(), wakes: wakes.clone() };
        let chats = chats(&settings, &redis, &store, &files, &clock)?;
        let intake = Intake::new(flights.clone(), announcer.clone(), catalog, chats.is_some());
        let webhook = Webhook::new(&settings.webhook, settings.delivery.time_limit.0)
            .map_err(|error| anyhow!("webhook: {error}"))?;
        let cache = Cache::new(redis.clone(), &settings.redis.namespace, &settings.cache);
        let sagas = Sagas::new(store.clone(), settings.saga.clone(), effects(&settings)?);
        if !store.is_shared() {
            sagas.disown_all().await.context("cannot take the unfinished effects back")?;
        }
        flights.on_ended(orders::ended);
        let workloads = Workloads::new(&On {
            store: store.clone(),
            cache,
            intake: intake.clone(),
            sagas: sagas.clone(),
            settings: settings.clone(),
        });
        let worker = format!("{WORKER_PREFIX}{}", &crate::id::new_token()[..8]);
        Ok(Self {
            settings,
            clock,
            redis,
            store,
            flights,
            dedupe,
            wakes,
            publisher,
            to_publish,
            announcer,
            intake,
            locks,
            holds: Holds::default(),
            files,
            chats,
            webhook,
            sagas,
            workloads,
            controls: Controls::default(),
            worker,
        })
    }

    /// A consumer for every queue that this process works off.
    ///
    /// # Errors
    /// A queue whose processor cannot be built.
    pub fn consumers(&self) -> anyhow::Result<Vec<Consumer>> {
        let http = client::builder().build().context("cannot build the HTTP client")?;
        let mut builtins = builtin::standard();
        let renderer = Renderer::new(self.settings.videos.clone(), self.files.clone());
        builtins.insert("video", Arc::new(renderer));
        self.workloads.register(&mut builtins);
        let mut processors: BTreeMap<String, Arc<dyn Processor>> = BTreeMap::new();
        for (name, queue) in &self.settings.queues.declared {
            if let Some(processor) = queue.processor.as_ref().filter(|_| !queue.is_pulled()) {
                let built = make::build(processor, &builtins, &http, &self.clock);
                let built = built.map_err(|reason| anyhow!("queues.{name}.processor: {reason}"))?;
                processors.insert(name.as_str().to_owned(), built);
            }
        }
        let entries: Vec<Entry> = self.publisher.queues().catalog().entries().cloned().collect();
        let consumers = entries.iter().filter_map(|entry| {
            let handler = self.handler(entry, processors.get(entry.scope.as_str()))?;
            let queue = self.publisher.queues().get(entry.name.as_str())?;
            Some(Consumer::new(queue, handler, self.limits(entry), self.clock.clone(), self.worker.clone()))
        });
        Ok(consumers.collect())
    }

    /// One for every queue that is worked off by others, who claim its jobs.
    pub fn upkeeps(&self) -> Vec<Upkeep> {
        let queues = self.publisher.queues();
        let pulled = queues.catalog().entries().filter(|entry| entry.kind == Kind::Plain && entry.settings.is_pulled());
        let upkeep = |entry: &Entry| {
            let queue = queues.get(entry.name.as_str())?;
            Some(Upkeep { queue, clock: self.clock.clone(), limits: self.limits(entry) })
        };
        pulled.filter_map(upkeep).collect()
    }

    /// A tender for each queue that may have groups. Any server has them, whoever the workers are.
    pub fn group_tenders(&self) -> Vec<GroupTender> {
        let queues = self.publisher.queues();
        let plain = queues.catalog().entries().filter(|entry| entry.kind == Kind::Plain);
        let every = self.settings.runner.stalled_interval.0;
        plain
            .filter_map(|entry| queues.get(entry.name.as_str()))
            .map(|queue| GroupTender::new(queue, self.clock.clone(), every))
            .collect()
    }

    /// What the jobs of a queue mean; `None` for one whose workers are elsewhere.
    fn handler(&self, entry: &Entry, processor: Option<&Arc<dyn Processor>>) -> Option<Arc<dyn Handler>> {
        let queue = self.publisher.queues().get(entry.name.as_str())?;
        let is_video = entry.scope.as_str() == wish::QUEUE;
        Some(match entry.kind {
            Kind::Plain => Arc::new(PlainJobs {
                queue,
                processor: processor?.clone(),
                settings: entry.settings.clone(),
                clock: self.clock.clone(),
                scratch: self.scratch(),
                flows: self.flows(),
            }),
            Kind::Intake => Arc::new(Followers {
                entry: entry.clone(),
                intake: self.intake.clone(),
                clock: self.clock.clone(),
                shape: is_video.then_some(wish::of_job),
                settings: self.settings.clone(),
            }),
            Kind::Work => {
                let workload: Arc<dyn Workload> =
                    if is_video { Arc::new(Videos { files: self.files.clone() }) } else { Arc::new(Plainly) };
                Arc::new(Runs {
                    queue,
                    flights: self.flights.clone(),
                    dedupe: self.dedupe.clone(),
                    announcer: self.announcer.clone(),
                    holds: self.holds.clone(),
                    processor: processor?.clone(),
                    workload,
                    settings: entry.settings.clone(),
                    clock: self.clock.clone(),
                    lease: self.settings.runner.lease.0,
                    scratch: self.scratch(),
                })
            }
            Kind::Delivery => Arc::new(Deliveries {
                flights: self.flights.clone(),
                publisher: self.publisher.clone(),
                holds: self.holds.clone(),
                clock: self.clock.clone(),
                settings: self.settings.clone(),
                chats: self.chats.clone(),
                webhook: self.webhook.clone(),
            }),
        })
    }

    /// How children are read that a processor gives its job: as a caller's flows.
    fn flows(&self) -> ReadFlows {
        let (publisher, deepest) = (self.publisher.clone(), self.settings.http.json_depth);
        Arc::new(move |list| read_flows(publisher.queues(), list, deepest))
    }

    fn limits(&self, entry: &Entry) -> Limits {
        let runner = &self.settings.runner;
        // Intake is outside the processing permits: taking a wish in is not the work.
        let is_intake = entry.kind == Kind::Intake;
        Limits {
            concurrency: if is_intake { 4 * INTAKE_BATCH } else { entry.settings.concurrency },
            batch: if is_intake { INTAKE_BATCH } else { WORK_BATCH },
            lease: runner.lease.0,
            renew: runner.renew.0,
            stalled_interval: runner.stalled_interval.0,
            max_stalled: runner.max_stalled,
            drain_delay: runner.drain_delay.0,
            ahead: runner.take_ahead.0,
            shutdown_grace: runner.shutdown_grace.0,
        }
    }

    pub fn reconciler(&self) -> Reconciler {
        Reconciler {
            flights: self.flights.clone(),
            dedupe: self.dedupe.clone(),
            publisher: self.publisher.clone(),
            announcer: self.announcer.clone(),
            redis: self.redis.clone(),
            pace: self.chats.as_ref().map(|chats| chats.pace.clone()),
            files: self.files.clone(),
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            server: self.worker.clone(),
            memory: Memory::default(),
        }
    }

    /// Where attempts keep their own files; beside the results, so that keeping one is a rename.
    fn scratch(&self) -> PathBuf {
        self.settings.files_dir.join(".scratch")
    }
}

/// The effects that sagas perform outside. One that is not set up is not performed: its sagas wait.
fn effects(settings: &Settings) -> anyhow::Result<BTreeMap<&'static str, Arc<dyn Effect>>> {
    let mut effects: BTreeMap<&'static str, Arc<dyn Effect>> = BTreeMap::new();
    if !settings.cloudpayments.api_secret.expose_secret().is_empty() {
        let provider = CloudPayments::new(&settings.cloudpayments).context("cannot build the HTTP client")?;
        effects.insert(orders::REFUND, Arc::new(Refunds { provider }));
    }
    Ok(effects)
}

fn chats(
    settings: &Arc<Settings>,
    redis: &Redis,
    store: &Store,
    files: &FileStore,
    clock: &Clock,
) -> anyhow::Result<Option<Chats>> {
    if settings.telegram.bot_token.expose_secret().is_empty() {
        return Ok(None);
    }
    let http = client::builder().build().context("cannot build the HTTP client")?;
    let telegram = Telegram::new(http, &settings.telegram, settings.delivery.time_limit.0)
        .map_err(|error| anyhow!("telegram: {error}"))?;
    let pace = Pace::new(
        redis.clone(),
        clock.clone(),
        &settings.redis.namespace,
        telegram.bot_id(),
        settings.telegram.messages_per_second,
        settings.telegram.chat_interval.0,
    );
    Ok(Some(Chats {
        telegram: Arc::new(telegram),
        pace,
        store: store.clone(),
        files: files.clone(),
        settings: settings.clone(),
    }))
}

/// The system's clock. With the feature `faults` a test may have it run wrong: `ONETAKE_CLOCK_SKEW_MS=90000`.
fn clock() -> Clock {
    #[cfg(feature = "faults")]
    if let Some(offset_ms) = std::env::var("ONETAKE_CLOCK_SKEW_MS").ok().and_then(|text| text.parse().ok()) {
        return Clock::skewed(offset_ms);
    }
    Clock::system()
}
