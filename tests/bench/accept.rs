//! `subscribed` and `queued`: what must be durable before it is acknowledged. Beside them the same rows by plain SQL.

use std::time::Duration;

use crate::bare::{self, Bare, Order};
use crate::direct::{Direct, Rows, fsync_seconds, server_of};
use crate::figures::{Figures, Number};
use crate::load::{Load, Until, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;

const LEAST_SHARE: f64 = 0.50;
const CONNECTIONS: usize = 100;
/// About what the server answers to a wish that it has taken in.
const ANSWER_BYTES: usize = 400;
/// Runs that are open for `subscribed`.
const OPEN_KEYS: u64 = 100;
/// Above all keys of one load, so that the next finds none of them.
const KEYS_APART: u64 = 10_000_000;
/// What accepting may take beyond one fsync.
const BEYOND_FSYNC: Duration = Duration::from_millis(2);

pub async fn measure(report: &mut Report, pace: &Pace, kind: StoreKind) {
    let scene = Scene::start_accepting(kind).await;
    report.section(
        &format!("Accepting on {}", scene.store_name()),
        &format!(
            "Requests per second at {CONNECTIONS} connections, each committed before its answer (nothing is worked off \
             meanwhile). Direct: the same rows inserted by plain SQL, {} a transaction, as many as {CONNECTIONS} connections \
             can have under way; one connection, a database of its own on the same server and disk. Bare: the same inserts \
             behind a bare axum handler under the same load, without Redis, without dedupe: what HTTP leaves of them on \
             these cores.",
            crate::direct::BATCH
        ),
    );

    let direct = Direct::open(&server_of(&scene.store), "direct").await;
    let mut contest = Contest { report, pace, scene: &scene, direct };
    run(&scene.wishes("noop", CONNECTIONS, Until::Requests(OPEN_KEYS))).await;
    let joins = scene.wishes("noop", CONNECTIONS, pace.until());
    let joins = Load { keys: OPEN_KEYS, says: r#""status":"subscribed""#.into(), ..joins };
    let mut askers = 0;
    let subscribed = || {
        askers += 1;
        Load { askers, ..joins.clone() }
    };
    contest.measure("subscribed", Rows::Subscriptions, subscribed).await;
    let mut next_key = KEYS_APART;
    let queued = || new_wishes(&scene, CONNECTIONS, pace, &mut next_key);
    contest.measure("queued", Rows::FlightsAndSubscriptions, queued).await;

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

/// A server, and what its accepting is measured beside.
struct Contest<'a> {
    report: &'a mut Report,
    pace: &'a Pace,
    scene: &'a Scene,
    direct: Direct,
}

impl Contest<'_> {
    async fn measure(&mut self, status: &str, rows: Rows, mut wishes: impl FnMut() -> Load) {
        let store = server_of(&self.scene.store);
        let order = Order { answer_bytes: ANSWER_BYTES, status: status.to_owned(), rows: Some((rows, store)) };
        let bare = Bare::start(&order).await;
        let (mut rates, mut direct_rates, mut bare_rates) = <(Figures, Figures, Figures)>::default();
        let (mut shares, mut bare_shares) = <(Figures, Figures)>::default();
        for _ in 0..self.pace.rounds {
            let direct_rate = self.direct.rate(rows, self.pace.measured).await;
            let load = wishes();
            let theirs = Load { address: bare.address, path: bare::PATH.into(), ..load.clone() };
            let bare_rate = run(&theirs).await.rate();
            let rate = run(&load).await.rate();
            rates.push(rate);
            direct_rates.push(direct_rate);
            bare_rates.push(bare_rate);
            shares.push(rate / direct_rate);
            bare_shares.push(rate / bare_rate);
        }
        let figure = format!(
            "{}; direct {}; ratio {}; bare {}; ratio {}",
            rates.show(1.0, "/s"),
            direct_rates.show(1.0, "/s"),
            shares.show(100.0, "%"),
            bare_rates.show(1.0, "/s"),
            bare_shares.show(100.0, "%"),
        );
        self.report.row(&format!("`{status}`"), figure, "half or more of direct", shares.median() >= LEAST_SHARE);
    }
}
