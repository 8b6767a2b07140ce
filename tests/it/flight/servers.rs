//! Several servers on one Postgres: their orders, and their clocks.

mod on_postgres {
    use std::time::Duration;

    use futures::future::join_all;
    use onetake::clock::Clock;
    use onetake::flight::{Ask, Claim, Ending, Finished};

    use crate::flight::bench::{Bench, LEASE, accepted, ask, claim_of, report};
    use crate::support::store::StoreKind;

    const ROUNDS: usize = 150;
    const KEYS: usize = 60;

    /// One server's life: all keys in its own order, again and again, with the runs that come of it.
    async fn work(flights: onetake::flight::Flights, reversed: bool) {
        for round in 0..ROUNDS {
            let mut keys: Vec<String> = (0..KEYS).map(|n| format!("name {n}")).collect();
            if reversed {
                keys.reverse();
            }
            let asks = keys
                .iter()
                .map(|key| flights.accept(Ask { refresh: true, ..ask(key, &format!("u{round}-{reversed}")) }));
            let asked: Vec<_> =
                join_all(asks).await.into_iter().map(|answer| accepted(answer.expect("no collision"))).collect();
            let claims = join_all(asked.iter().map(|asked| flights.claim(claim_of(asked)))).await;
            let reports = claims.into_iter().filter_map(|claim| match claim.expect("no collision") {
                Claim::Claimed(run) => Some(flights.finish(report(&run, Ending::Succeeded("1".into())))),
                _ => None,
            });
            for end in join_all(reports).await {
                assert!(matches!(end.expect("no collision"), Finished::Over { .. }));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn servers_that_take_keys_in_opposite_orders_never_deadlock() {
        let bench = Bench::new(StoreKind::Postgres).await;
        let other = bench.other_server(Clock::system()).await;
        // The order of the ids is not that of the keys.
        for n in (0..KEYS).rev() {
            bench.made(&format!("name {n}"), "0").await;
        }
        let one = tokio::spawn(work(bench.flights.clone(), false));
        let two = tokio::spawn(work(other, true));
        one.await.expect("no collision comes to light");
        two.await.expect("no collision comes to light");
        // A deadlock would be repeated and not come to light, but costs a second each: there must be none at all.
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(bench.count(deadlocks).await, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_whose_clock_is_wrong_neither_takes_early_nor_holds_long() {
        let bench = Bench::new(StoreKind::Postgres).await;
        let ahead = bench.other_server(Clock::skewed(90_000)).await;
        let asked = bench.accept(ask("anna", "u1")).await;
        let run = bench.start(&asked).await;
        // The lease of a minute ended half a minute ago, says its clock.
        match ahead.claim(claim_of(&asked)).await.expect("the store is up") {
            Claim::In(left) => assert!(left > LEASE / 2 && left <= LEASE, "{left:?}"),
            other => panic!("it is in hand: {other:?}"),
        }
        assert!(ahead.rescue(10).await.expect("the store is up").is_empty());
        let end = bench.finish(&run, Ending::Failed("jam".into())).await;
        assert!(matches!(end, Finished::Again(_)));
        assert!(ahead.due_runs("video-work", 10).await.expect("the store is up").is_empty());
        assert!(matches!(ahead.claim(claim_of(&asked)).await, Ok(Claim::In(left)) if left <= Duration::from_secs(5)));
        bench.pass(Duration::from_secs(5)).await;
        // And a lease that it gives out ends when everyone else's would.
        assert!(matches!(ahead.claim(claim_of(&asked)).await, Ok(Claim::Claimed(_))));
        assert!(matches!(bench.claim(&asked).await, Claim::In(left) if left <= LEASE));
        bench.pass(LEASE).await;
        assert_eq!(bench.flights.rescue(10).await.expect("the store is up").len(), 1);
        let now_ms = ahead.store().now_ms().await.expect("the store is up");
        assert!((now_ms - Clock::system().now_ms()).abs() < 30_000, "it tells the database's time");
    }
}
