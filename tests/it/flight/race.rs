//! What must hold at the worst moment: thousands of times over, on two servers where the store can be shared.

use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use onetake::flight::{Ask, Ending, Finished, LeaseAnswer, Left, Status};
use onetake::id::new_id;

use super::bench::{Bench, accepted, ask, delivered, lease_of, mark_of, report};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(a_subscriber_who_comes_while_a_run_ends_is_told_once, who_leaves_while_it_is_sent_is_not_told_both);

const ROUNDS: usize = 250;
const COMERS: usize = 12;

async fn a_subscriber_who_comes_while_a_run_ends_is_told_once(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let servers = Arc::new([bench.flights.clone(), bench.other_server(bench.clock().clone()).await]);
    let rounds = stream::iter(0..ROUNDS).map(|round| {
        let servers = servers.clone();
        let bench = &bench;
        async move {
            let key = format!("name {round}");
            let first = bench.accept(ask(&key, "first")).await;
            let run = bench.start(&first).await;
            let comers = (0..COMERS).map(|n| {
                let (servers, key) = (servers.clone(), key.clone());
                tokio::spawn(async move {
                    // Some come before, some after, most of them during.
                    for _ in 0..n {
                        tokio::task::yield_now().await;
                    }
                    servers[n % 2].accept(ask(&key, &format!("u{n}"))).await.expect("no collision comes to light")
                })
            });
            let comers: Vec<_> = comers.collect();
            let server = servers[round % 2].clone();
            let end = tokio::spawn(async move { server.finish(report(&run, Ending::Succeeded("1".into()))).await });
            for comer in join_all(comers).await {
                let comer = accepted(comer.expect("no panic"));
                assert!(matches!(comer.status, Status::Subscribed | Status::Ready), "{:?}", comer.status);
                assert_eq!((comer.generation, comer.requests.len()), (1, 1));
            }
            let end = end.await.expect("no panic").expect("no collision comes to light");
            assert!(matches!(end, Finished::Over { .. }));
        }
    });
    rounds.buffer_unordered(8).collect::<Vec<()>>().await;
    let expected = (ROUNDS * (COMERS + 1)) as i64;
    assert_eq!(bench.count("select count(*) from subscriptions where state = 'open'").await, expected);
    assert_eq!(bench.count("select count(*) from deliveries where state = 'queued'").await, expected);
    assert_eq!(bench.flights.repair_deliveries(10).await.expect("the store is up"), 0);
}

async fn who_leaves_while_it_is_sent_is_not_told_both(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let other = bench.other_server(bench.clock().clone()).await;
    bench.made("anna", "1").await;
    let (mut left, mut sent) = (0, 0);
    for round in 0..150 {
        let due = bench.accept(Ask { ..ask("anna", &new_id()) }).await;
        let request = due.requests[0].clone();
        let leaver = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            bench.flights.leave(&request).await.expect("no collision comes to light")
        };
        let sender = async {
            match other.lease_delivery(lease_of(&request)).await.expect("no collision comes to light") {
                LeaseAnswer::Leased(lease) => {
                    other.mark_delivery(mark_of(&lease, delivered())).await.expect("as above")
                }
                _ => false,
            }
        };
        match tokio::join!(leaver, sender) {
            (Left::Left { .. }, false) => left += 1,
            (Left::Final, true) => sent += 1,
            told => panic!("round {round}: {told:?}"),
        }
    }
    assert_eq!(left + sent, 150);
}
