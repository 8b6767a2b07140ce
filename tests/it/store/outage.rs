//! A Postgres that goes away: survived where trying again helps, told soon where it does not.

mod on_postgres {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use futures::future::join_all;
    use onetake::store::Error;
    use tokio::sync::Barrier;

    use crate::store::{note, notes, start, write};
    use crate::support::postgres::PostgresServer;
    use crate::support::store::{StoreKind, TestStore};
    use crate::support::wait::{self, PATIENCE};

    /// An answer that takes longer keeps an HTTP client waiting for a refusal.
    const SOON: Duration = Duration::from_millis(3500);

    fn server(database: &mut TestStore) -> &mut PostgresServer {
        match database {
            TestStore::Postgres(server) => server,
            TestStore::Sqlite(_) => panic!("these tests run on Postgres"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restart_in_the_middle_of_a_unit_is_survived() {
        let (mut database, store) = start(StoreKind::Postgres).await;
        let (inside, back) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let tries = Arc::new(AtomicU32::new(0));
        let barriers = (inside.clone(), back.clone(), tries.clone());
        let unit = tokio::spawn(async move {
            let done: Result<(), Error> = store
                .unit_of_work("test.restart", move |tx| {
                    let (inside, back, tries) = barriers.clone();
                    Box::pin(async move {
                        tx.execute(note("a")).await?;
                        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                            inside.wait().await;
                            back.wait().await;
                        }
                        tx.execute(note("b")).await
                    })
                })
                .await;
            done
        });
        inside.wait().await;
        server(&mut database).restart().await;
        back.wait().await;
        unit.await.expect("no panic").expect("the second try finds the database again");
        assert_eq!(tries.load(Ordering::SeqCst), 2);
        assert_eq!(notes(&database).await, ["a", "b"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_absent_database_is_told_soon_and_found_again() {
        let (mut database, store) = start(StoreKind::Postgres).await;
        // Several connections that do not know yet that they are dead.
        join_all((0..5).map(|_| store.ping())).await;
        server(&mut database).kill();
        let asked = Instant::now();
        let answers = join_all((0..10).map(|n| write(&store, format!("lost {n}")))).await;
        assert!(answers.into_iter().all(|answer| answer.is_err_and(|error| error.is_unreachable())));
        assert!(store.ping().await.is_err_and(|error| error.is_unreachable()));
        assert!(asked.elapsed() < SOON * 2, "two answers one after the other took {:?}", asked.elapsed());
        server(&mut database).restart().await;
        wait::until_true("the database to be found again", PATIENCE, || async { write(&store, "found").await.is_ok() })
            .await;
        assert_eq!(notes(&database).await, ["found"]);
    }
}
