//! Claims: what a worker in any language says and is told, on a Redis of the test's own.

use serde_json::json;

use super::queues::world;
use super::*;
use crate::queue::{Take, Taken};

const CLAIMS: &str = "/v1/queues/mail/claims";

impl World {
    async fn put_job(&self, body: Value) -> String {
        self.post("/v1/queues/mail/jobs", body).await.body["job"]["id"].as_str().unwrap().to_owned()
    }

    /// Takes one job: its id, and the token.
    async fn claim_one(&self) -> (String, String) {
        let claimed = self.post(CLAIMS, json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&claimed.body["items"][0]["id"]), text(&claimed.body["token"]))
    }

    async fn say(&self, id: &str, verb: &str, body: Value) -> Answered {
        self.post(&format!("{CLAIMS}/{id}/{verb}"), body).await
    }

    async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/queues/mail/jobs/{id}")).await.body
    }
}

#[tokio::test]
async fn jobs_are_claimed_reported_on_and_completed() {
    let (world, _server) = world().await;
    for n in 0..3 {
        world.put_job(json!({"name": "hello", "data": {"n": n}, "options": {"attempts": 2}})).await;
    }
    let claimed = world.post(CLAIMS, json!({"worker": "w 1", "max": 2, "lease": "10s"})).await;
    assert_eq!(claimed.status, 200, "{}", claimed.text);
    let token = claimed.body["token"].as_str().unwrap().to_owned();
    assert!(claimed.body["expires_at"].as_str().unwrap().ends_with('Z'));
    let items = claimed.body["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|job| job["data"]["n"].clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);
    for (field, value) in [
        ("id", json!("1")),
        ("queue", json!("mail")),
        ("name", json!("hello")),
        ("state", json!("active")),
        ("attempts_made", json!(0)),
        ("attempts_started", json!(1)),
    ] {
        assert_eq!(items[0][field], value, "{field}");
    }

    let beat = json!({"token": token, "lease": "20s", "progress": {"at": 1.50}, "logs": ["a", "b"]});
    let renewed = world.say("1", "heartbeat", beat).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    assert!(renewed.body["expires_at"].as_str() > claimed.body["expires_at"].as_str(), "{}", renewed.text);
    assert_eq!(world.job("1").await["progress"], json!({"at": 1.50}));
    assert_eq!(world.get("/v1/queues/mail/jobs/1/logs").await.body["items"], json!(["a", "b"]));

    let done = world.say("1", "complete", json!({"token": token, "result": {"big": 1e3}})).await;
    assert_eq!(done.body, json!({"id": "1", "queue": "mail", "state": "completed", "due": null}));
    let job = world.job("1").await;
    assert_eq!((&job["state"], &job["result"]), (&json!("completed"), &json!({"big": 1e3})));
    assert_eq!(world.say("2", "complete", json!({"token": token})).await.status, 200);
    assert_eq!(world.job("2").await["result"], Value::Null, "a result need not be given");
    let (third, _) = world.claim_one().await;
    assert_eq!(third, "3");
    let none = world.post(CLAIMS, json!({})).await;
    assert_eq!(none.body, json!({"token": null, "expires_at": null, "items": []}));
}

/// JavaScript cuts a text inside an emoji, and the worker wants the job failed all the same.
#[tokio::test]
async fn a_reason_that_was_cut_off_is_taken_as_far_as_it_goes() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({})).await;
    let (_, token) = world.claim_one().await;
    let body = format!(r#"{{"token":"{token}","reason":"bad \ud83d","retry":false}}"#);
    let failed = world.send(Method::POST, &format!("{CLAIMS}/{id}/fail"), &[], body).await;
    assert_eq!((failed.status.as_u16(), &failed.body["state"]), (200, &json!("failed")), "{}", failed.text);
    assert_eq!(world.job(&id).await["failed_reason"], "bad \u{fffd}");
}

