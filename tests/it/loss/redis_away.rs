//! Redis hangs or is away: accepting, running and delivering go on over SQL, and what was paused stays paused.

use serde_json::json;

use super::{Gate, all_served, ask_many, until_redis_is};
use crate::support::making::{Making, ask, mailbox, until_delivered};
use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_redis_that_hangs_for_longer_than_the_lease_costs_no_attempt,
    a_server_starts_and_serves_without_redis,
    a_redis_that_goes_away_is_not_missed_and_wakes_again_when_it_is_back,
    a_paused_queue_stays_paused_while_redis_is_away,
    a_run_that_is_cancelled_while_redis_is_away_stops_alone,
);

async fn a_redis_that_hangs_for_longer_than_the_lease_costs_no_attempt(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 1"));
    let server = world.server().await;

    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    world.redis.freeze();
    assert_eq!(ask(&server, "Anna", "ivan").await["status"], "subscribed");
    until_redis_is(&server, "down").await;
    let renewed = "select count(*) from flights where lease_until_ms > started_at_ms + 6000";
    wait::until_true("the lease to be renewed", PATIENCE, async || world.store.numbers(renewed).await == [1]).await;
    world.redis.thaw();
    until_redis_is(&server, "up").await;
    // Its lock has ended, and so its job is taken again, while the run goes on.
    let flight = world.store.texts("select id from flights").await.remove(0);
    let starts = ["HGET", &format!("bull:video-work:{flight}-1-1"), "ats"];
    wait::until_true("its job to be taken again", PATIENCE, async || {
        world.redis.ask(&starts).await.text().is_some_and(|starts| starts != "1")
    })
    .await;
    gate.open();
    for user in ["olga", "ivan"] {
        until_delivered(&server, user, 1).await;
    }
    all_served(&world, gate.making(), 2, 1).await;
    assert_eq!(gate.making().runs().len(), 1);
}

async fn a_server_starts_and_serves_without_redis(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await.making(&making);
    world.redis.kill();
    let server = world.server().await;
    let ready = server.get("/readyz").await.expect(200);
    assert_eq!((ready["status"].as_str(), ready["checks"]["redis"].as_str()), (Some("degraded"), Some("down")));

    let requests = ask_many(&server, "anna", 5, 3).await;
    assert_eq!(requests, 15);
    all_served(&world, &making, requests, 5).await;
    assert_eq!(ask(&server, "anna 0", "vera").await["status"], "ready");
    until_delivered(&server, "vera", 1).await;
    // A plain job lives in Redis alone: it is refused, not lost.
    let refused = server.post("/v1/queues/video/pause", json!({})).await;
    assert_eq!(refused.expect(503)["code"], "redis_unavailable");
    assert_ne!(refused.header("retry-after"), "");
}

async fn a_redis_that_goes_away_is_not_missed_and_wakes_again_when_it_is_back(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;

    let mut requests = ask_many(&server, "before", 10, 3).await;
    gate.until_begun(1).await;
    world.redis.kill();
    requests += ask_many(&server, "during", 10, 3).await;
    assert_eq!(requests, 60, "accepting goes on");
    gate.open();
    all_served(&world, gate.making(), 60, 20).await;

    world.redis.restart().await;
    until_redis_is(&server, "up").await;
    // Back to wake-ups: only a run that began with a job shows its progress on it.
    let later = ask(&server, "after", "vera").await;
    until_delivered(&server, "vera", 1).await;
    let flight = world.store.texts("select id from flights where key like '%after%'").await.remove(0);
    assert_eq!(later["generation"], 1);
    let leader = format!("bull:video-work:{flight}-1-1");
    assert_eq!(world.redis.ask(&["HGET", &leader, "progress"]).await.text(), Some("0"));
    all_served(&world, gate.making(), 61, 21).await;
    assert_eq!(gate.making().runs().len(), 21, "nothing that was made is made again");
}

async fn a_run_that_is_cancelled_while_redis_is_away_stops_alone(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 1"));
    let server = world.server().await;
    world.redis.kill();
    until_redis_is(&server, "down").await;

    for name in ["anna", "ivan"] {
        ask(&server, name, name).await;
    }
    gate.until_begun(2).await;
    let key = r#"/v1/dedupe/video/["anna","neutral","default"]/release"#;
    server.post(key, json!({})).await.expect(200);
    wait::until_true("its maker to have noticed", PATIENCE, async || {
        server.get("/metrics").await.text.contains("onetake_runs_lost_total{queue=\"video-work\"} 1")
    })
    .await;
    ask(&server, "vera", "vera").await;
    gate.until_begun(3).await;
    gate.open();
    for name in ["ivan", "vera"] {
        until_delivered(&server, name, 1).await;
    }
    let states = "select r.state from runs r join flights f on f.id = r.flight_id order by f.key";
    assert_eq!(world.store.texts(states).await, ["cancelled", "succeeded", "succeeded"]);
}

async fn a_paused_queue_stays_paused_while_redis_is_away(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await.making(&making);
    let server = world.server().await;

    server.post("/v1/queues/onetake-delivery/pause", json!({})).await.expect(200);
    let noted = async || world.store.texts("select queue from paused_queues").await == ["onetake-delivery"];
    wait::until_true("the pause to be written down", PATIENCE, noted).await;
    world.redis.kill();
    until_redis_is(&server, "down").await;
    ask(&server, "Anna", "olga").await;
    // Runs are made, over SQL; their deliveries wait.
    let made = async || world.store.numbers("select count(*) from runs").await == [1];
    wait::until_true("the run to be made", PATIENCE, made).await;
    world.redis.restart().await;
    until_redis_is(&server, "up").await;
    let published = async || {
        let delivery = world.store.texts("select id from deliveries").await.remove(0);
        world.redis.ask(&["EXISTS", &format!("bull:onetake-delivery:d-{delivery}")]).await.number() == 1
    };
    wait::until_true("the delivery's job", PATIENCE, published).await;
    assert!(mailbox(&server, "olga").await.is_empty(), "paused is paused");
    server.post("/v1/queues/onetake-delivery/resume", json!({})).await.expect(200);
    until_delivered(&server, "olga", 1).await;
    all_served(&world, &making, 1, 1).await;
}
