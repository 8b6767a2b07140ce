//! An operator frees a key while something is going on with it.

use serde_json::{Value, json};

use crate::loss::{Gate, is_gone, until_redis_is};
use crate::support::http::Api;
use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_release_ends_the_run_tells_everyone_and_frees_the_key,
    a_release_without_redis_leaves_no_stale_answer_in_it,
    a_late_word_of_a_release_does_not_end_the_next_run,
);

async fn release(api: &Api, request: &Value) -> Value {
    let key: String =
        url::form_urlencoded::byte_serialize(request["key"].as_str().expect("a key").as_bytes()).collect();
    let path = format!("/v1/dedupe/video/{}/release", key.replace('+', "%20"));
    api.post(&path, json!({"reason": "a typo in the template"})).await.expect(200)
}

async fn a_release_ends_the_run_tells_everyone_and_frees_the_key(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;
    let first = ask(&server, "Anna", "olga").await;
    ask(&server, "Anna", "ivan").await;
    gate.until_begun(1).await;
    let program = gate.program();

    let freed = release(&server, &first).await;
    assert_eq!(freed["state"], "cancelled");
    wait::until_true("the program to be stopped", PATIENCE, async || is_gone(program)).await;
    for user in ["olga", "ivan"] {
        assert_eq!(until_delivered(&server, user, 1).await[0]["kind"], "message");
    }
    let view = server.get(first["links"]["self"].as_str().unwrap()).await.expect(200);
    assert_eq!((&view["state"], &view["error"]), (&json!("cancelled"), &json!("a typo in the template")));

    let next = ask(&server, "Anna", "vera").await;
    assert_eq!((&next["status"], &next["generation"]), (&json!("queued"), &json!(2)));
    gate.open();
    until_delivered(&server, "vera", 1).await;
    until_settled(&world.store).await;
    assert_eq!(world.store.texts("select state from runs order by generation").await, ["cancelled", "succeeded"]);
    assert_eq!(world.store.numbers("select count(*) from mailbox").await, [3]);
}

/// It names the flight, which has a new run by now.
async fn a_late_word_of_a_release_does_not_end_the_next_run(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 1"));
    let server = world.server().await;
    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    let program = gate.program();
    let flight = world.store.texts("select id from flights").await.remove(0);
    for what in ["released", "cancelled"] {
        let heard = world.redis.ask(&["PUBLISH", "onetake:wake", &format!("{flight} {what}")]).await;
        assert!(heard.number() >= 1, "the server listens");
    }
    // What a server hears it has dealt with long before two renewals.
    let lease = "select lease_until_ms from flights";
    let before = world.store.numbers(lease).await[0];
    wait::until_true("its lease to be renewed", PATIENCE, async || {
        world.store.numbers(lease).await[0] > before + 1_000 || is_gone(program)
    })
    .await;
    assert!(!is_gone(program), "it goes on");
    gate.open();
    assert_eq!(until_delivered(&server, "olga", 1).await[0]["kind"], "result");
}

async fn a_release_without_redis_leaves_no_stale_answer_in_it(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await.making(&making);
    let server = world.server().await;
    // An asker who only polls is answered from Redis alone where that has a fresh result.
    let poll = async || {
        let data = json!({"name": "Anna", "gender": "neutral", "template": "default"});
        server.post("/v1/queues/video/jobs", json!({"data": data, "dedupe": {}})).await.json()
    };
    let request = ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    wait::until_true("an answer from Redis", PATIENCE, async || poll().await["id"] == json!(null)).await;

    world.redis.kill();
    until_redis_is(&server, "down").await;
    release(&server, &request).await;
    world.redis.restart().await;
    until_redis_is(&server, "up").await;
    let ready = async || {
        let answer = poll().await;
        (answer["status"] == "queued").then_some(answer)
    };
    let anew = wait::until("the stale answer to go", PATIENCE, ready).await;
    let view = server.with("prefer", "wait=20").get(anew["links"]["self"].as_str().unwrap()).await.expect(200);
    assert_eq!((&view["state"], &view["generation"]), (&json!("ready"), &json!(2)));
    assert_eq!(making.runs().len(), 2);
}
