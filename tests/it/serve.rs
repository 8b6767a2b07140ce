//! The server as a process: how it starts, answers, stops, and refuses to start.

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

mod on_postgres_roles {
    mod on_postgres {
        use super::super::super::support::server::Onetake;
        use super::super::super::support::store::StoreKind;
        use super::super::super::support::world::World;

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
