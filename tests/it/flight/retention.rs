//! What is forgotten with time, and what is not.

use std::time::Duration;

use onetake::flight::{Ask, Ending, Outcome, Retention, Status};

use super::bench::{Bench, ask, delivered};
use super::idempotency::with_key;
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    closed_requests_go_when_they_are_old,
    open_requests_and_the_served_result_stay,
    a_page_bounds_a_step,
    what_has_an_age_of_its_own_goes_by_it,
    sagas_that_have_ended_go_and_those_that_wait_for_somebody_stay,
);

const DAY: Duration = Duration::from_secs(86_400);
const KEPT: Retention = Retention { idempotency_keys: DAY, requests: DAY, mailbox: DAY, histories: DAY, sagas: DAY };

async fn closed_requests_go_when_they_are_old(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.made("anna", "1").await;
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let run = bench.start(&refresh).await;
    bench.finish(&run, Ending::Succeeded("2".into())).await;
    let lease = bench.take(&refresh.requests[0]).await;
    bench.mark(&lease, delivered()).await;
    assert!(!bench.flights.forget_old(KEPT, 100).await.expect("the store is up"));
    assert!(bench.flights.request(&first.requests[0]).await.expect("the store is up").is_some(), "not old yet");
    bench.pass(DAY * 2).await;
    bench.flights.forget_old(KEPT, 100).await.expect("the store is up");
    for request in [&first.requests[0], &refresh.requests[0]] {
        assert!(bench.flights.request(request).await.expect("the store is up").is_none());
    }
    assert_eq!(bench.count("select count(*) from deliveries").await, 0);
    assert_eq!(bench.store.numbers("select generation from runs").await, [2], "the one that is served");
}

async fn open_requests_and_the_served_result_stay(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let waiting = bench.accept(ask("anna", "u1")).await;
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u2") }).await;
    bench.pass(DAY * 2).await;
    bench.flights.forget_old(KEPT, 100).await.expect("the store is up");
    assert_eq!(bench.take(&waiting.requests[0]).await.outcome, Outcome::Succeeded("1".into()));
    let poll = bench.accept(ask("anna", "u3")).await;
    assert_eq!((poll.status, poll.generation), (Status::Ready, 1));
    let run = bench.start(&refresh).await;
    bench.finish(&run, Ending::Succeeded("2".into())).await;
    assert_eq!(bench.queued(&refresh).await, refresh.requests);
}

async fn a_page_bounds_a_step(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    for user in 0..5 {
        let due = bench.accept(ask("anna", &format!("u{user}"))).await;
        let lease = bench.take(&due.requests[0]).await;
        bench.mark(&lease, delivered()).await;
    }
    bench.pass(DAY * 2).await;
    let mut steps = 1;
    while bench.flights.forget_old(KEPT, 2).await.expect("the store is up") {
        steps += 1;
    }
    assert_eq!(steps, 4, "six requests, two at a time, and a look that finds none");
    assert_eq!(bench.count("select count(*) from subscriptions").await, 0);
}

async fn what_has_an_age_of_its_own_goes_by_it(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.accept(with_key(ask("anna", "u1"), "p", "k", "body")).await;
    let now_ms = bench.flights.store().now_ms().await.expect("the store is up");
    let item = format!(
        "insert into mailbox (id, owner, kind, text, flight_id, generation, created_at_ms)
        values ('m', 'u1', 'message', 'hello', 'f', 1, {now_ms})"
    );
    bench.store.change(&item).await;
    bench.pass(DAY * 2).await;
    let longer = Retention { mailbox: DAY * 3, ..KEPT };
    bench.flights.forget_old(longer, 100).await.expect("the store is up");
    assert_eq!(bench.count("select count(*) from mailbox").await, 1);
    let again = bench.accept(with_key(ask("anna", "u1"), "p", "k", "another body")).await;
    assert_eq!(again.status, Status::Subscribed, "the key may be used again");
    bench.pass(DAY * 2).await;
    bench.flights.forget_old(longer, 100).await.expect("the store is up");
    assert_eq!(bench.count("select count(*) from mailbox").await, 0);
}

async fn sagas_that_have_ended_go_and_those_that_wait_for_somebody_stay(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let now_ms = bench.flights.store().now_ms().await.expect("the store is up");
    for state in ["due", "unknown", "parked", "confirmed", "compensated"] {
        let saga = format!(
            "insert into sagas (id, name, subject, input, state, calls, asks, next_at_ms, created_at_ms, touched_at_ms)
            values ('{state}', 'n', 's', '{{}}', '{state}', 1, 0, 0, {now_ms}, {now_ms})"
        );
        bench.store.change(&saga).await;
        let event =
            format!("insert into saga_events (saga_id, at_ms, actor, event) values ('{state}', {now_ms}, 'a', 'e')");
        bench.store.change(&event).await;
    }
    bench.flights.forget_old(KEPT, 100).await.expect("the store is up");
    assert_eq!(bench.count("select count(*) from sagas").await, 5, "none is old yet");
    bench.pass(DAY * 2).await;
    bench.flights.forget_old(KEPT, 100).await.expect("the store is up");
    let left = bench.store.texts("select state from sagas order by state").await;
    assert_eq!(left, ["due", "parked", "unknown"]);
    assert_eq!(bench.store.texts("select saga_id from saga_events order by saga_id").await, left);
}
