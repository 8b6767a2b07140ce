//! T7: each delivery is leased by itself and marked by its holder alone.

use std::time::Duration;

use futures::future::join_all;
use onetake::flight::{
    Accepted, Ask, Channel, DeliveryAsk, DeliveryLease, Ending, Held, LeaseAnswer, Outcome, Verdict,
};
use onetake::id::new_token;
use onetake::store::query;

use super::bench::{Bench, LEASE, again, ask, dead, delivered, lease_of, mark_of, subscription};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    a_delivery_is_leased_by_one_sender_at_a_time,
    a_lease_repeated_with_its_token_is_the_same_lease,
    a_lease_says_what_to_send_and_to_whom,
    a_mark_closes_the_delivery_for_good,
    a_stale_sender_cannot_mark,
    a_stale_sender_cannot_mark_beside_the_present_one,
    a_sending_put_off_waits_and_counts_only_if_it_was_one,
    a_lease_that_ended_is_a_sending_that_nobody_knows,
    a_renewed_lease_is_not_taken,
    a_dead_delivery_is_replayed,
    what_is_not_dead_is_not_replayed,
    rows_are_written_with_the_mark_or_not_at_all,
    each_of_many_deliveries_is_leased_by_itself,
    a_subscription_without_its_delivery_is_repaired,
);

