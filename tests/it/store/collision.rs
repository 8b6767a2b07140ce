//! Transactions that collide are repeated as a whole. SQLite has one writer of ours; a tool that writes beside it can still
//! lock it out.

mod on_postgres {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use onetake::store::{Error, Query, Store, query};
    use tokio::sync::Barrier;

    use crate::store::{SLOW, note, start, write};
    use crate::support::store::StoreKind;

    /// Two units meet after their first statement, once: then each does what the other stands in the way of.
    struct Meeting {
        barrier: Barrier,
        tries: AtomicU32,
    }

    impl Meeting {
        fn new() -> Arc<Self> {
            Arc::new(Self { barrier: Barrier::new(2), tries: AtomicU32::new(0) })
        }

        async fn unit(self: &Arc<Self>, store: &Store, statements: [Query; 3]) -> Result<(), Error> {
            let meeting = self.clone();
            store
                .unit_of_work("test.collision", move |tx| {
                    let (meeting, [level, first, second]) = (meeting.clone(), statements.clone());
                    Box::pin(async move {
                        let is_first_try = meeting.tries.fetch_add(1, Ordering::SeqCst) < 2;
                        tx.execute(level).await?;
                        tx.execute(first).await?;
                        if is_first_try {
                            meeting.barrier.wait().await;
                        }
                        tx.execute(second).await
                    })
                })
                .await
        }
    }

    fn level(serializable: bool) -> Query {
        query(if serializable {
            "-- test.serializable\nset transaction isolation level serializable"
        } else {
            "-- test.committed\nset transaction isolation level read committed"
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deadlock_is_repeated_and_both_succeed() {
        let (database, store) = start(StoreKind::Postgres).await;
        write(&store, "a").await.expect("it is new");
        write(&store, "b").await.expect("it is new");
        let touch =
            |id: &str| query("-- test.touch\nupdate notes set text = coalesce(text, '') || 'x' where id = $1").bind(id);
        let meeting = Meeting::new();
        let (one, two) = tokio::join!(
            meeting.unit(&store, [level(false), touch("a"), touch("b")]),
            meeting.unit(&store, [level(false), touch("b"), touch("a")])
        );
        one.and(two).expect("the loser tries again");
        assert_eq!(meeting.tries.load(Ordering::SeqCst), 3);
        assert_eq!(database.texts("select text from notes").await, ["xx", "xx"], "each wrote all, once");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_serialization_failure_is_repeated_with_what_it_reads_then() {
        let (database, store) = start(StoreKind::Postgres).await;
        let meeting = Meeting::new();
        let read = || query("-- test.read\nselect count(*) from notes");
        let (one, two) = tokio::join!(
            meeting.unit(&store, [level(true), read(), note("a")]),
            meeting.unit(&store, [level(true), read(), note("b")])
        );
        one.and(two).expect("the loser tries again");
        assert_eq!(meeting.tries.load(Ordering::SeqCst), 3);
        assert_eq!(database.numbers("select count(*) from notes").await, [2]);
    }

    // One thread, as the recorder is the thread's.
    #[tokio::test]
    async fn waiting_for_a_row_is_a_lock_wait() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let (_database, store) = start(StoreKind::Postgres).await;
        write(&store, "a").await.expect("it is new");
        let hold = || query("-- test.hold\nselect id from notes where id = 'a' {for update}");
        let inside = Arc::new(tokio::sync::Notify::new());
        let entered = inside.clone();
        let holds = store.unit_of_work::<_, Error, _>("test.holds", move |tx| {
            let entered = entered.clone();
            Box::pin(async move {
                tx.execute(hold()).await?;
                entered.notify_one();
                tokio::time::sleep(SLOW).await;
                Ok(())
            })
        });
        let waits = async {
            inside.notified().await;
            store.unit_of_work::<_, Error, _>("test.waits", move |tx| Box::pin(tx.execute(hold()))).await
        };
        let (held, waited) = tokio::join!(holds, waits);
        held.and(waited).expect("both have it in turn");
        let page = recorder.handle().render();
        assert!(page.contains(r#"onetake_store_lock_wait_seconds_count{name="test.hold"} 2"#), "{page}");
        assert!(page.contains(r#"onetake_store_lock_waits_total{name="test.hold"} "#), "{page}");
    }
}

mod on_sqlite {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use sqlx::{Connection, Executor, SqliteConnection};

    use crate::store::{notes, start, write};
    use crate::support::store::StoreKind;
    use crate::support::wait::{self, PATIENCE};

    // One thread, as the recorder is the thread's.
    #[tokio::test]
    async fn a_locked_database_is_waited_for_and_tried_again() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let (database, store) = start(StoreKind::Sqlite).await;
        let mut other = SqliteConnection::connect(&database.url()).await.expect("the file is there");
        other.execute("begin immediate").await.expect("nobody writes");
        let writes = tokio::spawn({
            let store = store.clone();
            async move { write(&store, "a").await }
        });
        // After the busy timeout of ten seconds SQLite says that it is locked.
        wait::until_true("a try to be refused", PATIENCE, async || {
            let page = recorder.handle().render();
            page.contains(r#"onetake_store_retries_total{name="test.write",kind="conflict"} 1"#)
        })
        .await;
        other.execute("rollback").await.expect("it is ours");
        writes.await.expect("no panic").expect("the next try finds it free");
        assert_eq!(notes(&database).await, ["a"]);
    }
}
