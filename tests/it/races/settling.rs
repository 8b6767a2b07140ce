//! What comes while a run ends: more askers, its own job again, the same asker again.

use std::sync::atomic::{AtomicUsize, Ordering};

use onetake::clock::Clock;
use onetake::config;
use onetake::id::QueueName;
use onetake::queue::{Add, EnsureOutcome, Queue};
use onetake::redis::Redis;
use serde_json::{Value, json};

use crate::support::making::{Making, ask, mailbox, until_delivered, until_settled};
use crate::support::node::{BullMq, Observer};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    askers_at_the_moment_of_settling_are_neither_lost_nor_served_twice,
    a_finished_leader_that_is_published_again_makes_nothing_again,
    a_failed_refresh_leaves_the_old_result_standing,
    asking_again_before_the_sending_is_one_subscription,
);

/// Runs that take no time, so that there are as many ends as there can be.
const INSTANT: &str = "[queues.video]\nprocessor = { kind = \"builtin\", name = \"echo\" }\nconcurrency = 8\n";

async fn askers_at_the_moment_of_settling_are_neither_lost_nor_served_twice(kind: StoreKind) {
    const NAMES: usize = 20;
    const ASKERS: usize = 5;
    const ASKS: usize = 24;
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(INSTANT);
    let server = world.server().await;
    let statuses: [AtomicUsize; 3] = Default::default();

    // Every other ask wants it made anew: so each name's runs begin and end all the time, and askers come in between.
    let asker = async |name: usize, asker: usize| {
        for n in 0..ASKS {
            let user = format!("{name}-{asker}-{n}");
            let wish = json!({"name": format!("anna {name}"), "user": user, "refresh": (n + asker).is_multiple_of(2)});
            let answer = server.post("/v1/videos", wish).await;
            assert!(matches!(answer.status, 200 | 202), "{answer:?}");
            let status = answer.json()["status"].as_str().map(str::to_owned).unwrap_or_default();
            let at = ["queued", "subscribed", "ready"].iter().position(|known| *known == status);
            statuses[at.expect("a known status")].fetch_add(1, Ordering::Relaxed);
        }
    };
    let askers = (0..NAMES).flat_map(|name| (0..ASKERS).map(move |n| (name, n)));
    futures::future::join_all(askers.map(|(name, n)| asker(name, n))).await;
    until_settled(&world.store).await;

    let count = async |sql: &str| usize::try_from(world.store.numbers(sql).await[0]).expect("a count");
    let asked = NAMES * ASKERS * ASKS;
    assert_eq!(count("select count(*) from subscriptions").await, asked);
    assert_eq!(count("select count(*) from deliveries where state = 'delivered'").await, asked);
    assert_eq!(count("select count(*) from mailbox").await, asked, "everyone was given it");
    assert_eq!(count("select count(distinct owner) from mailbox").await, asked, "nobody twice");
    let [queued, subscribed, ready] = statuses.map(AtomicUsize::into_inner);
    assert_eq!(count("select count(*) from runs").await, queued, "each run was begun by the one who was told so");
    assert_eq!(count("select count(*) from runs where state <> 'succeeded'").await, 0);
    assert!(queued > 2 * NAMES && subscribed > 0 && ready > 0, "{queued} {subscribed} {ready}: nothing was in between");
    // Who joined a run was given that run's result, or the one that stood.
    let astray =
        "select count(*) from deliveries d join subscriptions s on s.id = d.id where s.generation <> d.generation";
    assert_eq!(count(astray).await, 0);
}

