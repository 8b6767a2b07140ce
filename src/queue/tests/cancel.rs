//! Cancelling jobs in every state.

use super::*;
use crate::queue::{Cancelled, Finished, Retry, State};

const OURS: &str = "w ";

impl World {
    async fn cancel(&self, id: &str) -> Cancelled {
        self.queue.cancel(id, "not wanted", OURS, NOW + 5).await.expect("the script answers")
    }

    async fn to_stop(&self, id: &str) -> Vec<(String, String)> {
        self.queue.cancelled(&[id.to_owned(), "nobody".to_owned()]).await.expect("the script answers")
    }
}

#[tokio::test]
async fn a_job_that_nobody_runs_fails_at_once() {
    let world = World::new().await;
    let with = |id: &str, options| Add { id: Some(id.to_owned()), ..job(options) };
    let jobs = vec![
        with("a", JobOptions { attempts: 9, ..Default::default() }),
        with("b", JobOptions { priority: 4, ..Default::default() }),
        with("c", JobOptions { delay_ms: 9_000, ..Default::default() }),
    ];
    world.queue.add(jobs, NOW).await.unwrap();
    world.news().await;
    for (id, from) in [("a", "wait"), ("b", "prioritized"), ("c", "delayed")] {
        assert_eq!(world.cancel(id).await, Cancelled::Failed);
        assert_eq!(world.news().await[0], format!("failed jobId={id} failedReason=not wanted prev={from}"));
        assert_eq!(world.queue.state(id).await.unwrap(), Some(State::Failed));
        assert_eq!(world.see(&format!("HGET bull:q:{id} failedReason")).await, "not wanted");
        assert_eq!(world.cancel(id).await, Cancelled::Ended);
    }
    assert_eq!(world.news().await, Vec::<String>::new());
    assert!(world.take(5).await.jobs.is_empty());
    assert_eq!(world.cancel("nobody").await, Cancelled::Absent);
    assert_eq!(world.cancel("meta").await, Cancelled::Absent);
}

#[tokio::test]
async fn a_parent_that_waits_fails_and_its_own_parent_is_told() {
    let world = World::new().await;
    world.queue.add(vec![named("child"), named("top")], NOW).await.unwrap();
    let parent = "{\"id\":\"top\",\"queueKey\":\"bull:q\",\"fpof\":true}";
    for id in ["child", "top"] {
        world.run(&["LREM", "bull:q:wait", "0", id]).await;
        world.run(&["ZADD", "bull:q:waiting-children", "5", id]).await;
    }
    world.run(&["HSET", "bull:q:child", "parentKey", "bull:q:top", "parent", parent]).await;
    world.run(&["SADD", "bull:q:top:dependencies", "bull:q:child"]).await;
    assert_eq!(world.cancel("child").await, Cancelled::Failed);
    let top = world.take(1).await;
    assert_eq!(readable(&top.jobs[0]).deferred_failure.as_deref(), Some("child bull:q:child failed"));
}

#[tokio::test]
async fn one_that_our_worker_runs_is_marked_until_it_has_failed() {
    let world = World::new().await;
    world.add(job(JobOptions { attempts: 5, ..Default::default() })).await;
    world.take(1).await;
    assert_eq!(world.to_stop("1").await, []);
    assert_eq!(world.cancel("1").await, Cancelled::Marked);
    assert_eq!(world.to_stop("1").await, [("1".to_owned(), "not wanted".to_owned())]);
    assert_eq!(world.queue.state("1").await.unwrap(), Some(State::Active), "its worker has it still");
    world.settle("1", fail("not wanted")).await;
    assert_eq!(world.see("HMGET bull:q:1 defa onetake-cancelled").await, "[- -]");
    assert_eq!(world.to_stop("1").await, []);
}

#[tokio::test]
async fn whoever_takes_a_marked_job_again_has_to_fail_it() {
    let world = World::new().await;
    world.add(job(JobOptions { attempts: 5, ..Default::default() })).await;
    world.take(1).await;
    world.cancel("1").await;
    // The attempt failed by itself before its worker heard of it.
    world.settle("1", retry(0)).await;
    let again = world.take(1).await;
    assert_eq!(readable(&again.jobs[0]).deferred_failure.as_deref(), Some("not wanted"));
    assert_eq!(world.to_stop("1").await, [], "it is told by the job itself now");
}

#[tokio::test]
async fn one_that_ended_well_in_spite_of_the_mark_can_run_again() {
    let world = World::new().await;
    world.add(plain()).await;
    world.take(1).await;
    world.cancel("1").await;
    assert_eq!(world.settle("1", complete("1")).await, Settlement::Settled);
    world.queue.retry("1", Retry { from: Some(Finished::Completed), anew: false }).await.unwrap();
    let again = world.take(1).await;
    assert_eq!(readable(&again.jobs[0]).deferred_failure, None);
    assert_eq!(world.to_stop("1").await, []);
}

#[tokio::test]
async fn a_mark_does_not_concern_a_later_start_of_the_same_number() {
    let world = World::new().await;
    world.add(plain()).await;
    world.take(1).await;
    world.cancel("1").await;
    let mark = world.see("HGET bull:q:1 onetake-cancelled").await;
    world.settle("1", fail("not wanted")).await;
    // A Node worker that fails it leaves the mark, and Node can count from 0 again.
    world.queue.retry("1", Retry { from: None, anew: true }).await.unwrap();
    world.run(&["HSET", "bull:q:1", "onetake-cancelled", &mark]).await;
    world.take_at(1, NOW + 1).await;
    assert_eq!(world.see("HGET bull:q:1 ats").await, "1");
    assert_eq!(world.to_stop("1").await, []);
}

#[tokio::test]
async fn one_that_somebody_elses_worker_runs_is_left_alone() {
    let world = World::new().await;
    world.add(plain()).await;
    world.take(1).await;
    let before = world.hash("1").await;
    assert_eq!(world.queue.cancel("1", "no", "onetake-", NOW).await.unwrap(), Cancelled::Foreign);
    assert_eq!(world.hash("1").await, before);
    // Without a lock it is nobody's.
    world.run(&["DEL", "bull:q:1:lock"]).await;
    assert_eq!(world.queue.cancel("1", "no", "onetake-", NOW).await.unwrap(), Cancelled::Failed);
    assert_eq!(world.see("EXISTS bull:q:active").await, "0");
    assert_eq!(world.settle("1", complete("1")).await, Settlement::Lost, "who lost it comes too late");
}

#[tokio::test]
async fn the_run_that_a_scheduler_waits_for_is_not_cancelled() {
    let world = World::new().await;
    world.run(&["ZADD", "bull:q:repeat", "5000", "s"]).await;
    world.run(&["HSET", "bull:q:repeat:s:5000", "name", "n", "data", "{}", "rjk", "s"]).await;
    world.run(&["ZADD", "bull:q:delayed", "20480000", "repeat:s:5000"]).await;
    assert_eq!(world.cancel("repeat:s:5000").await, Cancelled::Scheduled);
    assert_eq!(world.see("ZCARD bull:q:delayed").await, "1");
}

#[tokio::test]
async fn the_failed_ones_that_nobody_wants_are_not_kept() {
    let world = World::new().await;
    world.add(job(JobOptions { remove_on_fail: Some(crate::queue::Keep::NONE), ..Default::default() })).await;
    assert_eq!(world.cancel("1").await, Cancelled::Failed);
    assert_eq!(world.see("EXISTS bull:q:1 bull:q:failed bull:q:wait").await, "0");
}
