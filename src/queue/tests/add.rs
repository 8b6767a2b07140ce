//! Adding and ensuring.

use super::*;
use crate::queue::{AddError, Deduplication, EnsureOutcome, Error};

fn deduplicated(deduplication: Deduplication) -> Add {
    job(JobOptions { deduplication: Some(deduplication), ..Default::default() })
}

fn by_id(id: &str) -> Deduplication {
    Deduplication { id: id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_plain_job_is_stored_as_bullmq_stores_it() {
    let world = World::new().await;
    assert_eq!(world.add(Add::new("ok", json("{\"n\":12345678901234567890}"))).await, "1");
    let fields = "data={\"n\":12345678901234567890}\ndelay=0\nname=ok\nopts={}\npriority=0\n";
    assert_eq!(world.hash("1").await, format!("{fields}timestamp={NOW}"));
    assert_eq!(world.events().await, ["added jobId=1 name=ok", "waiting jobId=1"]);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[1]");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1 WITHSCORES").await, "[0 0]");
    assert_eq!(world.see("GET bull:q:id").await, "1");
    assert_eq!(world.see("HGETALL bull:q:meta").await, "[opts.maxLenEvents 10000]");
}

#[tokio::test]
async fn batches_keep_their_order_and_lifo_goes_first() {
    let world = World::new().await;
    let lifo = || job(JobOptions { lifo: true, ..Default::default() });
    let added = world.queue.add(vec![plain(), lifo(), plain(), lifo()], NOW).await.unwrap();
    assert_eq!(added.iter().map(|added| added.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[3 1 2 4]");
    assert_eq!(ids(&world.take(4).await), ["4", "2", "1", "3"]);
}

#[tokio::test]
async fn more_jobs_than_a_batch_are_all_added() {
    let world = World::new().await;
    let added = world.queue.add((0..450).map(|_| plain()).collect(), NOW).await.unwrap();
    assert_eq!((added.len(), added[449].id.as_str()), (450, "450"));
    assert_eq!(world.see("LLEN bull:q:wait").await, "450");
}

#[tokio::test]
async fn delayed_jobs_are_scored_by_their_time_and_their_turn() {
    let world = World::new().await;
    let delayed = || job(JobOptions { delay_ms: 100_000, ..Default::default() });
    world.queue.add(vec![delayed(), delayed()], NOW).await.unwrap();
    let due = NOW + 100_000;
    let scores = format!("[1 {} 2 {}]", due * 4096, due * 4096 + 1);
    assert_eq!(world.see("ZRANGE bull:q:delayed 0 -1 WITHSCORES").await, scores);
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1 WITHSCORES").await, format!("[1 {due}]"));
    assert_eq!(world.events().await[1], format!("delayed jobId=1 delay={due}"));
    assert!(world.hash("1").await.contains("delay=100000"));
}

#[tokio::test]
async fn prioritized_jobs_are_scored_by_priority_and_turn() {
    let world = World::new().await;
    let prioritized = |priority| job(JobOptions { priority, ..Default::default() });
    world.queue.add(vec![prioritized(5), prioritized(2_097_151), prioritized(5)], NOW).await.unwrap();
    let scores = "[1 21474836481 3 21474836483 2 9007194959773698]";
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1 WITHSCORES").await, scores);
    assert_eq!(world.events().await[..2], ["added jobId=1 name=n", "waiting jobId=1"]);
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
}

#[tokio::test]
async fn a_job_of_a_known_id_changes_nothing_but_the_counter() {
    let world = World::new().await;
    assert_eq!(world.add(named("x")).await, "x");
    let before = world.hash("x").await;
    world.news().await;
    let again = Add { data: json("7"), ..named("x") };
    let added = world.queue.add(vec![again, plain()], NOW + 5).await.unwrap();
    assert_eq!((added[0].outcome, added[0].id.as_str(), added[1].id.as_str()), (AddOutcome::Duplicate, "x", "3"));
    assert_eq!(world.hash("x").await, before);
    assert_eq!(world.news().await[0], "duplicated jobId=x");
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[3 x]");
    assert!(before.contains("opts={\"jobId\":\"x\"}"));
}

#[tokio::test]
async fn a_refused_job_leaves_nothing_of_its_batch() {
    let world = World::new().await;
    for (bad, why) in [
        (named("7"), AddError::IntegerId),
        (named("wait"), AddError::ReservedId("wait".to_owned())),
        (named("a:b"), AddError::ColonId),
        (job(JobOptions { priority: 2_097_152, ..Default::default() }), AddError::Priority),
        (deduplicated(by_id("")), AddError::EmptyDeduplicationId),
    ] {
        let Err(Error::Add { index, source }) = world.queue.add(vec![plain(), bad], NOW).await else {
            panic!("{why} must refuse it");
        };
        assert_eq!((index, source), (1, why));
    }
    assert_eq!(world.see("DBSIZE").await, "0");
}

#[tokio::test]
async fn no_marker_is_written_that_nobody_may_follow() {
    let world = World::new().await;
    world.queue.pause().await.unwrap();
    world.add(plain()).await;
    assert_eq!(world.see("EXISTS bull:q:marker").await, "0");
    world.queue.resume().await.unwrap();
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    world.run(&["HSET", "bull:q:meta", "concurrency", "1"]).await;
    world.take(5).await;
    world.run(&["DEL", "bull:q:marker"]).await;
    world.add(plain()).await;
    assert_eq!(world.see("EXISTS bull:q:marker").await, "0");
}

#[tokio::test]
async fn deduplication_lets_the_owner_stand_until_it_ends() {
    let world = World::new().await;
    world.add(deduplicated(by_id("k"))).await;
    world.news().await;
    let again = world.queue.add(vec![deduplicated(by_id("k"))], NOW).await.unwrap();
    assert_eq!((again[0].id.as_str(), again[0].outcome), ("1", AddOutcome::Deduplicated));
    assert_eq!(world.news().await, ["deduplicated jobId=1 deduplicationId=k deduplicatedJobId=2"]);
    assert_eq!(world.see("GET bull:q:de:k").await, "1");
    assert!(world.hash("1").await.contains("deid=k"));
    world.take(1).await;
    assert_eq!(world.settle("1", complete("1")).await, Settlement::Settled);
    assert_eq!(world.see("EXISTS bull:q:de:k").await, "0");
    world.add(deduplicated(by_id("k"))).await;
}

#[tokio::test]
async fn a_throttle_outlives_its_owner() {
    let world = World::new().await;
    let throttle = || deduplicated(Deduplication { ttl_ms: Some(60_000), ..by_id("k") });
    world.add(throttle()).await;
    world.take(1).await;
    world.settle("1", complete("1")).await;
    assert_eq!(world.queue.add(vec![throttle()], NOW).await.unwrap()[0].outcome, AddOutcome::Deduplicated);
}

#[tokio::test]
async fn a_debounce_replaces_the_delayed_owner() {
    let world = World::new().await;
    let debounce = || {
        let deduplication = Deduplication { ttl_ms: Some(60_000), extend: true, replace: true, ..by_id("k") };
        job(JobOptions { deduplication: Some(deduplication), delay_ms: 1000, ..Default::default() })
    };
    world.add(debounce()).await;
    world.news().await;
    world.add(debounce()).await;
    let due = NOW + 1000;
    let news = world.news().await;
    assert_eq!(
        news[..2],
        ["removed jobId=1 prev=delayed", "deduplicated jobId=2 deduplicationId=k deduplicatedJobId=1"]
    );
    assert_eq!(news[2..], ["added jobId=2 name=n".to_owned(), format!("delayed jobId=2 delay={due}")]);
    assert_eq!((world.hash("1").await.as_str(), world.see("GET bull:q:de:k").await.as_str()), ("", "2"));
}

#[tokio::test]
async fn the_last_add_while_the_owner_runs_becomes_the_next_job() {
    let world = World::new().await;
    let keep_last =
        |data| Add { data: json(data), ..deduplicated(Deduplication { keep_last_if_active: true, ..by_id("K") }) };
    world.add(keep_last("1")).await;
    world.take(1).await;
    world.queue.add(vec![keep_last("2"), keep_last("3")], NOW).await.unwrap();
    assert_eq!(world.see("HGET bull:q:dn:K jid").await, "3");
    world.news().await;
    world.settle("1", complete("{}")).await;
    let news = world.news().await;
    assert_eq!(news[..2], ["added jobId=3 name=n", "waiting jobId=3"]);
    assert_eq!(news[2], "completed jobId=1 returnvalue={} prev=active");
    assert_eq!((world.see("GET bull:q:de:K").await, world.see("EXISTS bull:q:dn:K").await), ("3".into(), "0".into()));
    assert!(world.hash("3").await.contains("data=3\n"));
}

async fn ensure(world: &World, add: Add) -> EnsureOutcome {
    world.queue.ensure(vec![add], NOW).await.unwrap()[0].outcome
}

#[tokio::test]
async fn ensuring_adds_what_is_missing_and_leaves_what_is_there() {
    let world = World::new().await;
    assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::Added);
    assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::Present, "waiting");
    world.take(1).await;
    assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::Present, "active");
    world.run(&["DEL", "bull:q:a:lock"]).await;
    assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::Present, "active and stalled");
    let prioritized = Add { id: Some("p".into()), ..job(JobOptions { priority: 3, ..Default::default() }) };
    assert_eq!(ensure(&world, prioritized.clone()).await, EnsureOutcome::Added);
    assert_eq!(ensure(&world, prioritized).await, EnsureOutcome::Present);
    assert!(matches!(
        world.queue.ensure(vec![plain()], NOW).await,
        Err(Error::Add { source: AddError::MissingId, .. })
    ));
}

