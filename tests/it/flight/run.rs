//! T3 to T6: a run is in one worker's hands at a time, and whoever lost it changes nothing.

use std::time::Duration;

use onetake::flight::{Ask, Claim, ClaimAsk, Ending, Finished, Held, Outcome, RunSpec, RunState};
use onetake::id::new_token;
use onetake::store::query;

use super::bench::{BACKOFF, Bench, LEASE, ask, claim_of, held, outcome, report, spec};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    a_run_is_claimed_by_one_worker_at_a_time,
    a_claim_repeated_with_its_token_is_the_same_claim,
    a_run_is_not_claimed_before_it_is_due,
    a_claim_of_what_is_over_or_unknown_is_told_so,
    a_failed_attempt_is_tried_again_after_its_backoff_then_told_to_all,
    a_snooze_is_no_attempt,
    a_failure_for_good_leaves_no_attempt,
    a_stale_worker_cannot_finish_or_renew,
    a_lease_that_nobody_took_may_still_finish,
    a_repeated_report_is_answered_the_same,
    a_report_whose_rows_are_refused_changes_nothing,
    a_renewed_lease_lasts,
    a_silent_worker_loses_its_run,
    a_worker_that_fell_silent_at_the_last_attempt_fails_the_run,
    a_store_that_starts_again_disowns_all_in_hand,
);

async fn a_run_is_claimed_by_one_worker_at_a_time(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    assert_eq!((run.attempt, run.max_attempts, run.generation), (1, 2, 1));
    match bench.claim(&asked).await {
        Claim::In(left) => assert!(left > LEASE / 2 && left <= LEASE, "{left:?}"),
        other => panic!("it is in hand: {other:?}"),
    }
    let claims = futures::future::join_all((0..8).map(|_| bench.claim(&asked))).await;
    assert!(claims.iter().all(|claim| matches!(claim, Claim::In(_))));
}

async fn a_claim_repeated_with_its_token_is_the_same_claim(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let claim = claim_of(&asked);
    for _ in 0..3 {
        match bench.flights.claim(claim.clone()).await.expect("the store is up") {
            Claim::Claimed(run) => assert_eq!((run.attempt, &run.token), (1, &claim.token)),
            other => panic!("it is ours: {other:?}"),
        }
    }
    assert_eq!(bench.flight("anna").await.attempt, 1);
}

async fn a_run_is_not_claimed_before_it_is_due(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(Ask { run: RunSpec { delay_ms: 30_000, ..spec() }, ..ask("anna", "u1") }).await;
    assert!(matches!(bench.claim(&asked).await, Claim::In(left) if left > Duration::from_secs(15)));
    assert!(bench.flights.due_runs("video-work", 10).await.expect("the store is up").is_empty());
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.flights.due_runs("video-work", 10).await.expect("the store is up").len(), 1);
    bench.start(&asked).await;
}

async fn a_claim_of_what_is_over_or_unknown_is_told_so(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let made = bench.made("anna", "1").await;
    let over = Outcome::Succeeded("1".into());
    assert!(matches!(bench.claim(&made).await, Claim::Over(outcome) if outcome == over));
    bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    assert!(
        matches!(bench.claim(&made).await, Claim::Over(outcome) if outcome == over),
        "also when a later one is open"
    );
    let later = ClaimAsk { generation: 3, ..claim_of(&made) };
    assert!(matches!(bench.flights.claim(later).await, Ok(Claim::Unknown)));
    let nobody = ClaimAsk { flight: "nobody".into(), ..claim_of(&made) };
    assert!(matches!(bench.flights.claim(nobody).await, Ok(Claim::Unknown)));
}

async fn a_failed_attempt_is_tried_again_after_its_backoff_then_told_to_all(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    bench.accept(ask("anna", "u2")).await;
    let first = bench.start(&asked).await;
    match bench.finish(&first, Ending::Failed("jam".into())).await {
        Finished::Again(run) => {
            assert_eq!((run.attempt, run.flight.state), (1, RunState::Pending));
            assert_eq!(run.due_in, BACKOFF);
        }
        other => panic!("an attempt is left: {other:?}"),
    }
    assert!(bench.queued(&asked).await.is_empty(), "nobody is told of an attempt");
    assert!(matches!(bench.claim(&asked).await, Claim::In(left) if left <= BACKOFF));
    bench.pass(BACKOFF).await;
    let second = bench.start(&asked).await;
    assert_eq!(second.attempt, 2);
    let end = bench.finish(&second, Ending::Failed("jam again".into())).await;
    assert_eq!(outcome(&end), Some(&Outcome::Failed("jam again".into())));
    assert_eq!(bench.queued(&asked).await.len(), 2);
}

async fn a_snooze_is_no_attempt(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    for _ in 0..5 {
        let run = bench.start(&asked).await;
        assert_eq!(run.attempt, 1);
        let end = bench.finish(&run, Ending::Later(Duration::from_secs(9), "no printer".into())).await;
        assert!(matches!(end, Finished::Again(run) if run.due_in == Duration::from_secs(9)));
        bench.pass(Duration::from_secs(9)).await;
    }
}

async fn a_failure_for_good_leaves_no_attempt(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    let end = bench.finish(&run, Ending::FailedForGood("no such name".into())).await;
    assert_eq!(outcome(&end), Some(&Outcome::Failed("no such name".into())));
    assert_eq!(bench.queued(&asked).await, asked.requests);
}

