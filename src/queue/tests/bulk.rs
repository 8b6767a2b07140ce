//! Work over all jobs of a state, in steps.

use super::*;
use crate::queue::{Bulk, Error, Finished, Keep, State};

const RETRY: Bulk = Bulk::Retry { from: Finished::Failed, until: NOW };

fn options(delay_ms: Millis, priority: u32) -> Add {
    job(JobOptions { delay_ms, priority, ..Default::default() })
}

fn clean(state: State, grace_ms: Millis) -> Bulk {
    Bulk::Clean { state, grace_ms, most: None }
}

/// `count` jobs, all of them failed or completed at `NOW`.
async fn finished(count: usize, how: How) -> World {
    let world = World::new().await;
    world.queue.add((0..count).map(|_| plain()).collect(), NOW).await.unwrap();
    let mut left = count;
    while left > 0 {
        let taken = world.take(256).await;
        let ends: Vec<Ended> = taken.jobs.iter().map(|record| ended(record.id(), how.clone())).collect();
        world.queue.settle(&ends, None, NOW).await.unwrap();
        left -= ends.len();
    }
    world.news().await;
    world
}

impl World {
    async fn all(&self, bulk: Bulk) -> u64 {
        self.queue.run_to_end(&bulk, NOW).await.unwrap()
    }
}

#[tokio::test]
async fn many_jobs_take_several_steps() {
    let world = finished(2_300, fail("no")).await;
    let first = world.queue.step(&RETRY, 0, NOW).await.unwrap();
    assert_eq!((first.processed, first.next), (1_000, Some(0)));
    assert_eq!(world.queue.counts().await.unwrap().waiting, 1_000);
    assert_eq!(world.all(RETRY).await, 1_300);
    assert_eq!(world.all(Bulk::Drain { delayed: false }).await, 2_300);
    assert_eq!(world.see("EXISTS bull:q:1 bull:q:wait").await, "0");
    let world = finished(2_300, complete("1")).await;
    assert_eq!(world.all(Bulk::Clean { state: State::Completed, grace_ms: 0, most: Some(1_100) }).await, 1_100);
    assert_eq!(world.all(clean(State::Completed, 0)).await, 1_200);
}

#[tokio::test]
async fn all_failed_jobs_wait_again_by_their_priorities() {
    let world = World::new().await;
    world.queue.add(vec![plain(), options(0, 5), plain()], NOW).await.unwrap();
    world.take(3).await;
    for (at, id) in ["1", "2", "3"].into_iter().enumerate() {
        world.queue.settle(&[ended(id, fail("no"))], None, NOW + at as i64).await.unwrap();
    }
    world.run(&["ZADD", "bull:q:failed", "1", "ghost"]).await;
    world.run(&["DEL", "bull:q:marker"]).await;
    world.news().await;
    assert_eq!(world.all(Bulk::Retry { from: Finished::Failed, until: NOW + 1 }).await, 2);
    assert_eq!(world.news().await, ["waiting jobId=1 prev=failed", "waiting jobId=2 prev=failed"]);
    assert_eq!(world.see("ZRANGE bull:q:failed 0 -1").await, "[3]", "it failed later");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert_eq!(ids(&world.take(3).await), ["1", "2"]);
    assert_eq!(world.all(Bulk::Retry { from: Finished::Completed, until: NOW }).await, 0);
}

#[tokio::test]
async fn all_delayed_jobs_wait() {
    let world = World::new().await;
    world.queue.add(vec![options(90, 0), options(50, 0), options(70, 4)], NOW).await.unwrap();
    world.run(&["ZADD", "bull:q:delayed", "1", "ghost"]).await;
    assert_eq!(world.all(Bulk::Promote).await, 3);
    assert_eq!(world.see("EXISTS bull:q:delayed").await, "0");
    assert_eq!(ids(&world.take(3).await), ["2", "1", "3"]);
    assert_eq!(world.see("HGET bull:q:3 delay").await, "0");
}

