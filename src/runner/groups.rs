//! Tends the groups of one queue: lets the next jobs out when stock workers, which know nothing of groups, took or ended
//! some. The queue's own events wake it; nothing is polled while a queue has groups, and one look a second is all that a
//! queue without them costs.
//!
//! Of all servers one tends a queue, by a short lease. Tending may be repeated at will: two that think they are the one do
//! no harm, and what is missed while nobody is, is found by the look at everything with which each begins.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::{Clock, millis};
use crate::id;
use crate::queue::{Error, Queue, Tended};
use crate::redis::{Entry, StreamWatch};

/// How soon it is looked again whether there is something to tend, and whether somebody else does.
const AGAIN: Duration = Duration::from_secs(1);
/// Without a sign of life for so long, another server takes over.
const LEASE: Duration = Duration::from_secs(5);
/// Events that are read in one go.
const EVENTS: u32 = 500;
/// What a stock worker may have done to a job.
const TELLING: [&str; 5] = ["active", "waiting", "completed", "failed", "removed"];

/// Tends one queue.
pub struct GroupTender {
    queue: Queue,
    clock: Clock,
    /// How often everything is looked at.
    every: Duration,
    token: String,
}

/// What a tender knows from one step to the next.
struct Watch {
    stream: StreamWatch,
    /// The event up to which everything is made good.
    after: String,
    looked_at_all: Instant,
    lease_until: Instant,
    again_at: Option<i64>,
}

impl GroupTender {
    /// `every`: how often everything is looked at, whatever the events tell.
    pub fn new(queue: Queue, clock: Clock, every: Duration) -> Self {
        Self { queue, clock, every, token: id::new_token() }
    }

    pub async fn run(self, stop: CancellationToken) {
        // Dropped: a script that is under way runs to its end in Redis; whoever tends next does all of it again.
        stop.run_until_cancelled(async {
            loop {
                if let Err(error) = self.tend().await {
                    debug!(queue = %self.queue.name(), %error, "could not tend the groups; trying again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        })
        .await;
        if self.queue.redis().is_up() {
            let _ = self.queue.leave_tending(&self.token).await;
        }
    }

    /// Tends for as long as there are groups and this server is the one to do it.
    async fn tend(&self) -> Result<(), Error> {
        if !self.queue.redis().is_up() || !self.queue.has_groups().await? {
            return Ok(());
        }
        let Some(mut watch) = self.begin().await? else { return Ok(()) };
        while self.step(&mut watch).await? {}
        self.queue.leave_tending(&self.token).await
    }

    /// Everything is made good; `None` if another server does it.
    async fn begin(&self) -> Result<Option<Watch>, Error> {
        let lease_until = Instant::now() + LEASE;
        if !self.queue.lead_tending(&self.token, millis(LEASE)).await? {
            return Ok(None);
        }
        let stream = StreamWatch::new(self.queue.redis(), self.queue.keys().events());
        // Before the look at everything: what happens meanwhile is told by an event after this one.
        let after = stream.newest().await?;
        let tended = self.queue.tend_all(self.clock.now_ms()).await?;
        Ok(Some(Watch { stream, after, looked_at_all: Instant::now(), lease_until, again_at: tended.again_at }))
    }

    /// Waits for news, and makes good what they tell. False when there is nothing left to tend for this server.
    async fn step(&self, watch: &mut Watch) -> Result<bool, Error> {
        if watch.lease_until.saturating_duration_since(Instant::now()) < LEASE / 2 {
            watch.lease_until = Instant::now() + LEASE;
            if !self.queue.lead_tending(&self.token, millis(LEASE)).await? {
                return Ok(false);
            }
        }
        let news = watch.stream.read(&watch.after, EVENTS, self.patience(watch)).await?;
        let now = self.clock.now_ms();
        let tended = if watch.looked_at_all.elapsed() >= self.every {
            // Events may have been cut off before they were read, and somebody may have changed things by hand.
            watch.looked_at_all = Instant::now();
            self.queue.tend(&told_of(&news), now).await?;
            self.queue.tend_all(now).await?
        } else if !news.is_empty() || watch.again_at.is_some_and(|at| at <= now) {
            self.queue.tend(&told_of(&news), now).await?
        } else {
            Tended { has_groups: self.queue.has_groups().await?, again_at: watch.again_at }
        };
        if let Some(last) = news.last() {
            watch.after.clone_from(&last.id);
            counter!("onetake_queue_group_events_total", "queue" => self.queue.name().to_string())
                .increment(news.len() as u64);
        }
        watch.again_at = tended.again_at;
        Ok(tended.has_groups)
    }

    /// How long to wait for news: until a rate window ends, or the lease has to be renewed.
    fn patience(&self, watch: &Watch) -> Duration {
        let due = watch.again_at.map(|at| at.saturating_sub(self.clock.now_ms()));
        let due = due.map_or(AGAIN, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        due.clamp(Duration::from_millis(1), AGAIN)
    }
}

/// Each job once.
fn told_of(news: &[Entry]) -> Vec<String> {
    let field = |entry: &Entry, name: &str| {
        entry.fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone())
    };
    let telling = news.iter().filter(|entry| field(entry, "event").is_some_and(|event| TELLING.contains(&&*event)));
    telling.filter_map(|entry| field(entry, "jobId")).collect::<BTreeSet<String>>().into_iter().collect()
}