async fn a_finished_leader_that_is_published_again_makes_nothing_again(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;
    ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    until_settled(&world.store).await;

    let flight = world.store.texts("select id from flights").await.remove(0);
    let leader = format!("{flight}-1-1");
    let queue = work_queue(&world).await;
    let state = async || queue.state(&leader).await.ok().flatten();
    let is_over = async || state().await.is_some_and(|state| state.as_str() == "completed");
    wait::until_true("the leader to complete", PATIENCE, is_over).await;
    let again = Add { id: Some(leader.clone()), ..Add::new("video", raw(&json!({"name": "Anna"}))) };
    let ensured = queue.ensure(vec![again], Clock::system().now_ms()).await.expect("Redis takes it");
    assert_eq!(ensured[0].outcome, EnsureOutcome::AddedAnew);
    wait::until_true("the leader to complete again", PATIENCE, is_over).await;

    assert_eq!(
        world.redis.ask(&["HGET", &format!("bull:video-work:{leader}"), "returnvalue"]).await.text(),
        Some(r#"{"made":true}"#)
    );
    assert_eq!(making.runs().len(), 1);
    assert_eq!(mailbox(&server, "olga").await.len(), 1);
    assert_eq!(world.store.numbers("select count(*) from runs").await, [1]);
}

async fn a_failed_refresh_leaves_the_old_result_standing(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await;
    let broken = making.file("broken");
    let then = format!("[ -e {} ] && exit 1; echo '{{\"made\":true}}'", broken.display());
    world.setup = world.setup.config(&making.config(&then, "attempts = 1"));
    let server = world.server().await;

    let first = ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    std::fs::write(&broken, "").expect("our folder can be written");
    let wish = json!({"name": "Anna", "user": "ivan", "refresh": true});
    let refresh = server.post("/v1/videos", wish).await.expect(202);
    assert_eq!(refresh["generation"], 2);
    let told = until_delivered(&server, "ivan", 1).await;
    assert_eq!(told[0]["kind"], "message", "a failure: {told:?}");

    let later = server.post("/v1/videos", json!({"name": "Anna", "user": "vera"})).await.expect(200);
    assert_eq!((&later["status"], &later["result"]), (&json!("ready"), &json!({"made": true})));
    let given = until_delivered(&server, "vera", 1).await;
    assert_eq!(given[0]["kind"], mailbox(&server, "olga").await[0]["kind"]);
    for (request, state) in [(&first, "ready"), (&refresh, "failed")] {
        let view = server.get(request["links"]["self"].as_str().unwrap()).await.expect(200);
        assert_eq!(view["state"], state);
    }
    assert_eq!(making.runs().len(), 2);
}

async fn asking_again_before_the_sending_is_one_subscription(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;
    server.post("/v1/queues/onetake-delivery/pause", json!({})).await.expect(200);
    let first = ask(&server, "Anna", "olga").await;
    let made = async || world.store.numbers("select count(*) from runs").await == [1];
    wait::until_true("the run to be made", PATIENCE, made).await;

    let again = ask(&server, "Anna", "olga").await;
    assert_eq!((&again["status"], &again["id"]), (&json!("ready"), &first["id"]));
    server.post("/v1/queues/onetake-delivery/resume", json!({})).await.expect(200);
    until_delivered(&server, "olga", 1).await;
    until_settled(&world.store).await;
    assert_eq!(mailbox(&server, "olga").await.len(), 1);
    assert_eq!(world.store.numbers("select count(*) from subscriptions").await, [1]);
    // Once it is delivered, who asks again is given it again.
    assert_ne!(ask(&server, "Anna", "olga").await["id"], first["id"]);
    until_delivered(&server, "olga", 2).await;
    assert_eq!(making.runs().len(), 1);
}

mod node_on_sqlite {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_removed_by_a_dashboard_is_ensured_again() {
        super::removed().await;
    }
}

async fn removed() {
    let making = Making::new();
    let world = World::new(StoreKind::Sqlite).await.making(&making);
    let server: Onetake = world.server().await;
    let mut dashboard = Observer::start(&world.peer(BullMq::V5, "video-work")).await;
    server.post("/v1/queues/video-work/pause", json!({})).await.expect(200);
    let request = ask(&server, "Anna", "olga").await;
    let flight = world.store.texts("select id from flights").await.remove(0);
    let leader = format!("{flight}-1-1");
    let is_there = async || world.redis.ask(&["EXISTS", &format!("bull:video-work:{leader}")]).await.number() == 1;
    wait::until_true("the leader's job", PATIENCE, is_there).await;

    dashboard.call(&leader, "remove", json!([])).await;
    // The removal is seen by its event: the job itself may be back already.
    dashboard.event("removed", &leader).await;
    wait::until_true("the leader's job again", PATIENCE, is_there).await;
    let view = server.get(request["links"]["self"].as_str().unwrap()).await.expect(200);
    assert_eq!(view["state"], "waiting", "to remove the job is not to cancel the run");
    server.post("/v1/queues/video-work/resume", json!({})).await.expect(200);
    until_delivered(&server, "olga", 1).await;
    assert_eq!(making.runs().len(), 1);
}

/// The work queue of videos, as its servers see it.
async fn work_queue(world: &World) -> Queue {
    let settings = config::Redis {
        url: world.redis.url().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: config::Span(PATIENCE),
        eviction: config::Eviction::Warn,
        tls: config::Tls::default(),
    };
    let redis = Redis::connect(&settings).await.expect("Redis is up");
    Queue::new(redis, "bull", QueueName::parse("video-work").expect("a name"))
}

fn raw(value: &Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(value).expect("JSON is JSON")
}
