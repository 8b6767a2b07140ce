//! Guarded units of work on Postgres: what the lock costs where nobody else wants it, and what a hot name does to its own
//! clients, to the connections, and to other names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use onetake::clock::Clock;
use onetake::config::{self, Eviction, Span, Tls};
use onetake::lock::{Guarded, LockName, Locks};
use onetake::redis::Redis;
use onetake::store::{Error, Store, Tx, query};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::figures::{Figures, Number};
use crate::report::Report;
use crate::scene::Pace;
use crate::support::postgres::PostgresServer;
use crate::support::redis::RedisServer;
use crate::support::store::TestStore;

const HOT_CLIENTS: usize = 32;
/// For each client one, and for who watches them.
const CONNECTIONS: u32 = 40;
/// As the server's own pool, where the rest of a crowd waits before the database.
const FEW: u32 = 10;
/// Rows that one client changes in turn.
const OTHERS: u64 = 100;
const MOST_OVER: f64 = 1.20;
const LEAST_GAIN: f64 = 1.2;
const MOST_HELD: i64 = 4;
const MOST_SLOWER: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds one to a row of this name, in a transaction of its own.
type Unit = Arc<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

pub async fn measure(report: &mut Report, pace: &Pace) {
    let redis = RedisServer::start_durable().await;
    let database = TestStore::Postgres(PostgresServer::start_as(true).await);
    let store = open_store(&database.url(), CONNECTIONS).await;
    let locks = open_locks(store.clone(), &redis.url()).await;
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(locks.clone().keep(stop.clone()));
    database.change("create table counters (name text primary key, n bigint not null)").await;
    let fill = format!("insert into counters select 'other-' || i, 0 from generate_series(0, {}) i", OTHERS - 1);
    database.change(&fill).await;
    database.change("insert into counters values ('hot', 0)").await;
    report.section(
        "Locks on Postgres",
        &format!(
            "A unit of work that reads a row, and writes it with one more. Plain: `select ... for update` alone. Guarded: the \
             same under a lock of the row's name, with Redis' gate before it, which hears of nobody who came alone and left \
             within 20 ms. Hot: {HOT_CLIENTS} clients want one name; meanwhile one client goes through {OTHERS} other names. A \
             pool of {CONNECTIONS} connections, so that each client may have one."
        ),
    );
    let few = plain(open_store(&database.url(), FEW).await);
    let (plain, guarded) = (plain(store), guarded(locks));
    alone(report, pace, &plain, &guarded).await;
    crowded(report, pace, &database, (&plain, &few), &guarded).await;
    stop.cancel();
    keeper.await.expect("the keeper ends");
}

/// One client, and nobody beside it.
async fn alone(report: &mut Report, pace: &Pace, plain: &Unit, guarded: &Unit) {
    let (mut bare, mut ours, mut ratio) = <(Figures, Figures, Figures)>::default();
    for _ in 0..pace.rounds {
        let (bare_took, took) =
            (median(&others(plain, pace.measured).await), median(&others(guarded, pace.measured).await));
        bare.push(bare_took);
        ours.push(took);
        ratio.push(took / bare_took);
    }
    let figure = format!("{}; plain {}; ratio {}", ours.show(1e3, "ms"), bare.show(1e3, "ms"), ratio.show(1.0, ""));
    report.row("nobody else wants it: p50", figure, "at most 1.2 times plain", ratio.median() <= MOST_OVER);
}

async fn crowded(report: &mut Report, pace: &Pace, database: &TestStore, (plain, few): (&Unit, &Unit), guarded: &Unit) {
    // One connection that stays: to make one takes Postgres milliseconds, of which the others' times would tell.
    let watching = PgPool::connect(&database.url()).await.expect("Postgres is up");
    let (mut bare, mut ours, mut gain) = <(Figures, Figures, Figures)>::default();
    let (mut pooled, mut pooled_gain) = <(Figures, Figures)>::default();
    let (mut quiet, mut beside, mut slower) = <(Figures, Figures, Figures)>::default();
    let (mut held, mut bare_held) = (0, 0);
    for _ in 0..pace.rounds {
        let calm = high(&others(guarded, pace.measured).await);
        let theirs = crowd(plain, plain, pace.measured, &watching).await;
        let hot = crowd(guarded, guarded, pace.measured, &watching).await;
        let kept_away = crowd(few, few, pace.measured, &watching).await;
        bare.push(theirs.rate);
        ours.push(hot.rate);
        gain.push(hot.rate / theirs.rate);
        pooled.push(kept_away.rate);
        pooled_gain.push(hot.rate / kept_away.rate);
        quiet.push(calm);
        beside.push(high(&hot.others));
        slower.push(high(&hot.others) / calm);
        held = held.max(hot.held);
        bare_held = bare_held.max(theirs.held);
    }
    let figure = format!("{}; plain {}; ratio {}", ours.show(1.0, "/s"), bare.show(1.0, "/s"), gain.show(1.0, ""));
    report.row("hot", figure, "at least 1.2 times plain", gain.median() >= LEAST_GAIN);
    let figure = format!("plain {}; ratio {}", pooled.show(1.0, "/s"), pooled_gain.show(1.0, ""));
    report.note(&format!("hot, for comparison: plain where all clients share {FEW} connections"), figure);
    let figure = format!("{held} at most; plain {bare_held}");
    report.row("hot: connections inside a transaction", figure, "at most 4", held <= MOST_HELD);
    let figure = format!(
        "{}; without the crowd {}; ratio {}",
        beside.show(1e3, "ms"),
        quiet.show(1e3, "ms"),
        slower.show(1.0, "")
    );
    report.row("hot: other names, p99", figure, "at most twice that without the crowd", slower.median() <= MOST_SLOWER);
    report.note("clients at the hot name", Number(HOT_CLIENTS as f64).to_string());
}

