//! Adding together.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::*;
use crate::id::QueueName;
use crate::queue::{AddError, AddOutcome, Error, Producer};

#[tokio::test]
async fn adds_that_arrive_together_share_few_calls_and_each_gets_its_own_answer() {
    let world = World::new().await;
    let producer = Producer::start();
    let other = Queue::new(world.queue.redis().clone(), "bull", QueueName::parse("other").unwrap());
    let adds = (0..200).map(|n| {
        let queue = if n % 4 == 0 { &other } else { &world.queue };
        producer.add(queue, Add { name: format!("job {n}"), ..plain() }, NOW)
    });
    let added: Vec<_> = join_all(adds).await.into_iter().map(|added| added.unwrap()).collect();
    assert!(added.iter().all(|added| added.outcome == AddOutcome::Added));
    for (n, added) in added.iter().enumerate() {
        let queue = if n % 4 == 0 { "other" } else { "q" };
        assert_eq!(world.see(&format!("HGET bull:{queue}:{} name", added.id)).await, format!("job {n}"));
    }
    let ids: BTreeSet<&str> = added.iter().enumerate().filter(|(n, _)| n % 4 > 0).map(|(_, a)| a.id.as_str()).collect();
    assert_eq!(ids.len(), 150);
    let calls = world.see("INFO commandstats").await;
    let calls =
        calls.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok());
    assert!(calls.is_some_and(|calls: u32| calls < 50), "{calls:?} calls for 200 jobs");
}

#[tokio::test]
async fn a_job_that_cannot_be_added_is_its_own_callers_trouble() {
    let world = World::new().await;
    let producer = Producer::start();
    let (good, bad) = (named("good"), named("1"));
    let (good, bad) = tokio::join!(producer.add(&world.queue, good, NOW), producer.add(&world.queue, bad, NOW));
    assert_eq!(good.unwrap().id, "good");
    assert!(matches!(bad.unwrap_err(), Error::Add { source: AddError::IntegerId, .. }));
}

#[tokio::test]
async fn a_queue_that_refuses_does_not_touch_those_that_ride_along() {
    let world = World::new().await;
    let producer = Producer::start();
    let foreign = Queue::new(world.queue.redis().clone(), "bull", QueueName::parse("foreign").unwrap());
    world.run(&["SET", "bull:foreign:wait", "a text"]).await;
    let (good, bad) =
        tokio::join!(producer.add(&world.queue, named("good"), NOW), producer.add(&foreign, named("bad"), NOW));
    assert_eq!(good.unwrap().id, "good");
    assert!(matches!(bad.unwrap_err(), Error::Redis(_)));
}
