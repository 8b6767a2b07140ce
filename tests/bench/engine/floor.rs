//! The floor: what Redis needs for the bare commands without which the layout cannot be, sent without scripts and checks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::peers::Peer;
use super::{Jobs, QUEUE, drain, fill, redis_seconds};
use crate::figures::Figures;
use crate::report::Report;
use crate::scene::Pace;
use crate::support::redis::RedisServer;

const BATCH: usize = 50;

pub async fn measure(report: &mut Report, pace: &Pace) {
    report.section(
        "The floor",
        "Redis' processor time per job for ending 50 jobs and taking the next 50. Floor: only the commands that write \
         what BullMQ's layout needs and read the jobs, pipelined by a program that knows the ids beforehand: no script, \
         no check of a lock, nothing atomic. Ours: the worker at concurrency 50.",
    );
    let (mut floor, mut ours, mut ratio) = (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..pace.rounds {
        let redis = RedisServer::start().await;
        fill(&redis, Jobs::Standard, pace.plain_jobs).await;
        let bare = bare(&redis, pace.plain_jobs as usize).await;
        let redis = RedisServer::start().await;
        fill(&redis, Jobs::Standard, pace.plain_jobs).await;
        let worked = drain(&redis, Peer::Ours.work(&redis, 50), pace.plain_jobs).await.redis_us;
        floor.push(bare);
        ours.push(worked);
        ratio.push(worked / bare);
    }
    let measured = format!(
        "floor {}; ours {}; {} of the floor",
        floor.show(1.0, "µs"),
        ours.show(1.0, "µs"),
        ratio.show(1.0, "times")
    );
    report.note("end and take, 50 jobs at once", measured);
}

/// Microseconds of Redis per job.
async fn bare(redis: &RedisServer, jobs: usize) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).await.expect("Redis listens");
    let key = |name: &str| format!("bull:{QUEUE}:{name}");
    let (now, mut held) = ("1700000000000", Vec::<String>::new());
    let before = redis_seconds(redis).await;
    for first in (1..=jobs + 1).step_by(BATCH) {
        let mut pipeline = Pipeline::default();
        for id in &held {
            pipeline.add(&["HSET", &key(id), "returnvalue", "null", "finishedOn", now, "atm", "1"]);
            let event = ["event", "completed", "jobId", id, "returnvalue", "null", "prev", "active"];
            pipeline.add(&[&["XADD", &key("events"), "*"], event.as_slice()].concat());
        }
        if !held.is_empty() {
            let locks: Vec<String> = held.iter().map(|id| key(&format!("{id}:lock"))).collect();
            pipeline.add_with(&["DEL"], &locks);
            pipeline.add_with(&["SREM", &key("stalled")], &held);
            pipeline.add(&["DEL", &key("active")]);
            let scored: Vec<String> = held.iter().flat_map(|id| [now.to_owned(), id.clone()]).collect();
            pipeline.add_with(&["ZADD", &key("completed")], &scored);
        }
        held = (first..first + BATCH).take_while(|id| *id <= jobs).map(|id| id.to_string()).collect();
        if !held.is_empty() {
            pipeline.add(&["LTRIM", &key("wait"), "0", &format!("-{}", held.len() + 1)]);
            for id in &held {
                pipeline.add(&["HGETALL", &key(id)]);
                pipeline.add(&["SET", &key(&format!("{id}:lock")), "0123456789abcdef0123456789abcdef", "PX", "30000"]);
                pipeline.add(&["XADD", &key("events"), "*", "event", "active", "jobId", id, "prev", "waiting"]);
                pipeline.add(&["HSET", &key(id), "processedOn", now, "ats", "1", "pb", "bench"]);
            }
            pipeline.add_with(&["LPUSH", &key("active")], &held);
        }
        pipeline.run(&mut stream).await;
    }
    assert_eq!(redis.ask(&["ZCARD", &key("completed")]).await.number().unsigned_abs() as usize, jobs);
    (redis_seconds(redis).await - before) / jobs as f64 * 1e6
}

/// Commands that are sent together.
#[derive(Default)]
struct Pipeline(Vec<u8>);

impl Pipeline {
    const END: &str = "the-end-of-the-pipeline";

    fn add(&mut self, words: &[&str]) {
        self.0.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            self.0.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }

    fn add_with(&mut self, words: &[&str], more: &[String]) {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        self.add(&[words, &more].concat());
    }

    /// Until the last answer has come.
    async fn run(mut self, stream: &mut TcpStream) {
        self.add(&["ECHO", Self::END]);
        stream.write_all(&self.0).await.expect("Redis takes commands");
        let (end, mut answers) = (format!("{}\r\n", Self::END), Vec::new());
        while !answers.ends_with(end.as_bytes()) {
            assert!(stream.read_buf(&mut answers).await.expect("Redis answers") > 0, "Redis hung up");
        }
        let refused = answers.windows(3).any(|word| word == b"\n-E" || word == b"\n-W");
        assert!(!refused, "Redis refuses a command of the floor");
    }
}
