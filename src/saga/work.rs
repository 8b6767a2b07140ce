//! The worker: leases sagas that are due, calls or asks, and settles. At a crash the lease ends, and others go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metrics::histogram;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::decide::{Next, after_ask, after_call};
use super::{Asked, Called, Effect, Leased, Sagas};
use crate::fault;
use crate::store::Error;

const AGAIN_AFTER: Duration = Duration::from_millis(300);

impl Sagas {
    /// Works until `stop`; then what is in hand comes to its end, which is bounded by `saga.time_limit`.
    pub async fn run(self, stop: CancellationToken) {
        let mut hands = JoinSet::new();
        while !stop.is_cancelled() {
            let free = self.settings.concurrency.saturating_sub(hands.len());
            let before = Instant::now();
            match self.claim(free).await {
                Ok(taken) => {
                    for leased in taken {
                        let sagas = self.clone();
                        hands.spawn(async move { sagas.advance(leased, before).await });
                    }
                }
                Err(error) => debug!(%error, "cannot look for sagas that are due: SQL is away"),
            }
            let has_hands = !hands.is_empty();
            tokio::select! {
                // Dropped: a lost wake-up only; the next look finds what is due.
                _ = stop.run_until_cancelled(tokio::time::sleep(self.settings.interval.0)) => {}
                () = self.due.notified() => {}
                // Dropped: nothing, the set keeps its tasks.
                Some(ended) = hands.join_next(), if has_hands => report(ended),
            }
        }
        while let Some(ended) = hands.join_next().await {
            report(ended);
        }
    }

    /// One bounded look: takes what is due, brings each a step further, and says how many there were.
    ///
    /// # Errors
    /// [`Error`] of the store, if nothing could be taken.
    pub async fn step(&self) -> Result<usize, Error> {
        let before = Instant::now();
        let taken = self.claim(self.settings.concurrency).await?;
        let count = taken.len();
        join_all(taken.into_iter().map(|leased| self.advance(leased, before))).await;
        Ok(count)
    }

    async fn advance(&self, leased: Leased, taken_at: Instant) {
        fault::point("saga.leased");
        let Some(effect) = self.effects.get(leased.saga.name.as_str()) else { return };
        // A process that was paused meanwhile must not begin a call that its lease does not cover: it may be another's.
        if taken_at.elapsed() + self.settings.time_limit.0 >= self.settings.lease.0 {
            warn!(saga = %leased.saga.id, "took too long to begin; leaving it to the end of its lease");
            return;
        }
        let started = Instant::now();
        let next = if leased.is_asking { self.ask(&leased, effect).await } else { self.call(&leased, effect).await };
        let took = started.elapsed().as_secs_f64();
        histogram!("onetake_saga_call_seconds", "name" => leased.saga.name.clone()).record(took);
        fault::point("saga.called");
        self.settle_until_it_holds(&leased, effect, next).await;
        fault::point("saga.settled");
    }

    async fn call(&self, leased: &Leased, effect: &Arc<dyn Effect>) -> Next {
        let limit = self.settings.time_limit.0;
        let calling = effect.call(&leased.saga.id, &leased.saga.input);
        let called = match tokio::time::timeout(limit, calling).await {
            Ok(called) => called,
            Err(_) => Called::Unknown { reason: format!("no answer within {limit:?}") },
        };
        after_call(called, leased.saga.calls, &self.settings, &mut rand::rng())
    }

    async fn ask(&self, leased: &Leased, effect: &Arc<dyn Effect>) -> Next {
        let limit = self.settings.time_limit.0;
        let asked = match tokio::time::timeout(limit, effect.ask(&leased.saga.id, &leased.saga.input)).await {
            Ok(asked) => asked,
            Err(_) => Asked::CannotTell { reason: format!("no answer within {limit:?}") },
        };
        let is_known = effect.is_known_for().is_none_or(|known_for| leased.age + self.settings.lease.0 < known_for);
        let counts = (leased.saga.calls, leased.saga.asks);
        after_ask(asked, counts, is_known, &self.settings, &mut rand::rng())
    }

    /// What was done outside must not become unknown because SQL is away for a moment.
    async fn settle_until_it_holds(&self, leased: &Leased, effect: &Arc<dyn Effect>, next: Next) {
        let started = Instant::now();
        loop {
            match self.settle(leased, effect, next.clone()).await {
                Ok(true) => return,
                Ok(false) => {
                    warn!(saga = %leased.saga.id, "somebody else has settled saga {} meanwhile", leased.saga.id);
                    return;
                }
                Err(error) if error.is_repeatable() && started.elapsed() < self.settings.lease.0 => {
                    warn!(%error, saga = %leased.saga.id, "cannot write the end of a call down; trying again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    error!(%error, saga = %leased.saga.id, "cannot write the end of a call down; its lease will end");
                    return;
                }
            }
        }
    }
}

/// A hand that panicked: its saga's lease ends, and its call counts as unknown.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(panic) = ended {
        error!(%panic, "a saga's worker ended badly; its lease will end");
    }
}
