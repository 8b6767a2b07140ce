//! Dedupe in Redis: the fast look at a key, and the mirror of what SQL decided.
//!
//! Redis answers fast, SQL has the last word. Nothing here is needed to be right: a key that is wrong or gone costs a
//! look into SQL, and is corrected from there.
//!
//! | key | type | fields or members | kept |
//! |---|---|---|---|
//! | `<ns>:dedupe:<scope>:<key>` | hash | `flight`, `generation`, `state`, `leader`, `queue`, `scope`, `key`, `progress`; `result`, `result_generation`, `made_at_ms` | while a run is open; afterwards as long as the result is fresh, a day at most |
//! | `<ns>:subscribers:<scope>:<key>` | set | `<channel> <subscriber>` | until the run ends |
//! | `<ns>:instance` | string | made when this Redis was first seen; gone: it was replaced or wiped | for ever |
//! | `<ns>:wake` | channel | a flight's id and what became of it | |
//!
//! `<key>` is the JSON array of the key's parts; one of over 200 bytes stands as `sha256:<hex>`, in full in the field `key`.
//! Where the queue or the prefix has a hash tag, it follows the namespace: `<ns>:{tag}:dedupe:...`.

mod keys;
mod wake;

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Millis, millis};
use crate::flight::Snapshot;
use crate::redis::{Error, Redis, Script};

pub use keys::KeyParts;
pub use wake::{Wakes, What};

static CLAIM: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.claim", &[include_str!("../../lua/dedupe/claim.lua")]));
static MARK: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.mark", &[include_str!("../../lua/dedupe/mark.lua")]));
static PROGRESS: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.progress", &[include_str!("../../lua/dedupe/progress.lua")]));

/// How long a claim stands that SQL has not confirmed.
const CLAIM_FOR: Duration = Duration::from_secs(30);
/// How long a result stays hot at most.
const HOT_FOR: Duration = Duration::from_secs(86_400);

/// The dedupe keys of one Redis. Cheap to clone.
#[derive(Clone)]
pub struct Dedupe {
    redis: Redis,
    namespace: String,
    prefix: String,
}

/// What the fast look found.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    Ready {
        flight: String,
        generation: i64,
        result: Bytes,
        made_at_ms: Millis,
    },
    /// Somebody is on it: SQL knows who.
    Subscribed,
    Queued,
}

impl Dedupe {
    pub fn new(redis: Redis, namespace: &str, prefix: &str) -> Self {
        Self { redis, namespace: namespace.to_owned(), prefix: prefix.to_owned() }
    }

    /// One atomic look: ready, subscribed or queued; joins the key's subscribers with `subscriber` unless it is empty.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when Redis is away: SQL alone decides then.
    pub async fn claim(
        &self,
        scope: &str,
        key: &str,
        now_ms: Millis,
        max_age_ms: Option<i64>,
        refresh: bool,
        subscriber: &str,
    ) -> Result<Look, Error> {
        let args = vec![
            text(now_ms),
            text(max_age_ms.unwrap_or(-1)),
            text(i64::from(refresh)),
            Bytes::copy_from_slice(subscriber.as_bytes()),
            text(millis(CLAIM_FOR)),
        ];
        let reply = self.redis.run(&CLAIM, self.keys(scope, key), args).await?.items()?;
        let mut reply = reply.into_iter();
        let mut next =
            || reply.next().ok_or_else(|| Error::Protocol { detail: "a claim's answer is too short".into() });
        Ok(match next()?.text()?.as_str() {
            "ready" => Look::Ready {
                flight: next()?.text()?,
                generation: next()?.int()?,
                result: next()?.bytes()?,
                made_at_ms: next()?.int()?,
            },
            "subscribed" => Look::Subscribed,
            _ => Look::Queued,
        })
    }

