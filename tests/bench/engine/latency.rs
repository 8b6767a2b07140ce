//! How long a lone job takes, from the add to its end, at a load that leaves everybody idle most of the time.

use std::time::{Duration, Instant};

use onetake::clock::Clock;
use onetake::redis::StreamWatch;

use super::peers::{self, Peer};
use super::{QUEUE, ours};
use crate::figures::Figures;
use crate::report::Report;
use crate::scene::Pace;
use crate::support::redis::RedisServer;

/// Between two adds: 100 jobs a second.
const BETWEEN: Duration = Duration::from_millis(10);
/// Jobs that do not count.
const WARM_UP: usize = 50;

pub async fn measure(report: &mut Report, pace: &Pace) {
    report.section(
        "Latency, beside BullMQ",
        "100 jobs a second, one worker process with concurrency 50. From before the add to when a reader that blocks on \
         the event stream has `completed` in hand. The producer is ours for all three: what differs is the worker.",
    );
    let mut p50: [Figures; 3] = Default::default();
    let mut p99: [Figures; 3] = Default::default();
    let jobs = usize::try_from(pace.plain_jobs / 40).expect("a few hundred");
    for _ in 0..pace.rounds {
        for peer in peers::ALL {
            let mut took = run(peer, jobs).await;
            took.sort_unstable();
            let at = |share: f64| took[((took.len() as f64) * share) as usize].as_secs_f64();
            p50[peer as usize].push(at(0.50));
            p99[peer as usize].push(at(0.99));
        }
    }
    for (what, all) in [("p50", p50), ("p99", p99)] {
        let [node, theirs, ours] = &all;
        let is_met = ours.median() <= theirs.median();
        let show = |figures: &Figures| figures.show(1e3, "ms");
        let measured = format!("ours {}; crate {}; Node {}", show(ours), show(theirs), show(node));
        report.row(what, measured, "no worse than the crate", is_met);
    }
}

async fn run(peer: Peer, jobs: usize) -> Vec<Duration> {
    let redis = RedisServer::start().await;
    let _worker = peer.work(&redis, 50);
    let queue = ours::queue(&redis.url(), QUEUE).await;
    let mut events = StreamWatch::new(queue.redis(), queue.keys().events());
    let mut last = "0-0".to_owned();
    let mut took = Vec::with_capacity(jobs);
    let mut next = tokio::time::Instant::now();
    for number in 0..jobs + WARM_UP {
        tokio::time::sleep_until(next).await;
        let started = Instant::now();
        let added =
            queue.add(vec![ours::job(number as u64)], Clock::system().now_ms()).await.expect("Redis takes jobs");
        let id = &added[0].id;
        while !reads_completed(&mut events, &mut last, id).await {}
        if number >= WARM_UP {
            took.push(started.elapsed());
        }
        next = (next + BETWEEN).max(tokio::time::Instant::now());
    }
    took
}

/// Whether the next events tell of the job's end.
async fn reads_completed(events: &mut StreamWatch, last: &mut String, id: &str) -> bool {
    let entries = events.read(last, 100, Duration::from_secs(30)).await.expect("Redis answers");
    let end = entries.last().expect("an event comes in time");
    last.clone_from(&end.id);
    entries
        .iter()
        .any(|entry| entry.fields.starts_with(&["event".into(), "completed".into(), "jobId".into(), id.into()]))
}
