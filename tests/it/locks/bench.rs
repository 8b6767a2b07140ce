//! Servers that lock: each with connections of its own to one store and one Redis, and counters that they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use onetake::clock::Clock;
use onetake::config::{self, Eviction, Span, Tls};
use onetake::lock::{Acquired, Grant, Guarded, LockName, Locks, Wanted};
use onetake::redis::Redis;
use onetake::store::{Error, Store, Tx, query};
use rand::RngExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::redis::RedisServer;
use crate::support::store::{StoreKind, TestStore};

/// Long enough for a crowd on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);
pub const NOW: Duration = Duration::ZERO;

pub struct Bench {
    pub redis: RedisServer,
    // After what uses it: the server goes last.
    pub store: TestStore,
}

/// Counts one name up, reading and writing with a pause between.
pub type Unit = Arc<dyn Fn(LockName, Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// One server: its locks, and the task that keeps them, which ends with the last of its handles.
#[derive(Clone)]
pub struct Server {
    pub locks: Locks,
    pub redis: Redis,
    _stop: Arc<DropGuard>,
}

impl Bench {
    pub async fn new(kind: StoreKind) -> Self {
        let (redis, store) = tokio::join!(RedisServer::start(), TestStore::start(kind));
        Self { redis, store }
    }

    /// A server that reaches Redis directly.
    pub async fn server(&self) -> Server {
        self.server_by(&self.redis.url()).await
    }

    /// A server that reaches Redis by this address.
    pub async fn server_by(&self, redis_url: &str) -> Server {
        Server::start(&self.store.url(), redis_url).await
    }

    /// One row of each name, at zero.
    pub async fn counters(&self, names: &[LockName]) {
        self.store.change("create table counters (name text primary key, n bigint not null)").await;
        for name in names {
            self.store.change(&format!("insert into counters values ('{name}', 0)")).await;
        }
    }

    pub async fn count(&self, name: &LockName) -> i64 {
        self.store.numbers(&format!("select n from counters where name = '{name}'")).await[0]
    }
}

impl Server {
    pub async fn start(store_url: &str, redis_url: &str) -> Self {
        let settings = config::Store {
            url: store_url.to_owned().into(),
            max_connections: 6,
            slow: Span(Duration::from_secs(1)),
            batch: 256,
        };
        let store = Store::open(&settings, Clock::system()).await.expect("the store opens");
        let redis = config::Redis {
            url: redis_url.to_owned().into(),
            prefix: "bull".into(),
            namespace: "onetake".into(),
            command_timeout: Span(Duration::from_secs(2)),
            eviction: Eviction::Refuse,
            tls: Tls::default(),
        };
        let redis = Redis::connect(&redis).await.expect("Redis is up");
        let locks = Locks::new(store, redis.clone(), "onetake", &settings_of_locks());
        let stop = CancellationToken::new();
        tokio::spawn(locks.clone().keep(stop.clone()));
        Self { locks, redis, _stop: Arc::new(stop.drop_guard()) }
    }

    /// Reads a counter, waits, and writes what it read plus one: whoever does that beside us is overwritten, or overwrites.
    pub async fn count_up(&self, name: &LockName, wait: Duration, pause: Duration) -> Result<Guarded<i64>, Error> {
        let row = name.clone();
        self.locks
            .guarded("test.count", std::slice::from_ref(name), wait, move |tx| {
                let name = row.clone();
                Box::pin(async move { read_modify_write(tx, &name, pause).await })
            })
            .await
    }

    /// The real thing, for a crowd.
    pub fn counting(&self) -> Unit {
        let server = self.clone();
        Arc::new(move |name, pause| {
            let server = server.clone();
            Box::pin(async move {
                let done = server.count_up(&name, LONG, pause).await.expect("the store is up");
                assert!(matches!(done, Guarded::Done(_)), "a minute is enough for everybody");
            })
        })
    }
}

pub async fn read_modify_write(tx: &mut Tx, name: &LockName, pause: Duration) -> Result<i64, Error> {
    let read = query("-- test.read\nselect n from counters where name = $1").bind(name.as_str());
    let n: i64 = tx.fetch_optional(read).await?.expect("the row is there").get("n")?;
    tokio::time::sleep(pause).await;
    let write = query("-- test.write\nupdate counters set n = $1 where name = $2").bind(n + 1).bind(name.as_str());
    tx.execute(write).await?;
    Ok(n + 1)
}

pub fn settings_of_locks() -> config::Locks {
    config::Locks {
        max_ttl: Span(Duration::from_secs(3600)),
        redis_patience: Span(Duration::from_millis(200)),
        width: 2,
        keep: Span(Duration::from_secs(30 * 86_400)),
        keep_audit: Span(Duration::from_secs(30 * 86_400)),
        forget_every: Span(Duration::from_secs(600)),
    }
}

pub fn name(text: &str) -> LockName {
    LockName::parse(text).expect("a name")
}

pub fn wanted(text: &str, ttl: Duration, wait: Duration) -> Wanted {
    Wanted {
        names: vec![name(text)],
        ttl,
        wait,
        principal: "test".into(),
        request: onetake::id::new_id(),
        note: "a test".into(),
    }
}

impl Server {
    /// Acquires what must be free.
    pub async fn acquire(&self, wanted: Wanted) -> Grant {
        match self.locks.acquire(wanted).await.expect("the store is up") {
            Acquired::Granted(mut grants) => grants.remove(0),
            other => panic!("it is free: {other:?}"),
        }
    }

    pub async fn is_busy(&self, text: &str) -> bool {
        matches!(self.locks.acquire(wanted(text, LONG, NOW)).await.expect("the store is up"), Acquired::Busy(_))
    }
}

/// Many who count up under the same few names, until told to stop or `rounds` are done.
pub struct Crowd {
    pub commits: Arc<Vec<AtomicI64>>,
    left: Arc<AtomicI64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Crowd {
    /// `each` workers on each server; together they do about `rounds`. Pauses are random, up to `pause`.
    pub fn start(servers: &[Unit], names: &[LockName], each: usize, rounds: i64, pause: Duration) -> Self {
        let commits: Arc<Vec<AtomicI64>> = Arc::new(names.iter().map(|_| AtomicI64::new(0)).collect());
        let left = Arc::new(AtomicI64::new(rounds));
        let tasks = servers
            .iter()
            .flat_map(|unit| std::iter::repeat_n(unit.clone(), each))
            .map(|unit| {
                let (names, commits, left) = (names.to_vec(), commits.clone(), left.clone());
                tokio::spawn(async move {
                    while left.fetch_sub(1, Ordering::SeqCst) > 0 {
                        let at = rand::rng().random_range(0..names.len());
                        let pause = pause.mul_f64(rand::rng().random_range(0.0..1.0));
                        unit(names[at].clone(), pause).await;
                        commits[at].fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { commits, left, tasks }
    }

    /// Lets each end after its round.
    pub fn stop(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// Waits for all; the commits.
    pub async fn end(mut self) -> i64 {
        self.join().await;
        self.done()
    }

    async fn join(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("no panic");
        }
    }

    pub fn done(&self) -> i64 {
        self.commits.iter().map(|commits| commits.load(Ordering::SeqCst)).sum()
    }

    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(tokio::task::JoinHandle::is_finished)
    }

    /// Waits for all, and compares what they counted with what the rows say.
    pub async fn finish(mut self, bench: &Bench, names: &[LockName]) {
        self.join().await;
        for (name, commits) in names.iter().zip(self.commits.iter()) {
            assert_eq!(bench.count(name).await, commits.load(Ordering::SeqCst), "the counter of {name}");
        }
    }
}
