//! The engine beside its peers: workers and producers on the same kind of Redis, with the same jobs.
//!
//! Each process is started anew on a Redis of its own. The clock of a worker runs from the first 1,000 finished jobs to the
//! last one, so that nobody's start counts; that of a producer from its first add, once it is connected.

mod compare;
mod depth;
mod floor;
mod latency;
pub mod ours;
mod peers;

use std::time::{Duration, Instant};

use onetake::clock::Clock;
use onetake::queue::Add;
use tempfile::TempDir;

use crate::figures::Number;
use crate::load::{Body, Load, Until, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::process::{Launch, Process};
use crate::support::redis::RedisServer;
use crate::support::store::StoreKind;

use compare::{Comparison, Side};
use peers::{Adding, Peer};

const QUEUE: &str = "engine";
/// Jobs before the clock starts.
const HEAD_START: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(300);
const AT_ONCE: u64 = 50;

/// What waits in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jobs {
    Standard,
    /// Due already.
    Delayed,
    /// Of ten priorities.
    Prioritized,
}

/// The scenes that this one consists of, and their names.
pub const SCENES: [&str; 5] = ["work", "add", "latency", "depth", "floor"];

pub async fn measure(report: &mut Report, pace: &Pace, scene: &str) {
    report.progress("building the peer of the official crate");
    peers::build_crate_peer();
    match scene {
        "work" => work(report, pace).await,
        "add" => add(report, pace).await,
        "latency" => latency::measure(report, pace).await,
        "depth" => depth::measure(report, pace).await,
        _ => floor::measure(report, pace).await,
    }
}

async fn work(report: &mut Report, pace: &Pace) {
    report.section(
        "Working off, beside BullMQ",
        "Jobs that do nothing, 200 bytes of JSON each, all events and all finished jobs kept; one worker process. Node: \
         npm bullmq 6.7.0. Crate: bullmq-official 1.4.4. Ours: the library's queue and runner, without server and SQL. \
         Redis keeps nothing on disk here; what is told of it is its processor time per job.",
    );
    let many = pace.plain_jobs * 5;
    let rows = [
        ("concurrency 50", Jobs::Standard, pace.plain_jobs, 50, Some(2.4), Some(1.7)),
        ("concurrency 1", Jobs::Standard, pace.plain_jobs, 1, None, Some(1.3)),
        ("delayed jobs that are due, concurrency 50", Jobs::Delayed, many, 50, Some(2.2), Some(1.6)),
        ("prioritized jobs, concurrency 50", Jobs::Prioritized, many, 50, Some(2.2), Some(1.6)),
    ];
    for (what, kind, jobs, concurrency, node, crate_) in rows {
        let mut comparison = Comparison::default();
        for _ in 0..pace.rounds {
            for peer in peers::ALL {
                let redis = RedisServer::start().await;
                fill(&redis, kind, jobs).await;
                comparison.push(peer, drain(&redis, peer.work(&redis, concurrency), jobs).await);
            }
        }
        let what = format!("{} jobs, {what}", Number(jobs as f64));
        comparison.row(report, &what, node, crate_);
        if concurrency == 50 && kind == Jobs::Standard {
            comparison.memory_row(report, "memory of the worker, concurrency 50", 15.0);
        }
    }
    let mut comparison = Comparison::default();
    for _ in 0..pace.rounds {
        for peer in peers::ALL {
            let redis = RedisServer::start().await;
            let worker = peer.work(&redis, 50);
            let adding = Adding::OneByOne { at_once: AT_ONCE };
            let (side, _) =
                tokio::join!(drain(&redis, worker, pace.plain_jobs), peer.add(&redis, pace.plain_jobs, adding));
            comparison.push(peer, side);
        }
    }
    comparison.row(report, "a producer (50 adds at once) and a worker (concurrency 50) together", Some(2.2), Some(1.6));
    let mut whole = Comparison::default();
    for _ in 0..pace.rounds {
        let redis = RedisServer::start().await;
        fill(&redis, Jobs::Standard, pace.plain_jobs).await;
        let folder = TempDir::with_prefix("onetake-engine-").expect("the temporary folder can be written");
        whole.push(Peer::Ours, drain(&redis, server(&redis, &folder), pace.plain_jobs).await);
    }
    whole.note(report, "for comparison: a whole server (SQLite, HTTP) at concurrency 50");
}

