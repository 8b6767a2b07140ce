//! The cache against a real Redis that forgets, dies and hangs; the database is a counter.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use nix::sys::signal::Signal;
use tokio::sync::Barrier;

use super::*;
use crate::config::Span;
use crate::redis::testing::{Server, raw, shown};

const KEY: &str = "onetake:cache:{orders:olga}";

/// A cache over a database that counts how often it is read.
struct World {
    server: Server,
    redis: Redis,
    cache: Cache,
    reads: Arc<AtomicUsize>,
}

impl World {
    async fn new() -> Self {
        let server = Server::start();
        let redis = server.connect().await;
        let settings = config::Cache { keep: Span(Duration::from_secs(60)), wait: Span(Duration::from_millis(300)) };
        let cache = Cache::new(redis.clone(), "onetake", &settings);
        Self { server, redis, cache, reads: Arc::default() }
    }

    /// Reads the first page as of `version`; the database tells `body` when `when` has ended.
    async fn read_when(&self, version: i64, body: &'static str, when: impl AsyncFn()) -> String {
        let page = Page { list: "orders", owner: "olga", version, page: ":50" };
        let read: Result<Bytes, ()> = self
            .cache
            .read(page, || async {
                self.reads.fetch_add(1, Ordering::SeqCst);
                when().await;
                Ok(Bytes::from_static(body.as_bytes()))
            })
            .await;
        String::from_utf8(read.expect("the database is up").to_vec()).expect("what was written")
    }

    async fn read(&self, version: i64, body: &'static str) -> String {
        self.read_when(version, body, async || {}).await
    }

    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_page_is_read_once_and_again_when_its_list_has_changed() {
    let world = World::new().await;
    assert_eq!(world.read(1, "one").await, "one");
    assert_eq!(world.read(1, "never read").await, "one");
    assert_eq!(world.reads(), 1);
    assert_eq!(world.read(2, "two").await, "two", "a page of an older version is not served");
    assert_eq!(world.read(2, "never read").await, "two");
    assert_eq!(world.reads(), 1);
    assert_eq!(shown(&world.redis, &["HMGET", KEY, "version", ":50"]).await, "[2 two]");
    assert_eq!(world.read(1, "never read").await, "two", "what is newer than asked for will do");
    let left: i64 = shown(&world.redis, &["PTTL", KEY]).await.parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_slow_reader_never_puts_an_old_page_back() {
    let world = World::new().await;
    // It has its version, and its page is under way; then the list changes.
    let step = Barrier::new(2);
    let slow = world.read_when(1, "old", async || {
        step.wait().await;
        step.wait().await;
    });
    let change = async {
        step.wait().await;
        world.cache.forget("orders", "olga", 2).await;
        step.wait().await;
    };
    let (read, ()) = tokio::join!(slow, change);
    assert_eq!(read, "old", "it asked before the change");
    assert_eq!(shown(&world.redis, &["HMGET", KEY, "version", ":50"]).await, "[2 -]", "and it was not kept");
    assert_eq!(world.read(2, "new").await, "new");
    world.cache.forget("orders", "olga", 1).await;
    assert_eq!(world.read(2, "never read").await, "new", "a late word of an older change drops nothing");
}

#[tokio::test]
async fn one_fills_while_the_others_wait() {
    let world = World::new().await;
    let reads = join_all(
        (0..100).map(|_| world.read_when(1, "one", async || tokio::time::sleep(Duration::from_millis(50)).await)),
    )
    .await;
    assert!(reads.iter().all(|read| read == "one"));
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn whoever_waits_too_long_reads_the_database() {
    let world = World::new().await;
    // Somebody took it on to fill the page, and died.
    raw(&world.redis, &["SET", &format!("{KEY}:filling::50"), "a dead one", "PX", "10000"]).await;
    let asked = Instant::now();
    assert_eq!(world.read(1, "one").await, "one");
    assert!(asked.elapsed() >= Duration::from_millis(300), "it gave the other one time");
    assert!(asked.elapsed() < Duration::from_secs(2), "but not for ever: {:?}", asked.elapsed());
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn a_database_that_fails_is_told_and_holds_nobody_up_for_long() {
    let world = World::new().await;
    let page = Page { list: "orders", owner: "olga", version: 1, page: ":50" };
    assert_eq!(world.cache.read(page, || async { Err("away") }).await, Err("away"));
    assert_eq!(world.read(1, "one").await, "one");
}

#[tokio::test]
async fn without_redis_the_database_answers_soon() {
    let mut world = World::new().await;
    assert_eq!(world.read(1, "one").await, "one");
    world.server.signal(Signal::SIGSTOP);
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(world.read(1, "from the database").await, "from the database");
    }
    world.cache.forget("orders", "olga", 2).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "a hung Redis is asked once: {:?}", asked.elapsed());
    world.server.signal(Signal::SIGCONT);
    world.server.signal(Signal::SIGKILL);
    assert_eq!(world.read(2, "two").await, "two");
    world.server.start_again();
    let mut up = world.redis.watch();
    tokio::time::timeout(Duration::from_secs(10), up.wait_for(|up| *up)).await.unwrap().unwrap();
    // It has version 1 in its file, and nobody told it of version 2.
    assert_eq!(world.read(2, "three").await, "three", "an old page that came back is not served");
}

#[tokio::test]
async fn ever_new_pages_fill_no_redis() {
    let world = World::new().await;
    for limit in 0..200 {
        let name = format!(":{limit}");
        let page = Page { list: "orders", owner: "olga", version: 1, page: &name };
        let read: Result<_, ()> = world.cache.read(page, || async { Ok(Bytes::from_static(b"x")) }).await;
        read.unwrap();
    }
    let pages: usize = shown(&world.redis, &["HLEN", KEY]).await.parse().unwrap();
    assert!(pages <= MOST_PAGES + 2, "{pages}");
}