#[tokio::test]
async fn ensuring_runs_a_finished_job_again() {
    let world = World::new().await;
    for how in [complete("1"), fail("no")] {
        world.queue.ensure(vec![named("a")], NOW).await.unwrap();
        world.take(1).await;
        world.settle("a", how).await;
        assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::AddedAnew);
        assert_eq!(world.queue.state("a").await.unwrap().unwrap().as_str(), "waiting");
        let hash = world.hash("a").await;
        assert!(!hash.contains("finishedOn") && !hash.contains("atm"), "{hash}");
    }
}

#[tokio::test]
async fn ensuring_finds_a_job_that_was_lost_from_its_list() {
    let world = World::new().await;
    world.queue.ensure(vec![named("a"), named("b")], NOW).await.unwrap();
    world.run(&["LREM", "bull:q:wait", "0", "a"]).await;
    assert_eq!(ensure(&world, named("a")).await, EnsureOutcome::AddedAnew);
    assert_eq!(ensure(&world, named("b")).await, EnsureOutcome::Present);
}

#[tokio::test]
async fn ensuring_hastens_a_delayed_job_and_never_slows_it() {
    let world = World::new().await;
    let due_in = |delay_ms| Add { id: Some("d".into()), ..job(JobOptions { delay_ms, ..Default::default() }) };
    assert_eq!(ensure(&world, due_in(9000)).await, EnsureOutcome::Added);
    assert_eq!(ensure(&world, due_in(10_000)).await, EnsureOutcome::Present);
    assert_eq!(ensure(&world, due_in(500)).await, EnsureOutcome::Hastened);
    assert_eq!(world.see("ZSCORE bull:q:delayed d").await, ((NOW + 500) * 4096).to_string());
    assert_eq!(world.see("ZSCORE bull:q:marker 1").await, (NOW + 500).to_string());
    assert_eq!(ensure(&world, named("d")).await, EnsureOutcome::Hastened);
    assert_eq!(world.events().await.last().unwrap(), "waiting jobId=d prev=delayed");
    assert_eq!(ids(&world.take(1).await), ["d"]);
}
