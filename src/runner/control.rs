//! Turning consumers from outside while they run: how many jobs each has in hand, and which of them to stop.
//!
//! What is set here is this process's and lasts until it ends. That a job was cancelled stands in the job itself (see
//! `queue/cancel`); what is published about it is a hint, which may be lost: each renewal of the locks looks as well.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;
use tracing::{debug, info};

use super::{Hold, Stopped};
use crate::queue::Queue;
use crate::redis::{Error, Redis};

/// The jobs that a consumer has in hand, by their ids.
pub(super) type Running = Arc<Mutex<HashMap<String, InHand>>>;

/// An attempt at a job.
pub(super) struct InHand {
    /// By which the job was taken.
    token: String,
    pub(super) hold: Hold,
}

/// The attempt at that job that was in hand before, if any: it lost the job, and runs still.
pub(super) fn insert(running: &Running, id: &str, token: &str, hold: &Hold) -> Option<Hold> {
    let in_hand = InHand { token: token.to_owned(), hold: hold.clone() };
    running.lock().expect("no user panics inside").insert(id.to_owned(), in_hand).map(|earlier| earlier.hold)
}

/// This attempt is over.
pub(super) fn remove(running: &Running, id: &str, token: &str) {
    let mut running = running.lock().expect("no user panics inside");
    if running.get(id).is_some_and(|in_hand| in_hand.token == token) {
        running.remove(id);
    }
}

/// One consumer's. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    queue: Queue,
    concurrency: Arc<watch::Sender<usize>>,
    running: Running,
}

impl Control {
    pub(super) fn new(queue: Queue, concurrency: usize, running: Running) -> Self {
        Self { queue, concurrency: Arc::new(watch::channel(concurrency).0), running }
    }

    /// How many jobs it has in hand at once, at most.
    pub fn concurrency(&self) -> usize {
        *self.concurrency.borrow()
    }

    /// With less than are in hand, those go on, and none is taken until there is room.
    pub fn set_concurrency(&self, most: usize) {
        let before = self.concurrency.send_replace(most);
        info!(queue = %self.queue.name(), before, "runs up to {most} jobs of {} at once from now on", self.queue.name());
    }

    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.concurrency.subscribe()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.running.lock().expect("no user panics inside").contains_key(id)
    }

    pub(super) fn in_hand(&self) -> Vec<String> {
        self.running.lock().expect("no user panics inside").keys().cloned().collect()
    }

    /// The same with their tokens.
    pub(super) fn held(&self) -> Vec<(String, String)> {
        let running = self.running.lock().expect("no user panics inside");
        running.iter().map(|(id, in_hand)| (id.clone(), in_hand.token.clone())).collect()
    }

    /// One that ended meanwhile is settled or about to be.
    pub(super) fn stop(&self, id: &str, why: Stopped) {
        if let Some(in_hand) = self.running.lock().expect("no user panics inside").get(id) {
            in_hand.hold.stop(why);
        }
    }

    /// Looks which of `ids` were cancelled, and stops those.
    pub(super) async fn stop_cancelled(&self, ids: &[String]) {
        match self.queue.cancelled(ids).await {
            Ok(cancelled) => {
                for (id, reason) in cancelled {
                    debug!(queue = %self.queue.name(), job.id = %id, "job {id} was cancelled");
                    self.stop(&id, Stopped::Cancelled(reason.into()));
                }
            }
            Err(error) => debug!(queue = %self.queue.name(), %error, "could not look for cancelled jobs"),
        }
    }
}

/// All consumers' of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Controls(Arc<BTreeMap<String, Control>>);

impl FromIterator<Control> for Controls {
    fn from_iter<I: IntoIterator<Item = Control>>(controls: I) -> Self {
        Self(Arc::new(controls.into_iter().map(|control| (control.queue.name().to_string(), control)).collect()))
    }
}

impl Controls {
    /// Of the consumer of a queue, if this process has one.
    pub fn get(&self, queue: &str) -> Option<&Control> {
        self.0.get(queue)
    }

    /// Tells all servers that a job of `queue` was cancelled.
    pub async fn tell_cancelled(redis: &Redis, namespace: &str, queue: &Queue, id: &str) {
        // Lost: the next renewal of its lock finds it.
        let _ = redis.publish(&channel(namespace), Bytes::from(queue.keys().job(id))).await;
    }

    /// Stops jobs of this process that were cancelled anywhere, until Redis is closed.
    ///
    /// # Errors
    /// [`Error`] when the channel cannot be subscribed to.
    pub async fn hear_cancelled(&self, redis: &Redis, namespace: &str) -> Result<(), Error> {
        let mut told = redis.subscribe(&channel(namespace)).await?;
        while let Some(key) = told.next().await {
            let key = String::from_utf8_lossy(&key);
            for control in self.0.values() {
                let Some(id) = key.strip_prefix(control.queue.keys().base()) else { continue };
                let is_ours = control.running.lock().expect("no user panics inside").contains_key(id);
                if is_ours {
                    control.stop_cancelled(&[id.to_owned()]).await;
                }
            }
        }
        Ok(())
    }
}

fn channel(namespace: &str) -> String {
    format!("{namespace}:cancelled")
}
