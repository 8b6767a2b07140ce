//! Locks over HTTP, as other services use them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_lock_goes_through_its_life,
    several_locks_are_taken_all_or_none,
    a_waiter_is_served_when_the_holder_releases,
    a_lock_is_taken_away_with_a_reason_that_is_kept,
    locks_go_on_while_redis_is_frozen_or_gone,
    fast_locks_live_in_redis_alone,
    keys_have_scopes,
    locks_are_counted,
    a_server_that_dies_when_it_has_granted_or_released_is_asked_again,
);

fn code(answer: &crate::support::http::Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

async fn acquire(server: &Onetake, name: &str, ttl: &str) -> Value {
    server.post(&format!("/v1/locks/{name}"), json!({"ttl": ttl})).await.expect(200)
}

fn mine(grant: &Value) -> Value {
    json!({"owner_token": grant["owner_token"]})
}

async fn a_lock_goes_through_its_life(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    let grant = server
        .post("/v1/locks/reports%2Fdaily", json!({"ttl": "1m", "note": "host 7", "request_id": "r1"}))
        .await
        .expect(200);
    assert_eq!((&grant["name"], &grant["fast"]), (&json!("reports/daily"), &json!(false)));
    let fence = grant["fencing_token"].as_i64().expect("a number");
    let again = server.post("/v1/locks/reports%2Fdaily", json!({"ttl": "1m", "request_id": "r1"})).await.expect(200);
    assert_eq!((&again["owner_token"], &again["fencing_token"]), (&grant["owner_token"], &grant["fencing_token"]));
    // The header serves as an id, too.
    let keyed = server.with("idempotency-key", "r1");
    assert_eq!(keyed.post("/v1/locks/reports%2Fdaily", json!({"ttl": "1m"})).await.expect(200)["fencing_token"], fence);

    let other = keyed.post("/v1/locks/reports%2Fdaily", json!({"ttl": "2m"})).await;
    assert_eq!(code(&other), (422, "idempotency_key_reused".into()), "another wish under the same key");
    let other = keyed.post("/v1/locks/reports%2Fweekly", json!({"ttl": "1m"})).await;
    assert_eq!(code(&other), (422, "idempotency_key_reused".into()), "for another lock");

    let refused = server.post("/v1/locks/reports%2Fdaily", json!({"ttl": "1m"})).await;
    assert_eq!(code(&refused), (409, "lock_busy".into()));
    assert!(refused.text.contains("host 7"), "it says whose it is: {}", refused.text);
    assert!(!refused.text.contains(grant["owner_token"].as_str().expect("a text")));

    let shown = server.get("/v1/locks/reports%2Fdaily").await.expect(200);
    assert_eq!((&shown["state"], &shown["note"], &shown["holder"]), (&json!("held"), &json!("host 7"), &json!("open")));
    assert!(shown.get("owner_token").is_none());
    let renewal = json!({"owner_token": grant["owner_token"], "ttl": "2m"});
    let again = server.with("idempotency-key", "renewal");
    again.post("/v1/locks/reports%2Fdaily/renew", renewal.clone()).await.expect(200);
    let renewed = again.post("/v1/locks/reports%2Fdaily/renew", renewal.clone()).await.expect(200);
    let other = json!({"owner_token": grant["owner_token"], "ttl": "3m"});
    let other = again.post("/v1/locks/reports%2Fdaily/renew", other).await;
    assert_eq!(code(&other), (422, "idempotency_key_reused".into()));
    assert!(renewed["expires_at"].as_str() > grant["expires_at"].as_str());
    assert_eq!(renewed["fencing_token"], fence);

    let other = acquire(&server, "other", "1m").await;
    for verb in ["renew", "release"] {
        let body = json!({"owner_token": other["owner_token"], "ttl": "1m"});
        let body = if verb == "release" { mine(&other) } else { body };
        let stolen = server.post(&format!("/v1/locks/reports%2Fdaily/{verb}"), body.clone()).await;
        assert_eq!(code(&stolen), (409, "lock_lost".into()), "the token of another lease: {verb}");
        let unknown = server.post(&format!("/v1/locks/nobody-s/{verb}"), body).await;
        assert_eq!(code(&unknown), (404, "lock_unknown".into()), "{verb}");
    }
    for _ in 0..2 {
        let released = server.post("/v1/locks/reports%2Fdaily/release", mine(&grant)).await.expect(200);
        assert_eq!(released["released"], true);
    }
    for api in [&server.with("accept", "application/json"), &again] {
        let lost = api.post("/v1/locks/reports%2Fdaily/renew", renewal.clone()).await;
        assert_eq!(code(&lost), (409, "lock_lost".into()), "also to who repeats a renewal");
    }
    let late = server.post("/v1/locks/reports%2Fdaily", json!({"ttl": "1m", "request_id": "r1"})).await;
    assert_eq!(code(&late), (409, "lock_lost".into()), "that request is over");
    let next = acquire(&server, "reports%2Fdaily", "1m").await;
    assert!(next["fencing_token"].as_i64() > Some(fence));

    let page = server.get("/v1/locks?limit=1").await.expect(200);
    assert_eq!(page["items"][0]["name"], "reports/daily", "granted last");
    let rest = server.get(&format!("/v1/locks?cursor={}", page["next"].as_str().expect("more"))).await.expect(200);
    assert_eq!((&rest["items"][0]["name"], &rest["next"]), (&json!("other"), &Value::Null));
    server.post("/v1/locks/other/release", mine(&other)).await.expect(200);
    for (filter, names) in [
        ("state=free", vec!["other"]),
        ("state=held", vec!["reports/daily"]),
        ("prefix=rep", vec!["reports/daily"]),
        ("prefix=%25", vec![]),
        ("holder=open&prefix=o", vec!["other"]),
        ("holder=nobody", vec![]),
    ] {
        let listed = server.get(&format!("/v1/locks?{filter}")).await.expect(200);
        let listed: Vec<_> = listed["items"].as_array().expect("items").iter().map(|item| &item["name"]).collect();
        assert_eq!(listed, names, "{filter}");
    }
}

async fn several_locks_are_taken_all_or_none(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    let held = acquire(&server, "b", "5m").await;
    let wish = |names: &[&str]| json!({"names": names, "ttl": "1m", "note": "move"});
    let busy = server.post("/v1/locks", wish(&["c", "b", "a"])).await;
    assert_eq!(code(&busy), (409, "lock_busy".into()));
    for free in ["a", "c"] {
        let shown = server.get(&format!("/v1/locks/{free}")).await;
        assert_eq!(shown.status, 404, "none of them was granted: {}", shown.text);
    }
    server.post("/v1/locks/b/release", mine(&held)).await.expect(200);

    let keyed = server.with("idempotency-key", "several");
    let granted = keyed.post("/v1/locks", wish(&["c", "b", "a", "b"])).await.expect(200);
    let items = granted["items"].as_array().expect("items").clone();
    assert_eq!(items.iter().map(|item| item["name"].as_str()).collect::<Vec<_>>(), [Some("a"), Some("b"), Some("c")]);
    assert!(items[1]["fencing_token"].as_i64() > held["fencing_token"].as_i64());
    let again = keyed.post("/v1/locks", wish(&["c", "b", "a", "b"])).await.expect(200);
    assert_eq!(again["items"][2]["fencing_token"], items[2]["fencing_token"], "the same grant");
    let other = keyed.post("/v1/locks", wish(&["a"])).await;
    assert_eq!(code(&other), (422, "idempotency_key_reused".into()));
    for item in &items {
        let (name, one) = (item["name"].as_str().expect("a name"), server.post("/v1/locks", wish(&["d", "a"])).await);
        if name == "a" {
            assert_eq!(code(&one), (409, "lock_busy".into()));
        }
        let renewal = json!({"owner_token": item["owner_token"], "ttl": "2m"});
        server.post(&format!("/v1/locks/{name}/renew"), renewal).await.expect(200);
        server.post(&format!("/v1/locks/{name}/release"), mine(item)).await.expect(200);
    }
    for (body, field) in [
        (wish(&[]), "names"),
        (wish(&["x"; 33]), "names"),
        (wish(&["a", "b c"]), "names[1]"),
        (json!({"names": "a", "ttl": "1m"}), "names"),
        (json!({"names": ["a"], "ttl": "1m", "wait": "1h"}), "wait"),
    ] {
        let refused = server.post("/v1/locks", body.clone()).await;
        assert_eq!(code(&refused), (422, "invalid_field".into()), "{body}");
        assert_eq!(refused.json()["field"], field, "{body}");
    }
}

async fn a_waiter_is_served_when_the_holder_releases(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    // Where servers can share a store, the waiter asks the other one.
    let other = match kind {
        StoreKind::Postgres => Some(world.server().await),
        StoreKind::Sqlite => None,
    };
    let grant = acquire(&server, "a", "1m").await;
    let api = other.as_ref().map_or_else(|| server.with("x-request-id", "w"), |other| other.with("x-request-id", "w"));
    let waiting = tokio::spawn(async move { api.post("/v1/locks/a", json!({"ttl": "1m", "wait": "30s"})).await });
    let line = async || {
        !world.redis.ask(&["EXISTS", "onetake:lock:{a}:lease:line"]).await.eq(&crate::support::resp::Reply::Number(0))
    };
    wait::until_true("the waiter to stand in line", PATIENCE, line).await;
    assert!(!waiting.is_finished());
    server.post("/v1/locks/a/release", mine(&grant)).await.expect(200);
    let next = waiting.await.expect("no panic").expect(200);
    assert!(next["fencing_token"].as_i64() > grant["fencing_token"].as_i64());
    let refused = server.post("/v1/locks/a", json!({"ttl": "1m", "wait": "300ms"})).await;
    assert_eq!(code(&refused), (409, "lock_busy".into()), "at the deadline");
}

async fn a_lock_is_taken_away_with_a_reason_that_is_kept(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    let at = "/v1/locks/a/force-release";
    assert_eq!(code(&server.post(at, json!({"reason": "why"})).await), (404, "lock_unknown".into()));
    let grant = server.post("/v1/locks/a", json!({"ttl": "1m", "note": "host 7"})).await.expect(200);
    for (body, expected) in [(json!({}), "missing_field"), (json!({"reason": " "}), "invalid_field")] {
        assert_eq!(code(&server.post(at, body).await), (422, expected.into()));
    }
    let keyed = server.with("idempotency-key", "once");
    for _ in 0..2 {
        let taken = keyed.post(at, json!({"reason": "host 7 is gone"})).await.expect(200);
        assert_eq!((&taken["state"], &taken["holder"]), (&json!("free"), &json!("open")));
    }
    assert_eq!(code(&server.post(at, json!({"reason": "again"})).await), (409, "lock_not_held".into()));
    let renewal = json!({"owner_token": grant["owner_token"], "ttl": "1m"});
    assert_eq!(code(&server.post("/v1/locks/a/renew", renewal).await), (409, "lock_lost".into()));
    assert_eq!(code(&server.post("/v1/locks/a/release", mine(&grant)).await), (409, "lock_lost".into()));
    let audit = server.get("/v1/locks/a").await.expect(200)["audit"].clone();
    assert_eq!(audit.as_array().map(Vec::len), Some(1), "{audit}");
    assert_eq!((&audit[0]["by"], &audit[0]["reason"]), (&json!("open"), &json!("host 7 is gone")));
    assert_eq!((&audit[0]["fencing_token"], &audit[0]["note"]), (&grant["fencing_token"], &json!("host 7")));
    assert_eq!(world.store.texts("select reason from lock_audit").await, ["host 7 is gone"]);
    acquire(&server, "a", "1m").await;
}

async fn locks_go_on_while_redis_is_frozen_or_gone(kind: StoreKind) {
    let mut world = World::new(kind).await;
    let server = world.server().await;
    let before = acquire(&server, "a", "5m").await;
    world.redis.freeze();
    // The first ones wait for a moment, and then nobody does.
    for n in 0..10 {
        let asked = std::time::Instant::now();
        let grant = acquire(&server, &format!("frozen-{n}"), "1m").await;
        assert!(asked.elapsed() < Duration::from_secs(3), "{n}: {:?}", asked.elapsed());
        server.post(&format!("/v1/locks/frozen-{n}/release"), mine(&grant)).await.expect(200);
    }
    let asked = std::time::Instant::now();
    for n in 0..10 {
        acquire(&server, &format!("still-{n}"), "1m").await;
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "nobody waits for Redis any more: {:?}", asked.elapsed());
    assert_eq!(code(&server.post("/v1/locks/a", json!({"ttl": "1m"})).await), (409, "lock_busy".into()));
    world.redis.thaw();
    world.redis.kill();
    assert_eq!(code(&server.post("/v1/locks/a", json!({"ttl": "1m"})).await), (409, "lock_busy".into()));
    let during = acquire(&server, "gone", "1m").await;
    world.redis.replace().await;
    assert_eq!(code(&server.post("/v1/locks/gone", json!({"ttl": "1m"})).await), (409, "lock_busy".into()));
    wait::until_true("Redis to take part again", PATIENCE, async || {
        acquire(&server, "back", "1m").await;
        server.post("/v1/locks/back/force-release", json!({"reason": "a test"})).await.expect(200);
        world.redis.ask(&["EXISTS", "onetake:lock:{back}:lease"]).await.number() == 1
    })
    .await;
    // Nothing was to be repaired: who held still holds, and gives back.
    for (name, grant) in [("a", &before), ("gone", &during)] {
        server.post(&format!("/v1/locks/{name}/release"), mine(grant)).await.expect(200);
        let next = acquire(&server, name, "1m").await;
        assert!(next["fencing_token"].as_i64() > grant["fencing_token"].as_i64());
    }
    let metrics = server.get("/metrics").await.text;
    for to in ["database", "redis"] {
        let changes = format!("onetake_lock_mode_changes_total{{to=\"{to}\"}}");
        assert!(metrics.contains(&changes), "{changes} in {metrics}");
    }
}

async fn fast_locks_live_in_redis_alone(kind: StoreKind) {
    let mut world = World::new(kind).await;
    let server = world.server().await;
    let fast = |ttl: &str| json!({"ttl": ttl, "fast": true});
    let grant = server.post("/v1/locks/a", fast("1m")).await.expect(200);
    assert_eq!((&grant["fast"], &grant["fencing_token"]), (&json!(true), &Value::Null), "it fences nothing");
    assert_eq!(code(&server.post("/v1/locks/a", fast("1m")).await), (409, "lock_busy".into()));
    assert_eq!(world.store.numbers("select count(*) from leases").await, [0]);
    // A lease of that name is another lock.
    acquire(&server, "a", "1m").await;
    let renewal = json!({"owner_token": grant["owner_token"], "ttl": "2m", "fast": true});
    server.post("/v1/locks/a/renew", renewal).await.expect(200);
    let wrong = json!({"owner_token": "abc", "fast": true});
    assert_eq!(code(&server.post("/v1/locks/a/release", wrong).await), (409, "lock_lost".into()));
    let right = json!({"owner_token": grant["owner_token"], "fast": true});
    let api = server.with("x-request-id", "w");
    let waiting =
        tokio::spawn(async move { api.post("/v1/locks/a", json!({"ttl": "1m", "wait": "30s", "fast": true})).await });
    server.post("/v1/locks/a/release", right.clone()).await.expect(200);
    waiting.await.expect("no panic").expect(200);
    assert_eq!(code(&server.post("/v1/locks/a/release", right).await), (409, "lock_lost".into()));
    world.redis.kill();
    assert_eq!(code(&server.post("/v1/locks/b", fast("1m")).await), (503, "redis_unavailable".into()));
}

async fn keys_have_scopes(kind: StoreKind) {
    let mut world = World::new(kind).await;
    world.setup = world.setup.env("ONETAKE_HTTP__ADMIN_KEY", "0123456789abcdef");
    let server = world.server().await;
    let admin = server.with("authorization", "Bearer 0123456789abcdef");
    let key = async |scope: &str| {
        let made = admin.post("/v1/keys", json!({"name": scope, "scopes": [scope]})).await.expect(201);
        server.with("authorization", format!("Bearer {}", made["key"].as_str().expect("a key")))
    };
    let (reader, service, operator) = (key("read").await, key("enqueue").await, key("operate").await);
    let wish = json!({"ttl": "1m", "request_id": "r"});
    assert_eq!(server.get("/v1/locks").await.status, 401);
    assert_eq!(code(&reader.post("/v1/locks/a", wish.clone()).await), (403, "forbidden".into()));
    let grant = service.post("/v1/locks/a", wish.clone()).await.expect(200);
    let stranger = admin.post("/v1/locks/a", wish).await;
    assert_eq!(code(&stranger), (409, "lock_busy".into()), "a request's id is its caller's own");
    assert_eq!(reader.get("/v1/locks/a").await.expect(200)["state"], "held");
    let reason = json!({"reason": "why"});
    assert_eq!(code(&service.post("/v1/locks/a/force-release", reason.clone()).await), (403, "forbidden".into()));
    assert_eq!(code(&operator.post("/v1/locks/a/release", mine(&grant)).await), (403, "forbidden".into()));
    operator.post("/v1/locks/a/force-release", reason).await.expect(200);
}

async fn locks_are_counted(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    let grant = acquire(&server, "a", "1m").await;
    server.post("/v1/locks/a", json!({"ttl": "1m"})).await;
    server.post("/v1/locks/a/release", mine(&grant)).await.expect(200);
    server.post("/v1/locks/a/renew", json!({"owner_token": grant["owner_token"], "ttl": "1m"})).await;
    let metrics = server.get("/metrics").await.text;
    for line in [
        "onetake_lock_grants_total{kind=\"lease\"} 1",
        "onetake_lock_busy_total{kind=\"lease\"} 1",
        "onetake_lock_losses_total{kind=\"lease\"} 1",
        "onetake_lock_wait_seconds_count{kind=\"lease\"} 1",
        "onetake_lock_hold_seconds_count{kind=\"lease\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let has_histograms = metrics.contains("_bucket{") && !metrics.contains("quantile=");
    assert!(has_histograms, "quantiles of several servers could not be added up: {metrics}");
}

async fn a_server_that_dies_when_it_has_granted_or_released_is_asked_again(kind: StoreKind) {
    let world = World::new(kind).await;
    let wish = json!({"ttl": "5m", "request_id": "r1"});
    let path = |verb: &str| format!("/v1/locks/a{verb}");
    let mut last = Value::Null;
    for point in onetake::fault::LOCK_POINTS {
        let dying = Onetake::start(&world.setup.clone().fault(point)).await;
        let body = if last.is_null() { wish.clone() } else { mine(&last) };
        let verb = if last.is_null() { "" } else { "/release" };
        assert!(
            dying.request(reqwest::Method::POST, &path(verb), Some(body.clone())).await.is_err(),
            "{point}: no answer"
        );
        dying.wait_exit().await;
        // What it did stands; asking again finds it.
        let server = world.server().await;
        let other = server.post(&path(""), json!({"ttl": "5m"})).await;
        if last.is_null() {
            assert_eq!(code(&other), (409, "lock_busy".into()), "{point}");
            last = server.post(&path(""), body).await.expect(200);
            let row = world.store.numbers("select token from leases").await;
            assert_eq!(last["fencing_token"].as_i64(), row.first().copied());
        } else {
            // Its mirror in Redis was not told, and is not believed: SQL has the last word.
            let after = other.expect(200);
            assert!(after["fencing_token"].as_i64() > last["fencing_token"].as_i64(), "{point}");
        }
        assert_eq!(server.stop().await.code(), Some(0));
    }
}
