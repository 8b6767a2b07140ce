//! Queues and plain jobs, on a Redis of the test's own.

use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::redis::testing;

pub(super) async fn world() -> (World, testing::Server) {
    let server = testing::Server::start();
    let world = World::on(server.settings().url.expose_secret(), "").await;
    let mut up = world.state.redis.watch();
    tokio::time::timeout(Duration::from_secs(10), up.wait_for(|up| *up)).await.unwrap().unwrap();
    (world, server)
}

#[tokio::test]
async fn a_plain_job_is_added_and_shown_as_bullmq_keeps_it() {
    let (world, _server) = world().await;
    let options =
        json!({"priority": 3, "attempts": 2, "backoff": 500, "removeOnComplete": {"age": 60}, "jobId": "j 1"});
    let body = format!(r#"{{"name":"hello","data":{{"n":123456789012345678901}},"options":{options}}}"#);
    let added = world.send(Method::POST, "/v1/queues/mail/jobs", &[], body).await;
    assert_eq!((added.status.as_u16(), &added.body), (201, &json!({"job": {"id": "j 1", "queue": "mail"}})));
    assert_eq!(added.header("location"), "/v1/queues/mail/jobs/j%201");
    let shown = world.get(added.header("location")).await;
    assert!(shown.text.contains(r#""data":{"n":123456789012345678901},"#), "{}", shown.text);
    for (field, value) in [
        ("name", json!("hello")),
        ("state", json!("prioritized")),
        ("priority", json!(3)),
        ("position", json!(0)),
        ("attempts_made", json!(0)),
        ("result", Value::Null),
    ] {
        assert_eq!(shown.body[field], value, "{field}");
    }
    assert_eq!(shown.body["options"]["backoff"], json!({"type": "fixed", "delay": 500}));
    assert_eq!(shown.body["options"]["removeOnComplete"], json!({"age": 60}));
    for unknown in ["nope", "meta", "id", "j%201:lock", "wait"] {
        world.get(&format!("/v1/queues/mail/jobs/{unknown}")).await.problem(404, "job_unknown");
    }
}

#[tokio::test]
async fn jobs_are_listed_by_state_and_page() {
    let (world, _server) = world().await;
    for n in 0..3 {
        world.post("/v1/queues/mail/jobs", json!({"data": n})).await;
    }
    world.post("/v1/queues/mail/jobs", json!({"data": "later", "options": {"delay": 60_000}})).await;
    let data = |page: &Value| page["items"].as_array().unwrap().iter().map(|j| j["data"].clone()).collect::<Vec<_>>();
    let first = world.get("/v1/queues/mail/jobs?limit=2").await.body;
    assert_eq!((data(&first), &first["next"]), (vec![json!(0), json!(1)], &json!(2)));
    let second = world.get("/v1/queues/mail/jobs?limit=2&start=2").await.body;
    assert_eq!((data(&second), &second["next"]), (vec![json!(2), json!("later")], &Value::Null));
    assert_eq!(second["items"][1]["state"], "delayed");
    assert_eq!(data(&world.get("/v1/queues/mail/jobs?state=delayed").await.body), [json!("later")]);
    world.get("/v1/queues/mail/jobs?state=lost").await.problem(422, "invalid_field");
}

#[tokio::test]
async fn an_idempotency_key_adds_a_plain_job_once() {
    let (world, _server) = world().await;
    let headers = [("idempotency-key", "k1")];
    let send = || world.send(Method::POST, "/v1/queues/mail/jobs", &headers, r#"{"data":1}"#);
    let (first, again) = (send().await, send().await);
    assert_eq!((first.status.as_u16(), &first.text), (201, &again.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let shown = world.get("/v1/queues/mail").await.body;
    assert_eq!(shown["counts"]["waiting"], 1, "{shown}");
}

#[tokio::test]
async fn queues_are_paused_and_resumed() {
    let (world, _server) = world().await;
    let named = |body: &Value, name: &str| {
        body["items"].as_array().unwrap().iter().find(|queue| queue["name"] == name).cloned().unwrap()
    };
    let all = world.get("/v1/queues").await.body;
    for (name, kind) in
        [("mail", "plain"), ("video", "intake"), ("video-work", "work"), ("onetake-delivery", "delivery")]
    {
        assert_eq!((&named(&all, name)["kind"], &named(&all, name)["paused"]), (&json!(kind), &json!(false)));
    }
    assert_eq!(named(&all, "mail")["counts"]["waiting-children"], 0);
    let paused = world.send(Method::POST, "/v1/queues/mail/pause", &[], Body::empty()).await;
    assert_eq!((paused.status.as_u16(), &paused.body["paused"]), (200, &json!(true)));
    world.send(Method::POST, "/v1/queues/mail/resume", &[], Body::empty()).await;
    assert_eq!(world.get("/v1/queues/mail").await.body["paused"], false);
    world.send(Method::POST, "/v1/queues/nope/pause", &[], Body::empty()).await.problem(404, "queue_unknown");
    assert_eq!(world.get("/readyz").await.body["status"], "ok");
}

#[tokio::test]
async fn null_is_data_and_nothing_is_an_empty_object() {
    let (world, _server) = world().await;
    for (body, data) in [(json!({"data": null}), Value::Null), (json!({}), json!({}))] {
        let added = world.post("/v1/queues/mail/jobs", body.clone()).await;
        let id = added.body["job"]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.get(&format!("/v1/queues/mail/jobs/{id}")).await.body["data"], data, "{body}");
        let mut flow = body.clone();
        flow["queue"] = json!("mail");
        let id = world.post("/v1/flows", flow).await.body["id"].as_str().unwrap().to_owned();
        assert_eq!(world.get(&format!("/v1/queues/mail/jobs/{id}")).await.body["data"], data, "{body}");
        let mut scheduler = body.clone();
        scheduler["every"] = json!(60_000);
        let set = world.send(Method::PUT, "/v1/queues/mail/schedulers/s", &[], scheduler.to_string()).await;
        let run = set.body["job"].as_str().unwrap_or_else(|| panic!("{}", set.text));
        assert_eq!(world.get(&format!("/v1/queues/mail/jobs/{run}")).await.body["data"], data, "{body}");
    }
}
