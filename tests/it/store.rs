//! Units of work and group commit: what an error, a collision, an impatient caller and a lost database leave behind.

mod collision;
mod outage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;
use onetake::clock::Clock;
use onetake::config::{self, Span};
use onetake::store::{Error, Query, Store, query};

use super::support::on_each_store;
use super::support::store::{StoreKind, TestStore};
use super::support::wait::{self, PATIENCE};

on_each_store!(
    an_error_rolls_all_back,
    a_panic_rolls_all_back_and_reaches_the_caller,
    a_unit_whose_caller_went_away_still_ends,
    two_connections_serve_five_hundred_clients,
    a_bad_item_does_not_take_its_neighbours_along,
    a_closed_store_is_unreachable,
);

const SLOW: Duration = Duration::from_millis(100);

/// An empty database with a table of notes.
async fn start(kind: StoreKind) -> (TestStore, Store) {
    let database = TestStore::start(kind).await;
    let store = open(&database, 5).await.expect("an empty database opens");
    database.change("create table notes (id text primary key, text text)").await;
    (database, store)
}

async fn open(database: &TestStore, max_connections: u32) -> Result<Store, Error> {
    let settings = config::Store { url: database.url().into(), max_connections, slow: Span(SLOW), batch: 256 };
    Store::open(&settings, Clock::system()).await
}

fn note(id: &str) -> Query {
    query("-- test.note\ninsert into notes (id) values ($1)").bind(id)
}

/// A unit of work that writes one note.
async fn write(store: &Store, id: impl Into<String>) -> Result<(), Error> {
    let id = id.into();
    store
        .unit_of_work("test.write", move |tx| {
            let note = note(&id);
            Box::pin(async move { tx.execute(note).await })
        })
        .await
}

async fn notes(database: &TestStore) -> Vec<String> {
    database.texts("select id from notes order by id").await
}

async fn an_error_rolls_all_back(kind: StoreKind) {
    let (database, store) = start(kind).await;
    let done: Result<(), Error> = store
        .unit_of_work("test.error", |tx| {
            Box::pin(async move {
                tx.execute(note("a")).await?;
                tx.execute(note("b")).await?;
                tx.execute(note("a")).await
            })
        })
        .await;
    assert!(matches!(done, Err(Error::Constraint(_))), "{done:?}");
    assert!(notes(&database).await.is_empty());
    write(&store, "a").await.expect("the connection is as good as new");
}

async fn a_panic_rolls_all_back_and_reaches_the_caller(kind: StoreKind) {
    let (database, store) = start(kind).await;
    let panics = store.clone();
    let done = tokio::spawn(async move {
        let work = panics.unit_of_work::<(), Error, _>("test.panic", |tx| {
            Box::pin(async move {
                tx.execute(note("a")).await?;
                panic!("on purpose");
            })
        });
        work.await
    });
    assert!(done.await.is_err_and(|stopped| stopped.is_panic()));
    write(&store, "b").await.expect("the connection is as good as new");
    assert_eq!(notes(&database).await, ["b"]);
}

/// sqlx 0.9.0 puts the connection of a dropped `begin()` back inside its transaction: later writes were acknowledged, and
/// lost when the connection closed.
async fn a_unit_whose_caller_went_away_still_ends(kind: StoreKind) {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let (database, store) = start(kind).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..EACH {
                let unit = write(&store, format!("{writer}-{n}"));
                if n % 4 == 0 {
                    unit.await.expect("no collision comes to light");
                } else {
                    let patience = Duration::from_micros(rand::random_range(0..4000));
                    let _ = tokio::time::timeout(patience, unit).await;
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("no panic");
    }
    write(&store, "last").await.expect("the pool is as good as new");
    let all = WRITERS * EACH + 1;
    wait::until_true("the units to end", PATIENCE, || async { notes(&database).await.len() == all }).await;
    store.close().await;
    drop(store);
    let again = wait::until("the last unit's task to end", PATIENCE, || async { open(&database, 5).await.ok() }).await;
    let kept = again.fetch_all(query("-- test.kept\nselect id from notes")).await.expect("the store is up");
    assert_eq!(kept.len(), all);
}

/// Each writes, holds a row that all want, and reads.
async fn two_connections_serve_five_hundred_clients(kind: StoreKind) {
    const CLIENTS: usize = 500;
    let (database, store) = start(kind).await;
    write(&store, "hot").await.expect("it is new");
    store.close().await;
    drop(store);
    let store = open(&database, 2).await.expect("the only one");
    let clients = (0..CLIENTS).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            write(&store, format!("{client}")).await.expect("everybody's turn comes");
            let held: Result<(), Error> = store
                .unit_of_work("test.hot", |tx| {
                    Box::pin(async move {
                        tx.fetch_all(query("-- test.hold\nselect id from notes where id = 'hot' {for update}")).await?;
                        let add = "-- test.add\nupdate notes set text = coalesce(text, '') || 'x' where id = 'hot'";
                        tx.execute(query(add)).await
                    })
                })
                .await;
            held.expect("everybody's turn comes");
            store.ping().await.expect("everybody's turn comes");
        })
    });
    for client in join_all(clients).await {
        client.expect("no panic");
    }
    assert_eq!(notes(&database).await.len(), CLIENTS + 1);
    assert_eq!(database.numbers("select cast(length(text) as bigint) from notes where id = 'hot'").await, [500]);
}

