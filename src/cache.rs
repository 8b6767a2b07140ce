//! Lists that SQL owns, kept in Redis page by page, and never served older than what SQL has answered for.
//!
//! Each list has a version in SQL, raised in the very transaction that changes it. A reader learns the version from SQL
//! first (one row by its key; many readers ride in one query), and takes a page from Redis only if it is of that version
//! or a later one. So nothing that happens to Redis can bring an old page back: not a change whose server died before it
//! told Redis, not a server that sees the database and not Redis, not a wiped, restored or failed-over Redis.
//!
//! Forgetting after a commit only saves room and time. A page is filled by one reader while the others wait, about as long
//! as the database takes; whoever waited for that long, or finds Redis away, asks the database.
//!
//! | key | type | fields | kept |
//! |---|---|---|---|
//! | `<ns>:cache:{<list>:<owner>}` | hash | `version`; `<cursor>:<limit>`: a page as JSON | `cache.keep` after the last change or fill |
//! | `<ns>:cache:{<list>:<owner>}:filling:<page>` | string | the mark of whoever fills that page | until it is filled, `cache.wait` at most |

use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;

use crate::clock::millis;
use crate::config;
use crate::id::new_token;
use crate::redis::{Error, Redis, Reply, Script};

static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new("cache.look", &[include_str!("../lua/cache/look.lua")]));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::new("cache.fill", &[include_str!("../lua/cache/fill.lua")]));
static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("cache.forget", &[include_str!("../lua/cache/forget.lua")]));

/// A cache that answers later than this is of no use: the database is asked instead.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// A Redis that did not answer is left alone for this long, so that not every reader waits for it.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// Between two looks of one who waits for another's fill: first and longest.
const BETWEEN_LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// Pages of one list: whoever asks with ever new limits fills no Redis.
const MOST_PAGES: usize = 64;

/// Pages of lists in Redis. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    redis: Redis,
    namespace: Arc<str>,
    keep_ms: i64,
    wait: Duration,
    silent_since: Arc<Mutex<Option<Instant>>>,
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Which list; labels metrics.
    pub list: &'static str,
    pub owner: &'a str,
    /// What SQL says now, read before this page is asked for.
    pub version: i64,
    pub page: &'a str,
}

enum Look {
    Hit(Bytes),
    Fill,
    Wait,
}

impl Cache {
    pub fn new(redis: Redis, namespace: &str, settings: &config::Cache) -> Self {
        Self {
            redis,
            namespace: namespace.into(),
            keep_ms: millis(settings.keep.0).max(1),
            wait: settings.wait.0,
            silent_since: Arc::default(),
        }
    }

    /// A page, from Redis if it is new enough there, else by `fill`, which reads the database.
    ///
    /// # Errors
    /// What `fill` fails with. A Redis that is away is none.
    ///
    /// # Cancel safety
    /// Dropped while it fills, it holds others up until `cache.wait` is over.
    pub async fn read<E, F, R>(&self, page: Page<'_>, fill: F) -> Result<Bytes, E>
    where
        F: Fn() -> R,
        R: Future<Output = Result<Bytes, E>>,
    {
        let (asked, token) = (Instant::now(), new_token());
        let mut pause = BETWEEN_LOOKS.0;
        let result = loop {
            match self.look(&page, &token).await {
                Ok(Look::Hit(body)) => {
                    count(&page, "hit");
                    return Ok(body);
                }
                Ok(Look::Fill) => {
                    let body = fill().await?;
                    // Without Redis the page is as good.
                    let _ = self.fill(&page, &token, &body).await;
                    count(&page, "filled");
                    return Ok(body);
                }
                Ok(Look::Wait) if asked.elapsed() < self.wait => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BETWEEN_LOOKS.1);
                }
                Ok(Look::Wait) => break "waited",
                Err(_) => break "away",
            }
        };
        count(&page, result);
        fill().await
    }

    /// A list has changed: its pages in Redis are of no use any more.
    pub async fn forget(&self, list: &'static str, owner: &str, version: i64) {
        let args = vec![Bytes::from(version.to_string()), Bytes::from(self.keep_ms.to_string())];
        // What Redis does not hear is older than SQL's version, and is not served.
        let _ = self.run(&FORGET, vec![self.list_key(list, owner)], args).await;
    }

    async fn look(&self, page: &Page<'_>, token: &str) -> Result<Look, Error> {
        let args = vec![
            Bytes::from(page.version.to_string()),
            Bytes::copy_from_slice(page.page.as_bytes()),
            Bytes::copy_from_slice(token.as_bytes()),
            Bytes::from(millis(self.wait).max(1).to_string()),
        ];
        let mut reply = self.run(&LOOK, self.keys(page), args).await?.items()?.into_iter();
        let mut next = || reply.next().ok_or_else(|| Error::protocol("a look's answer is too short"));
        Ok(match next()?.text()?.as_str() {
            "hit" => Look::Hit(next()?.bytes()?),
            "fill" => Look::Fill,
            _ => Look::Wait,
        })
    }

    async fn fill(&self, page: &Page<'_>, token: &str, body: &Bytes) -> Result<bool, Error> {
        let args = vec![
            Bytes::from(page.version.to_string()),
            Bytes::copy_from_slice(page.page.as_bytes()),
            body.clone(),
            Bytes::copy_from_slice(token.as_bytes()),
            Bytes::from(self.keep_ms.to_string()),
            Bytes::from(MOST_PAGES.to_string()),
        ];
        Ok(self.run(&FILL, self.keys(page), args).await?.int()? == 1)
    }

    async fn run(&self, script: &Script, keys: Vec<String>, args: Vec<Bytes>) -> Result<Reply, Error> {
        if self.is_left_alone() {
            return Err(Error::unreachable("it did not answer a moment ago"));
        }
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.redis.run(script, keys, args)).await;
        let answered = answered.unwrap_or_else(|_| Err(Error::unreachable("no answer in time")));
        if answered.as_ref().is_err_and(Error::is_unreachable) {
            *self.silent_since.lock().expect("no user panics inside") = Some(Instant::now());
        }
        answered
    }

    fn is_left_alone(&self) -> bool {
        let since = *self.silent_since.lock().expect("no user panics inside");
        since.is_some_and(|since| since.elapsed() < LEFT_ALONE)
    }

    fn list_key(&self, list: &str, owner: &str) -> String {
        format!("{}:cache:{{{list}:{owner}}}", self.namespace)
    }

    fn keys(&self, page: &Page<'_>) -> Vec<String> {
        let list = self.list_key(page.list, page.owner);
        let filling = format!("{list}:filling:{}", page.page);
        vec![list, filling]
    }
}

fn count(page: &Page<'_>, result: &'static str) {
    counter!("onetake_cache_reads_total", "list" => page.list, "result" => result).increment(1);
}

#[cfg(test)]
mod tests;
