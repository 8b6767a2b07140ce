//! Taking.

use super::*;

fn with_priority(priority: u32) -> Add {
    job(JobOptions { priority, ..Default::default() })
}

#[tokio::test]
async fn a_taken_job_is_active_locked_and_told() {
    let world = World::new().await;
    world.add(plain()).await;
    world.news().await;
    let taken = world.take(1).await;
    let job = readable(&taken.jobs[0]);
    assert_eq!((job.attempts_started, job.processed_on, job.processed_by.as_deref()), (1, Some(NOW), Some("w one")));
    assert_eq!(world.news().await, ["active jobId=1 prev=waiting"]);
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[1]");
    assert_eq!(world.see("GET bull:q:1:lock").await, "t");
    let left: i64 = world.see("PTTL bull:q:1:lock").await.parse().unwrap();
    assert!((1..=30_000).contains(&left));
    let hash = world.hash("1").await;
    assert!(hash.contains("ats=1\n") && hash.contains("pb=w one\n") && hash.contains(&format!("processedOn={NOW}")));
}

#[tokio::test]
async fn a_batch_is_taken_in_the_order_of_single_takes() {
    let world = World::new().await;
    world.queue.add(vec![with_priority(2), plain(), with_priority(1), plain()], NOW).await.unwrap();
    let taken = world.take(10).await;
    assert_eq!(ids(&taken), ["2", "4", "3", "1"]);
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[1 3 4 2]");
    assert_eq!(world.see("EXISTS bull:q:wait bull:q:prioritized bull:q:pc").await, "0");
}

#[tokio::test]
async fn what_is_due_waits_first_even_while_paused() {
    let world = World::new().await;
    let delayed = |delay_ms, priority| job(JobOptions { delay_ms, priority, ..Default::default() });
    world.queue.add(vec![delayed(50, 0), delayed(50, 4), delayed(9000, 0)], NOW).await.unwrap();
    let early = world.take_at(5, NOW + 49).await;
    assert_eq!((ids(&early), early.next_due_ms), (vec![], Some(NOW + 50)));
    world.queue.pause().await.unwrap();
    world.news().await;
    let paused = world.take_at(5, NOW + 50).await;
    assert!(paused.jobs.is_empty() && paused.is_paused);
    assert_eq!(world.news().await, ["waiting jobId=1 prev=delayed", "waiting jobId=2 prev=delayed"]);
    assert_eq!(world.see("HGET bull:q:1 delay").await, "0");
    world.queue.resume().await.unwrap();
    let taken = world.take_at(5, NOW + 50).await;
    assert_eq!((ids(&taken), taken.next_due_ms), (vec!["1", "2"], Some(NOW + 9000)));
}

#[tokio::test]
async fn global_concurrency_holds_inside_a_batch() {
    let world = World::new().await;
    world.queue.add((0..5).map(|_| plain()).collect(), NOW).await.unwrap();
    world.run(&["HSET", "bull:q:meta", "concurrency", "3"]).await;
    assert_eq!(world.take(2).await.jobs.len(), 2);
    assert_eq!(world.take(10).await.jobs.len(), 1);
    assert_eq!(world.take(10).await.jobs.len(), 0);
    // A freed place is announced.
    world.run(&["DEL", "bull:q:marker"]).await;
    world.settle("1", complete("1")).await;
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert_eq!(world.take(10).await.jobs.len(), 1);
}

#[tokio::test]
async fn the_rate_limit_counts_each_job_and_ends() {
    let world = World::new().await;
    world.queue.add((0..5).map(|_| plain()).collect(), NOW).await.unwrap();
    world.run(&["HSET", "bull:q:meta", "max", "2", "duration", "40000"]).await;
    assert_eq!(world.take(10).await.jobs.len(), 2);
    let limited = world.take(10).await;
    assert!(limited.jobs.is_empty() && limited.rate_limited_ms.is_some_and(|ms| (1..=40_000).contains(&ms)));
    world.run(&["DEL", "bull:q:limiter"]).await;
    assert_eq!(world.take(1).await.jobs.len(), 1);
    assert_eq!(world.see("GET bull:q:limiter").await, "1");
}

#[tokio::test]
async fn a_limit_set_by_rate_limit_is_heeded_without_one_of_the_queue() {
    let world = World::new().await;
    world.add(plain()).await;
    world.run(&["SET", "bull:q:limiter", "9007199254740991", "PX", "5000"]).await;
    assert!(world.take(1).await.rate_limited_ms.is_some());
    world.run(&["SET", "bull:q:limiter", "9007199254740991"]).await;
    assert_eq!(world.take(1).await.jobs.len(), 1, "a counter without an end limits nothing");
}

#[tokio::test]
async fn ids_without_a_job_are_dropped_and_leave_no_partial_hash() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), with_priority(1), with_priority(1)], NOW).await.unwrap();
    world.run(&["DEL", "bull:q:1", "bull:q:3"]).await;
    world.run(&["RPUSH", "bull:q:wait", "0:marker", "wrong"]).await;
    world.run(&["SET", "bull:q:wrong", "not a hash"]).await;
    world.run(&["ZADD", "bull:q:delayed", "5", "ghost"]).await;
    assert_eq!(ids(&world.take(2).await), ["2", "4"]);
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[4 2]");
    assert_eq!(
        world.see("EXISTS bull:q:1 bull:q:3 bull:q:ghost bull:q:wait bull:q:prioritized bull:q:delayed").await,
        "0"
    );
}

