//! Our side of the comparison: a worker or a producer of the library alone, without server and SQL, as a process of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onetake::clock::Clock;
use onetake::config;
use onetake::id::QueueName;
use onetake::processor::builtin;
use onetake::queue::{Add, Producer, Queue};
use onetake::redis::Redis;
use onetake::runner::{Consumer, Limits, PlainJobs};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// Jobs in one call of a bulk add.
pub const BULK: u64 = 1_000;

/// What a process is to do, with the queue `queue` of the Redis at `url`.
#[derive(Serialize, Deserialize)]
pub struct Order {
    pub url: String,
    pub queue: String,
    pub task: Task,
}

#[derive(Serialize, Deserialize)]
pub enum Task {
    /// Works the queue off until it is killed.
    Work { concurrency: usize },
    /// Adds so many jobs one by one, this many of them under way at once; tells the seconds.
    Add { jobs: u64, at_once: u64 },
    /// Adds so many jobs in calls of [`BULK`], one after the other; tells the seconds.
    Bulk { jobs: u64 },
}

pub fn child(order: &str) {
    let order: Order = serde_json::from_str(order).expect("an order is JSON");
    // One thread: there is nothing to be done beside the queue, and each hand-over between threads costs a wake-up.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let queue = queue(&order.url, &order.queue).await;
        let started = Instant::now();
        match order.task {
            // As a task: what the runtime itself waits for is polled around its other tasks, and parks it each time.
            Task::Work { concurrency } => {
                tokio::spawn(work(queue, concurrency)).await.expect("it works until it is killed")
            }
            Task::Add { jobs, at_once } => add(&queue, jobs, at_once).await,
            Task::Bulk { jobs } => bulk(&queue, jobs).await,
        }
        println!("{}", started.elapsed().as_secs_f64());
    });
}

pub async fn queue(url: &str, name: &str) -> Queue {
    let settings = config::Redis {
        url: url.to_owned().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: config::Span(Duration::from_secs(30)),
        eviction: config::Eviction::Refuse,
        tls: config::Tls::default(),
    };
    let client = Redis::connect(&settings).await.expect("Redis is up");
    Queue::new(client, "bull", QueueName::parse(name).expect("it is a name"))
}

async fn work(queue: Queue, concurrency: usize) {
    let clock = Clock::system();
    let handler = PlainJobs {
        queue: queue.clone(),
        processor: builtin::standard().remove("noop").expect("there is one"),
        settings: Arc::new(config::Queue::default()),
        clock: clock.clone(),
        scratch: std::env::temp_dir(),
        flows: Arc::new(|_: &str| Ok(Vec::new())),
    };
    // As the server's own.
    let limits = Limits {
        concurrency,
        batch: 50,
        lease: Duration::from_secs(30),
        renew: Duration::from_secs(10),
        stalled_interval: Duration::from_secs(30),
        max_stalled: 1,
        drain_delay: Duration::from_secs(5),
        ahead: Duration::from_millis(1),
        shutdown_grace: Duration::from_secs(10),
    };
    let consumer = Consumer::new(queue, Arc::new(handler), limits, clock, "bench".into());
    consumer.run(CancellationToken::new()).await;
}

async fn add(queue: &Queue, jobs: u64, at_once: u64) {
    let (producer, clock) = (Producer::start(), Clock::system());
    let adders = (0..at_once).map(|adder| {
        let (producer, queue, clock) = (producer.clone(), queue.clone(), clock.clone());
        tokio::spawn(async move {
            for number in (adder..jobs).step_by(at_once as usize) {
                producer.add(&queue, job(number), clock.now_ms()).await.expect("Redis takes jobs");
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.expect("an adder works to its end");
    }
}

async fn bulk(queue: &Queue, jobs: u64) {
    let clock = Clock::system();
    for first in (0..jobs).step_by(BULK as usize) {
        let adds = (first..(first + BULK).min(jobs)).map(job).collect();
        queue.add(adds, clock.now_ms()).await.expect("Redis takes jobs");
    }
}

/// 200 bytes of JSON.
pub fn job(number: u64) -> Add {
    let head = format!(r#"{{"number":{number},"name":"Anna","padding":""#);
    let padding = "x".repeat(198_usize.saturating_sub(head.len()));
    Add::new("noop", RawValue::from_string(format!(r#"{head}{padding}"}}"#)).expect("it is JSON"))
}
