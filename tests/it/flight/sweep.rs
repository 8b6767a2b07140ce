//! T8's half in SQL: what was left alone is found once, and Redis is told until it has heard.

use std::time::Duration;

use futures::future::join_all;
use onetake::flight::{Ask, Ending, ListFilter, RunSpec, RunState};

use super::bench::{Bench, SCOPE, ask, delivered, key_text, spec};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    an_untouched_run_is_looked_after_by_one_server,
    an_untouched_delivery_is_looked_after_by_one_server,
    after_a_replaced_redis_all_that_is_open_is_told_again,
    due_runs_come_by_priority_and_time,
    a_flight_is_dirty_until_redis_was_told_of_its_latest_state,
    what_is_listed_is_what_is_there,
    servers_count_each_other_and_remember_what_was_paused,
);

const WHILE: Duration = Duration::from_secs(5);

async fn an_untouched_run_is_looked_after_by_one_server(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let other = bench.other_server(bench.clock().clone()).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    bench.made("boris", "1").await;
    assert!(bench.flights.take_untouched_runs(WHILE, 10).await.expect("the store is up").is_empty(), "too early");
    bench.pass(WHILE).await;
    let looks = (0..8).map(|n| if n % 2 == 0 { &bench.flights } else { &other }.take_untouched_runs(WHILE, 10));
    let found: Vec<_> = join_all(looks).await.into_iter().flat_map(|runs| runs.expect("the store is up")).collect();
    assert_eq!(found.len(), 1, "once, and not what has ended");
    assert_eq!((&found[0].flight.flight, found[0].attempt), (&asked.flight, 0));
}

async fn an_untouched_delivery_is_looked_after_by_one_server(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let other = bench.other_server(bench.clock().clone()).await;
    bench.made("anna", "1").await;
    let (waiting, done) = (bench.accept(ask("anna", "u1")).await, bench.accept(ask("anna", "u2")).await);
    let lease = bench.take(&done.requests[0]).await;
    bench.mark(&lease, delivered()).await;
    let due = bench.flights.due_deliveries(10).await.expect("the store is up");
    assert_eq!(due.iter().map(|delivery| &delivery.id).collect::<Vec<_>>(), [&waiting.requests[0]]);
    bench.pass(WHILE).await;
    let looks = (0..8).map(|n| if n % 2 == 0 { &bench.flights } else { &other }.take_untouched_deliveries(WHILE, 10));
    let found: Vec<_> = join_all(looks).await.into_iter().flat_map(|due| due.expect("the store is up")).collect();
    assert_eq!(found.iter().map(|delivery| &delivery.id).collect::<Vec<_>>(), [&waiting.requests[0]]);
}

async fn after_a_replaced_redis_all_that_is_open_is_told_again(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    bench.accept(ask("anna", "u1")).await;
    bench.accept(ask("boris", "u1")).await;
    bench.flights.forget_touches().await.expect("the store is up");
    assert_eq!(bench.flights.take_untouched_runs(WHILE, 10).await.expect("the store is up").len(), 1);
    assert_eq!(bench.flights.take_untouched_deliveries(WHILE, 10).await.expect("the store is up").len(), 1);
}

async fn due_runs_come_by_priority_and_time(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    // As in BullMQ: none is before all, then a smaller number is before a larger.
    for (key, priority) in [("low", 9), ("high", 1), ("none", 0)] {
        bench.accept(Ask { run: RunSpec { priority, ..spec() }, ..ask(key, "u1") }).await;
    }
    bench.accept(Ask { run: RunSpec { queue: "elsewhere".into(), ..spec() }, ..ask("other", "u1") }).await;
    let due = bench.flights.due_runs("video-work", 10).await.expect("the store is up");
    let keys: Vec<_> = due.iter().map(|run| run.flight.key.as_str()).collect();
    assert_eq!(keys, [key_text("none"), key_text("high"), key_text("low")]);
    assert_eq!(bench.flights.due_runs("video-work", 2).await.expect("the store is up").len(), 2);
}

async fn a_flight_is_dirty_until_redis_was_told_of_its_latest_state(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let dirty = async || bench.flights.dirty(Duration::ZERO, 10).await.expect("the store is up");
    let first = dirty().await.pop().expect("it ended and nobody told Redis");
    assert_eq!(first.result.as_ref().map(|(value, generation, _)| (value.as_str(), *generation)), Some(("1", 1)));
    bench.pass(Duration::from_secs(1)).await;
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let run = bench.start(&refresh).await;
    bench.finish(&run, Ending::Succeeded("2".into())).await;
    // Times lie in the past by now on one of the stores: told of what was, by the same clock.
    let told_ms = first.touched_at_ms.min(dirty().await[0].touched_at_ms - 1);
    bench.flights.mirrored(&first.flight, told_ms).await.expect("the store is up");
    let second = dirty().await.pop().expect("what Redis was told is old already");
    assert_eq!(second.result.as_ref().map(|(value, ..)| value.as_str()), Some("2"));
    bench.flights.mirrored(&second.flight, second.touched_at_ms).await.expect("the store is up");
    assert!(dirty().await.is_empty());
}

async fn what_is_listed_is_what_is_there(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let ready = bench.accept(ask("anna", "u1")).await;
    let open = bench.accept(ask("boris", "u1")).await;
    let all = ListFilter { limit: 10, ..ListFilter::default() };
    let flights = bench.flights.list(&all).await.expect("the store is up");
    assert_eq!(flights.len(), 2);
    let pending = ListFilter { state: "pending".into(), ..all.clone() };
    let pending = bench.flights.list(&pending).await.expect("the store is up");
    assert_eq!((pending.len(), &pending[0].id, pending[0].subscribers), (1, &open.flight, 1));
    let deliveries = ListFilter { state: "queued".into(), channel: "mailbox".into(), ..all };
    let deliveries = bench.flights.deliveries(&deliveries).await.expect("the store is up");
    assert_eq!(deliveries.iter().map(|delivery| &delivery.id).collect::<Vec<_>>(), [&ready.requests[0]]);
    let requests = bench.flights.requests("u1", SCOPE, "", 10).await.expect("the store is up");
    assert_eq!(requests.len(), 2);
    let older = bench.flights.requests("u1", SCOPE, &requests[0].id, 10).await.expect("the store is up");
    assert_eq!(older.iter().map(|request| &request.id).collect::<Vec<_>>(), [&requests[1].id]);
    let named = bench.flights.by_keys(&[(SCOPE.into(), key_text("anna")), (SCOPE.into(), "none".into())]).await;
    assert!(matches!(named.expect("the store is up").as_slice(), [anna] if anna.state == RunState::Succeeded));
    let subscribers = bench.flights.subscribers(&open.flight, 10).await.expect("the store is up");
    assert_eq!(subscribers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["u1"]);
}

async fn servers_count_each_other_and_remember_what_was_paused(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let seen = async |server: &str, role: &str| {
        bench.flights.server_seen(server, role, Duration::from_secs(60)).await.expect("the store is up")
    };
    assert_eq!((seen("a", "all").await, seen("b", "runner").await, seen("c", "http").await), (1, 2, 2));
    assert_eq!(seen("a", "all").await, 2, "itself once");
    bench.flights.remember_paused(vec!["mail".into(), "video".into()]).await.expect("the store is up");
    bench.flights.remember_paused(vec!["video".into()]).await.expect("the store is up");
    let was_paused = async |queue| bench.flights.was_paused(queue).await.expect("the store is up");
    assert_eq!((was_paused("mail").await, was_paused("video").await), (false, true));
}
