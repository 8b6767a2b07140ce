//! Changing one job: each verb in each state, the refused ones too.

use std::num::NonZeroU32;

use super::*;
use crate::queue::{AddError, Change, Error, Finished, Removal, Retry, State};

fn options(delay_ms: Millis, priority: u32) -> Add {
    job(JobOptions { delay_ms, priority, ..Default::default() })
}

/// One job in each state, whose id is the state's name; its `prioritized` has the priority 5.
async fn one_in_each_state() -> World {
    let world = World::new().await;
    let named = |id: &str, add: Add| Add { id: Some(format!("{id}-job")), ..add };
    for (id, end) in [
        ("completed", Some(complete("1"))),
        ("failed", Some(fail("no"))),
        ("waiting-children", Some(How::Park { fields: vec![] })),
        ("active", None),
    ] {
        let id = world.add(named(id, plain())).await;
        world.take(1).await;
        if let Some(end) = end {
            world.settle(&id, end).await;
        }
    }
    world.add(named("waiting", plain())).await;
    world.add(named("prioritized", options(0, 5))).await;
    world.add(named("delayed", options(5_000, 5))).await;
    world.news().await;
    world
}

/// Everything in the queue, so that a test sees that nothing was touched.
async fn all_of(world: &World) -> Vec<String> {
    let mut seen = Vec::new();
    for state in State::ALL {
        seen.push(format!("{state}: {:?}", world.queue.ids(state, 0, 10).await.unwrap()));
        seen.push(world.hash(&format!("{state}-job")).await);
    }
    seen.push(format!("{:?}", world.events().await));
    seen
}

async fn refused_but_in(states: &[State], verb: impl AsyncFn(&Queue, &str) -> Change) {
    let world = one_in_each_state().await;
    let before = all_of(&world).await;
    for state in State::ALL.into_iter().filter(|state| !states.contains(state)) {
        let change = verb(&world.queue, &format!("{state}-job")).await;
        assert_eq!(change, Change::WrongState, "{state}");
    }
    for unknown in ["nobody", "wait", "meta", "active-job:lock", ""] {
        assert_eq!(verb(&world.queue, unknown).await, Change::Absent, "{unknown}");
    }
    assert_eq!(all_of(&world).await, before, "a refusal changes nothing");
    for state in states {
        assert_eq!(verb(&world.queue, &format!("{state}-job")).await, Change::Made, "{state}");
    }
}

#[tokio::test]
async fn only_the_finished_can_be_retried() {
    let retry = async |queue: &Queue, id: &str| queue.retry(id, Retry::default()).await.unwrap();
    refused_but_in(&[State::Completed, State::Failed], retry).await;
    let from = Some(Finished::Failed);
    let retry = async |queue: &Queue, id: &str| queue.retry(id, Retry { from, anew: false }).await.unwrap();
    refused_but_in(&[State::Failed], retry).await;
}

#[tokio::test]
async fn only_the_delayed_can_be_promoted_or_delayed_otherwise() {
    refused_but_in(&[State::Delayed], async |queue, id| queue.promote(id).await.unwrap()).await;
    refused_but_in(&[State::Delayed], async |queue, id| queue.change_delay(id, 7, NOW).await.unwrap()).await;
}

#[tokio::test]
async fn priority_and_data_can_be_changed_in_every_state() {
    refused_but_in(&State::ALL, async |queue, id| queue.change_priority(id, 3, false).await.unwrap()).await;
    refused_but_in(&State::ALL, async |queue, id| queue.update_data(id, &json("[1]")).await.unwrap()).await;
}

#[tokio::test]
async fn numbers_that_no_job_can_have_are_refused() {
    let world = one_in_each_state().await;
    let before = all_of(&world).await;
    for delay in [-1, i64::MAX, 500_000_000_000] {
        let refused = world.queue.change_delay("delayed-job", delay, NOW).await;
        assert!(matches!(refused, Err(Error::Unfit(AddError::Delay))), "{delay}: {refused:?}");
    }
    let refused = world.queue.change_priority("waiting-job", 2_097_152, false).await;
    assert!(matches!(refused, Err(Error::Unfit(AddError::Priority))), "{refused:?}");
    assert_eq!(all_of(&world).await, before);
}

