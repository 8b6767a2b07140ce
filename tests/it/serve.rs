//! The server as a process: how it starts, answers, stops, and refuses to start.

use serde_json::json;

use super::support::on_each_store;
use super::support::server::Onetake;
use super::support::store::StoreKind;
use super::support::wait::PATIENCE;
use super::support::world::World;

on_each_store!(a_server_answers_and_stops_gracefully, a_killed_server_starts_again);

async fn a_server_answers_and_stops_gracefully(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    assert_eq!(server.get("/livez").await.status, 200);
    let ready = server.with("accept", "application/json").get("/readyz").await;
    assert!(ready.expect(200)["checks"].is_object(), "{}", server.base_url());
    assert_eq!(server.stop().await.code(), Some(0));
}

async fn a_killed_server_starts_again(kind: StoreKind) {
    let world = World::new(kind).await;
    let mut first = world.server().await;
    first.kill();
    let second = world.server().await;
    second.freeze();
    second.thaw();
    assert_eq!(second.get("/livez").await.status, 200);
    assert!(!second.log().is_empty());
}

#[tokio::test]
async fn a_bad_setting_ends_it_with_code_2_and_its_name() {
    let world = World::new(StoreKind::Sqlite).await;
    let process = Onetake::spawn(&world.setup.clone().env("ONETAKE_RUNNER__LEASE", "soon"));
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(2));
    assert!(process.log().join("\n").contains("lease"), "{:?}", process.log());
}

/// Whoever reached it would be turned away, and nobody could make a key.
#[tokio::test]
async fn where_others_reach_it_a_server_wants_a_key() {
    let world = World::new(StoreKind::Sqlite).await;
    let open = world.setup.clone().env("ONETAKE_HTTP__BIND", "0.0.0.0:0");
    let refused = Onetake::spawn(&open);
    assert_eq!(refused.wait_exit(PATIENCE).await.code(), Some(1));
    assert!(refused.log().join("\n").contains("ONETAKE_HTTP__ADMIN_KEY"), "{:?}", refused.log());
    // A key that was made stands for the other.
    let server = world.server().await;
    server.post("/v1/keys", json!({"name": "ops", "scopes": ["admin"]})).await.expect(201);
    assert_eq!(server.stop().await.code(), Some(0));
    let mut with_key = Onetake::spawn(&open);
    let heard = with_key.find_in_log(|line| line.contains("listening on").then(|| line.to_owned())).await;
    assert!(heard.is_some(), "{:?}", with_key.log());
    with_key.kill();
}

mod on_postgres_roles {
    mod on_postgres {
        use nix::sys::signal::{Signal, kill};

        use crate::support::making::{self, Making};
        use crate::support::server::Onetake;
        use crate::support::store::StoreKind;
        use crate::support::wait::{self, PATIENCE};
        use crate::support::world::World;

        /// Another server must not take for silent what is still worked on.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_is_in_hand_at_a_stop_stays_held_until_it_has_ended() {
            let (making, world) = (Making::new(), World::new(StoreKind::Postgres).await);
            let gate = making.file("gate");
            let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo '{{\"made\":true}}'", gate.display());
            let setup = world.setup.clone().config(&making.config(&script, ""));
            let setup = setup.env("ONETAKE_RUNNER__SHUTDOWN_GRACE", "60s");
            let first = Onetake::start(&setup).await;
            making::ask(&first, "Anna", "olga").await;
            wait::until_true("the run to be made", PATIENCE, async || making.runs() == ["Anna"]).await;
            let other = Onetake::start(&setup).await;
            let held = "select lease_until_ms from flights where state = 'running'";
            let before = world.store.numbers(held).await[0];
            kill(first.pid(), Signal::SIGTERM).expect("it is there");
            // Two leases of these tests.
            wait::until_true("it to be held all the time", PATIENCE, async || {
                world.store.numbers(held).await[0] > before + 4_000
            })
            .await;
            std::fs::write(&gate, "").expect("our folder can be written");
            assert_eq!(first.wait_exit().await.code(), Some(0));
            making::until_delivered(&other, "olga", 1).await;
            assert_eq!(making.runs(), ["Anna"]);
        }

        /// Its container is watched, and its numbers are read: what it alone counts must be seen.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_runner_tells_its_health_and_its_metrics_and_nothing_else() {
            let world = World::new(StoreKind::Postgres).await;
            let runner = Onetake::start(&world.setup.clone().env("ONETAKE_ROLE", "runner")).await;
            for probe in ["/livez", "/readyz"] {
                assert_eq!(runner.get(probe).await.status, 200, "{probe}");
            }
            let metrics = runner.get("/metrics").await;
            assert!(metrics.status == 200 && metrics.text.contains("onetake_redis_up 1"), "{}", metrics.text);
            assert_eq!(runner.get("/v1/queues").await.status, 404);
            // A second one on the same machine, whose address is taken, runs jobs all the same.
            let address = runner.base_url().trim_start_matches("http://").to_owned();
            let setup = world.setup.clone().env("ONETAKE_ROLE", "runner").env("ONETAKE_HTTP__BIND", &address);
            let second = Onetake::spawn(&setup);
            let said = second.find_in_log(|line| line.contains("cannot listen on").then(|| line.to_owned())).await;
            assert!(said.is_some_and(|line| line.contains("running jobs")), "{:?}", second.log());
            assert_eq!(runner.stop().await.code(), Some(0));
        }
    }
}
