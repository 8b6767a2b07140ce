//! Followers: Node jobs that wait in the intake queue for a run of ours.

use onetake::clock::Clock;
use onetake::queue::{Add, Queue, State};
use serde_json::json;

use crate::crash::intake;
use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait;
use crate::support::world::World;

on_each_store!(
    a_job_that_cannot_be_read_fails_with_its_reason_and_the_next_ones_go_on,
    a_parked_job_that_was_moved_by_hand_is_parked_again,
    ids_that_start_again_after_a_wipe_belong_to_their_new_jobs,
    an_end_that_redis_forgot_is_told_again,
    a_priority_that_no_job_can_have_holds_up_nobody,
    a_result_that_no_text_can_hold_is_delivered_without_it,
);

async fn a_job_that_cannot_be_read_fails_with_its_reason_and_the_next_ones_go_on(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let _server = world.server().await;
    let queue = intake(&world).await;
    for (id, data, reason) in [
        ("torn", r#"{"name": "An"#, "not JSON"),
        ("text", "plain text", "not JSON"),
        ("nameless", r#"{"userId": 7}"#, "\"name\""),
        ("null", "null", "\"name\""),
        ("number", r#"{"name": 5}"#, "\"name\" must be a text"),
        ("blank", r#"{"name": "  "}"#, "\"name\""),
        ("odd", r#"{"name": "Anna", "gender": "cat"}"#, "\"gender\""),
    ] {
        put_by_hand(&world, id, data, "0").await;
        until(&queue, id, State::Failed).await;
        let told = world.redis.ask(&["HGET", &format!("bull:video:{id}"), "failedReason"]).await;
        let told = told.text().unwrap_or_default();
        assert!(told.contains(reason), "{id}: {told}");
    }
    let good = add(&queue, "Anna").await;
    until(&queue, &good, State::Completed).await;
    until_settled(&world.store).await;
    assert_eq!(making.runs(), ["Anna"]);
    assert_eq!(world.store.numbers("select count(*) from flights").await, [1]);
}

async fn a_parked_job_that_was_moved_by_hand_is_parked_again(kind: StoreKind) {
    let stage = Gated::new(kind).await;
    let queue = intake(&stage.world).await;
    let job = add(&queue, "Anna").await;
    until(&queue, &job, State::WaitingChildren).await;
    for _ in 0..2 {
        let starts = starts(&stage.world, &job).await;
        for command in [
            &["ZREM", "bull:video:waiting-children", &job][..],
            &["LPUSH", "bull:video:wait", &job],
            &["ZADD", "bull:video:marker", "0", "0"],
        ] {
            stage.world.redis.ask(command).await;
        }
        wait::until_true("the job was taken again", wait::PATIENCE, async || {
            starts < self::starts(&stage.world, &job).await
        })
        .await;
        until(&queue, &job, State::WaitingChildren).await;
    }
    assert_eq!(stage.world.store.numbers("select count(*) from subscriptions where channel = 'follower'").await, [1]);
    stage.open("Anna");
    until(&queue, &job, State::Completed).await;
    until_settled(&stage.world.store).await;
    assert_eq!(stage.making.runs(), ["Anna"]);
}

async fn ids_that_start_again_after_a_wipe_belong_to_their_new_jobs(kind: StoreKind) {
    let stage = Gated::new(kind).await;
    let queue = intake(&stage.world).await;
    let old = add(&queue, "Anna").await;
    until(&queue, &old, State::WaitingChildren).await;
    stage.world.redis.wipe().await;

    let new = add(&queue, "Ivan").await;
    assert_eq!(old, new, "BullMQ counts from the start again");
    until(&queue, &new, State::WaitingChildren).await;
    stage.open("Anna");
    let states = "select state from deliveries where channel = 'follower'";
    wait::until_true("the old job's delivery has ended", wait::PATIENCE, async || {
        stage.world.store.texts(states).await == ["suppressed"]
    })
    .await;
    assert_eq!(queue.state(&new).await.unwrap(), Some(State::WaitingChildren), "it waits for a run of its own");
    stage.open("Ivan");
    until(&queue, &new, State::Completed).await;
    let value = stage.world.redis.ask(&["HGET", &format!("bull:video:{new}"), "returnvalue"]).await;
    assert_eq!(value.text(), Some(r#"{"made":"Ivan"}"#));
}

/// A replica that took over, or a disk that lost the last second: the run was made, and its follower told.
async fn an_end_that_redis_forgot_is_told_again(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let _server = world.server().await;
    let queue = intake(&world).await;
    let job = add(&queue, "Anna").await;
    until(&queue, &job, State::Completed).await;
    until_settled(&world.store).await;
    let key = format!("bull:video:{job}");
    for command in [
        &["HDEL", &key, "returnvalue", "finishedOn"][..],
        &["ZREM", "bull:video:completed", &job],
        &["ZADD", "bull:video:waiting-children", "1", &job],
    ] {
        world.redis.ask(command).await;
    }
    until(&queue, &job, State::Completed).await;
    let value = world.redis.ask(&["HGET", &key, "returnvalue"]).await;
    assert_eq!(value.text(), Some(r#"{"made":true}"#));
    assert_eq!(making.runs(), ["Anna"]);
}

async fn a_priority_that_no_job_can_have_holds_up_nobody(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let _server = world.server().await;
    let queue = intake(&world).await;
    put_by_hand(&world, "late", r#"{"name": "Anna"}"#, "3000000").await;
    let other = add(&queue, "Ivan").await;
    until(&queue, &other, State::Completed).await;
    until(&queue, "late", State::Completed).await;
}

async fn a_result_that_no_text_can_hold_is_delivered_without_it(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await;
    let config = making.config(r#"echo '"a\\u0000b"'"#, "");
    let server = Onetake::start(&world.setup.clone().config(&config)).await;
    ask(&server, "Anna", "olga").await;
    assert_eq!(until_delivered(&server, "olga", 1).await[0]["text"], "ab");
    until_settled(&world.store).await;
}

mod node_followers {
    use serde_json::json;

    use super::{Gated, Making, Onetake, StoreKind, World, on_each_store, until_settled};
    use crate::support::node::{BullMq, Observer, Producer};

    on_each_store!(
        a_failed_run_rejects_every_waiting_job_with_its_reason,
        a_parked_job_that_a_tool_retries_waits_on,
        a_failed_job_that_a_tool_retries_has_another_run_made
    );

    async fn a_failed_run_rejects_every_waiting_job_with_its_reason(kind: StoreKind) {
        let making = Making::new();
        let world = World::new(kind).await;
        let config = making.config("sleep 0.3; echo no paint left >&2; exit 65", "");
        let _server = Onetake::start(&world.setup.clone().config(&config)).await;
        let (five, six) = (world.peer(BullMq::V5, "video"), world.peer(BullMq::V6, "video"));
        let (mut five, mut six) = tokio::join!(Producer::start(&five), Producer::start(&six));
        let jobs: Vec<_> = (0..5).map(|user| json!({"data": {"name": "Anna", "userId": user}})).collect();
        for producer in [&mut five, &mut six] {
            producer.give(&jobs);
        }
        for producer in [&mut five, &mut six] {
            for outcome in producer.ended().await {
                assert!(!outcome.ok, "{outcome:?}");
                assert!(outcome.error.as_ref().unwrap().contains("no paint left"), "{outcome:?}");
            }
        }
        until_settled(&world.store).await;
    }

    async fn a_failed_job_that_a_tool_retries_has_another_run_made(kind: StoreKind) {
        let making = Making::new();
        let world = World::new(kind).await;
        let paint = making.file("paint");
        let script =
            format!(r#"[ -e {} ] || {{ echo no paint left >&2; exit 65; }}; echo '{{"made":true}}'"#, paint.display());
        let _server = Onetake::start(&world.setup.clone().config(&making.config(&script, ""))).await;
        let queue = super::intake(&world).await;
        for (version, name) in [(BullMq::V5, "Anna"), (BullMq::V6, "Ivan")] {
            let _ = std::fs::remove_file(&paint);
            let peer = world.peer(version, "video");
            let (mut producer, mut observer) = tokio::join!(Producer::start(&peer), Observer::start(&peer));
            producer.give(&[json!({"data": {"name": name, "userId": 7}})]);
            let job = producer.added().await.remove(0);
            super::until(&queue, &job, super::State::Failed).await;
            std::fs::write(&paint, "").expect("our folder can be written");
            observer.call(&job, "retry", json!(["failed"])).await;
            super::until(&queue, &job, super::State::Completed).await;
        }
        until_settled(&world.store).await;
        assert_eq!(making.runs().len(), 4, "two of them failed");
    }

    async fn a_parked_job_that_a_tool_retries_waits_on(kind: StoreKind) {
        let stage = Gated::new(kind).await;
        for (version, name) in [(BullMq::V5, "Anna"), (BullMq::V6, "Ivan")] {
            let peer = stage.world.peer(version, "video");
            let (mut producer, mut observer) = tokio::join!(Producer::start(&peer), Observer::start(&peer));
            producer.give(&[json!({"data": {"name": name}})]);
            let job = producer.added().await.remove(0);
            observer.event("waiting-children", &job).await;
            observer.call(&job, "retry", json!(["waiting-children"])).await;
            let queue = super::intake(&stage.world).await;
            crate::support::wait::until_true("it was taken again", crate::support::wait::PATIENCE, async || {
                super::starts(&stage.world, &job).await >= 2
            })
            .await;
            super::until(&queue, &job, super::State::WaitingChildren).await;
            stage.open(name);
            let outcome = producer.ended().await.remove(0);
            assert_eq!((outcome.ok, outcome.value), (true, Some(json!({"made": name}))));
        }
        until_settled(&stage.world.store).await;
        assert_eq!(stage.making.runs().len(), 2);
    }
}

/// A server whose runs last until their name's gate is opened.
struct Gated {
    making: Making,
    world: World,
    _server: Onetake,
}

impl Gated {
    async fn new(kind: StoreKind) -> Self {
        let making = Making::new();
        let world = World::new(kind).await;
        let gate = making.file("gate");
        let script = format!(
            r#"name=$(echo "$job" | sed 's/.*"name":"\([A-Z][a-z]*\)".*/\1/'); while [ ! -e {}-$name ]; do sleep 0.05; done; echo "{{\"made\":\"$name\"}}""#,
            gate.display()
        );
        let server = Onetake::start(&world.setup.clone().config(&making.config(&script, ""))).await;
        Self { making, world, _server: server }
    }

    fn open(&self, name: &str) {
        std::fs::write(self.making.file(&format!("gate-{name}")), "").expect("our folder can be written");
    }
}

/// A job as BullMQ would write it, whatever its data are.
async fn put_by_hand(world: &World, id: &str, data: &str, priority: &str) {
    let (key, now) = (format!("bull:video:{id}"), Clock::system().now_ms().to_string());
    for command in [
        &["HSET", &key, "name", "video", "data", data, "opts", "{}", "timestamp", &now, "delay", "0"][..],
        &["HSET", &key, "priority", priority],
        &["LPUSH", "bull:video:wait", id],
        &["ZADD", "bull:video:marker", "0", "0"],
    ] {
        world.redis.ask(command).await;
    }
}

async fn add(queue: &Queue, name: &str) -> String {
    let add = Add::new("video", serde_json::value::to_raw_value(&json!({"name": name})).unwrap());
    queue.add(vec![add], Clock::system().now_ms()).await.expect("Redis takes it").remove(0).id
}

/// How often a job was taken.
async fn starts(world: &World, job: &str) -> i64 {
    let starts = world.redis.ask(&["HGET", &format!("bull:video:{job}"), "ats"]).await;
    starts.text().and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn until(queue: &Queue, job: &str, state: State) {
    wait::until_true(&format!("job {job} is {state:?}"), wait::PATIENCE, async || {
        queue.state(job).await.is_ok_and(|now| now == Some(state))
    })
    .await;
}