async fn a_stale_worker_cannot_finish_or_renew(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let stale = bench.start(&asked).await;
    bench.pass(LEASE).await;
    let present = bench.start(&asked).await;
    assert!(matches!(bench.finish(&stale, Ending::Succeeded("old".into())).await, Finished::Lost));
    assert!(matches!(bench.finish(&stale, Ending::Failed("old".into())).await, Finished::Lost));
    let kept = bench.flights.renew_runs(vec![held(&stale), held(&present)], LEASE).await.expect("the store is up");
    assert_eq!(kept, [held(&present)]);
    let flight = bench.flight("anna").await;
    assert_eq!((flight.state, flight.result), (RunState::Running, None));
    bench.finish(&present, Ending::Succeeded("new".into())).await;
    assert!(matches!(bench.finish(&stale, Ending::Succeeded("old".into())).await, Finished::Lost));
    assert_eq!(bench.flight("anna").await.result.as_deref(), Some("new"));
}

async fn a_lease_that_nobody_took_may_still_finish(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    bench.pass(LEASE * 10).await;
    let end = bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert_eq!(outcome(&end), Some(&Outcome::Succeeded("1".into())));
}

async fn a_repeated_report_is_answered_the_same(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    for _ in 0..3 {
        let end = bench.finish(&run, Ending::Succeeded("1".into())).await;
        assert_eq!(outcome(&end), Some(&Outcome::Succeeded("1".into())));
    }
    assert_eq!(bench.queued(&asked).await, asked.requests);
    let other = bench.accept(ask("boris", "u1")).await;
    let other = bench.start(&other).await;
    // The first goes alone; the others arrive meanwhile and ride in one transaction.
    let reports = [&run, &other, &other, &other].map(|run| bench.finish(run, Ending::Succeeded("1".into())));
    for end in futures::future::join_all(reports).await {
        assert_eq!(outcome(&end), Some(&Outcome::Succeeded("1".into())), "also in one batch");
    }
    let refresh = bench.accept(Ask { refresh: true, ..ask("anna", "u1") }).await;
    let late = bench.finish(&run, Ending::Succeeded("1".into())).await;
    assert_eq!(outcome(&late), Some(&Outcome::Succeeded("1".into())), "also when the next run is open");
    bench.start(&refresh).await;
}

async fn a_report_whose_rows_are_refused_changes_nothing(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let (anna, boris) = (bench.accept(ask("anna", "u1")).await, bench.accept(ask("boris", "u1")).await);
    let (bad, good) = (bench.start(&anna).await, bench.start(&boris).await);
    let mut refused = report(&bad, Ending::Succeeded("1".into()));
    refused.with = vec![query("-- test.refused\ninsert into paused_queues (queue) values ('a'), ('a')")];
    let (refused, done) =
        tokio::join!(bench.flights.finish(refused), bench.flights.finish(report(&good, Ending::Succeeded("1".into()))));
    assert!(refused.is_err());
    assert!(matches!(done, Ok(Finished::Over { .. })), "its neighbour is not taken along");
    assert_eq!(bench.flight("anna").await.state, RunState::Running);
    let mut fixed = report(&bad, Ending::Succeeded("1".into()));
    fixed.with = vec![query("-- test.written\ninsert into paused_queues (queue) values ('a')")];
    bench.flights.finish(fixed).await.expect("nothing is refused");
    assert!(bench.flights.was_paused("a").await.expect("the store is up"));
}

async fn a_renewed_lease_lasts(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let run = bench.start(&asked).await;
    for _ in 0..3 {
        bench.pass(LEASE / 2).await;
        assert_eq!(bench.flights.renew_runs(vec![held(&run)], LEASE).await.expect("the store is up"), [held(&run)]);
        assert!(bench.flights.rescue(10).await.expect("the store is up").is_empty());
        assert!(matches!(bench.claim(&asked).await, Claim::In(_)));
    }
    let stranger = Held { token: new_token(), ..held(&run) };
    assert!(bench.flights.renew_runs(vec![stranger], LEASE).await.expect("the store is up").is_empty());
}

async fn a_silent_worker_loses_its_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    let silent = bench.start(&asked).await;
    bench.pass(LEASE).await;
    let rescued = bench.flights.rescue(10).await.expect("the store is up");
    assert!(matches!(rescued.as_slice(), [Finished::Again(run)] if run.due_in == BACKOFF && run.attempt == 1));
    assert!(matches!(bench.finish(&silent, Ending::Succeeded("late".into())).await, Finished::Lost));
    bench.pass(BACKOFF).await;
    assert_eq!(bench.start(&asked).await.attempt, 2);
}

async fn a_worker_that_fell_silent_at_the_last_attempt_fails_the_run(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let asked = bench.accept(Ask { run: RunSpec { max_attempts: 1, ..spec() }, ..ask("anna", "u1") }).await;
    bench.accept(ask("anna", "u2")).await;
    bench.start(&asked).await;
    bench.pass(LEASE).await;
    assert!(matches!(bench.claim(&asked).await, Claim::Exhausted));
    let rescued = bench.flights.rescue(10).await.expect("the store is up");
    assert!(matches!(rescued.as_slice(), [Finished::Over { outcome: Outcome::Failed(_), .. }]), "{rescued:?}");
    assert_eq!(bench.queued(&asked).await.len(), 2, "all who asked are told");
    assert!(bench.flights.rescue(10).await.expect("the store is up").is_empty());
}

async fn a_store_that_starts_again_disowns_all_in_hand(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    bench.made("boris", "1").await;
    let sending = bench.accept(ask("boris", "u1")).await;
    let lease = bench.take(&sending.requests[0]).await;
    let asked = bench.accept(ask("anna", "u1")).await;
    bench.start(&asked).await;
    bench.flights.disown_all().await.expect("the store is up");
    assert_eq!(bench.start(&asked).await.attempt, 2);
    let second = bench.take(&lease.id).await;
    assert_eq!((second.attempts, second.ambiguous), (2, 1));
}
