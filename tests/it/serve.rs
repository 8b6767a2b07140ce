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
