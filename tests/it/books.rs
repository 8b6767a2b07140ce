//! The books of plain jobs: whatever dies, hangs or forgets, every job that was added ends once, completed or failed, and
//! its event says so once.
//!
//! That an attempt is made only once is not promised, and not asked for here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::loss::{checks, until_redis_is};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::resp::{self, Reply};
use crate::support::server::{Onetake, Setup};
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

const QUEUES: &str = r#"
[queues.long]
processor = { kind = "builtin", name = "sleep" }
concurrency = 50
[queues.short]
processor = { kind = "builtin", name = "echo" }
concurrency = 20
"#;

/// How long a long job takes: so long that whoever holds it is struck before it ends.
const LONG_MS: u64 = 4_000;
/// Long enough for leases to end, and jobs to be found and made again, on a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(100);

async fn world(kind: StoreKind) -> World {
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(QUEUES);
    world
}

/// What the books say of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    pub taken: usize,
    pub ended: usize,
}

/// By job, from the queue's events.
pub async fn accounts(redis: &RedisServer, queue: &str) -> BTreeMap<String, Account> {
    let Reply::List(entries) = redis.ask(&["XRANGE", &format!("bull:{queue}:events"), "-", "+"]).await else {
        panic!("the events are a stream");
    };
    let mut accounts = BTreeMap::<String, Account>::new();
    for entry in &entries {
        let Reply::List(parts) = entry else { panic!("{entry:?} is no entry") };
        let fields = parts[1].texts();
        let of = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
        let Some(id) = of("jobId") else { continue };
        let account = accounts.entry(id.to_owned()).or_default();
        match of("event") {
            Some("active") => account.taken += 1,
            Some("completed" | "failed") => account.ended += 1,
            _ => {}
        }
    }
    accounts
}

async fn number(redis: &RedisServer, command: &[&str]) -> usize {
    usize::try_from(redis.ask(command).await.number()).expect("a count")
}

pub async fn active(redis: &RedisServer, queue: &str) -> usize {
    number(redis, &["LLEN", &format!("bull:{queue}:active")]).await
}

/// How many jobs have ended.
pub async fn over(redis: &RedisServer, queue: &str) -> usize {
    let [completed, failed] = ["completed", "failed"].map(|state| format!("bull:{queue}:{state}"));
    number(redis, &["ZCARD", &completed]).await + number(redis, &["ZCARD", &failed]).await
}

/// Waits until `jobs` jobs have ended; then each stands in the books once, and nothing else is left of it.
pub async fn all_ended_once(redis: &RedisServer, queue: &str, jobs: usize) -> BTreeMap<String, Account> {
    let is_over = async || over(redis, queue).await >= jobs;
    wait::until_true(&format!("{jobs} jobs to end"), LONG_PATIENCE, is_over).await;
    // Whoever ended the last job may still be about to say so of one that it lost.
    wait::until_true("nobody to hold a job", LONG_PATIENCE, async || active(redis, queue).await == 0).await;
    let accounts = accounts(redis, queue).await;
    let wrong: Vec<_> = accounts.iter().filter(|(_, account)| account.ended != 1).collect();
    assert!(wrong.is_empty(), "not in the books once: {wrong:?}");
    assert_eq!(accounts.len(), jobs);
    assert_eq!(over(redis, queue).await, jobs);
    for list in ["wait", "prioritized", "delayed", "waiting-children", "paused"] {
        assert_eq!(number(redis, &["EXISTS", &format!("bull:{queue}:{list}")]).await, 0, "{list}");
    }
    for id in accounts.keys() {
        assert_eq!(number(redis, &["EXISTS", &format!("bull:{queue}:{id}:lock")]).await, 0, "the lock of {id}");
    }
    accounts
}

async fn add_long(server: &Onetake, count: usize) {
    let adds = (0..count).map(|_| server.post("/v1/queues/long/jobs", json!({"data": {"ms": LONG_MS}})));
    for answer in futures::future::join_all(adds).await {
        answer.expect(201);
    }
}