#[tokio::test]
async fn a_failed_attempt_is_followed_by_others_as_the_job_says() {
    let (world, _server) = world().await;
    let options = json!({"attempts": 3, "backoff": {"type": "exponential", "delay": 60_000}});
    let id = world.put_job(json!({"options": options})).await;
    let (_, token) = world.claim_one().await;
    let failed = world.say(&id, "fail", json!({"token": token, "reason": "no", "stack": "Error: no\n  at 1"})).await;
    assert_eq!((failed.status.as_u16(), &failed.body["state"]), (200, &json!("delayed")));
    let now = world.state.intake.flights().store().clock().now_ms();
    let wait = failed.body["due"].as_i64().unwrap() - now;
    assert!((30_000..=60_000).contains(&wait), "{wait}");
    let job = world.job(&id).await;
    assert_eq!(
        (&job["state"], &job["attempts_made"], &job["failed_reason"]),
        (&json!("delayed"), &json!(1), &json!("no"))
    );
    assert_eq!(job["stacktrace"], json!(["Error: no\n  at 1"]));

    world.post(&format!("/v1/queues/mail/jobs/{id}/promote"), json!({})).await;
    let (_, token) = world.claim_one().await;
    let put_off = world.say(&id, "delay", json!({"token": token, "delay": "1h"})).await;
    assert_eq!((&put_off.body["state"], put_off.status.as_u16()), (&json!("delayed"), 200));
    assert_eq!(world.job(&id).await["attempts_made"], 1, "to be put off uses up no attempt");

    world.post(&format!("/v1/queues/mail/jobs/{id}/promote"), json!({})).await;
    let (_, token) = world.claim_one().await;
    let given_up = world.say(&id, "fail", json!({"token": token, "reason": "never", "retry": false})).await;
    assert_eq!(given_up.body["state"], "failed");
    let job = world.job(&id).await;
    assert_eq!(
        (&job["state"], &job["failed_reason"], &job["attempts_made"]),
        (&json!("failed"), &json!("never"), &json!(2))
    );

    let id = world.put_job(json!({"options": {"attempts": 2}})).await;
    let (_, token) = world.claim_one().await;
    let again = world.say(&id, "fail", json!({"token": token, "reason": "no"})).await;
    assert_eq!((&again.body["state"], &again.body["due"]), (&json!("waiting"), &Value::Null));
    let (_, token) = world.claim_one().await;
    let last = world.say(&id, "fail", json!({"token": token, "reason": "no"})).await;
    assert_eq!(last.body["state"], "failed");
}

