//! The crash matrix: the server dies between any two steps of the walk, on both stores, with and without a wiped Redis.
//!
//! What is promised in every cell: a request that was acknowledged ends delivered; a video whose result was committed is not
//! made again; nobody is given it twice in their mailbox; nothing is left open.

use std::time::Duration;

use onetake::clock::Clock;
use onetake::config;
use onetake::fault::POINTS;
use onetake::id::QueueName;
use onetake::queue::{Add, Queue, State};
use onetake::redis::Redis;
use serde_json::{Value, json};

use super::support::making::{Making, mailbox, until_delivered, until_settled};
use super::support::server::Onetake;
use super::support::store::StoreKind;
use super::support::wait;
use super::support::world::World;

/// From these points on the result is committed: it must not be made a second time.
const COMMITTED: &[&str] = &[
    "run.completed",
    "settle.mirrored",
    "settle.published",
    "deliver.leased",
    "deliver.sent",
    "deliver.marked",
    "follower.finished",
];

macro_rules! cells {
    ($($point:ident $name:literal),* $(,)?) => {
        mod sqlite {
            $(mod $point {
                #[tokio::test]
                async fn a_kill_loses_nothing() { super::super::cell(super::super::StoreKind::Sqlite, $name, false).await; }
                #[tokio::test]
                async fn a_kill_and_a_wiped_redis_lose_nothing() { super::super::cell(super::super::StoreKind::Sqlite, $name, true).await; }
            })*
        }
        mod on_postgres {
            $(mod $point {
                #[tokio::test]
                async fn a_kill_loses_nothing() { super::super::cell(super::super::StoreKind::Postgres, $name, false).await; }
                #[tokio::test]
                async fn a_kill_and_a_wiped_redis_lose_nothing() { super::super::cell(super::super::StoreKind::Postgres, $name, true).await; }
            })*
        }
        #[test]
        fn every_point_has_its_cells() {
            assert_eq!([$($name),*], POINTS);
        }
    };
}

cells!(
    accept_claimed "accept.claimed",
    accept_committed "accept.committed",
    publish_done "publish.done",
    run_taken "run.taken",
    run_claimed "run.claimed",
    run_processed "run.processed",
    run_completed "run.completed",
    settle_mirrored "settle.mirrored",
    settle_published "settle.published",
    deliver_leased "deliver.leased",
    deliver_sent "deliver.sent",
    deliver_marked "deliver.marked",
    follower_accepted "follower.accepted",
    follower_parked "follower.parked",
    follower_finished "follower.finished",
);

async fn cell(kind: StoreKind, point: &str, wipe: bool) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let queue = intake(&world).await;

    let doomed = Onetake::start(&world.setup.clone().fault(point)).await;
    let job = add(&queue, "Anna", "node").await;
    let is_acknowledged = {
        let body = json!({"name": "Anna", "user": "olga"});
        let api = doomed.with("idempotency-key", "olga-1");
        let answer = api.request(reqwest::Method::POST, "/v1/videos", Some(body)).await;
        answer.is_ok_and(|answer| matches!(answer.status, 200 | 202))
    };
    doomed.wait_exit().await;
    let accepted_jobs = world.store.numbers("select count(*) from subscriptions where channel = 'follower'").await[0];
    if wipe {
        world.redis.wipe().await;
    }

    let server = world.server().await;
    if !is_acknowledged {
        // An asker who got no answer asks again, under the same key.
        let api = server.with("idempotency-key", "olga-1");
        let answer = api.post("/v1/videos", json!({"name": "Anna", "user": "olga"})).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }
    server.post("/v1/videos", json!({"name": "Anna", "user": "vera"})).await;
    for user in ["olga", "vera"] {
        until_delivered(&server, user, 1).await;
    }
    // A job that nobody had taken is as durable as Redis; one that was taken is delivered to its user all the same.
    if !wipe || accepted_jobs > 0 {
        until_delivered(&server, "node", 1).await;
    }
    if !wipe {
        wait::until_true("the Node job completed", wait::PATIENCE, async || {
            matches!(queue.state(&job).await, Ok(Some(State::Completed)))
        })
        .await;
    }
    until_settled(&world.store).await;

    for user in ["olga", "vera", "node"] {
        assert!(mailbox(&server, user).await.len() <= 1, "{user} was given it twice");
    }
    let renders = making.runs().len();
    let most = if COMMITTED.contains(&point) { 1 } else { 2 };
    assert!((1..=most).contains(&renders), "{renders} renders");
    let lost = world.store.numbers("select count(*) from deliveries where state = 'dead'").await[0];
    assert_eq!(lost, 0, "nothing died");
    let suppressed = world
        .store
        .numbers("select count(*) from deliveries where state = 'suppressed' and channel <> 'follower'")
        .await[0];
    assert_eq!(suppressed, 0, "only a follower whose job was wiped may have nobody to tell");
}

/// The intake queue, as a Node producer sees it.
pub(super) async fn intake(world: &World) -> Queue {
    let settings = config::Redis {
        url: world.redis.url().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: config::Span(Duration::from_secs(2)),
        eviction: config::Eviction::Warn,
        tls: config::Tls::default(),
    };
    let redis = Redis::connect(&settings).await.expect("Redis is up");
    Queue::new(redis, "bull", QueueName::parse("video").unwrap())
}

async fn add(queue: &Queue, name: &str, user: &str) -> String {
    let data: Value = json!({"name": name, "userId": user});
    let add = Add::new("video", serde_json::value::to_raw_value(&data).unwrap());
    queue.add(vec![add], Clock::system().now_ms()).await.expect("Redis takes it").remove(0).id
}
