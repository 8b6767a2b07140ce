//! `ready`: a result that is there, for an asker who only polls. Beside it a bare axum handler.

use crate::bare::{self, Bare, Order};
use crate::figures::{Figures, Number};
use crate::load::{Load, post, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;

const LEAST_SHARE: f64 = 0.30;

pub async fn measure(report: &mut Report, pace: &Pace) {
    let scene = Scene::start(StoreKind::Sqlite).await;
    report.progress(&format!("ready: making {} results", pace.cold_keys));
    scene.make_results(pace.cold_keys).await;
    let wish = r#"{"data":{"name":"key-1"},"dedupe":{"key":"key-1"}}"#;
    let answer = post(scene.address, "/v1/queues/echo/jobs", wish).await;
    let bare = Bare::start(&Order { answer_bytes: answer.len(), status: "ready".into(), rows: None }).await;
    report.section(
        "`ready`",
        "Requests per second, beside those of a bare axum handler that parses the same body and answers as much. \
         One key and 1,000 keys come mostly from the process's one-second cache; of the many keys each is asked for less \
         than once a second, so that every answer is read from Redis.",
    );
    let cold_keys = format!("{} keys (Redis)", Number(pace.cold_keys as f64));
    let kinds = [("one key", 1), ("1,000 keys", 1_000), (cold_keys.as_str(), pace.cold_keys)];
    for (name, keys) in kinds {
        for connections in [10, 100] {
            let wishes = scene.wishes("echo", connections, pace.until());
            let ours = Load { status: 200, says: r#""status":"ready""#.into(), keys, ..wishes };
            let theirs = Load { address: bare.address, path: bare::PATH.into(), ..ours.clone() };
            let (mut rate, mut bare_rate, mut share) = (Figures::default(), Figures::default(), Figures::default());
            for _ in 0..pace.rounds {
                let (beside, measured) = (run(&theirs).await.rate(), run(&ours).await.rate());
                rate.push(measured);
                bare_rate.push(beside);
                share.push(measured / beside);
            }
            let what = format!("{name}, {connections} connections");
            let figure = format!(
                "{}; bare {}; ratio {}",
                rate.show(1.0, "/s"),
                bare_rate.show(1.0, "/s"),
                share.show(100.0, "%")
            );
            report.row(&what, figure, "30 % or more of bare", share.median() >= LEAST_SHARE);
        }
    }
    report.note("memory of the server after this", format!("{} MB RSS", Number(scene.memory() / 1e6)));
    scene.end().await;
}
