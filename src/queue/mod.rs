//! A queue in BullMQ's layout: our own engine on the same keys, events and states.
//!
//! Invariants: a live job's id is in exactly one of wait (or paused), active, prioritized, delayed, waiting-children,
//! completed, failed; every move between them is one Lua script, which decides before it writes; who holds a job is
//! said by its lock alone, and a stale token changes nothing.
//!
//! Times come from the caller. Data, options, results and progress are JSON text that is passed on as it came. What runs
//! the jobs, and when, is left to the runner; what jobs mean, to everybody else.
//!
//! The scripts stand in `lua/queue`, one verb per file with the verb's name; their shared parts in `lua/queue/parts`.
//! Each gets one key, the queue's base (`<prefix>:<queue>:`), and spells the others from it: they share its hash slot.

mod add;
mod admin;
mod bulk;
mod cancel;
mod change;
mod detail;
mod error;
mod job;
mod keys;
mod lease;
mod limits;
mod look;
mod options;
mod parked;
mod schedulers;
mod scripts;
mod settle;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::id::QueueName;
use crate::redis::{Redis, Reply, Script};

pub use add::{Add, AddOutcome, Added, EnsureOutcome, Ensured};
pub use admin::Removal;
pub use bulk::{Bulk, Step};
pub use cancel::Cancelled;
pub use change::{Change, Finished, Retry};
pub use detail::{Child, ChildKind, ChildrenCounts};
pub use error::{AddError, Error};
pub use job::{Job, Record};
pub use keys::Keys;
pub use limits::{Limits, RateLimit};
pub use look::{Counts, State};
pub use options::{Deduplication, JobBackoff, JobOptions, Keep};
pub use parked::{ParkedEnd, ParkedHow, ParkedOutcome};
pub use schedulers::{Cron, CronError, Next, Rule, Scheduler, SchedulerError, Upsert, Upserted};
pub use settle::{Ended, How, Move, Settlement};
pub use take::{Take, Taken};

/// A handle on one queue. Cheap to clone.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    redis: Redis,
    keys: Keys,
    name: QueueName,
    terms: Terms,
}

/// What a process keeps to in its work on a queue, beside what the queue's `meta` says for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub retention: Retention,
    /// How fast this process's workers take jobs. Counted together with Node workers that have a limiter of their own.
    pub limiter: Option<RateLimit>,
    /// For how many minutes it is kept how many jobs ended; 0: it is not counted.
    pub metrics: u32,
}

/// A number of jobs to keep, as [`Keep::packed`] has it.
type PackedKeep = (i64, Option<u64>, Option<u64>);

impl Terms {
    /// What scripts that end jobs are told: how many completed and failed ones stay, and the minutes of metrics, if any.
    fn packed(self) -> (PackedKeep, PackedKeep, Option<u32>) {
        let Retention { completed, failed } = self.retention;
        (completed.packed(), failed.packed(), (self.metrics > 0).then_some(self.metrics))
    }
}

/// How many finished jobs stay, where a job's own options do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub completed: Keep,
    pub failed: Keep,
}

impl Default for Retention {
    /// As BullMQ: all.
    fn default() -> Self {
        Self { completed: Keep::ALL, failed: Keep::ALL }
    }
}

impl Queue {
    /// A handle that keeps all finished jobs unless they say otherwise.
    pub fn new(redis: Redis, prefix: &str, name: QueueName) -> Self {
        Self::with_retention(redis, prefix, name, Retention::default())
    }

    pub fn with_retention(redis: Redis, prefix: &str, name: QueueName, retention: Retention) -> Self {
        Self::on_terms(redis, prefix, name, Terms { retention, ..Terms::default() })
    }

    pub fn on_terms(redis: Redis, prefix: &str, name: QueueName, terms: Terms) -> Self {
        let keys = Keys::new(prefix, &name);
        Self(Arc::new(Inner { redis, keys, name, terms }))
    }

    pub fn name(&self) -> &QueueName {
        &self.0.name
    }

    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub fn redis(&self) -> &Redis {
        &self.0.redis
    }

    fn terms(&self) -> Terms {
        self.0.terms
    }

    async fn run(&self, script: &Script, args: Vec<Bytes>) -> Result<Reply, Error> {
        Ok(self.0.redis.run(script, vec![self.0.keys.base().to_owned()], args).await?)
    }
}

/// A script argument with structure: MessagePack, structs as arrays.
fn pack<T: Serialize + ?Sized>(value: &T) -> Bytes {
    Bytes::from(rmp_serde::to_vec(value).expect("texts, numbers and lists of them have a MessagePack form"))
}

/// A script argument that is one number or text.
fn plain(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}
