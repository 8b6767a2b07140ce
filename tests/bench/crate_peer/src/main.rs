//! Works a queue off with a processor that does nothing, until it is killed; or adds jobs to it and tells the seconds.
//! Arguments: Redis' URL, queue, task (work, add, bulk), jobs, and how many at once.

use std::sync::Arc;
use std::time::Instant;

use bullmq::options::RedisConnectionOptions;
use bullmq::{BulkJob, Queue, QueueOptions, Worker, WorkerOptions};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> bullmq::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, task, jobs, at_once] = args.as_slice() else { panic!("arguments: URL QUEUE TASK JOBS AT_ONCE") };
    let (jobs, at_once): (usize, usize) = (jobs.parse().expect("a number"), at_once.parse().expect("a number"));
    let connection = RedisConnectionOptions::default().url(url);
    if task == "work" {
        let options = WorkerOptions { connection, concurrency: at_once, ..WorkerOptions::default() };
        let _worker = Worker::with_options(name, |_job, _token| async { Ok(Value::Null) }, options).await?;
        return std::future::pending().await;
    }
    let options = QueueOptions { connection, ..QueueOptions::default() };
    let queue = Arc::new(Queue::with_options(name, options).await?);
    let started = Instant::now();
    if task == "add" {
        let adders = (0..at_once).map(|adder| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for number in (adder..jobs).step_by(at_once) {
                    queue.add("noop", data(number)).await.expect("Redis takes jobs");
                }
            })
        });
        for adder in adders.collect::<Vec<_>>() {
            adder.await.expect("an adder works to its end");
        }
    } else {
        for first in (0..jobs).step_by(1_000) {
            let bulk = (first..(first + 1_000).min(jobs)).map(|number| BulkJob::new("noop", data(number)));
            queue.add_bulk(bulk.collect()).await?;
        }
    }
    println!("{}", started.elapsed().as_secs_f64());
    Ok(())
}

/// 200 bytes of JSON.
fn data(number: usize) -> Value {
    let bare = json!({"number": number, "name": "Anna", "padding": ""}).to_string();
    json!({"number": number, "name": "Anna", "padding": "x".repeat(200_usize.saturating_sub(bare.len()))})
}
