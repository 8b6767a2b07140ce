//! One call of the script that settles and takes.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;

use crate::clock::{Millis, millis};
use crate::queue::{Ended, Error, Queue, Settlement, Take, Taken};

/// What is counted of a queue's calls. Found once: to look a meter up by its labels costs as much as to handle a small job.
#[derive(Clone)]
pub(super) struct Meters {
    /// Jobs in hand.
    pub active: Gauge,
    seconds: Histogram,
    taken: Counter,
    settled: Counter,
}

impl Meters {
    pub fn of(queue: &Queue) -> Self {
        let name = queue.name().to_string();
        Self {
            active: gauge!("onetake_runner_active", "queue" => name.clone()),
            seconds: histogram!("onetake_queue_settle_seconds", "queue" => name.clone()),
            taken: counter!("onetake_queue_taken_total", "queue" => name.clone()),
            settled: counter!("onetake_queue_settled_total", "queue" => name),
        }
    }
}

/// A call of the script: ended jobs that ride in it, and how many are asked for.
pub(super) struct Call {
    pub ended: Vec<Ended>,
    pub asked: usize,
    /// How many of them have no place yet.
    pub ahead: usize,
    /// The mark on the locks of what it takes.
    pub token: String,
}

/// How it went.
pub(super) struct Answered {
    pub call: Call,
    pub answer: Result<(Vec<Settlement>, Taken), Error>,
}

impl Call {
    /// `worker` is written into the jobs.
    pub fn make(
        self,
        queue: Queue,
        now: Millis,
        lease: Duration,
        worker: &str,
        meters: Meters,
    ) -> impl Future<Output = Answered> + use<> {
        let take = (self.asked > 0).then(|| Take {
            max: u32::try_from(self.asked).unwrap_or(u32::MAX),
            ahead: u32::try_from(self.ahead).unwrap_or(u32::MAX),
            token: self.token.clone(),
            lease_ms: millis(lease),
            worker_name: Some(worker.to_owned()),
        });
        async move {
            let started = Instant::now();
            let answer = queue.settle(&self.ended, take.as_ref(), now).await;
            if let Ok((_, taken)) = &answer {
                meters.seconds.record(started.elapsed().as_secs_f64());
                meters.taken.increment(taken.jobs.len() as u64);
                meters.settled.increment(self.ended.len() as u64);
            }
            Answered { call: self, answer }
        }
    }
}
