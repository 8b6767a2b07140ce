//! Stock Node workers on a queue with groups: they see the jobs that were let out of their lines.

use super::*;
use crate::support::node::{Behaviour, BullMq, Observer, Worker};
use crate::support::on_each_store;

/// Noisy and quiet jobs; the ids of all by group, and of the quiet ones.
async fn fill(server: &Onetake, queue: &str) -> (BTreeMap<String, &'static str>, Vec<String>) {
    let (mut groups, mut quiet) = (BTreeMap::new(), Vec::new());
    for _ in 0..80 {
        groups.insert(add(server, queue, "noisy").await, "noisy");
    }
    for _ in 0..4 {
        quiet.push(add(server, queue, "quiet").await);
        groups.insert(quiet.last().expect("just pushed").clone(), "quiet");
    }
    (groups, quiet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_work_groups_off_beside_our_runner() {
    let world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    limit(&server, "ours", "noisy", 3).await;
    limit(&server, "ours", "quiet", 1).await;
    let (v5, v6) = (world.peer(BullMq::V5, "ours"), world.peer(BullMq::V6, "ours"));
    let (five, six) = tokio::join!(Worker::start(&v5, Behaviour::Echo, 3), Worker::start(&v6, Behaviour::Echo, 3));
    let (groups, _) = fill(&server, "ours").await;
    until_completed(&world, "ours", 84).await;
    let peaks = peaks(&events(&world, "ours").await, &groups);
    assert!(peaks["noisy"] <= 3 && peaks["quiet"] <= 1, "{peaks:?}");
    five.close().await;
    six.close().await;
    for group in ["noisy", "quiet"] {
        server.delete(&format!("/v1/queues/ours/groups/{group}")).await.expect(200);
    }
    until_forgotten(&world).await;
}

/// On Postgres the server has no part in running jobs at all.
async fn stock_workers_alone_work_groups_off(kind: StoreKind) {
    let mut world = world(kind).await;
    if kind == StoreKind::Postgres {
        world.setup = world.setup.env("ONETAKE_ROLE", "http");
    }
    let server = world.server().await;
    let (groups, quiet) = fill(&server, "theirs").await;
    let (v5, v6) = (world.peer(BullMq::V5, "theirs"), world.peer(BullMq::V6, "theirs"));
    let (five, six) = tokio::join!(Worker::start(&v5, Behaviour::Echo, 4), Worker::start(&v6, Behaviour::Echo, 4));
    until_completed(&world, "theirs", 84).await;
    let events = events(&world, "theirs").await;
    let peaks = peaks(&events, &groups);
    assert!(peaks["noisy"] <= 3 && peaks["quiet"] <= 3, "{peaks:?}");
    for id in &quiet {
        // Only one of the other group stands ready at any time, and one more may come out meanwhile.
        assert!(overtaken(&events, id) <= 2, "{id} after {}", overtaken(&events, id));
    }
    five.close().await;
    six.close().await;
    until_forgotten(&world).await;
}

on_each_store!(stock_workers_alone_work_groups_off);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_attempts_of_stock_workers_keep_their_group() {
    let world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    limit(&server, "theirs", "a", 1).await;
    let mut groups = BTreeMap::new();
    for _ in 0..5 {
        groups.insert(add(&server, "theirs", "a").await, "a");
    }
    let worker = Worker::start(&world.peer(BullMq::V6, "theirs"), Behaviour::Fail, 3).await;
    wait::until_true("all to fail", LONG, async || {
        world.redis.ask(&["ZCARD", "bull:theirs:failed"]).await.number() == 5
    })
    .await;
    let events = events(&world, "theirs").await;
    assert_eq!(events.iter().filter(|(event, _)| event == "active").count(), 15, "three attempts each");
    worker.close().await;
    server.delete("/v1/queues/theirs/groups/a").await.expect(200);
    until_forgotten(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_getters_read_a_queue_with_lines() {
    let world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    let first = add(&server, "theirs", "a").await;
    let second = add(&server, "theirs", "a").await;
    for version in [BullMq::V5, BullMq::V6] {
        let mut observer = Observer::start(&world.peer(version, "theirs")).await;
        assert_eq!(observer.job(&second).await["opts"]["group"]["id"], "a");
        assert_eq!(observer.call(&first, "getState", json!([])).await, "waiting");
        // It stands in no state that BullMQ knows.
        assert_eq!(observer.call(&second, "getState", json!([])).await, "unknown");
        assert_eq!(observer.queue("getJobCounts", json!([])).await["waiting"], 1);
        assert_eq!(observer.queue("getWaiting", json!([])).await.as_array().map(Vec::len), Some(1));
    }
    // What is removed behind our back is passed over.
    let mut observer = Observer::start(&world.peer(BullMq::V6, "theirs")).await;
    observer.call(&second, "remove", json!([])).await;
    let third = add(&server, "theirs", "a").await;
    let mut worker = Worker::start(&world.peer(BullMq::V5, "theirs"), Behaviour::Echo, 1).await;
    assert_eq!([worker.taken().await, worker.taken().await], [first, third]);
    until_completed(&world, "theirs", 2).await;
    worker.close().await;
    until_forgotten(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_it_tends_groups_is_followed_by_another() {
    let world = world(StoreKind::Sqlite).await;
    let mut server = world.server().await;
    for _ in 0..40 {
        add(&server, "theirs", "a").await;
    }
    let worker = Worker::start(&world.peer(BullMq::V6, "theirs"), Behaviour::Echo, 2).await;
    let completed = async || world.redis.ask(&["ZCARD", "bull:theirs:completed"]).await.number();
    wait::until_true("some jobs to complete", LONG, async || completed().await > 2).await;
    server.kill();
    // Whatever the worker does alone: one job of the group stands ready at most, and nobody lets the next one out.
    let next = world.server().await;
    until_completed(&world, "theirs", 40).await;
    worker.close().await;
    until_forgotten(&world).await;
    drop(next);
}
