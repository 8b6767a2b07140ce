//! Transactions that collide are repeated as a whole. SQLite has one writer, so that there nothing can collide.

mod on_postgres {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use onetake::store::{Error, Query, Store, query};
    use tokio::sync::Barrier;

    use crate::store::{note, start, write};
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
}
