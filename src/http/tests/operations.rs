//! What operators do to jobs and queues: refusals with their codes, and answers.

use serde_json::json;

use super::queues::world;
use super::*;

impl World {
    async fn add(&self, options: Value) -> String {
        let added = self.post("/v1/queues/mail/jobs", json!({"data": {}, "options": options})).await;
        added.body["job"]["id"].as_str().unwrap().to_owned()
    }

    async fn delete(&self, path: &str) -> Answered {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }
}

#[tokio::test]
async fn unknown_jobs_and_wrong_states_are_told_apart() {
    let (world, _server) = world().await;
    let id = world.add(json!({})).await;
    for (verb, body) in [
        ("retry", json!({})),
        ("promote", json!({})),
        ("delay", json!({"delay": 5})),
        ("priority", json!({"priority": 5})),
        ("data", json!({"data": 5})),
    ] {
        for unknown in ["nobody", "meta", "wait", "1:lock"] {
            let refused = world.post(&format!("/v1/queues/mail/jobs/{unknown}/{verb}"), body.clone()).await;
            refused.problem(404, "job_unknown");
        }
        let nowhere = world.post(&format!("/v1/queues/nope/jobs/{id}/{verb}"), body.clone()).await;
        nowhere.problem(404, "queue_unknown");
        let answered = world.post(&format!("/v1/queues/mail/jobs/{id}/{verb}"), body).await;
        if matches!(verb, "priority" | "data") {
            assert_eq!((answered.status.as_u16(), &answered.body["id"]), (200, &json!(id)), "{verb}");
        } else {
            answered.problem(409, "job_wrong_state");
        }
    }
    world.delete("/v1/queues/mail/jobs/nobody").await.problem(404, "job_unknown");
    world.get("/v1/queues/mail/jobs/nobody/logs").await.problem(404, "job_unknown");
    world.get("/v1/queues/mail/jobs/nobody/children").await.problem(404, "job_unknown");
}

#[tokio::test]
async fn bad_numbers_are_told_with_their_field() {
    let (world, _server) = world().await;
    let id = world.add(json!({"delay": 60_000})).await;
    for (path, body, field) in [
        (format!("jobs/{id}/delay"), json!({"delay": -1}), "delay"),
        (format!("jobs/{id}/delay"), json!({"delay": 1.5}), "delay"),
        (format!("jobs/{id}/delay"), json!({"delay": 9_000_000_000_000_i64}), "delay"),
        (format!("jobs/{id}/priority"), json!({"priority": 2_097_152}), "priority"),
        (format!("jobs/{id}/retry"), json!({"state": "active"}), "state"),
        ("retry".to_owned(), json!({"state": "delayed"}), "state"),
        ("clean".to_owned(), json!({"state": "waiting-children"}), "state"),
        ("clean".to_owned(), json!({"state": "failed", "grace": -1}), "grace"),
        ("clean".to_owned(), json!({"state": "failed", "limit": 0}), "limit"),
        ("trim-events".to_owned(), json!({"keep": -1}), "keep"),
        ("concurrency".to_owned(), json!({"limit": 0}), "limit"),
        ("rate-limit".to_owned(), json!({"max": 0, "duration": 5}), "max"),
        ("rate-limit".to_owned(), json!({"max": 5, "duration": 0}), "duration"),
    ] {
        let refused = world.post(&format!("/v1/queues/mail/{path}"), body.clone()).await;
        assert_eq!(refused.problem(422, "invalid_field"), field, "{path} {body}");
    }
    world.post("/v1/queues/mail/clean", json!({})).await.problem(422, "missing_field");
    world.post("/v1/queues/mail/rate-limit", json!({"max": 5})).await.problem(422, "missing_field");
    world.get(&format!("/v1/queues/mail/jobs/{id}/children?kind=odd")).await.problem(422, "invalid_field");
    world.get(&format!("/v1/queues/mail/jobs/{id}/children?cursor=odd")).await.problem(422, "invalid_field");
}