async fn a_bad_item_does_not_take_its_neighbours_along(kind: StoreKind) {
    let (database, store) = start(kind).await;
    write(&store, "7").await.expect("it is new");
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = largest.clone();
    let batch = store.batch("test.batch", move |tx, ids: Arc<Vec<String>>| {
        seen.fetch_max(ids.len(), Ordering::SeqCst);
        Box::pin(async move {
            for id in ids.iter() {
                tx.execute(note(id)).await?;
            }
            Ok(ids.to_vec())
        })
    });
    let answers = join_all((0..20).map(|n| batch.run(n.to_string()))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(id) => assert_eq!(id, n.to_string(), "each has its own answer"),
            Err(error) => assert!(n == 7 && matches!(error, Error::Constraint(_)), "{n}: {error}"),
        }
    }
    assert_eq!(notes(&database).await.len(), 20);
    assert!(largest.load(Ordering::SeqCst) > 1, "they did ride together");
}

async fn a_closed_store_is_unreachable(kind: StoreKind) {
    let (database, store) = start(kind).await;
    store.close().await;
    assert!(write(&store, "a").await.is_err_and(|error| error.is_unreachable()));
    assert!(store.ping().await.is_err_and(|error| error.is_unreachable()));
    assert!(notes(&database).await.is_empty());
}

#[tokio::test]
async fn an_sqlite_file_serves_one_server() {
    let (database, first) = start(StoreKind::Sqlite).await;
    match open(&database, 5).await {
        Err(Error::Setup(reason)) => {
            assert!(reason.contains("another server process has") && reason.contains("onetake.db"), "{reason}");
        }
        other => panic!("it has an owner: {:?}", other.err()),
    }
    write(&first, "a").await.expect("the owner is not disturbed");
    drop(first);
    wait::until("the file to be free", PATIENCE, || async { open(&database, 5).await.ok() }).await;
}

// One thread, as the recorder is the thread's.
#[tokio::test]
async fn a_slow_unit_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (_database, store) = start(StoreKind::Sqlite).await;
    let done: Result<(), Error> = store
        .unit_of_work("test.slow", |tx| {
            Box::pin(async move {
                tokio::time::sleep(SLOW * 2).await;
                tx.execute(note("a")).await
            })
        })
        .await;
    done.expect("slow is no error");
    let page = recorder.handle().render();
    assert!(page.contains(r#"onetake_store_slow_total{name="test.slow"} 1"#), "{page}");
    assert!(page.contains(r#"onetake_store_commits_total{name="test.slow"} 1"#), "{page}");
}

// One thread, as the recorder is the thread's.
#[tokio::test]
async fn waiting_for_sqlite_s_writer_is_a_lock_wait() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (_database, store) = start(StoreKind::Sqlite).await;
    let inside = Arc::new(tokio::sync::Notify::new());
    let entered = inside.clone();
    let holds = store.unit_of_work::<_, Error, _>("test.holds", move |tx| {
        let entered = entered.clone();
        Box::pin(async move {
            tx.execute(note("a")).await?;
            entered.notify_one();
            tokio::time::sleep(SLOW).await;
            Ok(())
        })
    });
    let waits = async {
        inside.notified().await;
        write(&store, "b").await
    };
    let (held, waited) = tokio::join!(holds, waits);
    held.and(waited).expect("both write");
    let page = recorder.handle().render();
    assert!(page.contains(r#"onetake_store_lock_waits_total{name="test.write"} 1"#), "{page}");
    assert!(!page.contains(r#"onetake_store_lock_waits_total{name="test.holds"}"#), "{page}");
}