/// A delivery that is due.
async fn due(bench: &Bench) -> Accepted {
    bench.made("anna", r#"{"file":1}"#).await;
    bench.accept(ask("anna", "u1")).await
}

async fn leased(bench: &Bench) -> DeliveryLease {
    let due = due(bench).await;
    bench.take(&due.requests[0]).await
}

async fn a_delivery_is_leased_by_one_sender_at_a_time(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let due = due(&bench).await;
    let answers = join_all((0..8).map(|_| bench.lease(&due.requests[0]))).await;
    let granted = answers.iter().filter(|answer| matches!(answer, LeaseAnswer::Leased(_))).count();
    let put_off = answers.iter().filter(|answer| matches!(answer, LeaseAnswer::In(left) if *left > LEASE / 2)).count();
    assert_eq!((granted, put_off), (1, 7));
    assert!(matches!(bench.lease("nobody").await, LeaseAnswer::Unknown));
}

async fn a_lease_repeated_with_its_token_is_the_same_lease(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let due = due(&bench).await;
    let sender = lease_of(&due.requests[0]);
    for _ in 0..3 {
        match bench.flights.lease_delivery(sender.clone()).await.expect("the store is up") {
            LeaseAnswer::Leased(lease) => assert_eq!((lease.attempts, lease.ambiguous), (1, 0)),
            other => panic!("it is ours: {other:?}"),
        }
    }
}

async fn a_lease_says_what_to_send_and_to_whom(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let lease = leased(&bench).await;
    assert_eq!((lease.subscriber.as_str(), lease.channel, lease.generation), ("u1", Channel::Mailbox, 1));
    assert_eq!(lease.outcome, Outcome::Succeeded(r#"{"file":1}"#.into()));
}

async fn a_mark_closes_the_delivery_for_good(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let lease = leased(&bench).await;
    assert!(bench.mark(&lease, delivered()).await);
    assert!(!bench.mark(&lease, dead()).await, "it has ended");
    assert!(matches!(bench.lease(&lease.id).await, LeaseAnswer::Over));
    let view = bench.delivery(&lease.id).await;
    assert_eq!((view.state.as_str(), view.receipt.as_deref()), ("delivered", Some("1")));
}

async fn a_stale_sender_cannot_mark(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let stale = leased(&bench).await;
    bench.pass(LEASE).await;
    let present = bench.take(&stale.id).await;
    assert!(!bench.mark(&stale, delivered()).await);
    assert_eq!(bench.delivery(&stale.id).await.state, "leased");
    assert!(bench.mark(&present, delivered()).await);
}

async fn a_stale_sender_cannot_mark_beside_the_present_one(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    for round in 0..20 {
        let due = bench.accept(ask("anna", &format!("u{round}"))).await;
        let stale = bench.take(&due.requests[0]).await;
        bench.pass(LEASE).await;
        let present = bench.take(&stale.id).await;
        let mut late = mark_of(&stale, delivered());
        late.with = vec![query("-- test.late\ninsert into paused_queues (queue) values ('written by a stale sender')")];
        // The first goes alone; the other two arrive meanwhile and ride in one transaction.
        let unknown = mark_of(&DeliveryLease { id: "nobody".into(), ..stale.clone() }, delivered());
        let (_, stale, present) = tokio::join!(
            bench.flights.mark_delivery(unknown),
            bench.flights.mark_delivery(late),
            bench.flights.mark_delivery(mark_of(&present, dead()))
        );
        assert_eq!((stale.expect("the store is up"), present.expect("the store is up")), (false, true));
        let (view, history) =
            bench.flights.delivery(&due.requests[0]).await.expect("the store is up").expect("it exists");
        assert_eq!((view.state.as_str(), history.len()), ("dead", 1));
    }
    assert_eq!(bench.count("select count(*) from paused_queues").await, 0);
}

async fn a_sending_put_off_waits_and_counts_only_if_it_was_one(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let mut lease = leased(&bench).await;
    let wait = Duration::from_secs(20);
    for (counts, attempts) in [(false, 1), (true, 2), (false, 2), (true, 3)] {
        assert!(bench.mark(&lease, again(wait, counts)).await);
        assert!(matches!(bench.lease(&lease.id).await, LeaseAnswer::In(left) if left > wait / 2 && left <= wait));
        bench.pass(wait).await;
        lease = bench.take(&lease.id).await;
        assert_eq!((lease.attempts, lease.ambiguous), (attempts, 0));
    }
}

async fn a_lease_that_ended_is_a_sending_that_nobody_knows(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = leased(&bench).await;
    bench.pass(LEASE).await;
    let second = bench.take(&first.id).await;
    assert_eq!((second.attempts, second.ambiguous), (2, 1));
    let unsure =
        Verdict::Again { after: Duration::ZERO, reason: "reset".into(), counts: true, ambiguous: true, slot: false };
    bench.mark(&second, unsure).await;
    let third = bench.take(&first.id).await;
    assert_eq!((third.attempts, third.ambiguous), (3, 2), "and so is one that its sender is unsure of");
}

async fn a_renewed_lease_is_not_taken(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let lease = leased(&bench).await;
    let ours = Held { id: lease.id.clone(), token: lease.token.clone() };
    let stranger = Held { id: lease.id.clone(), token: new_token() };
    for _ in 0..3 {
        bench.pass(LEASE / 2).await;
        let kept = bench.flights.renew_deliveries(vec![ours.clone(), stranger.clone()], LEASE).await;
        assert_eq!(kept.expect("the store is up"), std::slice::from_ref(&ours));
        assert!(matches!(bench.lease(&lease.id).await, LeaseAnswer::In(_)));
    }
}

async fn a_dead_delivery_is_replayed(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let lease = leased(&bench).await;
    bench.mark(&lease, Verdict::Dead { reason: "nobody knows".into(), ambiguous: true }).await;
    assert_eq!(bench.flights.replay_delivery(&lease.id).await.expect("the store is up"), Some(true));
    let again = bench.take(&lease.id).await;
    assert_eq!((again.id == lease.id, again.attempts, again.ambiguous), (true, 1, 0));
    bench.mark(&again, Verdict::Suppressed { reason: "blocked".into() }).await;
    assert_eq!(bench.flights.replay_delivery(&lease.id).await.expect("the store is up"), Some(true));
    let (_, history) = bench.flights.delivery(&lease.id).await.expect("the store is up").expect("it exists");
    let mut events: Vec<_> = history.iter().map(|event| event.event.as_str()).collect();
    events.sort_unstable();
    assert_eq!(events, ["dead", "replayed", "replayed", "suppressed"]);
}

async fn what_is_not_dead_is_not_replayed(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let due = due(&bench).await;
    let replayed = async || bench.flights.replay_delivery(&due.requests[0]).await.expect("the store is up");
    assert_eq!(replayed().await, Some(false), "queued");
    let lease = bench.take(&due.requests[0]).await;
    assert_eq!(replayed().await, Some(false), "leased");
    bench.mark(&lease, delivered()).await;
    assert_eq!(replayed().await, Some(false), "delivered");
    assert_eq!(bench.flights.replay_delivery("nobody").await.expect("the store is up"), None);
}

async fn rows_are_written_with_the_mark_or_not_at_all(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let lease = leased(&bench).await;
    let mut mark = mark_of(&lease, delivered());
    mark.with = vec![query("-- test.refused\ninsert into paused_queues (queue) values ('a'), ('a')")];
    assert!(bench.flights.mark_delivery(mark.clone()).await.is_err());
    assert_eq!(bench.delivery(&lease.id).await.state, "leased");
    mark.with = vec![query("-- test.written\ninsert into paused_queues (queue) values ('a')")];
    for is_first in [true, false] {
        assert_eq!(bench.flights.mark_delivery(mark.clone()).await.expect("nothing is refused"), is_first);
    }
    assert!(bench.flights.was_paused("a").await.expect("the store is up"));
}

async fn each_of_many_deliveries_is_leased_by_itself(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let users: Vec<String> = (0..60).map(|n| format!("u{n}")).collect();
    let asked = join_all(users.iter().map(|user| bench.accept(ask("anna", user)))).await;
    let run = bench.start(&asked[0]).await;
    bench.finish(&run, Ending::Succeeded("1".into())).await;
    let due = bench.queued(&asked[0]).await;
    assert_eq!(due.len(), 60);
    let leases = join_all(due.iter().map(|id| bench.take(id))).await;
    let marked = join_all(
        leases
            .iter()
            .enumerate()
            .map(|(n, lease)| bench.mark(lease, if n % 2 == 0 { delivered() } else { again(Duration::ZERO, true) })),
    )
    .await;
    assert!(marked.iter().all(|marked| *marked));
    assert_eq!(bench.queued(&asked[0]).await.len(), 30);
    let ended = leases.iter().step_by(2).map(|lease| lease.id.clone());
    for id in ended {
        assert_eq!(bench.delivery(&id).await.state, "delivered");
    }
}

async fn a_subscription_without_its_delivery_is_repaired(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let both = [Channel::Mailbox, Channel::Poll].map(|channel| subscription("u1", channel));
    let asked = bench.accept(Ask { subscriptions: both.into(), ..ask("anna", "u1") }).await;
    assert_eq!(bench.flights.repair_deliveries(10).await.expect("the store is up"), 0, "the run is open");
    let run = bench.start(&asked).await;
    bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert_eq!(bench.flights.repair_deliveries(10).await.expect("the store is up"), 0);
    // No path of ours does this.
    bench.store.change("delete from deliveries where channel = 'mailbox'").await;
    assert_eq!(bench.flights.repair_deliveries(10).await.expect("the store is up"), 1);
    assert_eq!(bench.queued(&asked).await.len(), 1);
    let sender = DeliveryAsk { token: new_token(), ..lease_of(&bench.queued(&asked).await[0]) };
    assert!(matches!(bench.flights.lease_delivery(sender).await, Ok(LeaseAnswer::Leased(_))));
}
