//! Job schedulers, on a Redis of the test's own.

use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::redis::testing;

async fn world() -> (World, testing::Server) {
    let server = testing::Server::start();
    let world = World::on(server.settings().url.expose_secret(), "").await;
    let mut up = world.state.redis.watch();
    tokio::time::timeout(Duration::from_secs(10), up.wait_for(|up| *up)).await.unwrap().unwrap();
    (world, server)
}

impl World {
    async fn put(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answered {
        self.send(Method::PUT, path, headers, body.to_string()).await
    }
}

#[tokio::test]
async fn a_scheduler_is_set_up_shown_listed_and_removed() {
    let (world, _server) = world().await;
    let options = json!({"priority": 3, "attempts": 2, "backoff": 500, "removeOnComplete": 10});
    let wish = json!({"pattern": "0 8 * * mon-fri", "tz": "Europe/Berlin", "limit": 5, "name": "digest",
        "end_date": "2038-01-01T00:00:00Z", "data": {"a": 1}, "options": options});
    let path = "/v1/queues/mail/schedulers/daily%20digest";
    let set = world.put(path, &[], wish.clone()).await;
    assert_eq!(set.status, 201, "{}", set.text);
    let shown = world.get(path).await.body;
    assert_eq!(set.body, shown);
    for (field, value) in [
        ("id", json!("daily digest")),
        ("queue", json!("mail")),
        ("name", json!("digest")),
        ("pattern", json!("0 8 * * mon-fri")),
        ("tz", json!("Europe/Berlin")),
        ("limit", json!(5)),
        ("end_date", json!(2_145_916_800_000_i64)),
        ("every", json!(null)),
        ("offset", json!(null)),
        ("iterations", json!(1)),
        ("job", json!(format!("repeat:daily digest:{}", shown["next"]))),
        ("job_state", json!("delayed")),
        ("data", json!({"a": 1})),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(shown["options"]["backoff"], json!({"type": "fixed", "delay": 500}));
    assert_eq!(world.put(path, &[], wish).await.status, 200, "the second time it is replaced");
    let run = world.get(&format!("/v1/queues/mail/jobs/repeat:daily%20digest:{}", shown["next"])).await.body;
    assert_eq!((&run["name"], &run["priority"]), (&json!("digest"), &json!(3)), "{run}");

    world.put("/v1/queues/mail/schedulers/b", &[], json!({"every": 60_000})).await;
    let page = world.get("/v1/queues/mail/schedulers?limit=1").await.body;
    assert_eq!((&page["items"][0]["id"], &page["next"], &page["total"]), (&json!("b"), &json!(1), &json!(2)));
    let page = world.get("/v1/queues/mail/schedulers?limit=1&start=1").await.body;
    assert_eq!((&page["items"][0]["id"], &page["next"]), (&json!("daily digest"), &json!(null)));

    let removed = world.send(Method::DELETE, path, &[], Body::empty()).await;
    assert_eq!(removed.body, json!({"scheduler": {"id": "daily digest", "queue": "mail"}}));
    world.get(path).await.problem(404, "scheduler_unknown");
    world.send(Method::DELETE, path, &[], Body::empty()).await.problem(404, "scheduler_unknown");
    world.get("/v1/queues/nope/schedulers").await.problem(404, "queue_unknown");
}

#[tokio::test]
async fn an_idempotency_key_sets_a_scheduler_up_once() {
    let (world, _server) = world().await;
    let (path, headers) = ("/v1/queues/mail/schedulers/s", [("idempotency-key", "k1")]);
    let first = world.put(path, &headers, json!({"every": 60_000})).await;
    world.send(Method::DELETE, path, &[], Body::empty()).await;
    let again = world.put(path, &headers, json!({"every": 60_000})).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (first.status, "true"));
    assert_eq!(first.text, again.text);
    world.get(path).await.problem(404, "scheduler_unknown");
    world.put(path, &headers, json!({"every": 50_000})).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn schedulers_belong_to_operators_and_to_queues_of_others() {
    let (world, _server) = world().await;
    for queue in ["video-work", "onetake-delivery"] {
        let refused = world.put(&format!("/v1/queues/{queue}/schedulers/s"), &[], json!({"every": 1000})).await;
        assert_eq!(refused.problem(422, "invalid_field"), "queue");
    }
    let made = world.post("/v1/keys", json!({"name": "bot", "scopes": ["read", "enqueue"]})).await;
    let bearer = format!("Bearer {}", made.body["key"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    world.put("/v1/queues/mail/schedulers/s", &headers, json!({"every": 1000})).await.problem(403, "forbidden");
    let listed = world.send(Method::GET, "/v1/queues/mail/schedulers", &headers, Body::empty()).await;
    assert_eq!((listed.status.as_u16(), &listed.body["total"]), (200, &json!(0)));
}
