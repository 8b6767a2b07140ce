//! T1: who starts a run, who joins it, who is answered at once, and that nobody is written down twice.

use std::time::Duration;

use futures::future::join_all;
use onetake::flight::{Accepted, Ask, Channel, Ending, NewSubscription, Outcome, RunState, Status};
use onetake::id::derived_id;

use super::bench::{Bench, ask, by_poll, delivered, report, subscription};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    the_first_starts_a_run_and_the_others_join_it,
    a_subscriber_who_asks_twice_has_one_request,
    an_ask_repeated_after_an_unknown_commit_writes_nothing_twice,
    one_key_many_times_in_one_batch_is_one_run,
    one_key_in_two_scopes_is_two_flights,
    a_fresh_result_is_delivered_without_a_run,
    a_fresh_result_is_delivered_once_to_who_asks_twice,
    a_result_older_than_asked_is_made_again,
    refreshes_join_one_run,
    a_failed_refresh_leaves_the_old_result,
    a_failure_is_remembered_for_its_time,
    a_node_job_that_asks_again_is_told_the_same,
    a_node_job_answered_at_once_has_one_chat_delivery,
);

async fn the_first_starts_a_run_and_the_others_join_it(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(ask("anna", "u1")).await;
    let second = bench.accept(ask("anna", "u2")).await;
    assert_eq!((first.status, second.status), (Status::Queued, Status::Subscribed));
    assert_eq!((&first.flight, first.generation), (&second.flight, second.generation));
    bench.start(&first).await;
    let third = bench.accept(ask("anna", "u3")).await;
    assert_eq!((third.status, third.run_state), (Status::Subscribed, RunState::Running));
}

async fn a_subscriber_who_asks_twice_has_one_request(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(ask("anna", "u1")).await;
    let second = bench.accept(ask("anna", "u1")).await;
    assert_eq!(first.requests, second.requests);
    let elsewhere = bench.accept(by_poll(ask("anna", "u1"))).await;
    assert_ne!(first.requests, elsewhere.requests, "another target is another request");
    assert_eq!(bench.count("select count(*) from subscriptions").await, 2);
}

async fn an_ask_repeated_after_an_unknown_commit_writes_nothing_twice(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let open = ask("anna", "u1");
    let (first, again) = (bench.accept(open.clone()).await, bench.accept(open).await);
    assert_eq!((again.status, &again.requests), (Status::Subscribed, &first.requests));
    bench.made("boris", "1").await;
    let ready = ask("boris", "u1");
    let (first, again) = (bench.accept(ready.clone()).await, bench.accept(ready).await);
    assert_eq!(first.requests, again.requests);
    assert_eq!(bench.queued(&first).await, first.requests);
}

async fn one_key_many_times_in_one_batch_is_one_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    for round in 1..=3 {
        // Sent in one go, so that nearly all of them ride in one transaction.
        let users: Vec<String> = (0..40).map(|n| format!("u{}", n % 20)).collect();
        let asks = users.iter().map(|user| bench.accept(Ask { refresh: true, ..ask("anna", user) }));
        let answers = join_all(asks).await;
        assert_eq!(with_status(&answers, Status::Queued), 1, "round {round}");
        assert_eq!(with_status(&answers, Status::Subscribed), 39);
        for (one, other) in answers[..20].iter().zip(&answers[20..]) {
            assert_eq!(one.requests, other.requests, "the same subscriber");
        }
        let run = bench.start(&answers[0]).await;
        bench.finish(&run, Ending::Succeeded("1".into())).await;
        assert_eq!(bench.queued(&answers[0]).await.len(), 20);
    }
}

fn with_status(answers: &[Accepted], status: Status) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

async fn one_key_in_two_scopes_is_two_flights(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let video = bench.accept(ask("anna", "u1")).await;
    let photo = bench.accept(Ask { scope: "photo".into(), ..ask("anna", "u1") }).await;
    assert_ne!(video.flight, photo.flight);
    assert_eq!(photo.status, Status::Queued);
}