#[tokio::test]
async fn a_job_that_somebody_runs_is_not_removed() {
    let (world, _server) = world().await;
    let id = world.add(json!({})).await;
    let path = format!("/v1/queues/mail/jobs/{id}");
    let queue = world.state.intake.publisher().queues().get("mail").unwrap();
    let take = crate::queue::Take { max: 1, ahead: 0, token: "t".to_owned(), lease_ms: 10_000, worker_name: None };
    assert_eq!(queue.take(&take, 5).await.unwrap().jobs.len(), 1);
    for children in ["", "?children=true"] {
        world.delete(&format!("{path}{children}")).await.problem(409, "job_locked");
    }
    world.send(Method::POST, "/v1/queues/mail/obliterate", &[], Body::empty()).await.problem(409, "queue_not_paused");
    world.post("/v1/queues/mail/pause", json!({})).await;
    world.post("/v1/queues/mail/obliterate", json!({"force": false})).await.problem(409, "queue_active");
    let forced = world.post("/v1/queues/mail/obliterate", json!({"force": true})).await;
    assert_eq!(forced.body, json!({"done": true, "processed": 1}));
    world.get(&path).await.problem(404, "job_unknown");
}

#[tokio::test]
async fn a_changed_job_is_shown_as_it_stands() {
    let (world, _server) = world().await;
    let id = world.add(json!({"delay": 60_000})).await;
    let path = format!("/v1/queues/mail/jobs/{id}");
    let delayed = world.post(&format!("{path}/delay"), json!({"delay": 70_000})).await.body;
    assert_eq!((&delayed["state"], &delayed["delay"]), (&json!("delayed"), &json!(70_000)));
    let body = r#"{"data":{"n":123456789012345678901}}"#;
    let other = world.send(Method::POST, &format!("{path}/data"), &[], body).await;
    assert!(other.text.contains(r#""data":{"n":123456789012345678901},"#), "{}", other.text);
    let promoted = world.send(Method::POST, &format!("{path}/promote"), &[], Body::empty()).await.body;
    assert_eq!((&promoted["state"], &promoted["position"]), (&json!("waiting"), &json!(0)));
    let urgent = world.post(&format!("{path}/priority"), json!({"priority": 3})).await.body;
    assert_eq!((&urgent["state"], &urgent["priority"]), (&json!("prioritized"), &json!(3)));
    let none = json!({"unprocessed": 0, "processed": 0, "ignored": 0, "failed": 0});
    assert_eq!((&urgent["children"], &urgent["parent"]), (&none, &Value::Null));
    let queue = world.state.intake.publisher().queues().get("mail").unwrap();
    for line in ["one", "two", "three"] {
        queue.log(&id, line, None).await.unwrap();
    }
    let log = world.get(&format!("{path}/logs?limit=2")).await.body;
    assert_eq!(log, json!({"items": ["one", "two"], "next": 2, "count": 3}));
    let rest = world.get(&format!("{path}/logs?start=2")).await.body;
    assert_eq!(rest, json!({"items": ["three"], "next": null, "count": 3}));
    assert_eq!(world.get(&format!("{path}/children")).await.body, json!({"items": [], "next": null}));
    let removed = world.delete(&path).await.body;
    assert_eq!(removed, json!({"id": id, "queue": "mail", "removed": true}));
}

#[tokio::test]
async fn an_idempotency_key_does_a_verb_once() {
    let (world, _server) = world().await;
    world.add(json!({"delay": 60_000})).await;
    let headers = [("idempotency-key", "k1")];
    let promote = || world.send(Method::POST, "/v1/queues/mail/promote", &headers, "");
    let first = promote().await;
    assert_eq!(first.body, json!({"done": true, "processed": 1}));
    world.add(json!({"delay": 60_000})).await;
    let again = promote().await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &first.text));
    assert_eq!(world.get("/v1/queues/mail").await.body["counts"]["delayed"], 1);
}

#[tokio::test]
async fn limits_are_shown_with_the_queue() {
    let (world, _server) = world().await;
    let limited = world.post("/v1/queues/mail/concurrency", json!({"limit": 3})).await.body;
    assert_eq!((&limited["concurrency"], &limited["rate_limit"]), (&json!(3), &Value::Null));
    let rate = json!({"max": 5, "duration": 1000});
    assert_eq!(world.post("/v1/queues/mail/rate-limit", rate.clone()).await.body["rate_limit"], rate);
    assert_eq!(world.delete("/v1/queues/mail/concurrency").await.body["concurrency"], Value::Null);
    assert_eq!(world.delete("/v1/queues/mail/limiter").await.body["rate_limit"], rate);
    assert_eq!(world.delete("/v1/queues/mail/rate-limit").await.body["rate_limit"], Value::Null);
}
