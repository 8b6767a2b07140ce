//! The overhead of a job: a queue with jobs for a processor that does nothing is worked off.

use std::time::{Duration, Instant};

use crate::figures::{Figures, Number};
use crate::load::{Body, Load, Until, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(300);

/// Plain jobs: Redis alone.
pub async fn plain(report: &mut Report, pace: &Pace) {
    let scene = Scene::start(StoreKind::Sqlite).await;
    report.section(
        "Working off",
        "Jobs that wait when the clock starts, for a builtin processor that does nothing; 50 at once. The overhead is \
         the time for all of them by their number.",
    );
    let (mut rate, mut overhead) = (Figures::default(), Figures::default());
    for _ in 0..pace.rounds {
        scene.pause("plain").await;
        let adds = scene.wishes("plain", 100, Until::Requests(pace.plain_jobs));
        run(&Load { body: Body::Plain, status: 201, ..adds }).await;
        let started = Instant::now();
        scene.resume("plain").await;
        wait::until_true("the queue worked off", PATIENCE, async || {
            let (wait, active) = (["LLEN", "bull:plain:wait"], ["LLEN", "bull:plain:active"]);
            // Active last: a job that is taken in between is seen there.
            scene.redis.ask(&wait).await.number() == 0 && scene.redis.ask(&active).await.number() == 0
        })
        .await;
        let seconds = started.elapsed().as_secs_f64();
        rate.push(pace.plain_jobs as f64 / seconds);
        overhead.push(seconds / pace.plain_jobs as f64);
    }
    let what = format!("{} plain jobs", Number(pace.plain_jobs as f64));
    report.note(&what, format!("{}; {} a job", rate.show(1.0, "/s"), overhead.show(1e6, "µs")));
    scene.end().await;
}

/// Durable runs: claimed, finished and told in SQL, each with one asker who polls.
pub async fn durable(report: &mut Report, pace: &Pace, kind: StoreKind) {
    let scene = Scene::start(kind).await;
    let (mut rate, mut overhead) = (Figures::default(), Figures::default());
    for round in 0..pace.rounds as u64 {
        scene.pause("noop-work").await;
        let wishes = scene.wishes("noop", 100, Until::Requests(pace.durable_runs));
        run(&Load { first_key: round * pace.durable_runs, ..wishes }).await;
        let started = Instant::now();
        scene.resume("noop-work").await;
        scene.until_settled(PATIENCE).await;
        let seconds = started.elapsed().as_secs_f64();
        rate.push(pace.durable_runs as f64 / seconds);
        overhead.push(seconds / pace.durable_runs as f64);
    }
    let what = format!("{} durable runs on {}", Number(pace.durable_runs as f64), scene.store_name());
    report.note(&what, format!("{}; {} a run", rate.show(1.0, "/s"), overhead.show(1e6, "µs")));
    scene.end().await;
}