async fn add(report: &mut Report, pace: &Pace) {
    report.section(
        "Adding, beside BullMQ",
        "Jobs of 200 bytes of JSON, one producer process and no worker. One by one: 50 adds are under way at once, each \
         awaited by itself. Bulk: calls of 1,000, one after the other. HTTP: `POST /v1/queues/{queue}/jobs` at a whole \
         server, whose Redis keeps an append-only file; Node's adds beside it go to a Redis without one. 50 jobs go ahead \
         of those that are measured.",
    );
    let rows = [
        ("one by one, 50 at once", Adding::OneByOne { at_once: AT_ONCE }, 2.5, 1.6),
        ("in bulk", Adding::Bulk, 5.0, 3.0),
    ];
    for (what, adding, node, crate_) in rows {
        let mut comparison = Comparison::default();
        for _ in 0..pace.rounds {
            for peer in peers::ALL {
                let redis = RedisServer::start().await;
                // What Redis keeps once, of scripts and for its statistics of commands, is not the jobs'.
                peer.add(&redis, AT_ONCE, adding).await;
                let bytes = used_memory(&redis).await;
                let cpu = redis_seconds(&redis).await;
                let seconds = peer.add(&redis, pace.plain_jobs, adding).await;
                let count = pace.plain_jobs as f64;
                let (cpu, bytes) = (redis_seconds(&redis).await - cpu, used_memory(&redis).await - bytes);
                let side = Side { rate: count / seconds, redis_us: cpu / count * 1e6, memory: bytes / count };
                comparison.push(peer, side);
            }
        }
        comparison.row(report, what, Some(node), Some(crate_));
        if matches!(adding, Adding::OneByOne { .. }) {
            comparison.bytes_row(report, "Redis' memory per waiting job, its events included");
        }
    }
    let mut whole = Comparison::default();
    for _ in 0..pace.rounds {
        for peer in peers::ALL {
            let redis = RedisServer::start().await;
            let count = pace.plain_jobs;
            let cpu = redis_seconds(&redis).await;
            peer.add(&redis, count, Adding::OneByOne { at_once: AT_ONCE }).await;
            drain(&redis, peer.work(&redis, 50), count).await;
            let cpu = redis_seconds(&redis).await - cpu;
            whole.push(peer, Side { redis_us: cpu / count as f64 * 1e6, ..Side::default() });
        }
    }
    whole.redis_row(report, "Redis' processor time, from the add to the end of a job", 0.5);
    http(report, pace).await;
}

/// Adds over HTTP, beside Node's own.
async fn http(report: &mut Report, pace: &Pace) {
    let scene = Scene::start(StoreKind::Sqlite).await;
    scene.pause("plain").await;
    let mut comparison = Comparison::default();
    for _ in 0..pace.rounds {
        let redis = RedisServer::start().await;
        let seconds = Peer::Node.add(&redis, pace.plain_jobs, Adding::OneByOne { at_once: AT_ONCE }).await;
        let rate = pace.plain_jobs as f64 / seconds;
        comparison.push(Peer::Node, Side { rate, ..Side::default() });
        let adds = scene.wishes("plain", AT_ONCE as usize, Until::Requests(pace.plain_jobs));
        let measured = run(&Load { body: Body::Plain, status: 201, ..adds }).await;
        comparison.push(Peer::Ours, Side { rate: measured.rate(), ..Side::default() });
    }
    comparison.row(report, "over HTTP, 50 connections", Some(0.5), None);
    scene.end().await;
}

/// Until `jobs` of the queue of `redis` are worked off by `worker`, which is killed then.
async fn drain(redis: &RedisServer, mut worker: Process, jobs: u64) -> Side {
    let done = async || redis.ask(&["ZCARD", &format!("bull:{QUEUE}:completed")]).await.number().unsigned_abs();
    let gives_up = Instant::now() + PATIENCE;
    let until = async |least: u64| loop {
        let count = done().await;
        if count >= least {
            return (Instant::now(), count);
        }
        assert!(Instant::now() < gives_up, "the queue is not worked off: {count} of {jobs}: {:?}", worker.log());
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let (started, before) = until(HEAD_START.min(jobs / 10)).await;
    let cpu_before = redis_seconds(redis).await;
    let (ended, after) = until(jobs).await;
    let cpu = redis_seconds(redis).await - cpu_before;
    let count = (after - before) as f64;
    let memory = resident(&worker);
    worker.kill();
    Side { rate: count / (ended - started).as_secs_f64(), redis_us: cpu / count * 1e6, memory }
}

async fn fill(redis: &RedisServer, kind: Jobs, jobs: u64) {
    let queue = ours::queue(&redis.url(), QUEUE).await;
    let now = Clock::system().now_ms();
    let job = |number: u64| {
        let mut job: Add = ours::job(number);
        match kind {
            Jobs::Standard => {}
            Jobs::Delayed => job.options.delay_ms = 1,
            Jobs::Prioritized => job.options.priority = 1 + (number % 10) as u32,
        }
        job
    };
    for first in (0..jobs).step_by(10_000) {
        // A minute ago: what was delayed is due, and spread over so many milliseconds as producers take.
        let then = now - 60_000 + i64::try_from(first / 10).expect("a few minutes");
        queue.add((first..(first + 10_000).min(jobs)).map(job).collect(), then).await.expect("Redis takes jobs");
    }
}

fn server(redis: &RedisServer, folder: &TempDir) -> Process {
    let config = format!(
        "[queues.{QUEUE}]\nprocessor = {{ kind = \"builtin\", name = \"noop\" }}\nconcurrency = 50\nkeep_completed = 1000000\n"
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

/// The processor time that Redis has used.
async fn redis_seconds(redis: &RedisServer) -> f64 {
    info(redis, "cpu", "used_cpu_sys:").await + info(redis, "cpu", "used_cpu_user:").await
}

async fn used_memory(redis: &RedisServer) -> f64 {
    info(redis, "memory", "used_memory:").await
}

async fn info(redis: &RedisServer, section: &str, name: &str) -> f64 {
    let info = redis.ask(&["INFO", section]).await;
    let info = info.text().expect("INFO is a text").to_owned();
    let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("INFO counts it");
    line.trim().parse().expect("it is a number")
}

/// Bytes in memory.
fn resident(process: &Process) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("the worker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
    kib * 1024.0
}