#[tokio::test]
async fn a_retried_job_waits_by_its_priority_and_keeps_its_stack() {
    let world = World::new().await;
    world.add(options(0, 5)).await;
    world.take(1).await;
    world.settle("1", fail("no")).await;
    world.news().await;
    assert_eq!(world.queue.retry("1", Retry::default()).await.unwrap(), Change::Made);
    assert_eq!(world.news().await, ["waiting jobId=1 prev=failed"]);
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1").await, "[1]");
    assert_eq!(world.see("HMGET bull:q:1 finishedOn processedOn failedReason atm ats").await, "[- - - 1 1]");
    assert_eq!(world.see("HGET bull:q:1 stacktrace").await, "[\"Error: no\"]");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    world.take(1).await;
    world.settle("1", complete("1")).await;
    world.queue.retry("1", Retry { from: None, anew: true }).await.unwrap();
    assert_eq!(world.see("HMGET bull:q:1 returnvalue atm ats priority").await, "[- - - 5]");
}

#[tokio::test]
async fn a_job_that_was_in_front_is_retried_to_the_front() {
    let world = World::new().await;
    world.add(job(JobOptions { lifo: true, ..Default::default() })).await;
    world.take(1).await;
    world.settle("1", fail("no")).await;
    world.add(plain()).await;
    world.queue.retry("1", Retry::default()).await.unwrap();
    assert_eq!(ids(&world.take(2).await), ["1", "2"]);
}

#[tokio::test]
async fn a_promoted_job_has_no_delay() {
    let world = World::new().await;
    world.queue.add(vec![options(500, 0), options(600, 5)], NOW).await.unwrap();
    world.news().await;
    for id in ["1", "2"] {
        assert_eq!(world.queue.promote(id).await.unwrap(), Change::Made);
        assert_eq!(world.see(&format!("HGET bull:q:{id} delay")).await, "0");
    }
    assert_eq!(world.news().await, ["waiting jobId=1 prev=delayed", "waiting jobId=2 prev=delayed"]);
    assert_eq!(ids(&world.take(2).await), ["1", "2"]);
}

#[tokio::test]
async fn a_delay_counts_from_when_it_is_changed() {
    let world = World::new().await;
    world.queue.add(vec![options(500, 0), options(90, 0)], NOW).await.unwrap();
    world.news().await;
    let due = NOW + 100 + 20;
    assert_eq!(world.queue.change_delay("1", 20, NOW + 100).await.unwrap(), Change::Made);
    assert_eq!(world.news().await, [format!("delayed jobId=1 delay={due}")]);
    assert_eq!(world.see("ZSCORE bull:q:delayed 1").await, (due * 4096).to_string());
    assert_eq!(world.see("HGET bull:q:1 delay").await, "20");
    assert_eq!(world.see("ZSCORE bull:q:marker 1").await, (NOW + 90).to_string(), "the marker tells who is due first");
}

#[tokio::test]
async fn a_changed_priority_moves_a_job_that_waits() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), options(0, 5), options(0, 5)], NOW).await.unwrap();
    let waiting =
        async || (world.see("LRANGE bull:q:wait 0 -1").await, world.see("ZRANGE bull:q:prioritized 0 -1").await);
    world.queue.change_priority("1", 5, true).await.unwrap();
    assert_eq!(waiting().await, ("[2]".into(), "[1 3 4]".into()), "before the others of its priority");
    world.queue.change_priority("3", 0, false).await.unwrap();
    assert_eq!(waiting().await, ("[3 2]".into(), "[1 4]".into()), "behind those that wait");
    world.queue.change_priority("4", 0, true).await.unwrap();
    assert_eq!(waiting().await, ("[3 2 4]".into(), "[1]".into()), "the next one");
    world.queue.change_priority("2", 4, false).await.unwrap();
    assert_eq!(waiting().await, ("[3 4]".into(), "[2 1]".into()));
    assert_eq!(world.see("HGET bull:q:2 priority").await, "4");
    // BullMQ 5 keeps those that wait in another list while the queue is paused.
    world.run(&["RENAME", "bull:q:wait", "bull:q:paused"]).await;
    world.queue.change_priority("3", 9, false).await.unwrap();
    assert_eq!((world.see("LRANGE bull:q:paused 0 -1").await, waiting().await.1), ("[4]".into(), "[2 1 3]".into()));
}

