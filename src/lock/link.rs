//! Redis, asked briefly: a lock must not be held up by what may only say no.
//!
//! A call that takes longer than a moment counts as unanswered, and for a while nobody asks again: one small probe in the
//! background finds out when Redis is back. So a Redis that froze costs the callers of one moment that moment, not each
//! caller each time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{counter, gauge};
use tracing::{info, warn};

use crate::redis::{Redis, Reply, Script};

/// Between two probes of a Redis that did not answer.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Redis, as the locks ask it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    redis: Redis,
    patience: Duration,
    /// The key that a probe looks for: one of ours, as a user may be allowed no other.
    probe: Arc<str>,
    mode: Arc<Mutex<Mode>>,
}

/// Who takes part in locking.
#[derive(Clone, Copy)]
enum Mode {
    /// Redis as well.
    Redis,
    /// The database alone, until a probe is answered; the next one is due then.
    Database { probe_at: Instant },
}

impl Link {
    pub fn new(redis: Redis, patience: Duration, probe: String) -> Self {
        gauge!("onetake_lock_redis").set(1.0);
        Self { redis, patience, probe: probe.into(), mode: Arc::new(Mutex::new(Mode::Redis)) }
    }

    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Runs a script. `None`: Redis takes no part now, and whether the script ran is unknown.
    pub async fn run(&self, script: &Script, keys: Vec<String>, args: Vec<Bytes>) -> Option<Reply> {
        if !self.may_ask() {
            return None;
        }
        match tokio::time::timeout(self.patience, self.redis.run(script, keys, args)).await {
            Ok(Ok(reply)) => Some(reply),
            Ok(Err(error)) if !error.is_unreachable() => {
                // A key of another type, say: the lock goes on without, and somebody should look.
                warn!(script = script.name(), %error, "redis refused a lock's script; going on over the database");
                None
            }
            Ok(Err(_)) | Err(_) => {
                self.leave_out();
                None
            }
        }
    }

    /// As [`Link::run`], behind the caller's back: nobody waits for it, and it may be lost.
    pub fn tell(&self, script: &'static Script, keys: Vec<String>, args: Vec<Bytes>) {
        let redis = self.redis.clone();
        // Without a runtime the process is ending.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { redis.run(script, keys, args).await });
        }
    }

    fn may_ask(&self) -> bool {
        let is_up = self.redis.is_up();
        let mut mode = self.mode.lock().expect("no user panics inside");
        match *mode {
            Mode::Redis if is_up => true,
            Mode::Redis => {
                drop(mode);
                self.leave_out();
                false
            }
            Mode::Database { probe_at } => {
                let now = Instant::now();
                if is_up && now >= probe_at {
                    *mode = Mode::Database { probe_at: now + PROBE_EVERY };
                    drop(mode);
                    self.probe();
                }
                false
            }
        }
    }

    fn probe(&self) {
        let link = self.clone();
        tokio::spawn(async move {
            let asked = link.redis.exists(&link.probe);
            if let Ok(Ok(_)) = tokio::time::timeout(link.patience, asked).await {
                link.take_in();
            }
        });
    }

    fn leave_out(&self) {
        let next = Mode::Database { probe_at: Instant::now() + PROBE_EVERY };
        let before = std::mem::replace(&mut *self.mode.lock().expect("no user panics inside"), next);
        if let Mode::Redis = before {
            counter!("onetake_lock_mode_changes_total", "to" => "database").increment(1);
            gauge!("onetake_lock_redis").set(0.0);
            warn!("redis does not answer in time: locks go on over the database alone");
        }
    }

    fn take_in(&self) {
        let before = std::mem::replace(&mut *self.mode.lock().expect("no user panics inside"), Mode::Redis);
        if let Mode::Database { .. } = before {
            counter!("onetake_lock_mode_changes_total", "to" => "redis").increment(1);
            gauge!("onetake_lock_redis").set(1.0);
            info!("redis takes part in locking again");
        }
    }
}
