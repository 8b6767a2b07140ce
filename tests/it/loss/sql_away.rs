//! Postgres is away: nothing is acknowledged that is not durable, and all of it is served when Postgres is back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Gate, all_served, ask_many, checks};
use crate::support::making::{Making, ask, until_delivered};
use crate::support::postgres::PostgresServer;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

mod on_postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_sql_nothing_is_acknowledged_and_plain_jobs_go_on() {
        super::nothing_is_acknowledged().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_is_served_when_sql_is_back() {
        super::goes_on().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restart_of_postgres_among_requests_loses_none_that_was_acknowledged() {
        super::restart_among_requests().await;
    }
}

/// An answer while SQL is away has to come within this, also on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn postgres(world: &mut World) -> &mut PostgresServer {
    match &mut world.store {
        TestStore::Postgres(server) => server,
        TestStore::Sqlite(_) => unreachable!("these tests are about Postgres"),
    }
}

async fn nothing_is_acknowledged() {
    let making = Making::new();
    let mut world = World::new(StoreKind::Postgres).await;
    let plain = "[queues.plain]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    world.setup = world.setup.config(&format!("{}{plain}", making.quick()));
    let server = world.server().await;
    // It has to have learnt who may call: nobody has made a key.
    server.get("/v1/queues").await.expect(200);

    postgres(&mut world).kill();
    let asked_at = Instant::now();
    let refused = server.post("/v1/videos", json!({"name": "Anna", "user": "olga"})).await;
    assert_eq!(refused.expect(503)["code"], "store_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused:?}");
    assert!(asked_at.elapsed() < SOON, "{:?}", asked_at.elapsed());
    let ready = server.get("/readyz").await;
    assert_eq!(ready.expect(503)["checks"]["store"], "down");
    assert_eq!(server.get("/livez").await.status, 200);
    let added = server.post("/v1/queues/plain/jobs", json!({"data": {"n": 1}})).await;
    added.expect(201);
    let job = added.header("location").to_owned();
    wait::until_true("the plain job to complete", PATIENCE, async || {
        server.get(&job).await.expect(200)["state"] == "completed"
    })
    .await;

    postgres(&mut world).restart().await;
    wait::until_true("the store to be back", PATIENCE, async || checks(&server).await["store"] == "up").await;
    assert_eq!(world.store.numbers("select count(*) from flights").await, [0], "nothing was written");
    assert_eq!(ask(&server, "Anna", "olga").await["status"], "queued");
    until_delivered(&server, "olga", 1).await;
    all_served(&world, &making, 1, 1).await;
}

async fn goes_on() {
    let gate = Gate::new();
    let mut world = World::new(StoreKind::Postgres).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;

    let requests = ask_many(&server, "anna", 12, 3).await;
    assert_eq!(requests, 36);
    gate.until_begun(8).await;
    postgres(&mut world).kill();
    // The runs end while nobody can write that down.
    gate.open();
    wait::until_true("a program to end", PATIENCE, async || super::is_gone(gate.program())).await;
    assert_eq!(server.get("/readyz").await.status, 503);
    postgres(&mut world).restart().await;
    all_served(&world, gate.making(), requests, 12).await;
    assert_eq!(gate.making().runs().len(), 12, "what was made is written down later, not made again");
}

async fn restart_among_requests() {
    let making = Making::new();
    let mut world = World::new(StoreKind::Postgres).await.making(&making);
    let server = world.server().await;
    // One after the other, so that some hit the moment itself; each that is refused is asked again.
    let asking = async {
        for n in 0..150 {
            let api = server.with("idempotency-key", format!("ask-{n}"));
            let body = json!({"name": format!("anna {}", n % 15), "user": format!("user-{n}")});
            wait::until_true("an answer", PATIENCE, async || {
                let answer = api.post("/v1/videos", body.clone()).await;
                assert!(matches!(answer.status, 200 | 202 | 503), "{answer:?}");
                answer.status != 503
            })
            .await;
        }
    };
    let restarting = async {
        let given = "select count(*) from subscriptions";
        for after in [20, 60] {
            wait::until_true("some requests", PATIENCE, async || world.store.numbers(given).await[0] >= after).await;
            postgres(&mut world).restart().await;
        }
    };
    tokio::join!(asking, restarting);
    all_served(&world, &making, 150, 15).await;
}
