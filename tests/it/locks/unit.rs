//! Guarded units of work: alone with their names, in line, bounded, and nothing left behind by who goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onetake::lock::{Guarded, LockName, names};
use onetake::store::Error;
use tokio::sync::Barrier;

use super::bench::{Bench, Crowd, LONG, NOW, Server, name};
use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};

on_each_store!(
    a_crowd_loses_no_update,
    a_try_and_a_deadline_find_the_name_busy,
    who_goes_away_while_waiting_leaves_nothing_behind,
    a_unit_whose_caller_went_away_keeps_the_name_to_its_end,
    several_names_are_taken_together_in_any_order,
    a_unit_that_fails_gives_the_name_back,
);

/// A unit of work that is inside until it is let go.
struct Inside {
    reached: Arc<Barrier>,
    go: Arc<Barrier>,
    task: tokio::task::JoinHandle<Result<Guarded<()>, Error>>,
}

impl Inside {
    async fn enter(server: &Server, text: &str) -> Self {
        let (reached, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (locks, names, barriers) = (server.locks.clone(), [name(text)], (reached.clone(), go.clone()));
        let task = tokio::spawn(async move {
            locks
                .guarded("test.inside", &names, LONG, move |_| {
                    let (reached, go) = barriers.clone();
                    Box::pin(async move {
                        reached.wait().await;
                        go.wait().await;
                        Ok(())
                    })
                })
                .await
        });
        reached.wait().await;
        Self { reached, go, task }
    }

    async fn leave(self) {
        self.go.wait().await;
        drop(self.reached);
        assert_eq!(self.task.await.expect("no panic").expect("the store is up"), Guarded::Done(()));
    }
}

async fn nothing(server: &Server, text: &str, wait: Duration) -> Guarded<()> {
    let done: Result<_, Error> =
        server.locks.guarded("test.nothing", &[name(text)], wait, |_| Box::pin(async { Ok(()) })).await;
    done.expect("the store is up")
}

async fn a_crowd_loses_no_update(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let names = [name("hot"), name("warm")];
    bench.counters(&names).await;
    let rounds = if kind == StoreKind::Postgres { 1_000 } else { 300 };
    let crowd = Crowd::start(&[server.counting()], &names, 24, rounds, Duration::from_micros(200));
    crowd.finish(&bench, &names).await;
    assert_eq!(bench.count(&names[0]).await + bench.count(&names[1]).await, rounds);
}

async fn a_try_and_a_deadline_find_the_name_busy(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let inside = Inside::enter(&server, "a").await;
    assert_eq!(nothing(&server, "a", NOW).await, Guarded::Busy);
    let asked = Instant::now();
    assert_eq!(nothing(&server, "a", Duration::from_millis(300)).await, Guarded::Busy);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(5), "{waited:?}");
    if kind == StoreKind::Postgres {
        // SQLite has one writer, whoever it is.
        assert_eq!(nothing(&server, "b", NOW).await, Guarded::Done(()));
    }
    let waiting = {
        let server = server.clone();
        tokio::spawn(async move { nothing(&server, "a", LONG).await })
    };
    inside.leave().await;
    assert_eq!(waiting.await.expect("no panic"), Guarded::Done(()));
    wait::until_true("the name to be free", PATIENCE, async || nothing(&server, "a", NOW).await == Guarded::Done(()))
        .await;
}

async fn who_goes_away_while_waiting_leaves_nothing_behind(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let inside = Inside::enter(&server, "a").await;
    // Their futures are dropped after a moment: in line here, in line at Redis, or at the database.
    for n in 0..40 {
        let waits = nothing(&server, "a", LONG);
        assert!(tokio::time::timeout(Duration::from_millis(n % 8), waits).await.is_err());
    }
    let asked = Instant::now();
    inside.leave().await;
    assert_eq!(nothing(&server, "a", LONG).await, Guarded::Done(()));
    assert!(asked.elapsed() < Duration::from_secs(10), "nobody before us holds it up: {:?}", asked.elapsed());
    // What Redis still knows of them ends by itself.
    let lines = async || bench.redis.ask(&["KEYS", "onetake:lock:*:line"]).await.texts().is_empty();
    wait::until_true("the line to be empty", PATIENCE, lines).await;
}

