//! What this process holds, and how it is told that it does not any more.
//!
//! T4: one task renews everything that is held, in SQL; the consumers renew their jobs' locks in Redis. Both with the same
//! lease. Whoever finds a lease lost stops its holder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::flight::{Flights, Held};
use crate::store;

/// Why a holder should come to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The lease is somebody else's, or the run was cancelled: the result would be refused.
    Lost,
    /// The server stops: hand it back.
    Stopping,
    /// Somebody does not want the job done any more, for this reason: it fails for good.
    Cancelled(Arc<str>),
}

/// A piece of work in hand.
#[derive(Clone)]
pub struct Hold {
    stopped: Arc<watch::Sender<Option<Stopped>>>,
    /// Whoever stops that stops this one.
    of: Option<Arc<Hold>>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { stopped: Arc::new(watch::channel(None).0), of: None }
    }
}

impl Hold {
    /// One of several pieces of work: stopped with all of them, or alone.
    pub fn one(&self) -> Self {
        Self { of: Some(Arc::new(self.clone())), ..Self::default() }
    }

    /// The first reason stands.
    pub fn stop(&self, why: Stopped) {
        self.stopped.send_if_modified(|stopped| {
            let is_first = stopped.is_none();
            if is_first {
                *stopped = Some(why);
            }
            is_first
        });
    }

    /// Waits until the work should come to an end.
    ///
    /// # Cancel safety
    /// Only waits.
    pub async fn stopped(&self) -> Stopped {
        let own = async {
            let mut stopped = self.stopped.subscribe();
            let seen = stopped.wait_for(Option::is_some).await.map(|why| why.clone());
            // The sender lives in self, so that the channel cannot be closed.
            seen.ok().flatten().unwrap_or(Stopped::Stopping)
        };
        match &self.of {
            None => own.await,
            Some(all) => tokio::select! {
                // Dropped: a wait only, both.
                why = own => why,
                why = Box::pin(all.stopped()) => why,
            },
        }
    }
}

/// The runs and deliveries that this process has leased in SQL. Cheap to clone.
#[derive(Clone, Default)]
pub struct Holds {
    runs: Arc<Mutex<HashMap<Held, Hold>>>,
    deliveries: Arc<Mutex<HashMap<Held, Hold>>>,
    look: Arc<Notify>,
}

/// Ends a holding when dropped.
pub struct Guard {
    of: Arc<Mutex<HashMap<Held, Hold>>>,
    held: Held,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.of.lock().expect("no user panics inside").remove(&self.held);
    }
}

impl Holds {
    pub fn run(&self, flight: &str, token: &str, hold: &Hold) -> Guard {
        hold_in(&self.runs, flight, token, hold)
    }

    pub fn delivery(&self, id: &str, token: &str, hold: &Hold) -> Guard {
        hold_in(&self.deliveries, id, token, hold)
    }

    /// Whether this process makes a run of this flight.
    pub fn makes(&self, flight: &str) -> bool {
        self.runs.lock().expect("no user panics inside").keys().any(|held| held.id == flight)
    }

    /// A run of this flight was cancelled somewhere: if one is made here, it is renewed now, and stopped if it is that one. It
    /// may be a later one.
    pub fn look_at(&self, flight: &str) {
        if self.makes(flight) {
            self.look.notify_one();
        }
    }

    /// Renews everything once, and stops the holders of what was lost.
    ///
    /// # Errors
    /// The store's: the leases run on until their end.
    pub async fn renew(&self, flights: &Flights, lease: Duration) -> Result<(), store::Error> {
        let held = list(&self.runs);
        let kept = flights.renew_runs(held.clone(), lease).await?;
        stop_lost(&self.runs, &held, &kept, "run");
        let held = list(&self.deliveries);
        let kept = flights.renew_deliveries(held.clone(), lease).await?;
        stop_lost(&self.deliveries, &held, &kept, "delivery");
        Ok(())
    }

    /// Renews every `every`, and when something is to be looked at; until it is dropped.
    pub async fn keep_renewing(self, flights: Flights, lease: Duration, every: Duration) {
        loop {
            // Dropped: a pause; what is to be looked at stays noted.
            let _ = tokio::time::timeout(every, self.look.notified()).await;
            if let Err(error) = self.renew(&flights, lease).await {
                warn!(%error, "could not renew the leases in SQL");
            }
        }
    }
}

fn hold_in(of: &Arc<Mutex<HashMap<Held, Hold>>>, id: &str, token: &str, hold: &Hold) -> Guard {
    let held = Held { id: id.to_owned(), token: token.to_owned() };
    of.lock().expect("no user panics inside").insert(held.clone(), hold.clone());
    Guard { of: of.clone(), held }
}

fn list(of: &Mutex<HashMap<Held, Hold>>) -> Vec<Held> {
    of.lock().expect("no user panics inside").keys().cloned().collect()
}

fn stop_lost(of: &Mutex<HashMap<Held, Hold>>, held: &[Held], kept: &[Held], what: &str) {
    let holds = of.lock().expect("no user panics inside");
    for lost in held.iter().filter(|held| !kept.contains(held)) {
        // One that ended meanwhile is not in the map any more.
        if let Some(hold) = holds.get(lost) {
            debug!(id = %lost.id, "lost the lease of {what} {}", lost.id);
            hold.stop(Stopped::Lost);
        }
    }
}
