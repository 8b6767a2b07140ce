//! Waking those who wait for a flight: one pub/sub channel for all servers, sorted out inside each process.
//!
//! A wake-up is a hint. It may be lost (Redis away, a reconnect): whoever waits looks into SQL again every two seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::broadcast;

use super::Dedupe;
use crate::redis::Error;

/// What happened to a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Progress,
    Ended,
    Cancelled,
    /// The result was forgotten.
    Released,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Progress, Self::Ended, Self::Cancelled, Self::Released].into_iter().find(|what| what.as_str() == text)
    }
}

/// Who waits for what in this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wakes {
    waiting: Arc<Mutex<HashMap<String, broadcast::Sender<What>>>>,
}

impl Wakes {
    /// Listens for one flight. Begin to listen before you look.
    pub fn listen(&self, flight: &str) -> broadcast::Receiver<What> {
        let mut waiting = self.waiting.lock().expect("no user panics inside");
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.entry(flight.to_owned()).or_insert_with(|| broadcast::channel(16).0).subscribe()
    }

    /// Wakes those of this process who listen for `flight`.
    pub fn tell(&self, flight: &str, what: What) {
        let mut waiting = self.waiting.lock().expect("no user panics inside");
        if let Some(sender) = waiting.get(flight)
            && sender.send(what).is_err()
        {
            waiting.remove(flight);
        }
    }
}

impl Dedupe {
    /// Tells every server's waiting readers, by Redis; an unreachable one costs them two seconds.
    pub async fn wake(&self, flight: &str, what: What) {
        let payload = Bytes::from(format!("{flight} {}", what.as_str()));
        let _ = self.redis.publish(&self.wake_channel(), payload).await;
    }

    /// Passes the wake-ups of all servers on, until Redis is closed.
    ///
    /// # Errors
    /// [`Error`] when the channel cannot be subscribed to.
    pub async fn pass_wakes(&self, wakes: &Wakes, also: impl Fn(&str, What)) -> Result<(), Error> {
        let mut subscription = self.redis.subscribe(&self.wake_channel()).await?;
        while let Some(payload) = subscription.next().await {
            let text = String::from_utf8_lossy(&payload);
            if let Some((flight, what)) = text.split_once(' ')
                && let Some(what) = What::parse(what)
            {
                wakes.tell(flight, what);
                also(flight, what);
            }
        }
        Ok(())
    }

    fn wake_channel(&self) -> String {
        format!("{}:wake", self.names.namespace)
    }
}
