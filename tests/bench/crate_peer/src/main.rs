//! Works a queue off with a processor that does nothing, until it is killed. Arguments: Redis' URL, queue, concurrency.

use bullmq::options::RedisConnectionOptions;
use bullmq::{Worker, WorkerOptions};

#[tokio::main]
async fn main() -> bullmq::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, queue, concurrency] = args.as_slice() else { panic!("arguments: URL QUEUE CONCURRENCY") };
    let options = WorkerOptions {
        connection: RedisConnectionOptions::default().url(url),
        concurrency: concurrency.parse().expect("a number"),
        ..WorkerOptions::default()
    };
    let _worker = Worker::with_options(queue, |_job, _token| async { Ok(serde_json::Value::Null) }, options).await?;
    std::future::pending().await
}
