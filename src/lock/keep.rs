//! What goes on beside the locks: passing wake-ups on, counting, forgetting, and watching over the namespace.

use std::time::{Duration, Instant};

use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::Locks;
use super::namespace::Claim;

const STEP_EVERY: Duration = Duration::from_secs(5);
/// Rows forgotten in one step, at most.
const PAGE: u32 = 500;

/// What one keeper remembers from step to step.
#[derive(Default)]
pub struct Memory {
    /// The namespace was ours once.
    is_claimed: bool,
    was_told: bool,
    forgot_at: Option<Instant>,
}

impl Locks {
    /// Keeps the locks of this process until `stop`. Ends by itself only if the namespace turns out to be another store's,
    /// which could not be seen at the start because Redis was away.
    pub async fn keep(self, stop: CancellationToken) {
        let listening = self.clone();
        let steps = async {
            let mut memory = Memory::default();
            while self.step(&mut memory).await {
                tokio::time::sleep(STEP_EVERY).await;
            }
        };
        tokio::select! {
            // dropped: hints only
            () = listening.pass_wakes() => {}
            // dropped: a wait, or a step that the next server does again
            _ = stop.run_until_cancelled(steps) => {}
        }
    }

    /// One bounded look at everything. False: this namespace is another store's.
    pub async fn step(&self, memory: &mut Memory) -> bool {
        match self.claim().await {
            Ok(Claim::Ours) => (memory.is_claimed, memory.was_told) = (true, false),
            Ok(Claim::Foreign(foreign)) => {
                if !memory.was_told {
                    error!("{foreign}");
                    memory.was_told = true;
                }
                // A server that has worked here goes on: the one that came later is to be stopped.
                if !memory.is_claimed {
                    return false;
                }
            }
            Err(error) => debug!(%error, "cannot look whose this namespace is"),
        }
        if let Ok(held) = self.held().await {
            gauge!("onetake_lock_held").set(held as f64);
        }
        if memory.forgot_at.is_none_or(|at| at.elapsed() > self.settings.forget_every.0) {
            match self.forget_old(PAGE).await {
                Ok(true) => {}
                Ok(false) => memory.forgot_at = Some(Instant::now()),
                Err(error) => debug!(%error, "cannot forget old leases now"),
            }
        }
        true
    }

    /// Passes wake-ups from all servers on to those who wait here, for ever.
    async fn pass_wakes(&self) {
        loop {
            match self.link.redis().subscribe(&self.keys.channel()).await {
                Ok(mut subscription) => {
                    while let Some(word) = subscription.next().await {
                        self.wakes.tell(&String::from_utf8_lossy(&word));
                    }
                }
                Err(error) => debug!(%error, "cannot listen for locks that are free; looking instead"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
