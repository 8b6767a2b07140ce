//! Jobs of several steps: put off by their own processor, with other data.

use super::*;
use crate::queue::Move;

fn moved(to: Move, data: Option<&str>) -> How {
    How::Move { to, data: data.map(json), step: 1 }
}

async fn taken(options: JobOptions) -> World {
    let world = World::new().await;
    world.add(job(options)).await;
    assert_eq!(world.take(1).await.jobs.len(), 1);
    world.news().await;
    world
}

#[tokio::test]
async fn a_step_keeps_its_data_and_uses_up_no_attempt() {
    let world = taken(JobOptions::default()).await;
    let until_ms = NOW + 500;
    assert_eq!(world.settle("1", moved(Move::Delayed { until_ms }, Some("{\"at\":2}"))).await, Settlement::Settled);
    assert_eq!(world.see("HMGET bull:q:1 data atm ats delay onetake-step").await, "[{\"at\":2} - 1 500 1]");
    assert_eq!(world.news().await, [format!("delayed jobId=1 delay={until_ms}")]);
    let again = world.take_at(1, until_ms).await;
    let job = readable(&again.jobs[0]);
    assert_eq!((job.data.get(), job.step(), job.attempts_made, job.attempts_started), ("{\"at\":2}", 1, 0, 2));
    world.news().await;
    assert_eq!(world.settle("1", moved(Move::Wait, None)).await, Settlement::Settled);
    assert_eq!(world.see("HGET bull:q:1 data").await, "{\"at\":2}", "as it was");
    assert_eq!(world.news().await, ["waiting jobId=1 prev=active"]);
    assert_eq!(world.see("EXISTS bull:q:1:lock bull:q:active").await, "0");
}

#[tokio::test]
async fn a_prioritized_job_keeps_its_priority() {
    let world = taken(JobOptions { priority: 3, ..Default::default() }).await;
    world.settle("1", moved(Move::Wait, None)).await;
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1 WITHSCORES").await, "[1 12884901888]");
}

/// The parent 1 is active, the child 2 waits.
async fn family() -> World {
    let world = taken(JobOptions::default()).await;
    world.add(plain()).await;
    let parent = "{\"id\":\"1\",\"queueKey\":\"bull:q\",\"fpof\":true}";
    world.run(&["HSET", "bull:q:2", "parentKey", "bull:q:1", "parent", parent]).await;
    world.run(&["SADD", "bull:q:1:dependencies", "bull:q:2"]).await;
    assert_eq!(ids(&world.take(1).await), ["2"]);
    world.news().await;
    world
}

#[tokio::test]
async fn a_job_waits_for_its_children_and_runs_again() {
    let world = family().await;
    let waits = || moved(Move::Children, Some("{\"step\":2}"));
    assert_eq!(world.settle("1", waits()).await, Settlement::Settled);
    assert_eq!(world.news().await, ["waiting-children jobId=1 prev=active"]);
    assert_eq!(world.see("ZRANGE bull:q:waiting-children 0 -1 WITHSCORES").await, format!("[1 {NOW}]"));
    assert_eq!(world.settle("2", complete("5")).await, Settlement::Settled);
    assert_eq!(world.news().await[0], "waiting jobId=1 prev=waiting-children");
    let again = world.take(1).await;
    let parent = readable(&again.jobs[0]);
    assert_eq!((parent.id.as_str(), parent.data.get(), parent.attempts_made), ("1", "{\"step\":2}", 0));
    // Now there is nobody to wait for: it runs again at once.
    assert_eq!(world.settle("1", waits()).await, Settlement::Settled);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[1]");
}

#[tokio::test]
async fn a_child_that_ends_in_the_same_call_releases_its_parent() {
    let world = family().await;
    let ends = [ended("1", moved(Move::Children, None)), ended("2", complete("5"))];
    let (settled, next) = world.queue.settle(&ends, Some(&by("t", 2)), NOW).await.unwrap();
    assert_eq!((settled, ids(&next)), (vec![Settlement::Settled; 2], vec!["1"]));
}

#[tokio::test]
async fn a_parent_whose_child_failed_does_not_wait_for_it() {
    let world = family().await;
    world.settle("2", fail("no")).await;
    let before = (world.hash("1").await, world.news().await);
    assert_eq!(world.settle("1", moved(Move::Children, Some("[]"))).await, Settlement::ChildFailed);
    assert_eq!((world.hash("1").await, world.news().await), (before.0, Vec::new()), "nothing is changed");
}

#[tokio::test]
async fn a_stale_worker_moves_nothing() {
    let world = taken(JobOptions::default()).await;
    world.run(&["SET", "bull:q:1:lock", "other"]).await;
    let before = world.hash("1").await;
    for to in [Move::Delayed { until_ms: NOW + 5 }, Move::Wait, Move::Children, Move::Limited { for_ms: 5 }] {
        assert_eq!(world.settle("1", moved(to, Some("[]"))).await, Settlement::Lost);
    }
    assert_eq!((world.hash("1").await, world.see("EXISTS bull:q:limiter").await), (before, "0".into()));
}
