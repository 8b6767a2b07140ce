//! The runner: takes jobs, has them handled, and settles them.
//!
//! One [`Consumer`] per queue owns the loop; what a job means is its [`Handler`]'s business:
//!
//! | queue | handler | the job is |
//! |---|---|---|
//! | plain | [`PlainJobs`] | the work itself; BullMQ's attempts and backoff count |
//! | intake | [`Followers`] | a wish; it is parked until its run has ended |
//! | work | [`Runs`] | a wake-up for a run whose truth is in SQL |
//! | delivery | `delivery::Deliveries` | a wake-up for a delivery whose truth is in SQL |
//!
//! Plain queues may also be worked off from outside: [`Claims`] hands jobs to whoever asks for them, and where all workers
//! do so, [`Upkeep`] does what a consumer does beside the work.
//! Where stock workers take the jobs of groups, a [`GroupTender`] lets the next ones out.
//!
//! While Redis is away, handlers whose truth is in SQL are asked for due work instead ([`Handler::poll`]).

mod admit;
mod branch;
mod claims;
mod consumer;
mod control;
mod follow;
mod groups;
mod hold;
mod limit;
mod plain;
mod progress;
mod run;
mod schedule;
mod upkeep;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::flight::Claimed;
use crate::processor::{Failure, ReturnValue};
use crate::queue::{How, Job};
use crate::store::Query;

pub use admit::{Refused, admit, for_good};
pub use branch::ReadFlows;
pub use claims::{Claim, Claims, Handed, Rules};
pub use consumer::{Consumer, Limits};
pub use control::{Control, Controls};
pub use follow::Followers;
pub use groups::GroupTender;
pub use hold::{Hold, Holds, Stopped};
pub use plain::{PlainJobs, failed};
pub use run::Runs;
pub use upkeep::Upkeep;

/// What the jobs of a queue mean.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Does what the job asks for, and says what is to be done to the job.
    ///
    /// When `hold` is stopped, it should come to an end soon; its answer counts still.
    async fn handle(&self, job: Job, hold: Hold) -> How;

    /// What is to be done to a job that was handled, but cannot complete: children of it are not done.
    fn completed_early(&self, job: &Job) -> How {
        let _ = job;
        for_good(admit::CHILDREN_PENDING.into())
    }

    /// Whether SQL, not the job, says whose the work is and how it ended. Then a failure that BullMQ deferred does not end
    /// it, nor does a lost lock: Redis may forget all of its locks (FLUSHALL, a hang), and to stop then would use an attempt
    /// up and make the same thing again.
    fn is_durable(&self) -> bool {
        false
    }

    /// Work that SQL says is due, while Redis is away: at most `most` pieces, each with a [`Hold::one`] of `hold`.
    async fn poll(&self, most: usize, hold: Hold) -> Vec<BoxFuture<'static, ()>> {
        let _ = (most, hold);
        Vec::new()
    }
}

/// What a workload adds to the making of a result.
#[async_trait]
pub trait Workload: Send + Sync {
    /// Takes what the processor made: checks it, keeps its files, and says which rows belong to it.
    ///
    /// # Errors
    /// Why the attempt failed after all.
    async fn keep(&self, run: &Claimed, made: ReturnValue) -> Result<(ReturnValue, Vec<Query>), Failure>;
}

/// For queues of no workload: the result is what was made.
pub struct Plainly;

#[async_trait]
impl Workload for Plainly {
    async fn keep(&self, _run: &Claimed, made: ReturnValue) -> Result<(ReturnValue, Vec<Query>), Failure> {
        Ok((made, Vec::new()))
    }
}