/// What a crowd at one name came to.
struct Crowd {
    /// Units of work at the hot name in a second.
    rate: f64,
    /// How long those at other names took, in seconds.
    others: Vec<f64>,
    /// Connections inside a transaction at the hot name, at most, as far as was seen.
    held: i64,
}

async fn crowd(hot: &Unit, other: &Unit, measured: Duration, watching: &PgPool) -> Crowd {
    let (done, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..HOT_CLIENTS)
        .map(|_| {
            let (hot, done, is_over) = (hot.clone(), done.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    hot("hot".to_owned()).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let started = Instant::now();
    let beside = tokio::spawn({
        let other = other.clone();
        async move { others(&other, measured).await }
    });
    let mut held = 0;
    while started.elapsed() < measured {
        let inside = "select count(*) from pg_stat_activity
            where application_name = 'onetake' and xact_start is not null";
        // The client beside may be inside one, too.
        let now: i64 = sqlx::query_scalar(inside).fetch_one(watching).await.expect("Postgres is up");
        held = held.max(now - 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rate = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client works to its end");
    }
    Crowd { rate, others: beside.await.expect("the client beside works to its end"), held }
}

/// One client that goes through the other names; how long each took, in seconds.
async fn others(unit: &Unit, measured: Duration) -> Vec<f64> {
    let (mut took, until) = (Vec::new(), Instant::now() + measured);
    let mut turn = 0;
    while Instant::now() < until {
        let started = Instant::now();
        unit(format!("other-{}", turn % OTHERS)).await;
        took.push(started.elapsed().as_secs_f64());
        turn += 1;
    }
    took.sort_by(f64::total_cmp);
    took
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The 99th percentile.
fn high(sorted: &[f64]) -> f64 {
    sorted[sorted.len() * 99 / 100]
}

fn plain(store: Store) -> Unit {
    Arc::new(move |name| {
        let store = store.clone();
        Box::pin(async move {
            let one_more = store.unit_of_work::<_, Error, _>("bench.plain", move |tx| {
                let name = name.clone();
                Box::pin(async move { add_one(tx, &name).await })
            });
            one_more.await.expect("the store is up");
        })
    })
}

fn guarded(locks: Locks) -> Unit {
    Arc::new(move |name| {
        let locks = locks.clone();
        Box::pin(async move {
            let lock = [LockName::parse(&name).expect("a name")];
            let one_more = locks.guarded::<_, Error, _>("bench.guarded", &lock, PATIENCE, move |tx| {
                let name = name.clone();
                Box::pin(async move { add_one(tx, &name).await })
            });
            assert!(matches!(one_more.await.expect("the store is up"), Guarded::Done(())), "a minute is enough");
        })
    })
}

async fn add_one(tx: &mut Tx, name: &str) -> Result<(), Error> {
    let read = query("-- bench.read\nselect n from counters where name = $1 {for update}").bind(name);
    let n: i64 = tx.fetch_optional(read).await?.expect("the row is there").get("n")?;
    tx.execute(query("-- bench.write\nupdate counters set n = $1 where name = $2").bind(n + 1).bind(name)).await
}

async fn open_store(url: &str, max_connections: u32) -> Store {
    let settings =
        config::Store { url: url.to_owned().into(), max_connections, slow: Span(Duration::from_secs(1)), batch: 256 };
    Store::open(&settings, Clock::system()).await.expect("the store opens")
}

/// As they are configured by default.
async fn open_locks(store: Store, redis_url: &str) -> Locks {
    let redis = config::Redis {
        url: redis_url.to_owned().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: Span(Duration::from_secs(2)),
        eviction: Eviction::Refuse,
        tls: Tls::default(),
    };
    let redis = Redis::connect(&redis).await.expect("Redis is up");
    let settings = config::Locks {
        max_ttl: Span(Duration::from_secs(3600)),
        redis_patience: Span(Duration::from_millis(200)),
        width: 2,
        keep: Span(Duration::from_secs(30 * 86_400)),
        keep_audit: Span(Duration::from_secs(30 * 86_400)),
        forget_every: Span(Duration::from_secs(600)),
    };
    Locks::new(store, redis, "onetake", &settings)
}
