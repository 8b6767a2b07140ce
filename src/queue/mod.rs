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
//! Each gets two keys, the queue's base (`<prefix>:<queue>:`) and that of its groups, and spells the others from them: they
//! share the queue's hash slot. The last argument of each says what holds for groups. `add_flow` alone gets the bases of the
//! other queues of its tree as well, and no word on groups.
//!
//! Jobs of groups are the exception from the first invariant: until one's turn comes it stands in the line of its group
//! (`lua/queue/parts/groups.lua`), outside BullMQ's states, and is told as waiting.

mod add;
mod admin;
mod bulk;
mod cancel;
mod change;
mod detail;
mod error;
mod flow;
mod groups;
mod job;
mod keys;
mod lease;
mod limits;
mod look;
mod options;
mod parked;
mod producer;
mod schedulers;
mod scripts;
mod settle;
mod take;
#[cfg(test)]
mod tests;
mod tree;

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
pub use flow::{AddedFlow, DEEPEST, Flow, FlowError, MOST_JOBS, OnFailure, Path, Plan};
pub use groups::{Group, GroupChange, GroupDefaults, GroupRate, Tended};
pub use job::{Job, Record};
pub use keys::Keys;
pub use lease::{Beat, Heartbeat};
pub use limits::{Limits, RateLimit};
pub use look::{Counts, State};
pub use options::{Deduplication, JobBackoff, JobOptions, Keep, LOWEST_PRIORITY};
pub use parked::{Parked, ParkedEnd, ParkedHow, ParkedOutcome, ParkedPage};
pub use producer::Producer;
pub use schedulers::{Cron, CronError, Next, Rule, Scheduler, SchedulerError, Upsert, Upserted};
pub use settle::{Ended, How, Move, Settlement};
pub use take::{Take, Taken};
pub use tree::{Branch, Extent, Found};

/// A handle on one queue. Cheap to clone.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    redis: Redis,
    keys: Keys,
    name: QueueName,
    terms: Terms,
    #[cfg(test)]
    fault: Option<tests::Fault>,
}

/// What a process keeps to in its work on a queue, beside what the queue's `meta` says for all. All handles on a queue should
/// say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub retention: Retention,
    /// How fast this process's workers take jobs. Counted together with Node workers that have a limiter of their own.
    pub limiter: Option<RateLimit>,
    /// For how many minutes it is kept how many jobs ended; 0: it is not counted.
    pub metrics: u32,
    /// What holds for groups about which nobody said anything.
    pub groups: GroupDefaults,
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
        let keys = Keys::new(redis.namespace(), prefix, &name);
        Self(Arc::new(Inner {
            redis,
            keys,
            name,
            terms,
            #[cfg(test)]
            fault: None,
        }))
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

    async fn run(&self, script: &Script, mut args: Vec<Bytes>) -> Result<Reply, Error> {
        #[cfg(test)]
        let broken = self.0.fault.as_ref().and_then(|fault| fault.in_script(script));
        #[cfg(test)]
        let script = broken.as_ref().unwrap_or(script);
        let keys = vec![self.0.keys.base().to_owned(), self.0.keys.groups().to_owned()];
        args.push(self.0.terms.groups.packed());
        Ok(self.0.redis.run(script, keys, args).await?)
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
