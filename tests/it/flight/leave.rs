//! Leaving and releasing: wishes that end before they are fulfilled.

use onetake::flight::{Ask, Claim, Ending, LeaseAnswer, Left, Outcome, Released, RunSpec, RunState, Status};

use super::bench::{Bench, SCOPE, ask, delivered, key_text, outcome, spec};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    the_last_to_leave_cancels_the_run,
    a_run_that_others_want_goes_on,
    a_run_that_may_not_be_cancelled_goes_on,
    who_left_is_not_delivered_to,
    what_is_being_sent_or_was_sent_cannot_be_left,
    who_left_may_come_back,
    a_release_cancels_the_run_and_tells_who_waited,
    a_release_forgets_the_result_and_the_failure,
);

fn cancelled(left: &Left) -> bool {
    match left {
        Left::Left { cancelled, .. } => *cancelled,
        other => panic!("it should have been open: {other:?}"),
    }
}

impl Bench {
    async fn leave(&self, request: &str) -> Left {
        self.flights.leave(request).await.expect("the store is up")
    }

    async fn release(&self, key: &str) -> Released {
        self.flights.release(SCOPE, &key_text(key), "by hand").await.expect("the store is up")
    }
}

async fn the_last_to_leave_cancels_the_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    assert!(cancelled(&bench.leave(&asked.requests[0]).await));
    assert_eq!(bench.flight("anna").await.state, RunState::Cancelled);
    assert!(bench.queued(&asked).await.is_empty(), "nobody is left to be told");
    let late = bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert!(matches!(outcome(&late), Some(Outcome::Cancelled(_))), "{late:?}");
    assert_eq!(bench.flight("anna").await.result, None);
    assert_eq!(bench.leave(&asked.requests[0]).await, Left::Final, "once is enough");
    assert_eq!(bench.leave("nobody").await, Left::Unknown);
}

async fn a_run_that_others_want_goes_on(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(ask("anna", "u1")).await;
    let second = bench.accept(ask("anna", "u2")).await;
    assert!(!cancelled(&bench.leave(&first.requests[0]).await));
    let run = bench.start(&first).await;
    bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert_eq!(bench.queued(&first).await, second.requests);
}

async fn a_run_that_may_not_be_cancelled_goes_on(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let stubborn = RunSpec { cancel_when_abandoned: false, ..spec() };
    let asked = bench.accept(Ask { run: stubborn, ..ask("anna", "u1") }).await;
    assert!(!cancelled(&bench.leave(&asked.requests[0]).await));
    bench.start(&asked).await;
}

async fn who_left_is_not_delivered_to(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let due = bench.accept(ask("anna", "u1")).await;
    bench.leave(&due.requests[0]).await;
    assert!(matches!(bench.lease(&due.requests[0]).await, LeaseAnswer::Over));
    assert_eq!(bench.delivery(&due.requests[0]).await.state, "suppressed");
}

async fn what_is_being_sent_or_was_sent_cannot_be_left(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let due = bench.accept(ask("anna", "u1")).await;
    let lease = bench.take(&due.requests[0]).await;
    assert_eq!(bench.leave(&due.requests[0]).await, Left::Final);
    assert!(bench.mark(&lease, delivered()).await);
    assert_eq!(bench.leave(&due.requests[0]).await, Left::Final);
}

async fn who_left_may_come_back(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(ask("anna", "u1")).await;
    bench.accept(ask("anna", "u2")).await;
    bench.leave(&first.requests[0]).await;
    let back = bench.accept(ask("anna", "u1")).await;
    assert_eq!(back.status, Status::Subscribed);
    assert_ne!(first.requests, back.requests);
}

async fn a_release_cancels_the_run_and_tells_who_waited(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    assert_eq!(bench.release("anna").await, Released::Released { flight: asked.flight.clone(), cancelled: Some(1) });
    let told = bench.take(&asked.requests[0]).await;
    assert_eq!(told.outcome, Outcome::Cancelled("by hand".into()));
    let late = bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert_eq!(outcome(&late), Some(&Outcome::Cancelled("by hand".into())), "the worker is told, too");
    assert!(matches!(bench.claim(&asked).await, Claim::Over(Outcome::Cancelled(_))));
    let next = bench.accept(ask("anna", "u2")).await;
    assert_eq!((next.status, next.generation), (Status::Queued, 2), "the key is free");
    assert_eq!(bench.release("nobody").await, Released::Unknown);
}

async fn a_release_forgets_the_result_and_the_failure(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let made = bench.made("anna", "1").await;
    assert_eq!(bench.release("anna").await, Released::Released { flight: made.flight.clone(), cancelled: None });
    assert_eq!(bench.flight("anna").await.result, None);
    let next = bench.accept(ask("anna", "u1")).await;
    assert_eq!((next.status, next.generation), (Status::Queued, 2));
}
