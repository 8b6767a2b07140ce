//! Adds that arrive together, in one call.
//!
//! Whatever is added while a call is under way rides in the next: under load many adds share the price of one call, and a
//! lone one goes at once. There are two lines of such calls, so that neither Redis nor we wait for the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use super::add::check;
use super::{Add, Added, Error, Queue};
use crate::batch::{Batch, Failure, Ride};
use crate::clock::Millis;
use crate::redis;

/// Adds in one call at most: more gain little, and hold Redis up.
const TOGETHER: usize = 50;

/// Adds jobs to queues, for many callers at once. Cheap to clone.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    lines: [Batch<Order, Result<Added, Error>, Stopping>; 2],
    /// Counts the adds: they take the lines in turn.
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Order {
    queue: Queue,
    job: Add,
    now: Millis,
}

/// The calls of a batch fail by themselves, each for its own jobs: what is left to fail with is the end of the process.
#[derive(Clone)]
struct Stopping;

impl Failure for Stopping {
    fn is_of_all(&self) -> bool {
        true
    }

    fn stopping() -> Self {
        Self
    }
}

impl Producer {
    /// Needs to be called inside a tokio runtime.
    pub fn start() -> Self {
        let ride = Ride { name: "queue.add", most: TOGETHER };
        let line = || Batch::new(ride, |orders: Arc<Vec<Order>>| Box::pin(async move { Ok(add(&orders).await) }));
        Self(Arc::new(Inner { lines: [line(), line()], turn: AtomicUsize::new(0) }))
    }

    /// As [`Queue::add`] of this one job. Jobs that a caller adds one after the other, each when it has the answer to the one
    /// before, keep their order.
    ///
    /// # Errors
    /// Those of [`Queue::add`]. Where Redis failed, each of those that rode together has the same error.
    ///
    /// # Cancel safety
    /// Dropped, the job may be added all the same.
    pub async fn add(&self, queue: &Queue, job: Add, now: Millis) -> Result<Added, Error> {
        // Before it rides: a bad job is its own caller's trouble.
        check(std::slice::from_ref(&job), now, false)?;
        let order = Order { queue: queue.clone(), job, now };
        let line = self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.lines.len();
        self.0.lines[line].run(order).await.unwrap_or_else(|Stopping| Err(redis::Error::stopping().into()))
    }
}

/// One call for each queue; the outcomes in the order of the orders.
async fn add(orders: &[Order]) -> Vec<Result<Added, Error>> {
    let mut of_queues: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, order) in orders.iter().enumerate() {
        of_queues.entry(order.queue.keys().base()).or_default().push(place);
    }
    let calls = of_queues.into_values().map(async |places| {
        let last = &orders[places[places.len() - 1]];
        let jobs = places.iter().map(|place| orders[*place].job.clone()).collect();
        (last.queue.add(jobs, last.now).await, places)
    });
    let mut outcomes: Vec<Option<Result<Added, Error>>> = orders.iter().map(|_| None).collect();
    for (added, places) in join_all(calls).await {
        let mut added = added.map(Vec::into_iter);
        for place in places {
            outcomes[place] = match &mut added {
                Ok(added) => added.next().map(Ok),
                Err(error) => Some(Err(error.clone())),
            };
        }
    }
    outcomes.into_iter().map(|outcome| outcome.expect("each job of a call has an outcome")).collect()
}
