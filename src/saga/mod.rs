//! Sagas: effects outside (a refund at a payment provider) that belong to a change inside.
//!
//! A unit of work changes the domain and *reserves* the effect, both or neither. After the commit a worker calls outside,
//! and another unit of work *confirms* the change, or *compensates* it:
//!
//! ```text
//! due -lease-> calling --done-------------------------> confirmed
//!  ^              |-----refused, or attempts used up--> compensated
//!  |              '-----nobody knows--> unknown -lease-> asking -> confirmed | compensated
//!  '------ surely not performed ----------------------------'  |
//!                                       cannot tell, for too long -> parked -> a person decides
//! ```
//!
//! A call whose end is unknown (a timeout after sending, a reset, a crash of its worker) is never simply repeated: the
//! other side is asked first, and asked by the saga's id, which goes with every call. What is promised is *at most once
//! for each id, or parked*; nothing more is, because a provider may answer wrongly.

mod claim;
mod decide;
mod list;
mod resolve;
mod settle;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Notify;

use crate::clock::Millis;
use crate::config;
use crate::store::{Error, Row, Store, Tx, query};

pub use list::{SagaEvent, SagaFilter, SagaView};
pub use resolve::{Decision, Resolve, UNKNOWN};

/// How a call ended, as far as its caller knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Called {
    /// It was performed. `receipt` is what the other side calls it.
    Done { receipt: String },
    /// The other side has decided against it, for good.
    Refused { reason: String },
    /// It surely was not performed, and may be tried again.
    NotSent { reason: String },
    /// It may or may not have been performed.
    Unknown { reason: String },
}

/// What the other side says about an earlier call.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Done { receipt: String },
    Refused { reason: String },
    NotDone,
    CannotTell { reason: String },
}

/// One kind of effect. The workload that owns it brings the call and both ends.
#[async_trait]
pub trait Effect: Send + Sync + 'static {
    /// Performs the effect. `id` is the same each time; the other side should perform it once for each.
    async fn call(&self, id: &str, input: &Value) -> Called;

    /// Looks whether it was performed. Changes nothing.
    async fn ask(&self, id: &str, input: &Value) -> Asked;

    /// How long the other side knows the ids of calls. Later than that after the first call none is repeated.
    fn is_known_for(&self) -> Option<Duration> {
        None
    }

    /// What the domain writes when it was performed. Safe to repeat; locks the saga's row before its own.
    fn confirm<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, receipt: &'t str) -> BoxFuture<'t, Result<(), Error>>;

    /// What the domain writes when it was not, and will not be.
    fn compensate<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, reason: &'t str) -> BoxFuture<'t, Result<(), Error>>;
}

/// An effect to reserve. The id is made before the transaction begins.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub id: String,
    /// Which [`Effect`].
    pub name: &'static str,
    /// What it belongs to, for people: an order's id.
    pub subject: String,
    pub input: Value,
}

/// An effect that was reserved.
#[derive(Clone, Debug)]
pub struct Saga {
    pub id: String,
    pub name: String,
    pub subject: String,
    pub input: Value,
    /// Calls so far, a present one counted.
    pub calls: i64,
    pub asks: i64,
}

impl Saga {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            subject: row.get("subject")?,
            input: serde_json::from_str(&row.get::<String>("input")?).unwrap_or_default(),
            calls: row.get("calls")?,
            asks: row.get("asks")?,
        })
    }
}

/// All sagas of a store, and the effects that this process can perform. Cheap to clone.
#[derive(Clone)]
pub struct Sagas {
    store: Store,
    settings: config::Saga,
    effects: Arc<BTreeMap<&'static str, Arc<dyn Effect>>>,
    due: Arc<Notify>,
}

impl Sagas {
    pub fn new(store: Store, settings: config::Saga, effects: BTreeMap<&'static str, Arc<dyn Effect>>) -> Self {
        Self { store, settings, effects: Arc::new(effects), due: Arc::default() }
    }

    /// Reserves an effect in the unit of work that changes the domain. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn reserve(tx: &mut Tx, saga: &Reserve) -> Result<(), Error> {
        tx.execute(
            query(
                "-- saga.reserve
                insert into sagas (id, name, subject, input, state, calls, asks, next_at_ms, created_at_ms, touched_at_ms)
                values ($1, $2, $3, $4, 'due', 0, 0, {now}, {now}, {now})
                on conflict (id) do nothing",
            )
            .bind(saga.id.as_str())
            .bind(saga.name)
            .bind(saga.subject.as_str())
            .bind(saga.input.to_string()),
        )
        .await?;
        note(tx, &saga.id, "domain", "reserved", None).await
    }

    /// Says that something was reserved and committed, so that it need not wait for the next look. A hint only.
    pub fn wake(&self) {
        self.due.notify_one();
    }
}

/// Writes a line of a saga's history.
async fn note(tx: &mut Tx, id: &str, actor: &str, event: &str, detail: Option<String>) -> Result<(), Error> {
    tx.execute(
        query(
            "-- saga.note
            insert into saga_events (saga_id, at_ms, actor, event, detail) values ($1, {now}, $2, $3, $4)",
        )
        .bind(id)
        .bind(actor)
        .bind(event)
        .bind(detail),
    )
    .await
}

/// A saga in this process's hand, until its lease ends.
#[derive(Clone, Debug)]
struct Leased {
    saga: Saga,
    token: String,
    /// Asked about, not called.
    is_asking: bool,
    /// How long ago it was called first; zero on the first call.
    age: Duration,
    next_at_ms: Millis,
}