#[tokio::test]
async fn draining_takes_what_waits_and_leaves_the_runs_of_schedulers() {
    let world = World::new().await;
    world.add(options(0, 0)).await;
    world.take(1).await;
    world.queue.add(vec![plain(), options(0, 3), options(50, 0), plain()], NOW).await.unwrap();
    world.run(&["LPUSH", "bull:q:paused", "5"]).await;
    world.run(&["LREM", "bull:q:wait", "0", "5"]).await;
    for (scheduler, list) in [("a", "wait"), ("b", "wait")] {
        world.run(&["HSET", &format!("bull:q:repeat:{scheduler}:7"), "name", "run", "rjk", scheduler]).await;
        world.run(&["ZADD", "bull:q:repeat", "7", scheduler]).await;
        world.run(&["RPUSH", &format!("bull:q:{list}"), &format!("repeat:{scheduler}:7")]).await;
    }
    world.run(&["HSET", "bull:q:repeat:b:3", "name", "an old run", "rjk", "b"]).await;
    world.run(&["RPUSH", "bull:q:wait", "repeat:b:3"]).await;
    world.news().await;
    assert_eq!(world.all(Bulk::Drain { delayed: false }).await, 4);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[repeat:a:7 repeat:b:7]");
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.active, counts.delayed, counts.prioritized), (1, 1, 0));
    assert_eq!(world.see("EXISTS bull:q:2 bull:q:3 bull:q:5 bull:q:repeat:b:3").await, "0");
    assert_eq!(world.all(Bulk::Drain { delayed: true }).await, 1);
    assert_eq!(world.news().await, Vec::<String>::new(), "BullMQ does not tell");
}

#[tokio::test]
async fn draining_looks_behind_many_runs_that_stay() {
    let world = World::new().await;
    let runs: Vec<String> = (0..1_500).map(|n| format!("repeat:s{n}:7")).collect();
    world.add(plain()).await;
    for (n, run) in runs.iter().enumerate() {
        world.run(&["ZADD", "bull:q:repeat", "7", &format!("s{n}")]).await;
        world.run(&["RPUSH", "bull:q:wait", run]).await;
    }
    assert_eq!(world.all(Bulk::Drain { delayed: false }).await, 1);
    assert_eq!(world.see("LLEN bull:q:wait").await, "1500");
}

#[tokio::test]
async fn a_drained_child_takes_its_parent_with_it() {
    let world = World::new().await;
    let has_parent = async |id: &str, parent: &str| {
        let record = format!("{{\"id\":\"{parent}\",\"queueKey\":\"bull:q\"}}");
        world
            .run(&["HSET", &format!("bull:q:{id}"), "parentKey", &format!("bull:q:{parent}"), "parent", &record])
            .await;
        world.run(&["SADD", &format!("bull:q:{parent}:dependencies"), &format!("bull:q:{id}")]).await;
    };
    world.add(named("child")).await;
    for id in ["parent", "grandparent"] {
        world.run(&["HSET", &format!("bull:q:{id}"), "name", "n"]).await;
        world.run(&["ZADD", "bull:q:waiting-children", "1", id]).await;
    }
    has_parent("child", "parent").await;
    has_parent("parent", "grandparent").await;
    assert_eq!(world.all(Bulk::Drain { delayed: false }).await, 1);
    assert_eq!(world.see("KEYS bull:q:*parent*").await, "[]");
    assert_eq!(world.see("EXISTS bull:q:waiting-children bull:q:wait").await, "0");
}

#[tokio::test]
async fn old_jobs_of_a_state_are_cleaned_up_to_a_limit() {
    let world = finished(5, complete("1")).await;
    assert_eq!(world.all(clean(State::Completed, 1)).await, 0, "they are younger");
    assert_eq!(world.all(clean(State::Failed, 0)).await, 0);
    world.news().await;
    assert_eq!(world.all(Bulk::Clean { state: State::Completed, grace_ms: 0, most: Some(2) }).await, 2);
    assert_eq!(world.see("ZCARD bull:q:completed").await, "3");
    assert_eq!(world.news().await, ["cleaned count=2"]);
    assert_eq!(world.all(clean(State::Completed, 0)).await, 3);
    assert_eq!(world.all(clean(State::WaitingChildren, 0)).await, 0);
}

#[tokio::test]
async fn waiting_jobs_are_cleaned_by_their_age() {
    let world = World::new().await;
    let aged = |age: Millis, delay_ms, priority| {
        job(JobOptions { timestamp: Some(NOW - age), delay_ms, priority, ..Default::default() })
    };
    for (delay, priority, state) in [(0, 0, State::Waiting), (10_000, 0, State::Delayed), (0, 4, State::Prioritized)] {
        let jobs = [500, 0, 400, 1, 300].map(|age| aged(age, delay, priority));
        world.queue.add(jobs.to_vec(), NOW).await.unwrap();
        assert_eq!(world.all(clean(state, 300)).await, 3, "{state}");
        assert_eq!(world.queue.ids(state, 0, 9).await.unwrap().len(), 2, "{state}");
    }
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[4 2]", "in their order");
}

