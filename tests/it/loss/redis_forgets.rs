//! Redis dies, is replaced, is flushed, or forgets its scripts, while requests are under way.

use std::time::Duration;

use serde_json::json;

use super::{Gate, all_served, ask_many};
use crate::support::making::{Making, ask, until_delivered};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_redis_that_is_killed_and_restarted_loses_nothing,
    a_redis_that_is_replaced_by_an_empty_one_loses_nothing,
    a_wiped_redis_loses_neither_runs_nor_deliveries,
    a_wiped_redis_costs_no_attempt,
    forgotten_scripts_are_not_noticed,
    a_result_of_before_is_not_served_by_a_redis_that_is_older_than_it_was,
);

async fn a_result_of_before_is_not_served_by_a_redis_that_is_older_than_it_was(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;
    let redis = &world.redis;
    ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    let key = r#"onetake:dedupe:video:["anna","neutral","default"]"#;
    let served = async || redis.ask(&["HGET", key, "result_generation"]).await.text().map(str::to_owned);
    wait::until_true("Redis to have it", PATIENCE, async || served().await.as_deref() == Some("1")).await;
    let before = redis.ask(&["HGETALL", key]).await;
    // As a replica that took over has it, or a disk that lost the last second.
    let is_older = async || {
        redis.ask(&[vec!["HSET", key], before.texts()].concat()).await;
        redis.ask(&["DEL", "onetake:instance"]).await;
    };

    let release = r#"/v1/dedupe/video/["anna","neutral","default"]/release"#;
    server.post(release, json!({})).await.expect(200);
    wait::until_true("Redis to have forgotten it", PATIENCE, async || served().await.is_none()).await;
    is_older().await;
    wait::until_true("it to be forgotten again", PATIENCE, async || served().await.is_none()).await;

    assert_eq!(ask(&server, "Anna", "ivan").await["status"], "queued");
    until_delivered(&server, "ivan", 1).await;
    wait::until_true("Redis to have the new one", PATIENCE, async || served().await.as_deref() == Some("2")).await;
    redis.ask(&["DEL", key]).await;
    is_older().await;
    wait::until_true("the new one to be told again", PATIENCE, async || served().await.as_deref() == Some("2")).await;
}

const NAMES: usize = 20;
const EACH: usize = 5;

async fn a_redis_that_is_killed_and_restarted_loses_nothing(kind: StoreKind) {
    survives(kind, async |world| world.redis.restart().await).await;
}

async fn a_redis_that_is_replaced_by_an_empty_one_loses_nothing(kind: StoreKind) {
    survives(kind, async |world| world.redis.replace().await).await;
}

/// Something happens to Redis while runs wait, are made and are delivered; and again, while more is asked for.
async fn survives(kind: StoreKind, blow: impl AsyncFn(&mut World)) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;

    let early = ask_many(&server, "early", NAMES, EACH).await;
    gate.until_begun(1).await;
    let asking = ask_many(&server, "late", NAMES, EACH);
    let ((), late) = tokio::join!(blow(&mut world), asking);
    gate.open();
    blow(&mut world).await;

    assert_eq!((early, late), (NAMES * EACH, NAMES * EACH), "Redis is not needed to accept");
    all_served(&world, gate.making(), early + late, 2 * NAMES).await;
}

async fn a_wiped_redis_loses_neither_runs_nor_deliveries(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;

    let requests = ask_many(&server, "anna", NAMES, EACH).await;
    gate.until_begun(1).await;
    world.redis.wipe().await;
    gate.open();
    // Again and again, so that it hits what waits, what runs and what is being delivered.
    let given = async || world.store.numbers("select count(*) from mailbox").await[0];
    wait::until_true("everyone to be given it", PATIENCE, async || {
        world.redis.wipe().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        given().await == i64::try_from(requests).unwrap()
    })
    .await;
    all_served(&world, gate.making(), requests, NAMES).await;
}

async fn a_wiped_redis_costs_no_attempt(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 1"));
    let server = world.server().await;

    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    world.redis.wipe().await;
    // Until the run is known to have been kept for longer than its lock in Redis would have lasted.
    let renewed = "select count(*) from flights where lease_until_ms > started_at_ms + 6000";
    wait::until_true("the lease to be renewed", PATIENCE, async || world.store.numbers(renewed).await == [1]).await;
    gate.open();
    until_delivered(&server, "olga", 1).await;
    all_served(&world, gate.making(), 1, 1).await;
    assert_eq!(gate.making().runs().len(), 1);
}

async fn forgotten_scripts_are_not_noticed(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server: Onetake = world.server().await;
    let forgetting = async {
        loop {
            world.redis.ask(&["SCRIPT", "FLUSH"]).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let served = async {
        let requests = ask_many(&server, "anna", NAMES, EACH).await;
        assert_eq!(requests, NAMES * EACH);
        all_served(&world, &making, requests, NAMES).await;
    };
    tokio::select! {
        () = forgetting => {}
        () = served => {}
    }
    assert_eq!(making.runs().len(), NAMES);
}