#[tokio::test]
async fn whoever_lost_the_lease_is_told_so_and_changes_nothing() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({"data": 1})).await;
    let other = world.put_job(json!({"data": 2})).await;
    let (_, token) = world.claim_one().await;
    let (taken, foreign) = world.claim_one().await;
    assert_eq!(taken, other);
    let before = world.job(&id).await;
    let stale = "f".repeat(32);
    for (job, token) in [(&id, &foreign), (&other, &token), (&id, &stale), (&"nobody".to_owned(), &token)] {
        for (verb, more) in [
            ("heartbeat", json!({"progress": 5, "logs": ["x"]})),
            ("complete", json!({"result": 1})),
            ("fail", json!({"reason": "no"})),
            ("delay", json!({"delay": "1s"})),
        ] {
            let mut body = more;
            body["token"] = json!(token);
            world.say(job, verb, body).await.problem(409, "lease_lost");
        }
    }
    assert_eq!(world.job(&id).await, before);
    assert_eq!(world.get(&format!("/v1/queues/mail/jobs/{id}/logs")).await.body["items"], json!([]));
    assert_eq!(world.say(&id, "complete", json!({"token": token})).await.status, 200);
    world.say(&id, "complete", json!({"token": token})).await.problem(409, "lease_lost");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({})).await;
    let claim = |body: Value| world.post(CLAIMS, body);
    for (body, field) in [
        (json!({"max": 0}), "max"),
        (json!({"max": 10_000}), "max"),
        (json!({"max": -1}), "max"),
        (json!({"lease": "0s"}), "lease"),
        (json!({"lease": "999ms"}), "lease"),
        (json!({"lease": "365d"}), "lease"),
        (json!({"lease": 30}), "lease"),
        (json!({"wait": "2h"}), "wait"),
        (json!({"wait": "-1s"}), "wait"),
        (json!({"worker": ""}), "worker"),
        (json!({"worker": "a\nb"}), "worker"),
        (json!({"most": 1}), "most"),
    ] {
        assert_eq!(claim(body.clone()).await.problem(422, "invalid_field"), field, "{body}");
    }
    world.post("/v1/queues/nope/claims", json!({})).await.problem(404, "queue_unknown");
    for queue in ["video", "letters", "video-work", "mail-work", "onetake-delivery"] {
        for path in [format!("/v1/queues/{queue}/claims"), format!("/v1/queues/{queue}/claims/1/complete")] {
            let refused = world.post(&path, json!({"token": "abc"})).await;
            if path.ends_with("claims") {
                assert_eq!(refused.problem(422, "invalid_field"), "token");
                let refused = world.post(&path, json!({})).await;
                assert_eq!(refused.problem(422, "invalid_field"), "queue", "{path}");
            } else {
                assert_eq!(refused.problem(422, "invalid_field"), "queue", "{path}");
            }
        }
    }
    assert_eq!(world.job(&id).await["state"], "waiting", "nothing was taken");

    let (_, token) = world.claim_one().await;
    for (verb, body, code, field) in [
        ("complete", json!({}), "missing_field", "token"),
        ("complete", json!({"token": "0"}), "invalid_field", "token"),
        ("complete", json!({"token": "a b"}), "invalid_field", "token"),
        ("complete", json!({"token": "x".repeat(65)}), "invalid_field", "token"),
        ("complete", json!({"token": token, "value": 1}), "invalid_field", "value"),
        ("fail", json!({"token": token}), "missing_field", "reason"),
        ("fail", json!({"token": token, "reason": 5}), "invalid_field", "reason"),
        ("fail", json!({"token": token, "reason": "no", "retry": "yes"}), "invalid_field", "retry"),
        ("delay", json!({"token": token}), "missing_field", "delay"),
        ("delay", json!({"token": token, "delay": "3000d"}), "invalid_field", "delay"),
        ("delay", json!({"token": token, "delay": -5}), "invalid_field", "delay"),
        ("heartbeat", json!({"token": token, "lease": "0s"}), "invalid_field", "lease"),
        ("heartbeat", json!({"token": token, "lease": "366d"}), "invalid_field", "lease"),
        ("heartbeat", json!({"token": token, "logs": "x"}), "invalid_field", "logs"),
        ("heartbeat", json!({"token": token, "logs": vec!["x"; 1001]}), "invalid_field", "logs"),
    ] {
        assert_eq!(world.say(&id, verb, body.clone()).await.problem(422, code), field, "{verb} {body}");
    }
    let path = format!("{CLAIMS}/{id}/complete");
    for broken in [format!(r#"{{"token":"{token}","result":}}"#), format!(r#"{{"token":"{token}","result":nope}}"#)] {
        world.send(Method::POST, &path, &[], broken).await.problem(400, "invalid_json");
    }
    for key_of_queue in ["meta", "wait", "1:lock"] {
        world.say(key_of_queue, "complete", json!({"token": token})).await.problem(404, "job_unknown");
    }
    assert_eq!(world.job(&id).await["state"], "active", "still held");
    assert_eq!(world.say(&id, "complete", json!({"token": token, "result": null})).await.status, 200);
}

#[tokio::test]
async fn a_claim_whose_answer_got_lost_is_repeated_under_its_key() {
    let (world, _server) = world().await;
    for n in 0..3 {
        world.put_job(json!({"data": n})).await;
    }
    let under = |key: &'static str| {
        let world = &world;
        async move { world.send(Method::POST, CLAIMS, &[("idempotency-key", key)], r#"{"max":2}"#).await.body }
    };
    let (first, again) = (under("k1").await, under("k1").await);
    let ids =
        |claim: &Value| claim["items"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&first), ids(&again)), (vec![json!("1"), json!("2")], vec![json!("1"), json!("2")]));
    assert_eq!(first["token"], again["token"]);
    assert_eq!(again["items"][0]["attempts_started"], 1, "it was taken once");
    assert_eq!(ids(&under("k2").await), ["3"], "another key, another claim");
    assert_eq!(world.say("1", "complete", json!({"token": first["token"]})).await.status, 200);
    assert_eq!(ids(&under("k1").await), ["2"], "what is held still");
    assert_eq!(world.say("2", "complete", json!({"token": again["token"]})).await.status, 200);
    let headers = [("idempotency-key", "c1")];
    let complete =
        || world.send(Method::POST, "/v1/queues/mail/claims/3/delay", &headers, r#"{"token":"aa","delay":"1s"}"#);
    complete().await.problem(409, "lease_lost");
}

