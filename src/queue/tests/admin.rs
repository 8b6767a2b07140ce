//! Looking, pausing, removing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::queue::{Counts, Removal, State};
use crate::redis::Wake;

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_and_resumes() {
    let world = World::new().await;
    world.add(plain()).await;
    world.news().await;
    world.queue.pause().await.unwrap();
    assert!(world.queue.is_paused().await.unwrap());
    assert_eq!(world.see("HGET bull:q:meta paused").await, "1");
    assert_eq!(world.see("EXISTS bull:q:marker").await, "0");
    assert!(world.take(1).await.jobs.is_empty());
    world.queue.resume().await.unwrap();
    assert!(!world.queue.is_paused().await.unwrap());
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert_eq!(world.news().await, ["paused", "resumed"]);
}

#[tokio::test]
async fn resuming_merges_the_list_that_bullmq_5_left() {
    let world = World::new().await;
    world.queue.pause().await.unwrap();
    world.queue.add(vec![plain(), plain(), plain()], NOW).await.unwrap();
    world.run(&["LTRIM", "bull:q:wait", "0", "0"]).await;
    world.run(&["LPUSH", "bull:q:paused", "1", "2"]).await;
    assert_eq!(world.queue.counts().await.unwrap().waiting, 3);
    assert_eq!(world.queue.state("1").await.unwrap(), Some(State::Waiting));
    assert_eq!(world.queue.ids(State::Waiting, 1, 2).await.unwrap(), ["1", "2"]);
    world.queue.resume().await.unwrap();
    assert_eq!(world.see("EXISTS bull:q:paused").await, "0");
    assert_eq!(ids(&world.take(3).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn counts_ids_states_and_positions_agree() {
    let world = World::new().await;
    let options = |delay_ms, priority| job(JobOptions { delay_ms, priority, ..Default::default() });
    world.queue.add(vec![plain(), plain(), plain(), plain(), plain()], NOW).await.unwrap();
    world.queue.add(vec![options(500, 0), options(0, 9), options(0, 1)], NOW).await.unwrap();
    world.take(3).await;
    world.settle("1", complete("1")).await;
    world.settle("2", fail("no")).await;
    let counts = world.queue.counts().await.unwrap();
    let expected =
        Counts { waiting: 2, active: 1, delayed: 1, prioritized: 2, waiting_children: 0, completed: 1, failed: 1 };
    assert_eq!(counts, expected);
    for (id, state) in [
        ("1", State::Completed),
        ("2", State::Failed),
        ("3", State::Active),
        ("4", State::Waiting),
        ("6", State::Delayed),
        ("7", State::Prioritized),
    ] {
        assert_eq!(world.queue.state(id).await.unwrap(), Some(state), "{id}");
    }
    assert_eq!(world.queue.state("99").await.unwrap(), None);
    let mut positions = Vec::new();
    for id in ["4", "5", "8", "7", "6", "3"] {
        positions.push(world.queue.position(id).await.unwrap());
    }
    assert_eq!(positions, [Some(0), Some(1), Some(2), Some(3), None, None]);
    assert_eq!(world.queue.ids(State::Waiting, 0, 10).await.unwrap(), ["4", "5"]);
    assert_eq!(world.queue.ids(State::Waiting, 1, 10).await.unwrap(), ["5"]);
    assert_eq!(world.queue.ids(State::Prioritized, 0, 10).await.unwrap(), ["8", "7"]);
    assert_eq!(world.queue.ids(State::Completed, 0, 10).await.unwrap(), ["1"]);
    assert_eq!(world.queue.ids(State::Active, 0, 0).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn progress_and_logs_belong_to_a_job() {
    let world = World::new().await;
    world.add(plain()).await;
    world.news().await;
    assert!(world.queue.progress("1", &json("{\"a\":1}")).await.unwrap());
    assert!(!world.queue.progress("2", &json("50")).await.unwrap());
    assert_eq!(world.news().await, ["progress jobId=1 data={\"a\":1}"]);
    assert_eq!(world.see("HGET bull:q:1 progress").await, "{\"a\":1}");
    for expected in [1, 2, 2] {
        assert_eq!(world.queue.log("1", "line", Some(2)).await.unwrap(), Some(expected));
    }
    assert_eq!(world.queue.log("2", "line", None).await.unwrap(), None);
    assert_eq!(world.see("EXISTS bull:q:2 bull:q:2:logs").await, "0");
}

#[tokio::test]
async fn a_removed_job_leaves_nothing() {
    let world = World::new().await;
    let options = |delay_ms, priority| job(JobOptions { delay_ms, priority, ..Default::default() });
    world.queue.add(vec![plain(), options(5, 0), options(0, 5), plain()], NOW).await.unwrap();
    world.news().await;
    for id in ["1", "2", "3"] {
        world.queue.log(id, "line", None).await.unwrap();
        assert_eq!(world.queue.remove(id, NOW).await.unwrap(), Removal::Removed);
    }
    let expected = ["removed jobId=1 prev=wait", "removed jobId=2 prev=delayed", "removed jobId=3 prev=prioritized"];
    assert_eq!(world.news().await, expected);
    assert_eq!(world.see("EXISTS bull:q:1 bull:q:1:logs bull:q:delayed bull:q:prioritized").await, "0");
    assert_eq!(world.queue.remove("1", NOW).await.unwrap(), Removal::Absent);
    world.take(1).await;
    assert_eq!(world.queue.remove("4", NOW).await.unwrap(), Removal::Locked);
    world.run(&["HSET", "bull:q:repeat:s:5", "name", "x", "rjk", "s"]).await;
    world.run(&["ZADD", "bull:q:repeat", "5", "s"]).await;
    assert_eq!(world.queue.remove("repeat:s:5", NOW).await.unwrap(), Removal::Scheduled);
}

#[tokio::test]
async fn a_watch_is_woken_by_an_add_and_listed_as_a_worker() {
    let world = World::new().await;
    let mut watch = world.queue.watch("one");
    watch.arm(Duration::from_secs(10));
    world.add(plain()).await;
    assert_eq!(watch.wait().await, Wake::Ready);
    assert_eq!(world.queue.workers().await.unwrap(), BTreeSet::from(["one".to_owned()]));
    watch.stop().await;
    assert!(world.queue.workers().await.unwrap().is_empty());
}
