//! What everybody writes first: a lock in Redis, and where Redis cannot be reached, one in Postgres. Driven by the very
//! crowd and weather that the real locks stand, it loses updates: so that test can see them.

mod on_postgres {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use onetake::lock::LockName;
    use onetake::redis::{Redis, Script};
    use onetake::store::{Error, Store, query};

    use crate::locks::bench::{Bench, Crowd, Server, Unit, name, read_modify_write};
    use crate::locks::partition::weather;
    use crate::support::proxy::Proxy;
    use crate::support::store::StoreKind;

    /// Longer than most units, shorter than some.
    const TTL_MS: i64 = 50;
    const PATIENCE: Duration = Duration::from_millis(100);

    struct Naive {
        redis: Redis,
        store: Store,
        release: Script,
    }

    impl Naive {
        fn of(server: &Server) -> Unit {
            let release = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
            let naive = Arc::new(Self {
                redis: server.redis.clone(),
                store: server.locks.store().clone(),
                release: Script::new("naive.release", &[release]),
            });
            Arc::new(move |name, pause| {
                let naive = naive.clone();
                Box::pin(async move { naive.count_up(&name, pause).await.expect("the store is up") })
            })
        }

        async fn count_up(&self, name: &LockName, pause: Duration) -> Result<(), Error> {
            let (key, mark) = (format!("naive:{name}"), Bytes::from(onetake::id::new_token()));
            loop {
                let taken = self.redis.set(&key, mark.clone(), Some(TTL_MS), true);
                match tokio::time::timeout(PATIENCE, taken).await {
                    Ok(Ok(true)) => {
                        let done = self.unit(name, pause, None).await;
                        let released = self.redis.run(&self.release, vec![key], vec![mark]);
                        let _ = tokio::time::timeout(PATIENCE, released).await;
                        return done;
                    }
                    Ok(Ok(false)) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Ok(Err(_)) | Err(_) => return self.unit(name, pause, Some(name.as_str().len() as i64)).await,
                }
            }
        }

        /// With Postgres' lock or without, as its own first statement.
        async fn unit(&self, name: &LockName, pause: Duration, lock: Option<i64>) -> Result<(), Error> {
            let name = name.clone();
            self.store
                .unit_of_work("naive", move |tx| {
                    let name = name.clone();
                    Box::pin(async move {
                        if let Some(key) = lock {
                            tx.execute(query("-- naive.lock\nselect pg_advisory_xact_lock($1)").bind(key)).await?;
                        }
                        read_modify_write(tx, &name, pause).await.map(|_| ())
                    })
                })
                .await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lock_in_redis_else_in_postgres_loses_updates() {
        let mut bench = Bench::new(StoreKind::Postgres).await;
        let way = Proxy::to(bench.redis.port()).await;
        let servers = [bench.server().await, bench.server_by(&way.redis_url()).await];
        let names = [name("hot:1"), name("hot:2"), name("hot:3")];
        bench.counters(&names).await;
        let units: Vec<_> = servers.iter().map(Naive::of).collect();
        let crowd = Crowd::start(&units, &names, 4, 2_000, Duration::from_millis(2));
        weather(&mut bench, &way, &crowd, 120).await;
        let commits = crowd.end().await;
        let counted: i64 = bench.store.numbers("select sum(n)::bigint from counters").await[0];
        assert_eq!(commits, 2_000);
        assert!(counted < commits, "{commits} commits, counted {counted}: this lock should have lost some");
        println!("{} of {commits} updates were lost", commits - counted);
    }
}
