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
use futures::future::join_all;

use crate::batch::{Batch, Ride};
use crate::clock::{Millis, millis};
use crate::flight::Snapshot;
use crate::redis::{Error, Redis, Reply, Script};

use keys::Names;

pub use keys::KeyParts;
pub use wake::{Wakes, What};

static CLAIM: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.claim", &[include_str!("../../lua/dedupe/claim.lua")]));
static MARK: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.mark", &[include_str!("../../lua/dedupe/mark.lua")]));
static PROGRESS: LazyLock<Script> =
    LazyLock::new(|| Script::new("dedupe.progress", &[include_str!("../../lua/dedupe/progress.lua")]));

/// Looks or marks in one call: enough to share its price, and no long stop for others.
const TOGETHER: usize = 50;
/// How long a claim stands that SQL has not confirmed.
const CLAIM_FOR: Duration = Duration::from_secs(30);
/// How long a result stays hot at most.
const HOT_FOR: Duration = Duration::from_secs(86_400);

/// The dedupe keys of one Redis. Cheap to clone.
#[derive(Clone)]
pub struct Dedupe {
    redis: Redis,
    names: Names,
    claims: Batch<Claim, Look, Error>,
}

/// A key of which Redis knows something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub scope: String,
    pub key: String,
    /// It believes a run to be open.
    pub is_open: bool,
    /// Of the result that it serves.
    pub result_generation: Option<i64>,
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

/// One fast look at a key.
#[derive(Clone)]
struct Claim {
    scope: String,
    key: String,
    now_ms: Millis,
    max_age_ms: Option<i64>,
    refresh: bool,
    subscriber: String,
}

/// What SQL decided about a flight.
#[derive(Clone, Debug)]
pub struct Mark {
    pub flight: Snapshot,
    /// The id of the job that makes the run, or empty.
    pub leader: String,
    /// How long a result stays fresh; `None`: for ever.
    pub fresh_for: Option<Duration>,
}

impl Dedupe {
    /// Needs to be called inside a tokio runtime.
    pub fn new(redis: Redis, namespace: &str, prefix: &str) -> Self {
        let names = Names { namespace: namespace.to_owned(), prefix: prefix.to_owned() };
        let ride = Ride { name: "dedupe.claim", most: TOGETHER };
        let claims = {
            let (redis, names) = (redis.clone(), names.clone());
            Batch::new(ride, move |asks| {
                let (redis, names) = (redis.clone(), names.clone());
                Box::pin(async move { claim_all(&redis, &names, &asks).await })
            })
        };
        Self { redis, names, claims }
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
        subscriber: String,
    ) -> Result<Look, Error> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.claims.run(Claim { scope, key, now_ms, max_age_ms, refresh, subscriber }).await
    }

    /// Writes down what SQL decided. A flight of which Redis knows a later generation stays as it is.
    ///
    /// # Errors
    /// [`Error`] of Redis; some of them may be written.
    pub async fn mark(&self, marks: &[Mark]) -> Result<(), Error> {
        for places in self.names.by_slot(marks.iter().map(|mark| mark.flight.scope.as_str())) {
            for together in places.chunks(TOGETHER) {
                let together = together.iter().map(|place| &marks[*place]);
                let keys = together.clone().flat_map(|mark| self.names.both(&mark.flight.scope, &mark.flight.key));
                let args = together.flat_map(Mark::args);
                self.redis.run(&MARK, keys.collect(), args.collect()).await?;
            }
        }
        Ok(())
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
        let keys = vec![self.names.flight(scope, key)];
        let args = vec![Bytes::from(flight.to_owned()), text(generation), Bytes::from(json.to_owned())];
        Ok(self.redis.run(&PROGRESS, keys, args).await?.int()? == 1)
    }

    /// Forgets a key: it is as if nobody had ever asked.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn release(&self, scope: &str, key: &str) -> Result<(), Error> {
        let keys = self.names.both(scope, key);
        self.redis.del(&[keys[0].as_str(), keys[1].as_str()]).await.map(|_| ())
    }

    /// Takes one subscriber off the readable list.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn leave(&self, scope: &str, key: &str, subscriber: &str) -> Result<(), Error> {
        self.redis.srem(&self.names.subscribers(scope, key), &[subscriber]).await.map(|_| ())
    }

    /// One field of what Redis knows of a key.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn field(&self, scope: &str, key: &str, field: &str) -> Result<Option<String>, Error> {
        let value = self.redis.hget(&self.names.flight(scope, key), field).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A page of the keys that Redis knows of, and where to go on.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn known_keys(&self, cursor: Option<&str>) -> Result<(Vec<KnownKey>, Option<String>), Error> {
        let page = self.redis.scan(cursor, &format!("{}:*dedupe:*", keys::escaped(&self.names.namespace)), 500).await?;
        let looks =
            page.items.iter().map(|name| self.redis.hmget(name, &["scope", "key", "state", "result_generation"]));
        let mut known = Vec::new();
        for (name, look) in page.items.iter().zip(join_all(looks).await) {
            let fields = match look {
                Ok(fields) => fields,
                Err(error) if error.is_unreachable() => return Err(error),
                // A key of something else, whose name is like ours.
                Err(_) => continue,
            };
            let text =
                |place: usize| fields.get(place)?.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            if let (Some(scope), Some(key)) = (text(0), text(1))
                && self.names.flight(&scope, &key) == *name
            {
                let is_open = matches!(text(2).as_deref(), Some("pending" | "running"));
                let result_generation = text(3).and_then(|text| text.parse().ok());
                known.push(KnownKey { scope, key, is_open, result_generation });
            }
        }
        Ok((known, page.next))
    }

    /// The mark of this very Redis: the same as long as its data are. Made when there is none: then `true`, and everything
    /// that Redis should know must be told again.
    ///
    /// # Errors
    /// [`Error`] of Redis.
    pub async fn is_new_instance(&self) -> Result<bool, Error> {
        let key = self.names.instance();
        if self.redis.exists(&key).await? {
            return Ok(false);
        }
        self.redis.set(&key, Bytes::from(crate::id::new_id()), None, true).await
    }
}

