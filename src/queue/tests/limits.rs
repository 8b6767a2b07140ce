//! A queue's own limits.

use std::num::NonZeroU32;

use super::*;
use crate::queue::{Limits, Move, RateLimit};

fn some(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

#[tokio::test]
async fn limits_are_set_shown_and_cleared() {
    let world = World::new().await;
    assert_eq!(world.queue.limits().await.unwrap(), Limits::default());
    let rate = some(3).zip(some(1_000)).map(|(max, duration)| RateLimit { max, duration });
    world.queue.set_concurrency(some(7)).await.unwrap();
    world.queue.set_rate_limit(rate).await.unwrap();
    world.queue.pause().await.unwrap();
    assert_eq!(world.see("HMGET bull:q:meta concurrency max duration").await, "[7 3 1000]");
    assert_eq!(world.queue.limits().await.unwrap(), Limits { is_paused: true, concurrency: some(7), rate });
    world.queue.set_concurrency(None).await.unwrap();
    world.queue.set_rate_limit(None).await.unwrap();
    assert_eq!(world.see("HMGET bull:q:meta concurrency max duration").await, "[- - -]");
    world.run(&["HSET", "bull:q:meta", "concurrency", "many", "max", "5"]).await;
    assert_eq!(world.queue.limits().await.unwrap(), Limits { is_paused: true, ..Limits::default() });
}

#[tokio::test]
async fn room_wakes_a_waiter() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), plain()], NOW).await.unwrap();
    world.queue.set_concurrency(some(1)).await.unwrap();
    assert_eq!(world.take(3).await.jobs.len(), 1);
    let woken = async || {
        let marker = world.see("ZRANGE bull:q:marker 0 -1").await == "[0]";
        world.run(&["DEL", "bull:q:marker"]).await;
        marker
    };
    woken().await;
    world.queue.set_concurrency(some(1)).await.unwrap();
    assert!(!woken().await, "there is no room");
    world.queue.set_concurrency(some(2)).await.unwrap();
    assert!(woken().await);
    world.queue.pause().await.unwrap();
    world.queue.set_concurrency(None).await.unwrap();
    assert!(!woken().await, "a paused queue wakes nobody");
    world.queue.resume().await.unwrap();
    assert!(woken().await);
}

#[tokio::test]
async fn a_rate_window_can_be_ended() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    let rate = some(1).zip(some(60_000)).map(|(max, duration)| RateLimit { max, duration });
    world.queue.set_rate_limit(rate).await.unwrap();
    assert_eq!(world.take(2).await.jobs.len(), 1);
    assert!(world.take(2).await.rate_limited_ms.is_some());
    world.run(&["DEL", "bull:q:marker"]).await;
    assert!(world.queue.remove_rate_limit().await.unwrap());
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert_eq!(world.take(2).await.jobs.len(), 1);
    world.run(&["DEL", "bull:q:limiter"]).await;
    assert!(!world.queue.remove_rate_limit().await.unwrap());
}

fn rate(max: u32, duration: u32) -> Option<RateLimit> {
    some(max).zip(some(duration)).map(|(max, duration)| RateLimit { max, duration })
}

#[tokio::test]
async fn a_workers_own_rate_counts_where_the_queue_has_none() {
    let world = World::on(Terms { limiter: rate(2, 60_000), ..Terms::default() }).await;
    world.queue.add((0..9).map(|_| plain()).collect(), NOW).await.unwrap();
    assert_eq!(world.take(9).await.jobs.len(), 2);
    assert!(world.take(9).await.rate_limited_ms.is_some_and(|ms| (1..=60_000).contains(&ms)));
    // Another process's worker without a limit of its own is not held up.
    let name = QueueName::parse("q").unwrap();
    let unlimited = Queue::new(world.redis.clone(), "bull", name);
    assert_eq!(unlimited.take(&by("u", 1), NOW).await.unwrap().jobs.len(), 1);
    // Also where a take rides along with settling.
    let (_, taken) = world.queue.settle(&[ended("1", complete("1"))], Some(&by("t", 9)), NOW).await.unwrap();
    assert!(taken.jobs.is_empty() && taken.rate_limited_ms.is_some());
}

#[tokio::test]
async fn of_two_rates_the_queues_number_and_the_workers_window_count() {
    let world = World::on(Terms { limiter: rate(100, 5_000), ..Terms::default() }).await;
    world.queue.add((0..9).map(|_| plain()).collect(), NOW).await.unwrap();
    world.queue.set_rate_limit(rate(1, 60_000)).await.unwrap();
    assert_eq!(world.take(9).await.jobs.len(), 1);
    assert!(world.take(9).await.rate_limited_ms.is_some_and(|ms| (1..=5_000).contains(&ms)));
    world.run(&["DEL", "bull:q:limiter"]).await;
    // Half a limit of the queue is none, but the worker brings the other half.
    world.run(&["HDEL", "bull:q:meta", "duration"]).await;
    assert_eq!(world.take(9).await.jobs.len(), 1);
}

#[tokio::test]
async fn a_job_may_limit_the_whole_queue_without_using_up_an_attempt() {
    let world = World::new().await;
    world.queue.add(vec![plain(), plain(), plain()], NOW).await.unwrap();
    assert_eq!(world.take(2).await.jobs.len(), 2);
    world.news().await;
    let limited = |for_ms| How::Move { to: Move::Limited { for_ms }, data: None, step: 1 };
    let ends = [ended("1", limited(50_000)), ended("2", limited(10))];
    let (settled, taken) = world.queue.settle(&ends, Some(&by("t", 5)), NOW).await.unwrap();
    assert_eq!(settled, [Settlement::Settled; 2]);
    assert!(taken.jobs.is_empty());
    assert!(taken.rate_limited_ms.is_some_and(|ms| (11..=50_000).contains(&ms)), "the longer one counts: {taken:?}");
    assert_eq!(world.see("GET bull:q:limiter").await, "9007199254740991", "as BullMQ's queue.rateLimit() has it");
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[3 1 2]", "to the front");
    assert_eq!(world.see("HMGET bull:q:1 atm onetake-step").await, "[- 1]");
    assert_eq!(world.news().await, ["waiting jobId=1 prev=active", "waiting jobId=2 prev=active"]);
    assert!(world.queue.remove_rate_limit().await.unwrap());
    assert_eq!(world.take(5).await.jobs.len(), 3);
}
