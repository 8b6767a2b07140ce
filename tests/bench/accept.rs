//! `subscribed` and `queued`: what must be durable before it is acknowledged. Beside them the same rows by plain SQL.

use std::time::Duration;

use crate::direct::{Direct, Rows, fsync_seconds};
use crate::figures::{Figures, Number};
use crate::load::{Load, Until, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;

const LEAST_SHARE: f64 = 0.50;
const CONNECTIONS: usize = 100;
/// Runs that are open for `subscribed`.
const OPEN_KEYS: u64 = 100;
/// Above all keys of one load, so that the next finds none of them.
const KEYS_APART: u64 = 10_000_000;
/// What accepting may take beyond one fsync.
const BEYOND_FSYNC: Duration = Duration::from_millis(2);

pub async fn measure(report: &mut Report, pace: &Pace, kind: StoreKind) {
    let scene = Scene::start_accepting(kind).await;
    let mut direct = Direct::open(&scene.store).await;
    report.section(
        &format!("Accepting on {}", scene.store_name()),
        &format!(
            "Requests per second at {CONNECTIONS} connections, each committed before its answer (nothing is worked off \
             meanwhile), beside the same rows inserted directly: {} a transaction, one connection, a database of its own \
             on the same server and disk.",
            crate::direct::BATCH
        ),
    );

    run(&scene.wishes("noop", CONNECTIONS, Until::Requests(OPEN_KEYS))).await;
    let joins = scene.wishes("noop", CONNECTIONS, pace.until());
    let joins = Load { keys: OPEN_KEYS, says: r#""status":"subscribed""#.into(), ..joins };
    let mut next_key = KEYS_APART;
    let (mut rates, mut beside, mut shares) = <(Figures, Figures, Figures)>::default();
    for askers in 1..=pace.rounds as u64 {
        let direct_rate = direct.rate(Rows::Subscriptions, pace.measured).await;
        let rate = run(&Load { askers, ..joins.clone() }).await.rate();
        rates.push(rate);
        beside.push(direct_rate);
        shares.push(rate / direct_rate);
    }
    report.row(
        "`subscribed`",
        compared(&rates, &beside, &shares),
        "half or more of direct",
        shares.median() >= LEAST_SHARE,
    );

    let (mut rates, mut beside, mut shares) = <(Figures, Figures, Figures)>::default();
    for _ in 0..pace.rounds {
        let direct_rate = direct.rate(Rows::FlightsAndSubscriptions, pace.measured).await;
        let rate = run(&new_wishes(&scene, CONNECTIONS, pace, &mut next_key)).await.rate();
        rates.push(rate);
        beside.push(direct_rate);
        shares.push(rate / direct_rate);
    }
    report.row(
        "`queued`",
        compared(&rates, &beside, &shares),
        "half or more of direct",
        shares.median() >= LEAST_SHARE,
    );

    let (mut p50, mut p99, mut fsync) = <(Figures, Figures, Figures)>::default();
    for _ in 0..pace.rounds {
        fsync.push(fsync_seconds());
        let measured = run(&new_wishes(&scene, 1, pace, &mut next_key)).await;
        p50.push(measured.p50_us / 1e6);
        p99.push(measured.p99_us / 1e6);
    }
    let figure =
        format!("p50 {}; p99 {}; one fsync {}", p50.show(1e3, "ms"), p99.show(1e3, "ms"), fsync.show(1e3, "ms"));
    let most = fsync.median() + BEYOND_FSYNC.as_secs_f64();
    let target = format!("p50 at most one fsync + {} ms", Number(BEYOND_FSYNC.as_secs_f64() * 1e3));
    report.row("`queued`, one connection", figure, &target, p50.median() <= most);
    scene.end().await;
}

fn new_wishes(scene: &Scene, connections: usize, pace: &Pace, next_key: &mut u64) -> Load {
    let wishes = scene.wishes("noop", connections, pace.until());
    let load = Load { first_key: *next_key, says: r#""status":"queued""#.into(), ..wishes };
    *next_key += KEYS_APART;
    load
}

fn compared(rates: &Figures, beside: &Figures, shares: &Figures) -> String {
    format!("{}; direct {}; ratio {}", rates.show(1.0, "/s"), beside.show(1.0, "/s"), shares.show(100.0, "%"))
}
