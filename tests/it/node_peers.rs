//! BullMQ peers among themselves on a Redis of ours: what they do here is what they do with Onetake in between.

use serde_json::json;

use super::support::node::{Behaviour, BullMq, Observer, Peer, Producer, Worker};
use super::support::redis::RedisServer;

#[tokio::test]
async fn producers_of_both_versions_see_their_jobs_end() {
    let redis = RedisServer::start().await;
    let (old, new) = (Peer::new(BullMq::V5, &redis, "video"), Peer::new(BullMq::V6, &redis, "video"));
    let (worker, mut five, mut six) =
        tokio::join!(Worker::start(&new, Behaviour::Echo, 4), Producer::start(&old), Producer::start(&new));
    let jobs: Vec<_> = (0..10).map(|number| json!({ "data": { "number": number } })).collect();
    five.give(&jobs);
    six.give(&jobs);
    for producer in [&mut five, &mut six] {
        let ids = producer.added().await;
        let ended = producer.ended().await;
        assert_eq!(ended.len(), producer.ended_so_far());
        for (index, outcome) in ended.iter().enumerate() {
            assert!(outcome.ok, "{outcome:?}");
            assert_eq!((outcome.index, outcome.id.as_ref()), (index, Some(&ids[index])));
            assert_eq!(outcome.value, Some(json!({ "number": index })));
        }
    }
    worker.close().await;
}

#[tokio::test]
async fn a_failure_is_told_with_its_reason() {
    let redis = RedisServer::start().await;
    for (behaviour, reason) in [(Behaviour::Fail, "told to fail"), (Behaviour::Unrecoverable, "told to fail for good")]
    {
        let peer = Peer::new(BullMq::V6, &redis, reason.replace(' ', "-").as_str());
        let (_worker, mut producer) = tokio::join!(Worker::start(&peer, behaviour, 1), Producer::start(&peer));
        producer.give(&[json!({ "name": "doomed", "data": {} })]);
        let outcome = producer.ended().await.remove(0);
        assert_eq!((outcome.ok, outcome.error.as_deref()), (false, Some(reason)));
    }
}

#[tokio::test]
async fn an_observer_sees_jobs_counts_and_events() {
    let redis = RedisServer::start().await;
    let peer = Peer::new(BullMq::V5, &redis, "video");
    let (mut observer, mut producer) = tokio::join!(Observer::start(&peer), Producer::start(&peer));
    producer.give(&[json!({ "data": { "name": "Anna" } })]);
    let id = producer.added().await.remove(0);
    assert_eq!(observer.queue("getJobCounts", json!([])).await["waiting"], 1);
    assert_eq!(observer.job(&id).await["data"]["name"], "Anna");
    assert_eq!(observer.job("nobody").await, json!(null));

    let mut worker = Worker::start(&peer, Behaviour::Hang, 1).await;
    assert_eq!(worker.taken().await, id);
    assert_eq!(observer.call(&id, "getState", json!([])).await, "active");
    worker.kill();
    assert_eq!(observer.event("active", &id).await["prev"], "waiting");
    assert_eq!(observer.events_of(&id), ["added", "waiting", "active"]);
}