#[tokio::test]
async fn young_jobs_between_old_ones_stay_over_many_steps() {
    let world = World::new().await;
    let aged = |n: i64| job(JobOptions { timestamp: Some(NOW - n % 3), ..Default::default() });
    world.queue.add((0..3_600).map(aged).collect(), NOW).await.unwrap();
    world.run(&["LPUSH", "bull:q:paused", "x"]).await;
    world.run(&["HSET", "bull:q:x", "timestamp", "1"]).await;
    assert_eq!(world.all(clean(State::Waiting, 2)).await, 1_201);
    assert_eq!(world.see("LLEN bull:q:wait").await, "2400");
    assert_eq!(world.see("LRANGE bull:q:wait -4 -1").await, "[5 4 2 1]");
}

#[tokio::test]
async fn of_the_active_only_those_without_a_lock_are_cleaned() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), plain()], NOW).await.unwrap();
    world.queue.set_concurrency(std::num::NonZeroU32::new(2)).await.unwrap();
    world.take(2).await;
    world.run(&["DEL", "bull:q:1:lock", "bull:q:marker"]).await;
    assert_eq!(world.all(clean(State::Active, 0)).await, 1);
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[2]");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]", "there is room for another");
}

#[tokio::test]
async fn a_deduplication_id_is_free_after_its_owner_was_cleaned() {
    let world = World::new().await;
    world.add(plain()).await;
    world.run(&["HSET", "bull:q:1", "deid", "k"]).await;
    world.run(&["SET", "bull:q:de:k", "1"]).await;
    world.run(&["HSET", "bull:q:dn:k", "jid", "9"]).await;
    world.all(clean(State::Waiting, 0)).await;
    assert_eq!(world.see("EXISTS bull:q:de:k bull:q:dn:k").await, "0");
}

#[tokio::test]
async fn only_a_paused_and_quiet_queue_is_obliterated() {
    let world = World::new().await;
    world.queue.add(vec![plain(), options(50, 0), options(0, 3), plain()], NOW).await.unwrap();
    world.take(1).await;
    let obliterate = async |force| world.queue.run_to_end(&Bulk::Obliterate { force }, NOW).await;
    for force in [false, true] {
        assert!(matches!(obliterate(force).await, Err(Error::NotPaused)));
    }
    world.queue.pause().await.unwrap();
    assert!(matches!(obliterate(false).await, Err(Error::JobsActive)));
    assert_eq!(world.queue.counts().await.unwrap().waiting, 1, "a refusal removes nothing");
    assert_eq!(obliterate(true).await.unwrap(), 4);
    assert_eq!(world.see("KEYS *").await, "[]");
    assert_eq!(world.settle("1", complete("1")).await, Settlement::Lost);
}

#[tokio::test]
async fn nothing_of_a_large_queue_is_left() {
    let world = World::keeping(Retention { completed: Keep::ALL, failed: Keep::ALL }).await;
    world.queue.add((0..1_700).map(|n| options(n % 2 * 9, 0)).collect(), NOW).await.unwrap();
    world.take(1).await;
    world.settle("1", How::Park { fields: vec![] }).await;
    world.run(&["ZADD", "bull:q:repeat", "7", "s"]).await;
    world.run(&["HSET", "bull:q:repeat:s", "name", "s"]).await;
    world.queue.pause().await.unwrap();
    assert_eq!(world.all(Bulk::Obliterate { force: false }).await, 1_700);
    assert_eq!(world.see("KEYS *").await, "[]");
}

#[tokio::test]
async fn events_are_trimmed_by_the_hundred() {
    let world = World::new().await;
    world.queue.add((0..450).map(|_| plain()).collect(), NOW).await.unwrap();
    assert_eq!(world.see("XLEN bull:q:events").await, "900");
    assert_eq!(world.all(Bulk::TrimEvents { keep: 250 }).await, 600);
    assert_eq!(world.see("XLEN bull:q:events").await, "300");
    assert_eq!(world.all(Bulk::TrimEvents { keep: 250 }).await, 0);
}