    /// Writes down what SQL decided. `leader` is the id of the job that makes the run, or empty; `fresh_for` says how long a
    /// result stays fresh. False: Redis knows a later generation.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn mark(&self, flight: &Snapshot, leader: &str, fresh_for: Option<Duration>) -> Result<bool, Error> {
        let (result, result_generation, made_at_ms) = flight.result.clone().unwrap_or_default();
        let keep = fresh_for.map_or(HOT_FOR, |fresh| fresh.min(HOT_FOR)).max(Duration::from_millis(1));
        let args = vec![
            Bytes::from(flight.flight.clone()),
            text(flight.generation),
            Bytes::from_static(flight.state.as_str().as_bytes()),
            Bytes::copy_from_slice(leader.as_bytes()),
            Bytes::from(flight.queue.clone()),
            Bytes::from(result),
            text(result_generation),
            text(made_at_ms),
            text(millis(keep)),
            Bytes::from(flight.scope.clone()),
            Bytes::from(flight.key.clone()),
        ];
        Ok(self.redis.run(&MARK, self.keys(&flight.scope, &flight.key), args).await?.int()? == 1)
    }

    /// Notes the progress of an open run, as JSON.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn progress(
        &self,
        scope: &str,
        key: &str,
        flight: &str,
        generation: i64,
        json: &str,
    ) -> Result<bool, Error> {
        let keys = vec![self.flight_key(scope, key)];
        let args = vec![Bytes::from(flight.to_owned()), text(generation), Bytes::from(json.to_owned())];
        Ok(self.redis.run(&PROGRESS, keys, args).await?.int()? == 1)
    }

    /// Forgets a key: it is as if nobody had ever asked.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn release(&self, scope: &str, key: &str) -> Result<(), Error> {
        let keys = self.keys(scope, key);
        self.redis.del(&[keys[0].as_str(), keys[1].as_str()]).await.map(|_| ())
    }

    /// Takes one subscriber off the readable list.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn leave(&self, scope: &str, key: &str, subscriber: &str) -> Result<(), Error> {
        self.redis.srem(&self.subscribers_key(scope, key), &[subscriber]).await.map(|_| ())
    }

    /// One field of what Redis knows of a key.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn field(&self, scope: &str, key: &str, field: &str) -> Result<Option<String>, Error> {
        let value = self.redis.hget(&self.flight_key(scope, key), field).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A page of the keys whose run Redis believes to be open: (scope, key), and where to go on.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn open_keys(&self, cursor: Option<&str>) -> Result<(Vec<(String, String)>, Option<String>), Error> {
        let page = self.redis.scan(cursor, &format!("{}:*dedupe:*", keys::escaped(&self.namespace)), 500).await?;
        let mut open = Vec::new();
        for name in page.items {
            let state = self.redis.hget(&name, "state").await?;
            if !matches!(state.as_deref(), Some(b"pending" | b"running")) {
                continue;
            }
            if let (Some(scope), Some(key)) =
                (self.redis.hget(&name, "scope").await?, self.redis.hget(&name, "key").await?)
            {
                open.push((String::from_utf8_lossy(&scope).into_owned(), String::from_utf8_lossy(&key).into_owned()));
            }
        }
        Ok((open, page.next))
    }

    /// The mark of this very Redis: the same as long as its data are. Made when there is none: then `true`, and everything
    /// that Redis should know must be told again.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn is_new_instance(&self) -> Result<bool, Error> {
        let key = format!("{}:instance", self.namespace);
        if self.redis.exists(&key).await? {
            return Ok(false);
        }
        self.redis.set(&key, Bytes::from(crate::id::new_id()), None, true).await
    }

    fn keys(&self, scope: &str, key: &str) -> Vec<String> {
        vec![self.flight_key(scope, key), self.subscribers_key(scope, key)]
    }

    fn flight_key(&self, scope: &str, key: &str) -> String {
        keys::key(&self.namespace, &self.prefix, "dedupe", scope, key)
    }

    fn subscribers_key(&self, scope: &str, key: &str) -> String {
        keys::key(&self.namespace, &self.prefix, "subscribers", scope, key)
    }
}

fn text(number: i64) -> Bytes {
    Bytes::from(number.to_string())
}
