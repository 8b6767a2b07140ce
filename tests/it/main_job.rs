//! The main job: several people ask for one name, one video is made, all of them get it; who asks later gets it at once.

use serde_json::json;

use super::support::making::{Making, ask, mailbox, until_delivered, until_settled};
use super::support::on_each_store;
use super::support::store::StoreKind;
use super::support::world::World;

on_each_store!(
    equal_requests_are_made_once_and_all_get_it,
    a_failed_run_tells_everyone_and_frees_the_key,
    the_last_to_leave_cancels_the_run,
);

async fn equal_requests_are_made_once_and_all_get_it(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;

    let first = ask(&server, "Anna", "olga").await;
    let second = ask(&server, "  ANNA ", "ivan").await;
    let again = ask(&server, "anna", "olga").await;
    assert_eq!(first["status"], "queued");
    assert_eq!(first["id"], again["id"], "the same subscriber asking again is one subscription");
    assert_ne!(first["id"], second["id"]);

    for user in ["olga", "ivan"] {
        assert_eq!(until_delivered(&server, user, 1).await.len(), 1);
    }
    let later = server.post("/v1/videos", json!({"name": "Anna", "user": "vera"})).await;
    assert_eq!(later.expect(200)["status"], "ready");
    until_delivered(&server, "vera", 1).await;
    until_settled(&world.store).await;

    assert_eq!(making.runs(), ["Anna"]);
    assert_eq!(mailbox(&server, "olga").await.len(), 1);
    let view = server.get(&format!("/v1/requests/{}", first["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(view["state"], "ready");
    assert_eq!(view["result"], json!({"made": true}));
    assert_eq!(view["delivery"]["state"], "delivered");
}

async fn a_failed_run_tells_everyone_and_frees_the_key(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await;
    let config = making
        .config("echo no paint left >&2; exit 1", "attempts = 2\nbackoff = { kind = \"fixed\", delay = \"10ms\" }");
    let setup = world.setup.clone().config(&config);
    let server = super::support::server::Onetake::start(&setup).await;

    let request = ask(&server, "Anna", "olga").await;
    let id = request["id"].as_str().unwrap();
    let waiting = server.with("prefer", "wait=20");
    let view = waiting.get(&format!("/v1/requests/{id}")).await.expect(200);
    assert_eq!(view["state"], "failed");
    assert!(view["error"].as_str().unwrap().contains("no paint left"), "{view}");
    let told = until_delivered(&server, "olga", 1).await;
    assert_eq!(told[0]["kind"], "message");
    assert_eq!(making.runs().len(), 2, "both attempts");
    assert_eq!(ask(&server, "Anna", "olga").await["status"], "queued", "the key is free again");
}

async fn the_last_to_leave_cancels_the_run(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await;
    let started = making.file("started");
    let config = making.config(
        &format!("touch {}; sleep 600", started.display()),
        "[queues.video.dedupe]\ncancel_when_abandoned = true",
    );
    let setup = world.setup.clone().config(&config);
    let server = super::support::server::Onetake::start(&setup).await;

    let one = ask(&server, "Anna", "olga").await;
    let two = ask(&server, "Anna", "ivan").await;
    super::support::wait::until_true("the run has begun", super::support::wait::PATIENCE, async || started.exists())
        .await;
    let leave = async |request: &serde_json::Value| {
        server.delete(&format!("/v1/requests/{}", request["id"].as_str().unwrap())).await.expect(200)
    };
    assert_eq!(leave(&one).await["state"], "left");
    let view = server.get(&format!("/v1/requests/{}", two["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(view["state"], "running", "somebody still waits");
    leave(&two).await;
    until_settled(&world.store).await;
    assert_eq!(world.store.texts("select state from flights").await, ["cancelled"]);
    assert!(mailbox(&server, "olga").await.is_empty());
}
