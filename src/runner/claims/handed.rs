//! Jobs on their way to whoever claimed them.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::debug;

use super::Claim;
use crate::clock::{Clock, Millis, millis};
use crate::queue::{Ended, Error, How, Job, Queue};

/// How soon Redis is asked again if it does not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// Jobs that are held under the claim's token. Dropped, it puts them back; [`Handed::let_go`] hands them over.
///
/// Those of a claim that can be repeated stay where they are: the repetition may be under way, and finds them.
pub struct Handed {
    queue: Queue,
    clock: Clock,
    token: String,
    is_repeatable: bool,
    lease: Duration,
    jobs: Vec<Job>,
    /// Until when the jobs are surely held.
    pub until_ms: Millis,
}

impl Handed {
    pub(super) fn nothing(queue: &Queue, clock: &Clock, claim: &Claim, now: Millis) -> Self {
        Self {
            queue: queue.clone(),
            clock: clock.clone(),
            token: claim.token.clone(),
            is_repeatable: claim.is_repeatable,
            lease: claim.lease,
            jobs: Vec::new(),
            until_ms: now + millis(claim.lease),
        }
    }

    pub(super) fn hold(&mut self, job: impl Into<Box<Job>>) {
        self.jobs.push(*job.into());
    }

    /// In the order in which they are to be started.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The jobs are the caller's from here on.
    pub fn let_go(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if self.jobs.is_empty() || self.is_repeatable {
            return;
        }
        // The last one that is put back stands at the very front.
        let ended = |job: &Job| Ended { id: job.id.clone(), token: self.token.clone(), how: How::Wait };
        let ended: Vec<Ended> = self.jobs.iter().rev().map(ended).collect();
        debug!(queue = %self.queue.name(), "put {} claimed jobs back: who asked for them is gone", ended.len());
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        until_done(self.lease, move || {
            let (queue, clock, ended) = (queue.clone(), clock.clone(), ended.clone());
            async move { queue.settle(&ended, None, clock.now_ms()).await.map(drop) }
        });
    }
}

/// After a take whose answer did not come. One that can be repeated is not undone: the repetition finds what it took.
pub(super) fn put_back_unknown(queue: &Queue, claim: &Claim) {
    if !claim.is_repeatable {
        let (queue, token) = (queue.clone(), claim.token.clone());
        until_done(claim.lease, move || {
            let (queue, token) = (queue.clone(), token.clone());
            async move { queue.reclaim(&token, &[]).await.map(drop) }
        });
    }
}

/// Tries in the background as long as it makes a difference: when the lease has ended, the job is found as stalled.
fn until_done<F, A>(lease: Duration, act: F)
where
    F: Fn() -> A + Send + 'static,
    A: Future<Output = Result<(), Error>> + Send,
{
    let Ok(runtime) = Handle::try_current() else { return };
    let end = Instant::now() + lease;
    runtime.spawn(async move {
        while act().await.is_err_and(|error| error.is_unreachable()) && Instant::now() < end {
            tokio::time::sleep(AGAIN).await;
        }
    });
}
