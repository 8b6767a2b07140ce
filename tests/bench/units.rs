//! Units of work and the cache of lists, as the server's own metrics count them: time, commits, retries, lock waits, hits.

use crate::figures::{Figures, Number};
use crate::load::{Body, Load, Until, get, post, run};
use crate::report::Report;
use crate::scene::{Pace, Scene};
use crate::support::store::StoreKind;

const CONNECTIONS: usize = 32;
const USERS: u64 = 100;
/// Orders of each user: about one page.
const ORDERS: u64 = 50;

pub async fn measure(report: &mut Report, pace: &Pace, kind: StoreKind) {
    let scene = Scene::start(kind).await;
    report.section(
        &format!("Units of work on {}", scene.store_name()),
        &format!(
            "Requests per second at {CONNECTIONS} connections; each write is a transaction of its own. The times, commits, \
             retries and lock waits (over 10 ms) are the server's own metrics, those that `onetake config alerts` watches."
        ),
    );
    let accept = |askers| Load {
        body: Body::Accept,
        path: "/v1/pickup/accept".into(),
        keys: USERS,
        askers,
        status: 200,
        ..scene.wishes("none", CONNECTIONS, pace.until())
    };
    writes(report, pace, &scene, "accepting orders, a row each", "pickup.accept", accept).await;

    let list = r#"{"slots":[{"id":"hot","starts_at":"2099-01-01T00:00:00Z"}]}"#;
    post(scene.address, "/v1/slots/sync", list).await;
    post(scene.address, "/v1/slots/book", r#"{"slot":"hot","user":"winner"}"#).await;
    let book = |askers| Load {
        body: Body::Book,
        path: "/v1/slots/book".into(),
        askers,
        status: 409,
        says: "slot_taken".into(),
        ..scene.wishes("none", CONNECTIONS, pace.until())
    };
    writes(report, pace, &scene, "one slot that all want, and is taken", "slots.book", book).await;
    scene.end().await;
    lists(report, pace, kind).await;
}

async fn writes(report: &mut Report, pace: &Pace, scene: &Scene, what: &str, name: &str, load: impl Fn(u64) -> Load) {
    let (mut rate, mut took, mut commits) = <(Figures, Figures, Figures)>::default();
    let (mut retries, mut waits) = (0.0, 0.0);
    for round in 0..pace.rounds as u64 {
        let before = Counted::of(scene, name).await;
        let measured = run(&load(round)).await;
        let after = Counted::of(scene, name).await;
        let whole = (pace.warm_up + pace.measured).as_secs_f64();
        rate.push(measured.rate());
        took.push((after.seconds - before.seconds) / (after.units - before.units).max(1.0));
        commits.push((after.commits - before.commits) / whole);
        retries += after.retries - before.retries;
        waits += after.waits - before.waits;
    }
    let figure = format!(
        "{}; transaction {}; commits {}; retries {}; lock waits {}",
        rate.show(1.0, "/s"),
        took.show(1e3, "ms"),
        commits.show(1.0, "/s"),
        Number(retries),
        Number(waits)
    );
    report.note(what, figure);
}

/// Cached lists, beside a server of the same data without Redis, which asks the database each time.
async fn lists(report: &mut Report, pace: &Pace, kind: StoreKind) {
    let (cached, mut direct) = (Scene::start(kind).await, Scene::start(kind).await);
    for scene in [&cached, &direct] {
        let fill = scene.wishes("none", CONNECTIONS, Until::Requests(USERS * ORDERS));
        run(&Load { body: Body::Accept, path: "/v1/pickup/accept".into(), keys: USERS, status: 200, ..fill }).await;
    }
    direct.redis.kill();
    let of = |scene: &Scene| Load {
        body: Body::List,
        path: "/v1/pickup/orders".into(),
        keys: USERS,
        status: 200,
        ..scene.wishes("none", CONNECTIONS, pace.until())
    };
    let (mut rate, mut beside, mut ratio) = <(Figures, Figures, Figures)>::default();
    for _ in 0..pace.rounds {
        let (theirs, ours) = (run(&of(&direct)).await.rate(), run(&of(&cached)).await.rate());
        rate.push(ours);
        beside.push(theirs);
        ratio.push(ours / theirs);
    }
    let page = get(cached.address, "/metrics").await;
    let reads = |result: &str| sum(&page, "onetake_cache_reads_total", &["pickup-orders", result]);
    let hits = reads("result=\"hit\"") / reads("").max(1.0);
    let figure = format!(
        "{}; straight from SQL {}; ratio {}; hits {} %",
        rate.show(1.0, "/s"),
        beside.show(1.0, "/s"),
        ratio.show(1.0, ""),
        Number(hits * 100.0)
    );
    report.note(&format!("lists of {ORDERS} orders, {USERS} users"), figure);
    cached.end().await;
    direct.end().await;
}

/// What the server has counted so far.
struct Counted {
    units: f64,
    seconds: f64,
    commits: f64,
    retries: f64,
    waits: f64,
}

impl Counted {
    /// Of one unit of work; lock waits and retries of all, as a statement has a name of its own.
    async fn of(scene: &Scene, name: &str) -> Self {
        let page = get(scene.address, "/metrics").await;
        let named = format!("name=\"{name}\"");
        Self {
            units: sum(&page, "onetake_store_unit_of_work_seconds_count", &[&named]),
            seconds: sum(&page, "onetake_store_unit_of_work_seconds_sum", &[&named]),
            commits: sum(&page, "onetake_store_commits_total", &[&named]),
            retries: sum(&page, "onetake_store_retries_total", &[]),
            waits: sum(&page, "onetake_store_lock_waits_total", &[]),
        }
    }
}

/// The sum of a metric over the lines that have all these words.
fn sum(page: &str, metric: &str, words: &[&str]) -> f64 {
    let of_metric = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = page.lines().filter(of_metric).filter(|line| words.iter().all(|word| line.contains(word)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