async fn a_unit_whose_caller_went_away_keeps_the_name_to_its_end(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let inside = Inside::enter(&server, "a").await;
    let (go, reached) = (inside.go.clone(), inside.reached.clone());
    inside.task.abort();
    wait::until_true("the caller to be gone", PATIENCE, async || inside.task.is_finished()).await;
    assert_eq!(nothing(&server, "a", NOW).await, Guarded::Busy, "its transaction is still open");
    go.wait().await;
    drop(reached);
    assert_eq!(nothing(&server, "a", LONG).await, Guarded::Done(()));
}

async fn several_names_are_taken_together_in_any_order(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let inside = Arc::new(AtomicUsize::new(0));
    let orders: [Arc<[LockName]>; 3] =
        [["a", "b", "c"], ["c", "b", "a"], ["b", "b", "c"]].map(|texts| names(texts).expect("names"));
    let tasks = (0..60).map(|n| {
        let (locks, names, inside) = (server.locks.clone(), orders[n % 3].clone(), inside.clone());
        tokio::spawn(async move {
            let done: Result<_, Error> = locks
                .guarded("test.several", &names, LONG, move |_| {
                    let inside = inside.clone();
                    Box::pin(async move {
                        // All of them want "b" and "c".
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else is inside");
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                })
                .await;
            done.expect("the store is up")
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("no panic"), Guarded::Done(()));
    }
    if kind == StoreKind::Postgres {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(bench.store.numbers(deadlocks).await, [0]);
    }
}

async fn a_unit_that_fails_gives_the_name_back(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let counters = [name("a")];
    bench.counters(&counters).await;
    let failed: Result<Guarded<()>, Error> = server
        .locks
        .guarded("test.fails", &counters, LONG, |tx| {
            Box::pin(async move {
                super::bench::read_modify_write(tx, &name("a"), Duration::ZERO).await?;
                Err(Error::Setup("on purpose".into()))
            })
        })
        .await;
    assert!(matches!(failed, Err(Error::Setup(_))), "{failed:?}");
    assert_eq!(bench.count(&counters[0]).await, 0);
    assert_eq!(nothing(&server, "a", LONG).await, Guarded::Done(()));
}

mod servers {
    mod on_postgres {
        use std::time::Duration;

        use onetake::store::{Error, query};

        use crate::locks::bench::{Crowd, LONG, NOW, Server, name};
        use crate::locks::unit::{Bench, Guarded, Inside, StoreKind, nothing};
        use crate::support::wait::{self, PATIENCE};

        /// The gate of one server knows of the other; and without a gate the database's lock still stands.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn another_server_finds_the_name_busy_with_and_without_redis() {
            let mut bench = Bench::new(StoreKind::Postgres).await;
            let (one, other) = (bench.server().await, bench.server().await);
            let inside = Inside::enter(&one, "a").await;
            assert_eq!(nothing(&other, "a", NOW).await, Guarded::Busy);
            bench.redis.kill();
            assert_eq!(nothing(&other, "a", NOW).await, Guarded::Busy);
            assert_eq!(nothing(&other, "a", Duration::from_millis(200)).await, Guarded::Busy);
            assert_eq!(nothing(&other, "b", NOW).await, Guarded::Done(()));
            inside.leave().await;
            assert_eq!(nothing(&other, "a", NOW).await, Guarded::Done(()));
            bench.redis.restart().await;
            wait::until_true("Redis to take part again", PATIENCE, async || {
                nothing(&other, "c", NOW).await; // who does not wait asks the gate first
                !bench.redis.ask(&["KEYS", "onetake:lock:{c}*"]).await.texts().is_empty()
            })
            .await;
            assert_eq!(nothing(&one, "a", LONG).await, Guarded::Done(()));
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_gate_hears_of_who_stays_inside() {
            let bench = Bench::new(StoreKind::Postgres).await;
            let (one, other) = (bench.server().await, bench.server().await);
            let inside = Inside::enter(&one, "a").await;
            let line = async || bench.redis.ask(&["ZCARD", "onetake:lock:{a}:unit:line"]).await.number();
            wait::until_true("the gate to know", PATIENCE, async || line().await == 1).await;
            let waiting = {
                let other = other.clone();
                tokio::spawn(async move { nothing(&other, "a", LONG).await })
            };
            wait::until_true("the other to stand behind", PATIENCE, async || line().await == 2).await;
            inside.leave().await;
            assert_eq!(waiting.await.expect("no panic"), Guarded::Done(()));
            wait::until_true("both to have left", PATIENCE, async || line().await == 0).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_hot_name_occupies_few_connections() {
            let bench = Bench::new(StoreKind::Postgres).await;
            let (one, other) = (bench.server().await, bench.server().await);
            let inside = Inside::enter(&one, "a").await;
            let crowd: Vec<_> = (0..40)
                .map(|n| {
                    let server = if n % 2 == 0 { one.clone() } else { other.clone() };
                    tokio::spawn(async move { nothing(&server, "a", LONG).await })
                })
                .collect();
            let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
            wait::until_true("the gate to let one more in", PATIENCE, async || {
                bench.store.numbers(waiting).await == [1]
            })
            .await;
            // Others pass by, on connections that the crowd would have taken.
            for n in 0..20 {
                assert_eq!(nothing(&other, &format!("b{n}"), NOW).await, Guarded::Done(()));
            }
            assert_eq!(bench.store.numbers(waiting).await, [1], "two stand at the database, one of them inside");
            inside.leave().await;
            for task in crowd {
                assert_eq!(task.await.expect("no panic"), Guarded::Done(()));
            }
        }

        async fn backend(server: &Server) -> i64 {
            let done: Result<_, Error> = server
                .locks
                .guarded("test.backend", &[name("a")], LONG, |tx| {
                    Box::pin(async move {
                        let mine = query("-- test.backend\nselect pg_backend_pid()::bigint as pid");
                        tx.fetch_optional(mine).await?.expect("a row").get("pid")
                    })
                })
                .await;
            match done.expect("the store is up") {
                Guarded::Done(pid) => pid,
                Guarded::Busy => panic!("a minute is enough for everybody"),
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_crowd_of_one_process_hands_one_open_transaction_on() {
            let bench = Bench::new(StoreKind::Postgres).await;
            let server = bench.server().await;
            let inside = Inside::enter(&server, "a").await;
            let crowd: Vec<_> = (0..20)
                .map(|_| {
                    let server = server.clone();
                    tokio::spawn(async move { backend(&server).await })
                })
                .collect();
            let own =
                "select count(*) from pg_stat_activity where application_name = 'onetake' and xact_start is not null";
            // The server's own statements aside, which end at once.
            wait::until_true("the crowd to stand in line here", PATIENCE, async || {
                bench.store.numbers(own).await == [1]
            })
            .await;
            let gone = tokio::time::timeout(Duration::from_millis(5), backend(&server)).await;
            assert!(gone.is_err(), "somebody is inside");
            inside.leave().await;
            let mut pids = Vec::new();
            for task in crowd {
                pids.push(task.await.expect("no panic"));
            }
            pids.dedup();
            assert_eq!(pids.len(), 1, "one connection served all: {pids:?}");
            wait::until_true("nobody to be inside", PATIENCE, async || bench.store.numbers(own).await == [0]).await;
        }

        /// Handing on in one process keeps no other out.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn each_of_three_servers_gets_its_turns_at_a_hot_name() {
            let bench = Bench::new(StoreKind::Postgres).await;
            let hot = [name("hot")];
            bench.counters(&hot).await;
            let servers = [bench.server().await, bench.server().await, bench.server().await];
            let crowds: Vec<_> =
                servers.iter().map(|server| Crowd::start(&[server.counting()], &hot, 6, i64::MAX, NOW)).collect();
            wait::until_true("each to have had twenty turns", 2 * PATIENCE, async || {
                crowds.iter().all(|crowd| crowd.done() >= 20)
            })
            .await;
            let mut commits = 0;
            for crowd in crowds {
                crowd.stop();
                commits += crowd.end().await;
            }
            assert_eq!(bench.count(&hot[0]).await, commits);
        }
    }
}
