//! A worker beside others, on a real server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::id::QueueName;
use crate::queue::{Add, How, Job, JobOptions};
use crate::redis::Redis;
use crate::redis::testing::{Server, raw, shown};

const HOUR: Duration = Duration::from_secs(3600);

/// Does nothing, except: `bad` fails, and `slow` waits until it is let go.
struct Work {
    started: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    lets_go: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl Handler for Work {
    async fn handle(&self, job: Job, _hold: Hold) -> How {
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        self.started.lock().unwrap().push(job.id.clone());
        if job.name == "slow" {
            self.lets_go.subscribe().wait_for(|lets_go| *lets_go).await.unwrap();
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        if job.name == "bad" {
            return for_good("no paint".to_owned());
        }
        How::Complete { value: RawValue::from_string("1".to_owned()).unwrap() }
    }
}

struct Worker {
    work: Arc<Work>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

struct World {
    _server: Server,
    redis: Redis,
    queue: Queue,
}

impl World {
    async fn new() -> Self {
        let server = Server::start();
        let redis = server.connect().await;
        let queue = Queue::new(redis.clone(), "bull", QueueName::parse("q").unwrap());
        Self { _server: server, redis, queue }
    }

    /// Adds a job of each name; their ids count from 1.
    async fn add(&self, names: impl IntoIterator<Item = &str>) {
        let add = |name| Add::new(name, RawValue::NULL.to_owned());
        self.queue.add(names.into_iter().map(add).collect(), Clock::system().now_ms()).await.unwrap();
    }

    fn worker(&self, concurrency: usize, ahead: Duration) -> Worker {
        let work = Arc::new(Work {
            started: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            lets_go: watch::channel(false).0,
        });
        let limits = Limits {
            concurrency,
            batch: 50,
            lease: Duration::from_secs(30),
            renew: Duration::from_secs(10),
            stalled_interval: Duration::from_secs(30),
            max_stalled: 1,
            drain_delay: Duration::from_secs(5),
            ahead,
            shutdown_grace: HOUR,
        };
        let consumer = Consumer::new(self.queue.clone(), work.clone(), limits, Clock::system(), "w".to_owned());
        let stop = CancellationToken::new();
        let running = tokio::spawn(consumer.run(stop.clone()));
        Worker { work, stop, running }
    }

    async fn see(&self, words: &str) -> String {
        shown(&self.redis, &words.split(' ').collect::<Vec<_>>()).await
    }

    async fn until(&self, words: &str, what: &str) {
        while self.see(words).await != what {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How often each of so many jobs was started, by their ids.
    async fn starts(&self, count: usize) -> Vec<String> {
        let mut starts = Vec::new();
        for id in 1..=count {
            starts.push(self.see(&format!("HGET bull:q:{id} ats")).await);
        }
        starts
    }

    async fn script_calls(&self) -> u64 {
        let stats = raw(&self.redis, &["INFO", "commandstats"]).await.text().unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}

impl Worker {
    fn started(&self) -> Vec<String> {
        self.work.started.lock().unwrap().clone()
    }

    async fn stopped(self) -> Vec<String> {
        self.stop.cancel();
        self.running.await.unwrap();
        self.work.started.lock().unwrap().clone()
    }
}

fn ids(ids: impl Iterator<Item = usize>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_jobs_are_taken_ahead_and_worked_on_one_by_one() {
    for (ahead, calls) in [(HOUR, 10..60), (Duration::ZERO, 300..1000)] {
        let world = World::new().await;
        world.add(["n"; 300]).await;
        let before = world.script_calls().await;
        let worker = world.worker(1, ahead);
        world.until("ZCARD bull:q:completed", "300").await;
        let made = world.script_calls().await - before;
        assert!(calls.contains(&made), "{made} calls with {ahead:?}");
        assert_eq!(world.starts(300).await, ["1"; 300]);
        assert_eq!(worker.work.most_at_once.load(Ordering::SeqCst), 1);
        assert_eq!(worker.stopped().await, ids(1..=300));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_ahead_of_a_long_job_goes_to_others() {
    let world = World::new().await;
    let names = (1..=60).map(|n| if n == 31 { "slow" } else { "n" });
    world.add(names).await;
    let worker = world.worker(1, Duration::from_millis(20));
    world.until("LRANGE bull:q:active 0 -1", "[31]").await;
    assert_eq!(worker.started(), ids(1..=31));
    let other = world.worker(1, Duration::ZERO);
    world.until("ZCARD bull:q:completed", "59").await;
    assert_eq!(other.stopped().await, ids(32..=60), "in their order");
    worker.work.lets_go.send_replace(true);
    world.until("ZCARD bull:q:completed", "60").await;
    assert_eq!(world.starts(60).await, ["1"; 60], "to be taken ahead is no start");
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_gives_back_what_was_taken_ahead() {
    let world = World::new().await;
    world.add(["n", "n", "n", "bad", "slow", "n", "n"]).await;
    let worker = world.worker(1, HOUR);
    // One job, then two, then four: it would have all that are left.
    world.until("LRANGE bull:q:active 0 -1", "[5]").await;
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[7 6]");
    assert_eq!(world.see("ZRANGE bull:q:failed 0 -1").await, "[4]");
    worker.work.lets_go.send_replace(true);
    world.until("ZCARD bull:q:completed", "6").await;
    assert_eq!(worker.stopped().await, ids(1..=7));
    assert_eq!(world.starts(7).await, ["1"; 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_gives_back_what_it_took_ahead() {
    let world = World::new().await;
    world.add(["n", "n", "n", "slow", "n", "n", "n"]).await;
    let worker = world.worker(1, HOUR);
    world.until("LRANGE bull:q:active 0 -1", "[7 6 5 4]").await;
    while worker.started().len() < 4 {
        tokio::time::sleep(Duration::from_millis(2)).await; // Redis knows before the worker
    }
    worker.stop.cancel();
    world.until("LRANGE bull:q:active 0 -1", "[4]").await;
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[7 6 5]");
    worker.work.lets_go.send_replace(true);
    assert_eq!(worker.stopped().await, ids(1..=4));
    assert_eq!(world.see("ZRANGE bull:q:completed 0 -1").await, "[1 2 3 4]");
    assert_eq!(world.starts(7).await, ["1", "1", "1", "1", "0", "0", "0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_one_priority_keep_their_order_when_they_are_given_back() {
    let world = World::new().await;
    let names = (1..=20).map(|n| if n == 8 { "bad" } else { "n" });
    let options = JobOptions { priority: 3, ..JobOptions::default() };
    let add = |name| Add { options: options.clone(), ..Add::new(name, RawValue::NULL.to_owned()) };
    world.queue.add(names.map(add).collect(), Clock::system().now_ms()).await.unwrap();
    let worker = world.worker(1, HOUR);
    world.until("ZCARD bull:q:completed", "19").await;
    assert_eq!(worker.stopped().await, ids(1..=20));
}
