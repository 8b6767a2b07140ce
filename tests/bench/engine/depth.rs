//! Whether a long queue slows its workers down.

use super::peers::Peer;
use super::{Jobs, drain, fill};
use crate::figures::{Figures, Number};
use crate::report::Report;
use crate::scene::Pace;
use crate::support::redis::RedisServer;

pub async fn measure(report: &mut Report, pace: &Pace) {
    let deep = pace.plain_jobs * 50;
    report.section(
        "A long queue",
        "How fast jobs are worked off at the head of a queue in which so many more wait, against one in which at most as \
         many wait as are worked off in the time measured. Ours alone, concurrency 50.",
    );
    for (what, kind) in [("waiting", Jobs::Standard), ("prioritized", Jobs::Prioritized)] {
        let (mut short_rate, mut deep_rate, mut ratio) = (Figures::default(), Figures::default(), Figures::default());
        for _ in 0..pace.rounds {
            let mut rates = [0.0; 2];
            for (place, jobs) in [pace.plain_jobs + 1_000, deep].into_iter().enumerate() {
                let redis = RedisServer::start().await;
                fill(&redis, kind, jobs).await;
                rates[place] = drain(&redis, Peer::Ours.work(&redis, 50), pace.plain_jobs).await.rate;
            }
            short_rate.push(rates[0]);
            deep_rate.push(rates[1]);
            ratio.push(rates[1] / rates[0]);
        }
        let measured = format!(
            "{}; short {}; ratio {}",
            deep_rate.show(1.0, "/s"),
            short_rate.show(1.0, "/s"),
            ratio.show(100.0, "%")
        );
        let what = format!("{} {what}", Number(deep as f64));
        report.row(&what, measured, "90 % or more of a short queue", ratio.median() >= 0.9);
    }
}
