//! `Idempotency-Key`: one effect and one answer, however often and wherever it is sent.

use std::sync::Arc;

use futures::future::join_all;
use onetake::flight::{Answer, Ask, Idempotency};
use onetake::idempotency::{Key, StoredAnswer};

use super::bench::{Bench, accepted, ask};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    a_repeated_write_is_answered_as_before,
    the_same_key_with_another_body_is_refused,
    principals_do_not_share_keys,
    a_write_raced_by_itself_has_one_effect,
);

/// `key` of `principal` over the body `fingerprint`; the answer names the request.
pub fn with_key(ask: Ask, principal: &str, key: &str, fingerprint: &str) -> Ask {
    let idempotency = Idempotency {
        key: Key { principal: principal.into(), key: key.into(), fingerprint: fingerprint.into() },
        render: Arc::new(|accepted| StoredAnswer {
            status: 202,
            body: accepted.requests.join(","),
            location: Some("/v1/requests".into()),
        }),
    };
    Ask { idempotency: Some(idempotency), ..ask }
}

async fn a_repeated_write_is_answered_as_before(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(with_key(ask("anna", "u1"), "p", "k", "body")).await;
    // Another user, as the fingerprint is all that is compared: nothing of this ask may have an effect.
    match bench.flights.accept(with_key(ask("anna", "u2"), "p", "k", "body")).await.expect("the store is up") {
        Answer::Replayed(stored) => {
            assert_eq!((stored.status, stored.body), (202, first.requests[0].clone()));
            assert_eq!(stored.location.as_deref(), Some("/v1/requests"));
        }
        other => panic!("it was answered before: {other:?}"),
    }
    assert_eq!(bench.count("select count(*) from subscriptions").await, 1);
}

async fn the_same_key_with_another_body_is_refused(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.accept(with_key(ask("anna", "u1"), "p", "k", "body")).await;
    let other = bench.flights.accept(with_key(ask("boris", "u1"), "p", "k", "other body")).await;
    assert!(matches!(other, Ok(Answer::KeyReused)));
    assert_eq!(bench.count("select count(*) from flights").await, 1);
}

async fn principals_do_not_share_keys(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.accept(with_key(ask("anna", "u1"), "p", "k", "body")).await;
    bench.accept(with_key(ask("anna", "u2"), "q", "k", "other body")).await;
}

async fn a_write_raced_by_itself_has_one_effect(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let other = bench.other_server(bench.clock().clone()).await;
    for round in 0..20 {
        let key = format!("k{round}");
        let asks = (0..8).map(|n| {
            let server = if n % 2 == 0 { &bench.flights } else { &other };
            // A key of its own each, so that no flight's lock keeps the racers apart.
            server.accept(with_key(ask(&format!("{key}-{n}"), "u1"), "p", &key, "body"))
        });
        let answers = join_all(asks).await.into_iter().map(|answer| answer.expect("no collision comes to light"));
        let (first, replayed): (Vec<_>, Vec<_>) = answers.partition(|answer| matches!(answer, Answer::Accepted(_)));
        assert_eq!(first.len(), 1, "round {round}");
        let first = accepted(first.into_iter().next().expect("there is one"));
        for answer in replayed {
            assert!(matches!(answer, Answer::Replayed(stored) if stored.body == first.requests[0]));
        }
    }
    assert_eq!(bench.count("select count(*) from flights").await, 20);
    assert_eq!(bench.count("select count(*) from subscriptions").await, 20);
}
