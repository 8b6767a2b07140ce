//! The engine beside its peers: one worker process works a queue off, on the same kind of Redis, with the same jobs.
//!
//! Each process is started anew on a Redis of its own that holds the jobs already. The clock runs from the first 1,000
//! finished jobs to the last one, so that nobody's start counts.

use std::time::{Duration, Instant};

use onetake::clock::Clock;
use onetake::config;
use onetake::id::QueueName;
use onetake::queue::{Add, Queue};
use onetake::redis::Redis;
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::figures::{Figures, Number};
use crate::report::Report;
use crate::scene::Pace;
use crate::support::process::{Launch, Process};
use crate::support::redis::RedisServer;

const QUEUE: &str = "engine";
/// Jobs before the clock starts.
const HEAD_START: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
enum Peer {
    Ours,
    Node,
    Crate,
}

/// What one process did.
struct Drained {
    rate: f64,
    redis_us: f64,
    memory: f64,
}

pub async fn measure(report: &mut Report, pace: &Pace) {
    report.progress("building the peer of the official crate");
    build_crate_peer();
    report.section(
        "Working off, beside BullMQ",
        "Plain jobs that do nothing, 200 bytes of JSON each, all events and all finished jobs kept; one worker process. \
         Node: npm bullmq 6.7.0. Crate: bullmq-official 1.4.4. Ours is the whole server, with SQLite and HTTP beside the \
         runner. Redis keeps nothing on disk here; \
         what is told of it is its processor time per job.",
    );
    for (concurrency, over_node, over_crate) in [(50, Some(2.4), Some(1.7)), (1, None, Some(1.3))] {
        let mut all: [(Figures, Figures, Figures); 3] = Default::default();
        let (mut beside_node, mut beside_crate) = (Figures::default(), Figures::default());
        for _ in 0..pace.rounds {
            let mut rates = [0.0; 3];
            for (place, peer) in [Peer::Node, Peer::Crate, Peer::Ours].into_iter().enumerate() {
                let drained = drain(peer, concurrency, pace.plain_jobs).await;
                rates[place] = drained.rate;
                all[place].0.push(drained.rate);
                all[place].1.push(drained.redis_us);
                all[place].2.push(drained.memory);
            }
            beside_node.push(rates[2] / rates[0]);
            beside_crate.push(rates[2] / rates[1]);
        }
        let [node, theirs, ours] = &all;
        let show = |name: &str, of: &(Figures, Figures, Figures)| {
            let (rate, redis) = (of.0.show(1.0, "/s"), of.1.show(1.0, "µs"));
            format!("{name} {rate}, Redis {redis} a job, {} MB", Number(of.2.median() / 1e6))
        };
        let figure = format!(
            "{}; {}; {}; {} of Node, {} of the crate",
            show("ours", ours),
            show("Node", node),
            show("crate", theirs),
            beside_node.show(1.0, "times"),
            beside_crate.show(1.0, "times"),
        );
        let is_met = over_node.is_none_or(|least| beside_node.median() >= least)
            && over_crate.is_none_or(|least| beside_crate.median() >= least);
        let target = match (over_node, over_crate) {
            (Some(node), Some(theirs)) => format!("{node} times Node and {theirs} times the crate"),
            (_, theirs) => format!("{} times the crate", theirs.unwrap_or(1.0)),
        };
        report.row(&format!("concurrency {concurrency}"), figure, &target, is_met);
    }
}

