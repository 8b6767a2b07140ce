//! A queue's own limits.

use std::num::NonZeroU32;

use super::*;
use crate::queue::{Limits, RateLimit};

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
