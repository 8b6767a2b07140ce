//! A server with nothing to do: its memory and its share of a processor.

use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;

const MOST_BYTES: f64 = 40e6;
const MOST_SHARE: f64 = 0.01;

pub async fn measure(report: &mut Report, pace: &Pace) {
    let scene = Scene::start(StoreKind::Sqlite).await;
    // The start itself is over.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut memory, mut share) = (Figures::default(), Figures::default());
    for _ in 0..pace.rounds {
        let (before, started) = (scene.cpu_seconds(), Instant::now());
        tokio::time::sleep(pace.idle).await;
        share.push((scene.cpu_seconds() - before) / started.elapsed().as_secs_f64());
        memory.push(scene.memory());
    }
    report.section(
        "Idle",
        "The server alone, without its Redis; SQLite, all roles, the queues of the default configuration.",
    );
    report.row("memory (RSS)", memory.show(1e-6, "MB"), "under 40 MB", memory.median() < MOST_BYTES);
    report.row("processor time", share.show(100.0, "% of one core"), "under 1 %", share.median() < MOST_SHARE);
    scene.end().await;
}