async fn until_holding(redis: &RedisServer, count: usize) {
    let holds = async || active(redis, "long").await >= count;
    wait::until_true(&format!("{count} jobs to be in hand"), PATIENCE, holds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_killed_with_fifty_jobs_in_hand() {
    let world = world(StoreKind::Sqlite).await;
    let mut first = world.server().await;
    add_long(&first, 60).await;
    until_holding(&world.redis, 50).await;
    first.kill();
    let _second = world.server().await;
    let accounts = all_ended_once(&world.redis, "long", 60).await;
    let again = accounts.values().filter(|account| account.taken > 1).count();
    assert!(again > 0, "the killed runner held nothing: {accounts:?}");
}

mod on_postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_runner_hangs_for_longer_than_its_lease() {
        super::hangs().await;
    }
}

async fn hangs() {
    let world = world(StoreKind::Postgres).await;
    let first = world.server().await;
    add_long(&first, 30).await;
    until_holding(&world.redis, 30).await;
    first.freeze();
    let _second = world.server().await;
    let taken_over = async || accounts(&world.redis, "long").await.values().all(|account| account.taken > 1);
    wait::until_true("the jobs to be taken over", LONG_PATIENCE, taken_over).await;
    // It wakes with results in hand that are not wanted any more.
    first.thaw();
    all_ended_once(&world.redis, "long", 30).await;
    assert_eq!(first.get("/livez").await.status, 200);
}

/// Adds jobs under ids of their own, each again until it is known to be there.
fn adding(server: &Onetake, numbers: Range<usize>) -> JoinHandle<()> {
    let server = (**server).clone();
    tokio::spawn(async move {
        for n in numbers {
            let job = json!({"data": {"n": n}, "options": {"jobId": format!("job-{n}")}});
            let add = async || server.request(Method::POST, "/v1/queues/short/jobs", Some(job.clone())).await;
            let is_added = async || matches!(add().await, Ok(answer) if answer.status == 201);
            wait::until_true(&format!("job {n} to be added"), LONG_PATIENCE, is_added).await;
        }
    })
}

async fn until_over(redis: &RedisServer, count: usize) {
    let is_over = async || over(redis, "short").await >= count;
    wait::until_true(&format!("{count} jobs to end"), LONG_PATIENCE, is_over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_with_its_file() {
    let mut world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    let adding = adding(&server, 0..200);
    for round in 1..=3 {
        until_over(&world.redis, round * 40).await;
        world.redis.restart().await;
    }
    adding.await.expect("all were added");
    all_ended_once(&world.redis, "short", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_its_scripts_all_the_time() {
    let world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    let (port, times) = (world.redis.port(), Arc::new(AtomicUsize::new(0)));
    let counting = times.clone();
    let forgetting = tokio::spawn(async move {
        while resp::ask(port, &["SCRIPT", "FLUSH"]).await.is_ok() {
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    adding(&server, 0..200).await.expect("all were added");
    all_ended_once(&world.redis, "short", 200).await;
    forgetting.abort();
    assert!(times.load(Ordering::Relaxed) > 10, "it forgot {times:?} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_lost_after_the_scripts_have_run() {
    let world = world(StoreKind::Sqlite).await;
    let proxy = Proxy::to(world.redis.port()).await;
    let through = Setup::clone(&world.setup).env("REDIS_URL", proxy.redis_url());
    let server = Onetake::start(&through).await;
    let lost = AtomicUsize::new(0);
    for round in 0..4 {
        let adding = adding(&server, 50 * round..50 * (round + 1));
        until_over(&world.redis, 50 * round + 5).await;
        let before = accounts(&world.redis, "short").await;
        proxy.mute();
        // Something runs whose answer nobody hears.
        wait::until_true("a script to run, or all to have run before", PATIENCE, async || {
            let has_run = accounts(&world.redis, "short").await != before;
            lost.fetch_add(usize::from(has_run), Ordering::Relaxed);
            has_run || checks(&server).await["redis"] == "down"
        })
        .await;
        if round.is_multiple_of(2) {
            proxy.cut();
            until_redis_is(&server, "down").await;
        }
        // Otherwise the connections stay, but what they have lost is lost: the server must give them up itself.
        proxy.open();
        until_redis_is(&server, "up").await;
        adding.await.expect("all were added");
    }
    assert!(lost.load(Ordering::Relaxed) > 0, "no answer was lost");
    all_ended_once(&world.redis, "short", 200).await;
}