#[tokio::test]
async fn an_end_is_repeated_under_its_key() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({})).await;
    let (_, token) = world.claim_one().await;
    let path = format!("{CLAIMS}/{id}/complete");
    let end = || world.send(Method::POST, &path, &[("idempotency-key", "e1")], json!({"token": token}).to_string());
    let (first, again) = (end().await, end().await);
    assert_eq!((first.status.as_u16(), &first.text), (200, &again.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn a_worker_sees_what_only_workers_must_never_run() {
    let (world, _server) = world().await;
    let queue = world.state.intake.publisher().queues().get("mail").unwrap();
    let (broken, doomed, sound) = ("broken", "doomed", "sound");
    for id in [broken, doomed, sound] {
        world.put_job(json!({"options": {"jobId": id}})).await;
    }
    let set = |id: &str, field: &str, value: &str| {
        let (redis, key) = (world.state.redis.clone(), queue.keys().job(id));
        let words = [key.as_str(), field, value].map(str::to_owned);
        async move { testing_hset(&redis, words).await }
    };
    set(broken, "data", "{nope").await;
    set(doomed, "defa", "job stalled more than allowable limit").await;
    let claimed = world.post(CLAIMS, json!({"max": 10})).await.body;
    let ids: Vec<_> = claimed["items"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids, [json!(sound)]);
    assert_eq!(world.job(doomed).await["failed_reason"], "job stalled more than allowable limit");
    assert_eq!(world.job(broken).await["state"], "failed");
}

#[tokio::test]
async fn a_parent_cannot_complete_before_its_children() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({})).await;
    let (_, token) = world.claim_one().await;
    let queue = world.state.intake.publisher().queues().get("mail").unwrap();
    let key = queue.keys().job(&id);
    crate::redis::testing::raw(&world.state.redis, &["SADD", &format!("{key}:dependencies"), "bull:mail:c"]).await;
    world.say(&id, "complete", json!({"token": token})).await.problem(409, "children_pending");
    crate::redis::testing::raw(&world.state.redis, &["DEL", &format!("{key}:dependencies")]).await;
    crate::redis::testing::raw(&world.state.redis, &["ZADD", &format!("{key}:unsuccessful"), "1", "bull:mail:c"]).await;
    world.say(&id, "complete", json!({"token": token})).await.problem(409, "child_failed");
    assert_eq!(world.say(&id, "fail", json!({"token": token, "reason": "a child"})).await.body["state"], "failed");
}

#[tokio::test]
async fn claims_need_the_scope_work() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({})).await;
    let make = async |scopes: Value, headers: &[(&str, &str)]| {
        let wish = json!({"name": "k", "scopes": scopes}).to_string();
        let made = world.send(Method::POST, "/v1/keys", headers, wish).await.body;
        format!("Bearer {}", made["key"].as_str().unwrap())
    };
    let admin = make(json!(["admin"]), &[]).await;
    let headers = [("authorization", admin.as_str())];
    let (worker, producer) =
        (make(json!(["work"]), &headers).await, make(json!(["enqueue", "operate"]), &headers).await);
    let claim = async |key: &str| world.send(Method::POST, CLAIMS, &[("authorization", key)], "").await;
    claim(&producer).await.problem(403, "forbidden");
    let claimed = claim(&worker).await;
    assert_eq!(claimed.body["items"][0]["id"], id, "{}", claimed.text);
    let headers = [("authorization", worker.as_str())];
    world.send(Method::POST, "/v1/queues/mail/pause", &headers, "").await.problem(403, "forbidden");
    let children = async |key: &str, add: Value| {
        let body = json!({"token": claimed.body["token"], "add": add}).to_string();
        world.send(Method::POST, &format!("{CLAIMS}/{id}/children"), &[("authorization", key)], body).await
    };
    children(&worker, json!([{"queue": "pickup"}])).await.problem(403, "forbidden");
    let both = make(json!(["work", "enqueue"]), &[("authorization", admin.as_str())]).await;
    assert_eq!(children(&both, json!([{"queue": "pickup"}])).await.status, 200, "a key may have both scopes");
    let shown = world.send(Method::GET, &format!("/v1/queues/mail/jobs/{id}"), &headers, Body::empty()).await;
    assert_eq!(shown.status, 200);
}

