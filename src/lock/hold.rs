//! A lease in the hands of this process: renewed while it is kept, and its loss told before it can end.

use std::time::{Duration, Instant};

use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::acquire::{Acquired, Holder, Wanted};
use super::lease::Grant;
use super::name::LockName;
use super::owner::Owned;
use super::{Error, Locks};

/// A renewal that failed is tried again this soon at the latest.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of a wish for a lease.
pub enum Leased {
    Held(Box<Lease>),
    /// Somebody else has one of the names, and had it until the deadline.
    Busy(Holder),
}

/// Leases that this process holds, all or none. A task renews them until they are released, dropped or lost.
///
/// Dropping it gives them back in the background; [`Lease::release`] says whether they were held to the end.
pub struct Lease {
    locks: Locks,
    grants: Vec<Grant>,
    lost: CancellationToken,
    /// Ends the renewals.
    over: CancellationToken,
    is_released: bool,
}

impl Locks {
    /// Acquires leases as [`Locks::acquire`] does, and keeps them.
    ///
    /// # Errors
    /// As [`Locks::acquire`].
    ///
    /// # Cancel safety
    /// As [`Locks::acquire`]: nobody renews what was granted to nobody.
    pub async fn lease(&self, wanted: Wanted) -> Result<Leased, Error> {
        let ttl = wanted.ttl;
        let wanted = Wanted { request: crate::id::new_id(), ..wanted };
        Ok(match self.acquire(wanted).await? {
            Acquired::Granted(grants) => Leased::Held(Box::new(Lease::keep(self.clone(), grants, ttl))),
            Acquired::Busy(holder) => Leased::Busy(holder),
            // It ended before we heard of it.
            Acquired::Over(name) => Leased::Busy(Holder {
                name,
                principal: String::new(),
                note: String::new(),
                fencing_token: 0,
                left: Duration::ZERO,
            }),
        })
    }
}

impl Lease {
    fn keep(locks: Locks, grants: Vec<Grant>, ttl: Duration) -> Self {
        let (lost, over) = (CancellationToken::new(), CancellationToken::new());
        let renewal = Renewal {
            locks: locks.clone(),
            names: grants.iter().map(|grant| grant.name.clone()).collect(),
            // All were granted in one transaction, to one owner.
            owner: grants[0].owner.clone(),
            ttl,
            trusted_until: trusted_until(&grants),
        };
        tokio::spawn(renewal.run(lost.clone(), over.clone()));
        Self { locks, grants, lost, over, is_released: false }
    }

    /// The names with their fencing tokens, as [`check`](super::check) wants them.
    pub fn fences(&self) -> Vec<(LockName, i64)> {
        self.grants.iter().map(|grant| (grant.name.clone(), grant.fencing_token)).collect()
    }

    /// Cancelled when the lease cannot be trusted any more, which is before it can end: whoever works under it stops then.
    ///
    /// A process that was paused learns it late; what it writes is safe if it is [checked](super::check).
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it back. False if it had been lost before.
    ///
    /// # Errors
    /// The store's; the lease then ends by itself.
    pub async fn release(mut self) -> Result<bool, Error> {
        self.is_released = true;
        self.over.cancel();
        let names: Vec<_> = self.grants.iter().map(|grant| grant.name.clone()).collect();
        let released = self.locks.release(&names, &self.grants[0].owner).await?;
        Ok(matches!(released, Owned::Done(())) && !self.lost.is_cancelled())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.over.cancel();
        self.lost.cancel();
        // Without a runtime the process is ending; the lease ends by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.is_released
        {
            let (locks, grants) = (self.locks.clone(), std::mem::take(&mut self.grants));
            runtime.spawn(async move {
                let names: Vec<_> = grants.iter().map(|grant| grant.name.clone()).collect();
                locks.release(&names, &grants[0].owner).await
            });
        }
    }
}

fn trusted_until(grants: &[Grant]) -> Instant {
    grants.iter().map(|grant| grant.trusted_until).min().expect("a lease has a name")
}

struct Renewal {
    locks: Locks,
    names: Vec<LockName>,
    owner: String,
    ttl: Duration,
    trusted_until: Instant,
}

impl Renewal {
    async fn run(mut self, lost: CancellationToken, over: CancellationToken) {
        let kept = async {
            let mut pause = self.ttl / 3;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    // dropped: the pause. No answer has come in time, so that it counts as lost.
                    () = tokio::time::sleep_until(self.trusted_until.into()) => {}
                }
                pause = match self.step().await {
                    Step::Renewed => self.ttl / 3,
                    Step::Unknown => (self.ttl / 10).min(AGAIN),
                    Step::Lost => return,
                };
            }
        };
        // Dropped: a renewal, which is harmless whether it was done or not.
        if over.run_until_cancelled(kept).await.is_some() {
            warn!("lost the lease of {:?}", self.names);
            lost.cancel();
        }
    }

    /// Renews once.
    async fn step(&mut self) -> Step {
        let renewing = self.locks.renew(&self.names, &self.owner, self.ttl);
        match tokio::time::timeout_at(self.trusted_until.into(), renewing).await {
            Ok(Ok(Owned::Done(grants))) => {
                self.trusted_until = trusted_until(&grants);
                Step::Renewed
            }
            Ok(Ok(Owned::Lost(_) | Owned::Unknown(_))) => Step::Lost,
            Ok(Err(error)) => {
                debug!(%error, "could not renew a lease; trying again until it cannot be trusted any more");
                Step::Unknown
            }
            Err(_) => {
                counter!("onetake_lock_losses_total", "kind" => "lease").increment(1);
                Step::Lost
            }
        }
    }
}

enum Step {
    Renewed,
    /// The store did not answer.
    Unknown,
    Lost,
}
