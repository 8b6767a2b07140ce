//! Groups of jobs over HTTP: adding to them, their limits, and what is refused with which field.

use serde_json::json;

use super::queues::world;
use super::*;

impl World {
    async fn replace(&self, path: &str, body: Value) -> Answered {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }
}

#[tokio::test]
async fn a_job_in_line_is_shown_with_its_group() {
    let (world, _server) = world().await;
    for n in 0..2 {
        let body = json!({"data": n, "options": {"group": {"id": "ann & co"}, "priority": n}});
        assert_eq!(world.post("/v1/queues/mail/jobs", body).await.status, 201);
    }
    for id in ["1", "2"] {
        let job = world.get(&format!("/v1/queues/mail/jobs/{id}")).await.body;
        assert_eq!((&job["state"], &job["group"]), (&json!("waiting"), &json!("ann & co")), "{job}");
        assert_eq!(job["options"]["group"], json!({"id": "ann & co"}));
    }
    assert_eq!(world.get("/v1/queues/mail").await.body["counts"]["waiting"], 2);
    let listed = world.get("/v1/queues/mail/jobs?state=waiting").await.body;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_cannot_be_in_a_group_is_told_with_its_field() {
    let (world, _server) = world().await;
    let long = "x".repeat(300);
    for (options, field) in [
        (json!({"group": {"id": ""}}), "options.group.id"),
        (json!({"group": {"id": long}}), "options.group.id"),
        (json!({"group": {"id": "a\u{7}"}}), "options.group.id"),
        (json!({"group": {"id": 7}}), "options.group.id"),
        (json!({"group": {"id": "a", "max": 7}}), "options.group.max"),
        (json!({"group": "a"}), "options.group"),
        (json!({"group": {"id": "a"}, "lifo": true}), "options.group"),
    ] {
        let refused = world.post("/v1/queues/mail/jobs", json!({"options": options})).await;
        assert_eq!(refused.problem(422, "invalid_field"), field, "{options}");
    }
    let unnamed = world.post("/v1/queues/mail/jobs", json!({"options": {"group": {}}})).await;
    assert_eq!(unnamed.problem(422, "missing_field"), "options.group.id");
    let options = json!({"group": {"id": "a"}});
    let letter = json!({"data": {"to": "ann"}, "options": options});
    let refused = world.post("/v1/queues/letters/jobs", letter).await;
    assert_eq!(refused.problem(422, "invalid_field"), "options.group");
    let wish = json!({"dedupe": {"key": "k"}, "options": options});
    let refused = world.post("/v1/queues/mail/jobs", wish).await;
    assert_eq!(refused.problem(422, "invalid_field"), "options.group");
    let scheduler = json!({"every": 1000, "options": options});
    let refused = world.replace("/v1/queues/mail/schedulers/s", scheduler).await;
    assert_eq!(refused.problem(422, "invalid_field"), "options.group");
    assert_eq!(world.get("/v1/queues/mail").await.body["counts"]["waiting"], 0);
    assert_eq!(world.get("/v1/queues/mail/groups").await.body["items"], json!([]));
}

#[tokio::test]
async fn only_declared_plain_queues_have_groups() {
    let server = crate::redis::testing::Server::start();
    let url = secrecy::ExposeSecret::expose_secret(&server.settings().url).to_owned();
    let world = World::on(&url, "[queues]\nopen = true\n").await;
    let mut up = world.state.redis.watch();
    tokio::time::timeout(Duration::from_secs(10), up.wait_for(|up| *up)).await.unwrap().unwrap();
    let refused = world.post("/v1/queues/anybody/jobs", json!({"options": {"group": {"id": "a"}}})).await;
    assert_eq!(refused.problem(422, "invalid_field"), "options.group");
    for queue in ["anybody", "letters", "letters-work", "onetake-delivery"] {
        let refused = world.get(&format!("/v1/queues/{queue}/groups")).await;
        assert_eq!(refused.problem(422, "invalid_field"), "queue", "{queue}");
        let refused = world.replace(&format!("/v1/queues/{queue}/groups/a"), json!({"concurrency": 1})).await;
        assert_eq!(refused.problem(422, "invalid_field"), "queue", "{queue}");
    }
}

#[tokio::test]
async fn groups_are_limited_paused_listed_and_forgotten() {
    let (world, _server) = world().await;
    for group in ["a", "b", "b"] {
        world.post("/v1/queues/mail/jobs", json!({"options": {"group": {"id": group}}})).await;
    }
    let limits = json!({"concurrency": 3, "rate_limit": {"max": 5, "duration": 1000}});
    let set = world.replace("/v1/queues/mail/groups/c%2Fd", limits.clone()).await;
    assert_eq!((set.status.as_u16(), &set.body["id"], &set.body["concurrency"]), (200, &json!("c/d"), &json!(3)));
    assert_eq!(set.body["rate_limit"], limits["rate_limit"]);
    let paused = world.post("/v1/queues/mail/groups/b/pause", json!({})).await.body;
    assert_eq!((&paused["paused"], &paused["waiting"], &paused["released"]), (&json!(true), &json!(2), &json!(0)));

    let names = |page: &Value| page["items"].as_array().unwrap().iter().map(|g| g["id"].clone()).collect::<Vec<_>>();
    let first = world.get("/v1/queues/mail/groups?limit=2").await.body;
    assert_eq!(names(&first), ["a", "b"]);
    let cursor = first["next"].as_str().unwrap();
    let second = world.get(&format!("/v1/queues/mail/groups?limit=2&cursor={cursor}")).await.body;
    assert_eq!((names(&second), &second["next"]), (vec![json!("c/d")], &Value::Null));

    let resumed = world.post("/v1/queues/mail/groups/b/resume", json!({})).await.body;
    assert_eq!((&resumed["paused"], &resumed["waiting"], &resumed["ready"]), (&json!(false), &json!(1), &json!(1)));
    let unlimited = json!({"concurrency": 0, "rate_limit": {"max": 0, "duration": 0}});
    let set = world.replace("/v1/queues/mail/groups/c%2Fd", unlimited).await.body;
    assert_eq!((&set["concurrency"], &set["rate_limit"]["max"]), (&json!(0), &json!(0)));
    let forgotten = world.send(Method::DELETE, "/v1/queues/mail/groups/c%2Fd", &[], Body::empty()).await.body;
    assert_eq!((&forgotten["concurrency"], &forgotten["rate_limit"]), (&Value::Null, &Value::Null));
    assert_eq!(names(&world.get("/v1/queues/mail/groups").await.body), ["a", "b"]);
    assert_eq!(world.get("/v1/queues/mail/groups/nobody").await.body["waiting"], 0);
}

#[tokio::test]
async fn bad_limits_are_told_with_their_field() {
    let (world, _server) = world().await;
    for (body, field) in [
        (json!({"concurrency": -1}), "concurrency"),
        (json!({"concurrency": "2"}), "concurrency"),
        (json!({"rate_limit": {"max": 0, "duration": 5}}), "rate_limit.max"),
        (json!({"rate_limit": {"max": 5, "duration": 0}}), "rate_limit.duration"),
        (json!({"rate_limit": {"max": 5, "duration": 1, "per": 1}}), "rate_limit.per"),
        (json!({"paused": true}), "paused"),
    ] {
        let refused = world.replace("/v1/queues/mail/groups/a", body.clone()).await;
        assert_eq!(refused.problem(422, "invalid_field"), field, "{body}");
    }
    for group in ["x".repeat(300), "a%00b".to_owned()] {
        for verb in ["", "/pause", "/resume"] {
            let path = format!("/v1/queues/mail/groups/{group}{verb}");
            let refused = match verb {
                "" => world.replace(&path, json!({"concurrency": 1})).await,
                _ => world.post(&path, json!({})).await,
            };
            assert_eq!(refused.problem(422, "invalid_field"), "group");
        }
    }
    world.get("/v1/queues/mail/groups?cursor=%3F").await.problem(422, "invalid_field");
    assert_eq!(world.get("/v1/queues/mail/groups").await.body["items"], json!([]));
}