#[tokio::test]
async fn a_cancelled_job_is_told_to_the_worker_that_has_claimed_it_and_not_run_again() {
    let (world, _server) = world().await;
    for worker in [json!({"worker": "w1"}), json!({})] {
        let id = world.put_job(json!({"options": {"attempts": 3}})).await;
        let claimed = world.post(CLAIMS, worker).await;
        let token = claimed.body["token"].as_str().unwrap();
        let beat = json!({"token": token});
        let before = world.say(&id, "heartbeat", beat.clone()).await;
        assert_eq!((before.status.as_u16(), &before.body["cancelled"]), (200, &Value::Null));
        let cancel = format!("/v1/queues/mail/jobs/{id}/cancel");
        assert_eq!(world.post(&cancel, json!({"reason": "wrong address"})).await.status, 202);
        let told = world.say(&id, "heartbeat", beat).await;
        assert_eq!((told.status.as_u16(), &told.body["cancelled"]), (200, &json!("wrong address")), "{}", told.text);
        let failed = world.say(&id, "fail", json!({"token": token, "reason": "as it was told"})).await;
        assert_eq!((failed.status.as_u16(), &failed.body["state"]), (200, &json!("waiting")), "it had attempts left");
        assert_eq!(world.post(CLAIMS, json!({})).await.body["items"], json!([]), "nobody is handed it again");
        let job = world.job(&id).await;
        assert_eq!((&job["state"], &job["failed_reason"]), (&json!("failed"), &json!("wrong address")));
    }
    let id = world.put_job(json!({})).await;
    let (_, token) = world.claim_one().await;
    world.post(&format!("/v1/queues/mail/jobs/{id}/cancel"), json!({})).await;
    let done = world.say(&id, "complete", json!({"token": token})).await;
    assert_eq!(done.body["state"], "completed", "one that ends just then has ended");
}

#[tokio::test]
async fn nobody_claims_under_the_name_of_a_server() {
    let (world, _server) = world().await;
    let refused = world.post(CLAIMS, json!({"worker": "onetake-1"})).await;
    assert_eq!(refused.problem(422, "invalid_field"), "worker");
}

#[tokio::test]
async fn a_job_that_was_taken_too_often_is_not_handed_out() {
    let server = crate::redis::testing::Server::start();
    let url = server.settings().url;
    let world = World::on(secrecy::ExposeSecret::expose_secret(&url), "[queues.mail]\nmax_started = 1").await;
    let mut up = world.state.redis.watch();
    tokio::time::timeout(Duration::from_secs(30), up.wait_for(|up| *up)).await.unwrap().unwrap();
    let id = world.put_job(json!({})).await;
    let (_, token) = world.claim_one().await;
    assert_eq!(world.say(&id, "delay", json!({"token": token, "delay": "0s"})).await.status, 200);
    assert_eq!(world.post(CLAIMS, json!({})).await.body["items"], json!([]));
    let job = world.job(&id).await;
    assert_eq!(job["failed_reason"], "job started more than allowable limit", "{job}");
}