#[tokio::test]
async fn a_job_is_removed_with_all_its_descendants_or_not_at_all() {
    let world = World::new().await;
    for (id, parent) in [("top", None), ("done", Some("top")), ("open", Some("top")), ("deep", Some("open"))] {
        world.add(named(id)).await;
        if let Some(parent) = parent {
            let record = format!("{{\"id\":\"{parent}\",\"queueKey\":\"bull:q\"}}");
            world
                .run(&["HSET", &format!("bull:q:{id}"), "parentKey", &format!("bull:q:{parent}"), "parent", &record])
                .await;
        }
    }
    world.run(&["SADD", "bull:q:top:dependencies", "bull:q:open", "bull:q:stranger"]).await;
    world.run(&["HSET", "bull:q:top:processed", "bull:q:done", "1"]).await;
    world.run(&["ZADD", "bull:q:open:unsuccessful", "1", "bull:q:deep"]).await;
    world.add(named("stranger")).await;
    world.run(&["SET", "bull:q:deep:lock", "t"]).await;
    world.news().await;
    assert_eq!(world.queue.remove_with_children("top", NOW).await.unwrap(), Removal::Locked);
    assert_eq!((world.news().await, world.see("LLEN bull:q:wait").await), (vec![], "5".to_owned()));
    world.run(&["DEL", "bull:q:deep:lock"]).await;
    assert_eq!(world.queue.remove_with_children("top", NOW).await.unwrap(), Removal::Removed);
    let mut news = world.news().await;
    assert_eq!(news.pop().unwrap(), "removed jobId=top prev=wait", "the children first");
    news.sort();
    assert_eq!(news, ["deep", "done", "open"].map(|id| format!("removed jobId={id} prev=wait")));
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[stranger]", "who has no such parent stays");
    assert_eq!(world.see("KEYS bull:q:*e*n*:*").await, "[]", "nothing hangs on nobody");
}

#[tokio::test]
async fn too_many_descendants_are_not_removed_at_once() {
    let world = World::new().await;
    world.add(plain()).await;
    let mut words: Vec<String> = ["SADD", "bull:q:1:dependencies"].map(str::to_owned).to_vec();
    words.extend((0..5_001).map(|n| format!("bull:q:c{n}")));
    world.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.queue.remove_with_children("1", NOW).await.unwrap(), Removal::TooManyChildren);
    assert_eq!(world.queue.remove("1", NOW).await.unwrap(), Removal::Removed);
}

#[tokio::test]
async fn removing_an_abandoned_active_job_lets_another_in() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    world.queue.set_concurrency(NonZeroU32::new(1)).await.unwrap();
    world.take(1).await;
    world.run(&["DEL", "bull:q:marker", "bull:q:1:lock"]).await;
    world.queue.remove("1", NOW).await.unwrap();
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
}

#[tokio::test]
async fn a_log_is_read_by_page() {
    let world = World::new().await;
    world.add(plain()).await;
    for line in ["a", "b", "c"] {
        world.queue.log("1", line, None).await.unwrap();
    }
    let lines = async |start, limit| world.queue.logs("1", start, limit).await.unwrap().unwrap();
    let texts = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(0, 2).await, (texts(&["a", "b"]), 3));
    assert_eq!(lines(2, 2).await, (texts(&["c"]), 3));
    assert_eq!(lines(0, 0).await, (vec![], 3));
    assert_eq!(world.queue.logs("2", 0, 9).await.unwrap(), None);
    assert_eq!(world.queue.logs("1:lock", 0, 9).await.unwrap(), None);
}