async fn a_fresh_result_is_delivered_without_a_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let made = bench.made("anna", r#"{"file":1}"#).await;
    let poll = bench.accept(by_poll(ask("anna", "u1"))).await;
    assert_eq!((poll.status, poll.generation), (Status::Ready, made.generation));
    assert_eq!(poll.outcome, Some(Outcome::Succeeded(r#"{"file":1}"#.into())));
    assert!(poll.requests.is_empty(), "who only polls has the answer already");
    let push = bench.accept(ask("anna", "u1")).await;
    assert_eq!((push.status, push.run_state), (Status::Ready, RunState::Succeeded));
    assert_eq!(push.deliveries, push.requests);
    assert_eq!(bench.queued(&push).await, push.requests);
}

async fn a_fresh_result_is_delivered_once_to_who_asks_twice(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let first = bench.accept(ask("anna", "u1")).await;
    let second = bench.accept(ask("anna", "u1")).await;
    assert_eq!(first.requests, second.requests);
    assert!(second.deliveries.is_empty());
    let lease = bench.take(&first.requests[0]).await;
    assert!(bench.mark(&lease, delivered()).await);
    let third = bench.accept(ask("anna", "u1")).await;
    assert_ne!(first.requests, third.requests, "what was delivered may be wished for again");
    assert_eq!(third.deliveries, third.requests);
}

async fn a_result_older_than_asked_is_made_again(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    bench.pass(Duration::from_secs(100)).await;
    let patient = Ask { max_age_ms: Some(200_000), ..ask("anna", "u1") };
    assert_eq!(bench.accept(patient).await.status, Status::Ready);
    let strict = bench.accept(Ask { max_age_ms: Some(50_000), ..ask("anna", "u2") }).await;
    assert_eq!((strict.status, strict.generation), (Status::Queued, 2));
    let easy = bench.accept(ask("anna", "u3")).await;
    assert_eq!((easy.status, easy.generation), (Status::Ready, 1), "the old result is served meanwhile");
}

async fn refreshes_join_one_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let first = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let second = bench.accept(Ask { refresh: true, ..ask("anna", "u2") }).await;
    assert_eq!((first.status, second.status), (Status::Queued, Status::Subscribed));
    let run = bench.start(&first).await;
    bench.finish(&run, Ending::Succeeded("2".into())).await;
    let flight = bench.flight("anna").await;
    assert_eq!((flight.result.as_deref(), flight.result_generation), (Some("2"), Some(2)));
}

async fn a_failed_refresh_leaves_the_old_result(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let run = bench.start(&refresh).await;
    bench.finish(&run, Ending::FailedForGood("no paper".into())).await;
    let flight = bench.flight("anna").await;
    assert_eq!((flight.state, flight.generation), (RunState::Failed, 2));
    assert_eq!((flight.result.as_deref(), flight.result_generation), (Some("1"), Some(1)));
    assert_eq!(bench.accept(ask("anna", "u2")).await.status, Status::Ready);
    let told = bench.take(&refresh.requests[0]).await;
    assert_eq!(told.outcome, Outcome::Failed("no paper".into()), "who asked for the refresh is told of its end");
}

async fn a_failure_is_remembered_for_its_time(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&first).await;
    let mut failure = report(&run, Ending::FailedForGood("no such name".into()));
    failure.negative_ttl = Duration::from_secs(30);
    bench.flights.finish(failure).await.expect("the store is up");
    let told = bench.accept(ask("anna", "u2")).await;
    assert_eq!((told.status, told.generation), (Status::Failed, 1));
    assert_eq!(told.outcome, Some(Outcome::Failed("no such name".into())));
    assert_eq!(told.deliveries, told.requests);
    let insistent = bench.accept(Ask { refresh: true, ..ask("anna", "u3") }).await;
    assert_eq!(insistent.status, Status::Queued);
    let run = bench.start(&insistent).await;
    let mut failure = report(&run, Ending::FailedForGood("still none".into()));
    failure.negative_ttl = Duration::from_secs(30);
    bench.flights.finish(failure).await.expect("the store is up");
    bench.pass(Duration::from_secs(31)).await;
    assert_eq!(bench.accept(ask("anna", "u4")).await.status, Status::Queued);
}

/// A Node job and the chat in its data, as intake makes them.
fn node_job(key: &str, job: &str) -> Ask {
    let subscriptions = [("job", Channel::Follower), ("chat", Channel::Telegram)]
        .map(|(part, channel)| NewSubscription { id: derived_id(&[job, part]), ..subscription(job, channel) });
    Ask { subscriptions: subscriptions.into(), is_repeatable: true, ..ask(key, job) }
}

async fn a_node_job_that_asks_again_is_told_the_same(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let first = bench.accept(node_job("anna", "7")).await;
    assert_eq!(first.status, Status::Queued);
    let open = bench.accept(node_job("anna", "7")).await;
    assert_eq!((open.status, open.outcome, &open.requests), (Status::Subscribed, None, &first.requests));
    let run = bench.start(&first).await;
    bench.finish(&run, Ending::Succeeded("1".into())).await;
    for id in bench.queued(&first).await {
        let lease = bench.take(&id).await;
        bench.mark(&lease, delivered()).await;
    }
    // Somebody else's newer result changes nothing about what this job was told.
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let run = bench.start(&refresh).await;
    bench.finish(&run, Ending::Succeeded("2".into())).await;
    let late = bench.accept(node_job("anna", "7")).await;
    assert_eq!((late.status, late.generation), (Status::Ready, 1));
    assert_eq!(late.outcome, Some(Outcome::Succeeded("1".into())));
    assert!(late.deliveries.is_empty() && bench.queued(&first).await.is_empty(), "no second chat message");
}

async fn a_node_job_answered_at_once_has_one_chat_delivery(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("anna", "1").await;
    let first = bench.accept(node_job("anna", "7")).await;
    assert_eq!((first.status, first.deliveries.len()), (Status::Ready, 1), "the chat; the job is ended by its taker");
    let open = bench.accept(node_job("anna", "7")).await;
    assert_eq!((open.status, open.deliveries.len()), (Status::Ready, 0));
    let lease = bench.take(&first.deliveries[0]).await;
    bench.mark(&lease, delivered()).await;
    let late = bench.accept(node_job("anna", "7")).await;
    assert_eq!((late.status, late.deliveries.len()), (Status::Ready, 0));
    assert_eq!(bench.count("select count(*) from deliveries where channel = 'telegram'").await, 1);
}