async fn drain(peer: Peer, concurrency: u32, jobs: u64) -> Drained {
    let redis = RedisServer::start().await;
    fill(&redis, jobs).await;
    let folder = TempDir::with_prefix("onetake-engine-").expect("the temporary folder can be written");
    let mut worker = start(peer, &redis, concurrency, &folder);
    let done = async || redis.ask(&["ZCARD", &format!("bull:{QUEUE}:completed")]).await.number().unsigned_abs();
    let gives_up = Instant::now() + PATIENCE;
    let until = async |least: u64| loop {
        let count = done().await;
        if count >= least {
            return (Instant::now(), count);
        }
        assert!(Instant::now() < gives_up, "the queue is not worked off: {count} of {jobs}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let (started, before) = until(HEAD_START.min(jobs / 10)).await;
    let cpu_before = redis_seconds(&redis).await;
    let (ended, after) = until(jobs).await;
    let cpu = redis_seconds(&redis).await - cpu_before;
    let count = (after - before) as f64;
    let memory = resident(&worker);
    worker.kill();
    Drained { rate: count / (ended - started).as_secs_f64(), redis_us: cpu / count * 1e6, memory }
}

async fn fill(redis: &RedisServer, jobs: u64) {
    let settings = config::Redis {
        url: redis.url().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: config::Span(Duration::from_secs(10)),
        eviction: config::Eviction::Refuse,
        tls: config::Tls::default(),
    };
    let client = Redis::connect(&settings).await.expect("Redis is up");
    let queue = Queue::new(client, "bull", QueueName::parse(QUEUE).expect("it is a name"));
    for first in (0..jobs).step_by(1_000) {
        let add = |number| Add::new("noop", data(number));
        let adds = (first..(first + 1_000).min(jobs)).map(add).collect();
        queue.add(adds, Clock::system().now_ms()).await.expect("Redis takes jobs");
    }
}

/// 200 bytes of JSON.
fn data(number: u64) -> Box<RawValue> {
    let head = format!(r#"{{"number":{number},"name":"Anna","padding":""#);
    let padding = "x".repeat(198_usize.saturating_sub(head.len()));
    RawValue::from_string(format!(r#"{head}{padding}"}}"#)).expect("it is JSON")
}

fn start(peer: Peer, redis: &RedisServer, concurrency: u32, folder: &TempDir) -> Process {
    let root = env!("CARGO_MANIFEST_DIR");
    match peer {
        Peer::Ours => {
            let config = format!(
                "[queues.{QUEUE}]\nprocessor = {{ kind = \"builtin\", name = \"noop\" }}\nconcurrency = {concurrency}\n\
                 keep_completed = 1000000\n"
            );
            std::fs::write(folder.path().join("onetake.toml"), config).expect("our folder can be written");
            Launch::new("onetake", env!("CARGO_BIN_EXE_onetake"))
                .args(["serve", "--bind", "127.0.0.1:0"])
                .without("ONETAKE_")
                .env("REDIS_URL", redis.url())
                .env("DATABASE_URL", format!("sqlite://{}", folder.path().join("onetake.db").display()))
                .env("ONETAKE_FILES_DIR", folder.path().join("files").display().to_string())
                .folder(folder.path())
                .spawn()
        }
        Peer::Node => Launch::new("node", "node")
            .args([format!("{root}/tests/node/drain.mjs")])
            .env("VERSION", "6")
            .env("REDIS_URL", redis.url())
            .env("QUEUE", QUEUE)
            .env("CONCURRENCY", concurrency.to_string())
            .spawn(),
        Peer::Crate => Launch::new("crate", format!("{}/release/crate-peer", crate_target()))
            .args([redis.url(), QUEUE.to_owned(), concurrency.to_string()])
            .spawn(),
    }
}

fn crate_target() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/crate-peer").to_owned()
}

fn build_crate_peer() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/crate_peer/Cargo.toml");
    let built = std::process::Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path", manifest])
        .args(["--target-dir", &crate_target()])
        .status();
    assert!(built.expect("cargo is installed").success(), "the peer of the official crate does not build");
}

/// The processor time that Redis has used.
async fn redis_seconds(redis: &RedisServer) -> f64 {
    let info = redis.ask(&["INFO", "cpu"]).await;
    let info = info.text().expect("INFO is a text").to_owned();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("INFO counts processor time");
        line.trim().parse::<f64>().expect("it is a number")
    };
    field("used_cpu_sys:") + field("used_cpu_user:")
}

/// Bytes in memory.
fn resident(process: &Process) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("the worker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
    kib * 1024.0
}