async fn claim_all(redis: &Redis, names: &Names, asks: &[Claim]) -> Result<Vec<Look>, Error> {
    let mut looks = vec![Look::Queued; asks.len()];
    for places in names.by_slot(asks.iter().map(|ask| ask.scope.as_str())) {
        let together = places.iter().map(|place| &asks[*place]);
        let keys = together.clone().flat_map(|ask| names.both(&ask.scope, &ask.key)).collect();
        let args = std::iter::once(text(millis(CLAIM_FOR))).chain(together.flat_map(Claim::args)).collect();
        let replies = redis.run(&CLAIM, keys, args).await?.items()?;
        for (place, reply) in places.into_iter().zip(replies) {
            looks[place] = Look::read(reply)?;
        }
    }
    Ok(looks)
}

impl Claim {
    fn args(&self) -> [Bytes; 4] {
        [
            text(self.now_ms),
            text(self.max_age_ms.unwrap_or(-1)),
            text(i64::from(self.refresh)),
            Bytes::copy_from_slice(self.subscriber.as_bytes()),
        ]
    }
}

impl Mark {
    fn args(&self) -> [Bytes; 11] {
        let flight = &self.flight;
        let (result, result_generation, made_at_ms) = flight.result.clone().unwrap_or_default();
        let keep = self.fresh_for.map_or(HOT_FOR, |fresh| fresh.min(HOT_FOR)).max(Duration::from_millis(1));
        [
            Bytes::from(flight.flight.clone()),
            text(flight.generation),
            Bytes::from_static(flight.state.as_str().as_bytes()),
            Bytes::from(self.leader.clone()),
            Bytes::from(flight.queue.clone()),
            Bytes::from(result),
            text(result_generation),
            text(made_at_ms),
            text(millis(keep)),
            Bytes::from(flight.scope.clone()),
            Bytes::from(flight.key.clone()),
        ]
    }
}

impl Look {
    fn read(reply: Reply) -> Result<Self, Error> {
        let mut reply = reply.items()?.into_iter();
        let mut next =
            || reply.next().ok_or_else(|| Error::Protocol { detail: "a claim's answer is too short".into() });
        Ok(match next()?.text()?.as_str() {
            "ready" => Self::Ready {
                flight: next()?.text()?,
                generation: next()?.int()?,
                result: next()?.bytes()?,
                made_at_ms: next()?.int()?,
            },
            "subscribed" => Self::Subscribed,
            _ => Self::Queued,
        })
    }
}

fn text(number: i64) -> Bytes {
    Bytes::from(number.to_string())
}