#[tokio::test]
async fn an_unreadable_job_is_handed_out_to_be_failed() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    world.run(&["HSET", "bull:q:1", "data", "{nope"]).await;
    let taken = world.take(2).await;
    let Record::Unreadable { id, reason } = &taken.jobs[0] else { panic!("it cannot be read") };
    assert!(reason.contains("data is not JSON"), "{reason}");
    assert_eq!(readable(&taken.jobs[1]).id, "2");
    assert_eq!(world.settle(id, fail(reason)).await, Settlement::Settled);
}

#[tokio::test]
async fn a_marker_is_left_only_while_something_waits() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    world.run(&["DEL", "bull:q:marker"]).await;
    world.take(1).await;
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    world.run(&["DEL", "bull:q:marker"]).await;
    world.take(1).await;
    assert_eq!(world.see("EXISTS bull:q:marker").await, "0");
}

#[tokio::test]
async fn what_a_lost_answer_took_is_put_back_in_its_order() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), plain(), with_priority(7)], NOW).await.unwrap();
    assert_eq!(ids(&world.take(4).await), ["1", "2", "3", "4"]);
    world.news().await;
    let back = world.queue.reclaim("t", &[("1".to_owned(), "t".to_owned())]).await.unwrap();
    assert_eq!(back.len(), 3);
    assert_eq!(world.see("HGET bull:q:2 ats").await, "0", "it was not started");
    assert_eq!(world.see("EXISTS bull:q:2:lock bull:q:3:lock bull:q:4:lock").await, "0");
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[1]");
    assert!(world.queue.reclaim("other", &[]).await.unwrap().is_empty());
    assert_eq!(ids(&world.take(4).await), ["2", "3", "4"]);
}

#[tokio::test]
async fn what_has_a_priority_is_not_taken_ahead() {
    let world = World::new().await;
    let high = || with_priority(7);
    world.queue.add(vec![plain(), plain(), plain(), high(), high(), high()], NOW).await.unwrap();
    let taken =
        async |max, ahead| ids(&world.queue.take(&Take { ahead, ..by("t", max) }, NOW).await.unwrap()).join(" ");
    assert_eq!(taken(2, 1).await, "1 2");
    assert_eq!(taken(6, 4).await, "3 4", "two places");
    assert_eq!(taken(2, 2).await, "");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]", "somebody may take them");
    assert_eq!(taken(9, 7).await, "5 6");
}

#[tokio::test]
async fn nothing_is_taken_ahead_of_a_queue_that_has_a_limit() {
    for limit in [&["concurrency", "5"][..], &["max", "5", "duration", "60000"]] {
        let world = World::new().await;
        world.queue.add((0..6).map(|_| plain()).collect(), NOW).await.unwrap();
        world.run(&[&["HSET", "bull:q:meta"], limit].concat()).await;
        let taken = world.queue.take(&Take { ahead: 3, ..by("t", 4) }, NOW).await.unwrap();
        assert_eq!(ids(&taken), ["1"], "{limit:?}");
        let taken = world.queue.take(&Take { ahead: 2, ..by("t", 6) }, NOW).await.unwrap();
        assert_eq!(ids(&taken), ["2", "3", "4", "5"], "{limit:?}: all that it allows");
    }
}

/// It may have killed its worker, and would put the blame on those beside it.
#[tokio::test]
async fn nothing_is_taken_ahead_beside_a_job_whose_worker_died() {
    let world = World::new().await;
    world.queue.add((0..9).map(|_| plain()).collect(), NOW).await.unwrap();
    for stalled in ["1", "5", "6"] {
        world.run(&["HSET", &format!("bull:q:{stalled}"), "stc", "1"]).await;
    }
    let taken =
        async |max, ahead| ids(&world.queue.take(&Take { ahead, ..by("t", max) }, NOW).await.unwrap()).join(" ");
    assert_eq!(taken(4, 3).await, "1");
    assert_eq!(taken(6, 4).await, "2 3 4", "the next is such a one");
    assert_eq!(taken(4, 2).await, "5 6");
    assert_eq!(taken(4, 3).await, "7 8 9");
    assert_eq!(world.see("LRANGE bull:q:active 0 -1").await, "[9 8 7 6 5 4 3 2 1]");
}

#[tokio::test]
async fn a_retry_whose_answer_was_lost_counts_once_though_the_same_worker_took_the_job_again() {
    let world = World::new().await;
    world.queue.add(vec![plain()], NOW).await.unwrap();
    world.queue.take(&by("w-1", 1), NOW).await.unwrap();
    let retry = Ended { token: "w-1".to_owned(), ..ended("1", retry(0)) };
    // Its answer is lost: the job waits again, and is taken by the very same call.
    let (_, taken) = world.queue.settle(std::slice::from_ref(&retry), Some(&by("w-2", 1)), NOW).await.unwrap();
    assert_eq!(ids(&taken), ["1"]);
    let known = [("1".to_owned(), "w-1".to_owned())];
    assert_eq!(world.queue.reclaim("w-", &known).await.unwrap(), ["1"], "what the worker does not know goes back");
    let (settled, _) = world.queue.settle(&[retry], None, NOW).await.unwrap();
    assert_eq!(settled, [Settlement::Lost]);
    assert_eq!(world.see("HMGET bull:q:1 atm ats").await, "[1 1]");
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[1]");
}

#[tokio::test]
async fn the_event_stream_stays_short() {
    let world = World::new().await;
    world.run(&["HSET", "bull:q:meta", "opts.maxLenEvents", "100"]).await;
    for _ in 0..10 {
        world.queue.add((0..100).map(|_| plain()).collect(), NOW).await.unwrap();
    }
    let length: u32 = world.see("XLEN bull:q:events").await.parse().unwrap();
    assert!(length < 400, "{length}");
}
