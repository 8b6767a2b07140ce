//! Locks: renewed, lost, and found to be gone.

use super::*;
use crate::queue::{Beat, Heartbeat};

async fn scan(world: &World, max_stalled: u32) -> Vec<String> {
    world.run(&["DEL", "bull:q:stalled-check"]).await;
    world.queue.recover_stalled(NOW, 30_000, max_stalled).await.unwrap()
}

#[tokio::test]
async fn only_the_owner_renews() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), plain()], NOW).await.unwrap();
    world.take(3).await;
    world.run(&["SADD", "bull:q:stalled", "1", "2", "3"]).await;
    world.run(&["DEL", "bull:q:3:lock"]).await;
    let held = [("1", "t"), ("2", "other"), ("3", "t")].map(|(id, token)| (id.to_owned(), token.to_owned()));
    assert_eq!(world.queue.extend(&held, 90_000).await.unwrap(), ["2", "3"]);
    assert!(world.see("PTTL bull:q:1:lock").await.parse::<i64>().unwrap() > 60_000);
    assert!(world.see("PTTL bull:q:2:lock").await.parse::<i64>().unwrap() <= 30_000);
    assert_eq!(world.see("SISMEMBER bull:q:stalled 1").await, "0");
    assert_eq!(world.see("EXISTS bull:q:3:lock").await, "0", "a lost lock is not made again");
}

#[tokio::test]
async fn a_heartbeat_is_written_down_for_the_owner_alone() {
    let world = World::new().await;
    world.add(job(JobOptions { keep_logs: Some(2), ..Default::default() })).await;
    world.take(1).await;
    world.run(&["SADD", "bull:q:stalled", "1"]).await;
    world.news().await;
    let (progress, lines) = (json("{\"at\":5}"), ["a", "b", "c"].map(str::to_owned));
    let beat = |token| Heartbeat { id: "1", token, lease_ms: 90_000, progress: Some(&progress), lines: &lines };
    let before = world.hash("1").await;
    assert_eq!(world.queue.heartbeat(&beat("other")).await.unwrap(), Beat::Lost);
    assert_eq!(world.queue.heartbeat(&Heartbeat { id: "nobody", ..beat("t") }).await.unwrap(), Beat::Lost);
    assert_eq!((world.hash("1").await, world.news().await.len()), (before, 0));
    assert_eq!(world.see("EXISTS bull:q:1:logs bull:q:nobody").await, "0");
    assert_eq!(world.queue.heartbeat(&beat("t")).await.unwrap(), Beat::Renewed { cancelled: None });
    assert_eq!(world.see("LRANGE bull:q:1:logs 0 -1").await, "[b c]");
    assert_eq!(world.news().await, ["progress jobId=1 data={\"at\":5}"]);
    assert_eq!(world.see("SISMEMBER bull:q:stalled 1").await, "0");
    assert!(world.see("PTTL bull:q:1:lock").await.parse::<i64>().unwrap() > 60_000);
    let quiet = Heartbeat { progress: None, lines: &[], ..beat("t") };
    assert_eq!(world.queue.heartbeat(&quiet).await.unwrap(), Beat::Renewed { cancelled: None });
    assert_eq!(world.news().await, [""; 0]);
}

#[tokio::test]
async fn a_job_without_a_worker_is_put_back_by_the_second_scan() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    world.take(1).await;
    world.run(&["DEL", "bull:q:1:lock"]).await;
    world.news().await;
    assert!(scan(&world, 1).await.is_empty());
    assert_eq!(world.queue.recover_stalled(NOW, 30_000, 1).await.unwrap(), Vec::<String>::new(), "somebody just did");
    assert_eq!(scan(&world, 1).await, ["1"]);
    assert_eq!(world.news().await, ["waiting jobId=1 prev=active", "stalled jobId=1"]);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[2 1]");
    assert_eq!(world.see("HMGET bull:q:1 stc defa").await, "[1 -]");
}

#[tokio::test]
async fn a_job_that_stalls_too_often_is_marked_to_be_failed() {
    let world = World::new().await;
    world.add(plain()).await;
    for _ in 0..2 {
        world.take(1).await;
        world.run(&["DEL", "bull:q:1:lock"]).await;
        scan(&world, 1).await;
        assert_eq!(scan(&world, 1).await, ["1"]);
    }
    let taken = world.take(1).await;
    let reason = readable(&taken.jobs[0]).deferred_failure.clone().unwrap();
    assert_eq!(reason, "job stalled more than allowable limit");
    world.settle("1", How::Fail { reason, stack: None }).await;
    let hash = world.hash("1").await;
    assert!(hash.contains("atm=1\nats=3\n") && hash.contains("stc=2") && !hash.contains("defa="), "{hash}");
}

#[tokio::test]
async fn a_run_of_a_scheduler_is_never_failed_for_stalling() {
    let world = World::new().await;
    world.add(plain()).await;
    world.run(&["HSET", "bull:q:1", "rjk", "s"]).await;
    world.run(&["ZADD", "bull:q:repeat", "5", "s"]).await;
    world.take(1).await;
    world.run(&["DEL", "bull:q:1:lock"]).await;
    scan(&world, 0).await;
    assert_eq!(scan(&world, 0).await, ["1"]);
    assert_eq!(world.see("HMGET bull:q:1 stc defa").await, "[1 -]");
}

#[tokio::test]
async fn a_renewed_job_is_not_recovered() {
    let world = World::new().await;
    world.add(plain()).await;
    world.take(1).await;
    scan(&world, 1).await;
    world.queue.extend(&[("1".to_owned(), "t".to_owned())], 30_000).await.unwrap();
    assert!(scan(&world, 1).await.is_empty());
    assert_eq!(world.settle("1", complete("1")).await, Settlement::Settled);
    assert_eq!(world.see("EXISTS bull:q:stalled").await, "0");
}
