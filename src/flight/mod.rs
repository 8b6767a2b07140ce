//! Single flight over SQL: one run per wanted result, everyone who asked subscribed to it.
//!
//! A *flight* is a scope and a dedupe key; each run of it is a *generation*. This module owns the truth about runs,
//! subscriptions and deliveries; it knows no Redis and performs no effect: rows that are due are the outbox.
//!
//! ```text
//! RUN       PENDING -claim(token)-> RUNNING(lease) -finish(token)-> SUCCEEDED | FAILED | CANCELLED
//!              ^------ retry with backoff, or lease ended -----'       (the next run is a new generation)
//! DELIVERY  QUEUED -lease-> LEASED -mark-> DELIVERED | QUEUED (backoff) | SUPPRESSED | DEAD -> replay
//! ```
//!
//! Every verb locks the rows it decides about, decides, then writes: in that order, in one unit of work.

mod accept;
mod cancel;
mod claim;
mod deliver;
mod finish;
mod idempotency;
mod list;
mod opening;
mod retention;
mod subscribe;
mod sweep;
mod view;

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::store::{Batch, Error, Row, Store, Tx};

pub use accept::{Accepted, Answer, Ask, NewSubscription, RunSpec, Status};
pub use cancel::{Left, Released};
pub use claim::{Claim, ClaimAsk, Claimed, Held};
pub use deliver::{DeliveryAsk, DeliveryLease, DeliveryMark, LeaseAnswer, Verdict};
pub use finish::{Ending, Finish, Finished};
pub use idempotency::Idempotency;
pub use list::{DeliveryEvent, DeliveryView, FlightView, ListFilter};
pub use retention::Retention;
pub use sweep::{DueDelivery, DueRun, Snapshot, Standing};
pub use view::RequestRow;

/// Where a result is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Nobody is called: the asker comes back and looks.
    Poll,
    Mailbox,
    Telegram,
    Webhook,
    /// A Node job that waits as a follower.
    Follower,
}

impl Channel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Mailbox => "mailbox",
            Self::Telegram => "telegram",
            Self::Webhook => "webhook",
            Self::Follower => "follower",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_value(text.into())
            .map_err(|_| Error::Setup(format!("unknown channel \"{text}\" in the database")))
    }
}

/// The state of a flight's current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// No run yet: the result was imported, or forgotten.
    Idle,
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl RunState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_value(text.into())
            .map_err(|_| Error::Setup(format!("unknown state \"{text}\" in the database")))
    }
}

/// How a generation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// JSON text.
    Succeeded(String),
    Failed(String),
    Cancelled(String),
}

/// What a workload writes in the transaction that ends deliveries, given their ids: an order is fulfilled when its video
/// is delivered, both or neither.
type OnEnded = Arc<dyn for<'t> Fn(&'t mut Tx, &'t [String]) -> BoxFuture<'t, Result<(), Error>> + Send + Sync>;

/// Single flight over a store. Cheap to clone.
#[derive(Clone)]
pub struct Flights {
    store: Store,
    /// Set once, while the server is built.
    on_ended: Arc<OnceLock<OnEnded>>,
    accepts: Batch<Ask, Answer>,
    claims: Batch<ClaimAsk, Claim>,
    finishes: Batch<Finish, Finished>,
    leases: Batch<DeliveryAsk, LeaseAnswer>,
    marks: Batch<DeliveryMark, bool>,
    mirrored: Batch<(String, i64), ()>,
}

impl Flights {
    pub fn new(store: Store) -> Self {
        let on_ended = Arc::<OnceLock<OnEnded>>::default();
        Self {
            accepts: accept::batch(&store),
            claims: claim::batch(&store),
            finishes: finish::batch(&store),
            leases: deliver::lease_batch(&store),
            marks: deliver::mark_batch(&store, on_ended.clone()),
            mirrored: sweep::mirrored_batch(&store),
            store,
            on_ended,
        }
    }

    /// Has `act` write in each transaction that ends deliveries. A second one is not taken.
    pub fn on_ended<F>(&self, act: F)
    where
        F: for<'t> Fn(&'t mut Tx, &'t [String]) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static,
    {
        let _ = self.on_ended.set(Arc::new(act));
    }

    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// A flight's row, as the verbs that decide about it see it. Always read under a lock.
#[derive(Clone, Debug)]
struct Flight {
    id: String,
    scope: String,
    key: String,
    queue: String,
    generation: i64,
    state: RunState,
    name: String,
    data: String,
    attempt: i64,
    max_attempts: i64,
    backoff: String,
    priority: i64,
    run_token: Option<String>,
    lease_until_ms: Option<Millis>,
    next_at_ms: Millis,
    started_at_ms: Option<Millis>,
    cancel_when_abandoned: bool,
    result: Option<String>,
    result_generation: Option<i64>,
    made_at_ms: Option<Millis>,
    now_ms: Millis,
}

/// The columns of [`Flight`], for a select that reads it.
macro_rules! flight_columns {
    () => {
        "f.id, f.scope, f.key, f.queue, f.generation, f.state, f.name, f.data, f.attempt, f.max_attempts, f.backoff, \
         f.priority, f.run_token, f.lease_until_ms, f.next_at_ms, f.started_at_ms, \
         f.cancel_when_abandoned, f.result, f.result_generation, f.made_at_ms, {now} as now_ms"
    };
}
use flight_columns;

impl Flight {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            scope: row.get("scope")?,
            key: row.get("key")?,
            queue: row.get("queue")?,
            generation: row.get("generation")?,
            state: RunState::parse(&row.get::<String>("state")?)?,
            name: row.get("name")?,
            data: row.get("data")?,
            attempt: row.get("attempt")?,
            max_attempts: row.get("max_attempts")?,
            backoff: row.get("backoff")?,
            priority: row.get("priority")?,
            run_token: row.get("run_token")?,
            lease_until_ms: row.get("lease_until_ms")?,
            next_at_ms: row.get("next_at_ms")?,
            started_at_ms: row.get("started_at_ms")?,
            cancel_when_abandoned: row.get("cancel_when_abandoned")?,
            result: row.get("result")?,
            result_generation: row.get("result_generation")?,
            made_at_ms: row.get("made_at_ms")?,
            now_ms: row.get("now_ms")?,
        })
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            flight: self.id.clone(),
            scope: self.scope.clone(),
            key: self.key.clone(),
            queue: self.queue.clone(),
            generation: self.generation,
            state: self.state,
            result: self.standing(),
            touched_at_ms: self.now_ms,
        }
    }

    fn standing(&self) -> Option<(String, i64, Millis)> {
        let generation = self.result_generation?;
        Some((self.result.clone()?, generation, self.made_at_ms?))
    }

    fn is_lease_over(&self) -> bool {
        self.lease_until_ms.is_none_or(|until| until <= self.now_ms)
    }
}