/// Two claims drop and are served at every point of their way: in the end every job is where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_given_up_at_any_point_leaves_nothing_taken() {
    let (world, _server) = world().await;
    let queue = world.state.intake.publisher().queues().get("mail").unwrap();
    let claims = world.state.claims.clone();
    let claim = |wait_ms| crate::runner::Claim {
        max: 2,
        token: crate::id::new_token(),
        is_repeatable: false,
        lease: Duration::from_secs(3600),
        worker: None,
        max_started: None,
        wait: Duration::from_millis(wait_ms),
    };
    let adding = {
        let world = &world;
        async move {
            for n in 0..40 {
                world.put_job(json!({"data": n})).await;
            }
        }
    };
    let giving_up = async {
        for round in 0..120_u64 {
            let patience = Duration::from_micros(37 * (round % 60));
            let _ = tokio::time::timeout(patience, claims.claim(&queue, claim(1_000))).await;
        }
    };
    tokio::join!(adding, giving_up);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let counts = loop {
        let counts = queue.counts().await.unwrap();
        if counts.active == 0 || std::time::Instant::now() > deadline {
            break counts;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((counts.active, counts.waiting), (0, 40));
    let take = Take { max: 100, ahead: 0, token: "t".into(), lease_ms: 1_000, worker_name: None };
    let Taken { jobs, .. } = queue.take(&take, crate::clock::Clock::system().now_ms()).await.unwrap();
    assert_eq!(jobs.len(), 40);
}

async fn testing_hset(redis: &Redis, [key, field, value]: [String; 3]) {
    crate::redis::testing::raw(redis, &["HSET", &key, &field, &value]).await;
}

#[tokio::test]
async fn a_claimed_job_is_given_children_and_waits_for_them() {
    let (world, _server) = world().await;
    let id = world.put_job(json!({"data": 1})).await;
    let (_, token) = world.claim_one().await;
    let held = json!({"queue": "orders", "children": [{"queue": "orders", "options": {"jobId": "taken"}}]});
    assert_eq!(world.post("/v1/flows", held).await.status, 201);
    let with = |add: Value| json!({"token": token, "add": add, "data": 2});
    for (add, status, code, field) in [
        (json!([{"queue": "pickup"}, {}]), 422, "missing_field", "add[1].queue"),
        (json!([{"queue": "nope"}]), 404, "queue_unknown", "add[0].queue"),
        (json!([{"queue": "pickup", "options": {"jobId": "7"}}]), 422, "invalid_field", "add[0].options.jobId"),
        (json!([{"queue": "pickup", "parent": {"queue": "mail", "id": id}}]), 422, "invalid_field", "add[0].parent"),
        (
            json!([{"queue": "pickup", "children": vec![json!({"queue": "pickup"}); 1_000]}]),
            422,
            "invalid_field",
            "add",
        ),
        (
            json!([{"queue": "pickup"}, {"queue": "pickup", "children": [{"queue": "orders", "options": {"jobId": "taken"}}]}]),
            409,
            "job_exists",
            "add[1].children[0].options.jobId",
        ),
    ] {
        let refused = world.say(&id, "children", with(add.clone())).await;
        assert_eq!(refused.problem(status, code), field, "{add}");
    }
    let fit = json!([{"queue": "pickup", "options": {"jobId": "c"}}]);
    let stale = json!({"token": "f".repeat(32), "add": fit});
    world.say(&id, "children", stale).await.problem(409, "lease_lost");
    assert_eq!(world.get("/v1/queues/pickup").await.body["counts"]["waiting"], 0, "nothing was added");
    let job = world.job(&id).await;
    assert_eq!((&job["state"], &job["data"]), (&json!("active"), &json!(1)));

    let waits = world.say(&id, "children", with(fit)).await;
    assert_eq!(waits.body, json!({"id": id, "queue": "mail", "state": "waiting-children", "due": null}));
    world.say(&id, "children", with(json!([]))).await.problem(409, "lease_lost");
    let child = world.post("/v1/queues/pickup/claims", json!({})).await.body;
    assert_eq!(child["items"][0]["parent"], format!("bull:mail:{id}"));
    let done = json!({"token": child["token"], "result": 42});
    assert_eq!(world.post("/v1/queues/pickup/claims/c/complete", done).await.status, 200);
    let (again, token) = world.claim_one().await;
    assert_eq!((&again, &world.job(&id).await["data"]), (&id, &json!(2)));
    let left = world.get(&format!("/v1/queues/mail/jobs/{id}/children")).await.body;
    assert_eq!((&left["items"][0]["key"], &left["items"][0]["result"]), (&json!("bull:pickup:c"), &json!(42)));
    // None is pending: it comes back at once.
    assert_eq!(world.say(&id, "children", json!({"token": token})).await.status, 200);
    assert_eq!(world.claim_one().await.0, id);
}
