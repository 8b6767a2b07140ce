//! Pace: at most so many messages per second for a bot, and one per interval for a chat, over all servers.
//!
//! A sender reserves the next free moment and waits for it; a moment that is reserved and not used is lost, which is
//! harmless. While Redis is away each server keeps its own share of the pace.
//!
//! | key | type | value | kept |
//! |---|---|---|---|
//! | `<ns>:pace:{<bot>}` | string | when the bot may send next, in ms | until then |
//! | `<ns>:pace:{<bot>}:<chat>` | string | when it may send to that chat next | until then |
//! | `<ns>:pace:{<bot>}:<chat>:held` | string | `1`: Telegram wants nothing for that chat now | as long as it said |

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, millis};
use crate::redis::{Redis, Script};

static RESERVE: LazyLock<Script> =
    LazyLock::new(|| Script::new("pace.reserve", &[include_str!("../lua/pace/reserve.lua")]));

/// The pace of one bot. Cheap to clone.
#[derive(Clone)]
pub struct Pace {
    redis: Redis,
    clock: Clock,
    key: String,
    bot_ms: f64,
    chat_ms: f64,
    alone: Arc<Mutex<Alone>>,
    servers: Arc<AtomicU32>,
}

/// What this process alone knows, for the time without Redis.
#[derive(Default)]
struct Alone {
    bot_at: f64,
    chats: HashMap<String, f64>,
}

impl Pace {
    pub fn new(
        redis: Redis,
        clock: Clock,
        namespace: &str,
        bot: &str,
        per_second: u32,
        chat_interval: Duration,
    ) -> Self {
        Self {
            redis,
            clock,
            key: format!("{namespace}:pace:{{{bot}}}"),
            bot_ms: 1000.0 / f64::from(per_second.max(1)),
            chat_ms: chat_interval.as_secs_f64() * 1000.0,
            alone: Arc::default(),
            servers: Arc::new(AtomicU32::new(1)),
        }
    }

    /// How many servers share the pace while Redis is away.
    pub fn share_among(&self, servers: u32) {
        self.servers.store(servers.max(1), Ordering::Relaxed);
    }

    /// Reserves the next moment for a message to `chat`, and says how far off it is.
    pub async fn reserve(&self, chat: &str) -> Duration {
        let now_ms = self.clock.now_ms();
        let keys = vec![self.key.clone(), self.key_of(chat)];
        let args = [self.bot_ms, self.chat_ms].map(|ms| format!("{ms:.3}"));
        let reply = self.redis.run(&RESERVE, keys, args.map(Bytes::from).to_vec()).await;
        match reply.and_then(|reply| reply.int()) {
            Ok(wait_ms) => Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)),
            Err(_) => self.reserve_alone(chat, now_ms as f64),
        }
    }

    /// Nothing is to be sent to `chat` for this long, whatever was reserved before.
    pub async fn hold(&self, chat: &str, lasts: Duration) {
        // Redis takes no time of nothing.
        let lasts_ms = millis(lasts).max(1);
        {
            let mut alone = self.alone.lock().expect("no user panics inside");
            let at = alone.chats.entry(chat.to_owned()).or_default();
            *at = at.max((self.clock.now_ms() + lasts_ms) as f64);
        }
        // Without Redis, this server at least knows.
        let _ = self.redis.set(&self.held_key(chat), Bytes::from_static(b"1"), Some(lasts_ms), false).await;
    }

    /// How long nothing is to be sent to `chat`.
    pub async fn held(&self, chat: &str) -> Duration {
        let held = self.redis.ttl_ms(&self.held_key(chat)).await;
        let left_ms = held.unwrap_or_default().unwrap_or_default();
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))
    }

    fn key_of(&self, chat: &str) -> String {
        format!("{}:{chat}", self.key)
    }

    fn held_key(&self, chat: &str) -> String {
        format!("{}:held", self.key_of(chat))
    }

    fn reserve_alone(&self, chat: &str, now_ms: f64) -> Duration {
        let mut alone = self.alone.lock().expect("no user panics inside");
        alone.chats.retain(|_, at| *at > now_ms);
        let bot_at = alone.bot_at.max(now_ms);
        let at = alone.chats.get(chat).copied().unwrap_or(0.0).max(bot_at);
        alone.bot_at = bot_at + self.bot_ms * f64::from(self.servers.load(Ordering::Relaxed));
        alone.chats.insert(chat.to_owned(), at + self.chat_ms);
        Duration::from_secs_f64(((at - now_ms) / 1000.0).max(0.0))
    }
}
