//! A master that sentinels watch is killed: its replica takes over, and what was acknowledged ends delivered.

use serde_json::json;

use crate::loss::{Gate, all_served, ask_many, until_redis_is};
use crate::support::making::{ask, until_delivered};
use crate::support::on_each_store;
use crate::support::resp::Reply;
use crate::support::sentinel::Sentinels;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(a_failover_loses_nothing_that_was_acknowledged);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_gives_up_its_place_alive_is_left_for_the_new_one() {
    let gate = Gate::new();
    let (master, sentinels) = Sentinels::start().await;
    let mut world = World::on(StoreKind::Sqlite, master, &sentinels.url()).await;
    world.setup = world.setup.config(&format!("{}[queues.mail]\n", gate.config("")));
    let server = world.server().await;
    until_redis_is(&server, "up").await;
    let requests = ask_many(&server, "before", 5, 2).await;
    gate.until_begun(1).await;
    sentinels.fail_over().await;
    // The old master answers still, and is a replica now: nothing can be written there.
    wait::until_true("jobs to be added on the new master", 2 * PATIENCE, async || {
        let added = server.post("/v1/queues/mail/jobs", json!({"data": {}})).await;
        assert!(matches!(added.status, 201 | 503), "{added:?}");
        added.status == 201 && sentinels.replica.ask(&["LLEN", "bull:mail:wait"]).await != Reply::Number(0)
    })
    .await;
    gate.open();
    all_served(&world, gate.making(), requests, 5).await;
}

async fn a_failover_loses_nothing_that_was_acknowledged(kind: StoreKind) {
    let gate = Gate::new();
    let (master, sentinels) = Sentinels::start().await;
    let mut world = World::on(kind, master, &sentinels.url()).await;
    let mail = "[queues.mail]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    world.setup = world.setup.config(&format!("{}{mail}", gate.config("")));
    let server = world.server().await;
    until_redis_is(&server, "up").await;

    let mut requests = ask_many(&server, "before", 10, 3).await;
    gate.until_begun(1).await;
    // A plain job is as durable as Redis: one that the replica has, it keeps.
    let options = json!({"data": {"n": 1}, "options": {"delay": 20_000}});
    let plain =
        server.post("/v1/queues/mail/jobs", options).await.expect(201)["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.redis.ask(&["WAIT", "1", "30000"]).await.number(), 1, "the replica has it");

    world.redis.kill();
    requests += ask_many(&server, "during", 10, 3).await;
    assert_eq!(requests, 60, "accepting goes on");
    gate.open();
    sentinels.until_failed_over().await;
    until_redis_is(&server, "up").await;
    requests += ask_many(&server, "after", 5, 2).await;
    all_served(&world, gate.making(), requests, 25).await;
    assert_eq!(gate.making().runs().len(), 25, "nothing that was made is made again");

    wait::until_true("the plain job to be done by the new master", 2 * PATIENCE, async || {
        let job = server.get(&format!("/v1/queues/mail/jobs/{plain}")).await.json();
        job["state"] == "completed"
    })
    .await;
    // Woken by the new master: only a run that began with a job shows its progress on it.
    ask(&server, "later", "vera").await;
    until_delivered(&server, "vera", 1).await;
    let flight = world.store.texts("select id from flights where key like '%later%'").await.remove(0);
    let leader = format!("bull:video-work:{flight}-1-1");
    assert_eq!(sentinels.replica.ask(&["HGET", &leader, "progress"]).await.text(), Some("0"));
}
