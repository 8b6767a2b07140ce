//! The three that are compared: each is a process of its own, started anew for each measurement.

use crate::engine::ours::{Order, Task};
use crate::engine::{PATIENCE, QUEUE};
use crate::support::process::{Launch, Process};
use crate::support::redis::RedisServer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Node,
    Crate,
    Ours,
}

/// In the order in which they are measured.
pub const ALL: [Peer; 3] = [Peer::Node, Peer::Crate, Peer::Ours];

/// How jobs are added.
#[derive(Clone, Copy)]
pub enum Adding {
    OneByOne { at_once: u64 },
    Bulk,
}

impl Peer {
    /// A worker with a processor that does nothing.
    pub fn work(self, redis: &RedisServer, concurrency: usize) -> Process {
        self.start(redis, Task::Work { concurrency })
    }

    /// Adds jobs, and tells the seconds from the first add to the last answer.
    pub async fn add(self, redis: &RedisServer, jobs: u64, adding: Adding) -> f64 {
        let task = match adding {
            Adding::OneByOne { at_once } => Task::Add { jobs, at_once },
            Adding::Bulk => Task::Bulk { jobs },
        };
        let producer = self.start(redis, task);
        let seconds = producer.find_in_log(|line| line.trim().parse().ok()).await;
        // What Redis keeps for its connections is not the jobs'.
        producer.wait_exit(PATIENCE).await;
        seconds.unwrap_or_else(|| panic!("{self:?} does not add: {:?}", producer.log()))
    }

    fn start(self, redis: &RedisServer, task: Task) -> Process {
        let (word, jobs, at_once) = match task {
            Task::Work { concurrency } => ("work", 0, concurrency as u64),
            Task::Add { jobs, at_once } => ("add", jobs, at_once),
            Task::Bulk { jobs } => ("bulk", jobs, 1),
        };
        let launch = match self {
            Self::Ours => {
                let order = Order { url: redis.url(), queue: QUEUE.to_owned(), task };
                let order = serde_json::to_string(&order).expect("an order is JSON");
                let program = std::env::current_exe().expect("this program has a path");
                Launch::new("ours", program.display().to_string()).args(["peer".to_owned(), order])
            }
            Self::Node => Launch::new("node", "node")
                .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/engine.mjs")])
                .env("VERSION", "6")
                .env("REDIS_URL", redis.url())
                .env("QUEUE", QUEUE)
                .env("TASK", word)
                .env("JOBS", jobs.to_string())
                .env("CONCURRENCY", at_once.to_string()),
            Self::Crate => Launch::new("crate", format!("{CRATE_TARGET}/release/crate-peer")).args([
                redis.url(),
                QUEUE.to_owned(),
                word.to_owned(),
                jobs.to_string(),
                at_once.to_string(),
            ]),
        };
        launch.spawn()
    }
}

const CRATE_TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/crate-peer");

pub fn build_crate_peer() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/crate_peer/Cargo.toml");
    let built = std::process::Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path", manifest])
        .args(["--target-dir", CRATE_TARGET])
        .status();
    assert!(built.expect("cargo is installed").success(), "the peer of the official crate does not build");
}
