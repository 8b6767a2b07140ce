//! Bad input at the locks: refused with its code and its field, and nothing is changed.

use serde_json::{Value, json};

use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::world::World;

on_each_store!(bad_input_is_told_and_changes_nothing);

async fn bad_input_is_told_and_changes_nothing(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    let grant = server.post("/v1/locks/held", json!({"ttl": "5m"})).await.expect(200);
    let before = world.store.texts("select name || token || owner || until_ms from leases").await;
    let long = "x".repeat(201);
    let ttl = |ttl: Value| json!({"ttl": ttl});
    let owner = |token: Value| json!({"owner_token": token, "ttl": "1m"});
    let only = |token: Value| json!({"owner_token": token});
    let refused: Vec<(String, Value, u16, &str, &str)> = vec![
        ("a".into(), ttl(json!("0s")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!("99ms")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!("365d")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!("25h")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!("-1s")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!("99999999999999999999d")), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!(30)), 422, "invalid_field", "ttl"),
        ("a".into(), ttl(json!(null)), 422, "invalid_field", "ttl"),
        ("a".into(), json!({}), 422, "missing_field", "ttl"),
        ("a".into(), json!({"ttl": "0s", "fast": true}), 422, "invalid_field", "ttl"),
        ("a".into(), json!({"ttl": "365d", "fast": true}), 422, "invalid_field", "ttl"),
        ("a".into(), json!({"ttl": "1m", "wait": "1h"}), 422, "invalid_field", "wait"),
        ("a".into(), json!({"ttl": "1m", "wait": 5}), 422, "invalid_field", "wait"),
        ("a".into(), json!({"ttl": "1m", "note": long}), 422, "invalid_field", "note"),
        ("a".into(), json!({"ttl": "1m", "note": "a\u{0}b"}), 422, "invalid_field", "note"),
        ("a".into(), json!({"ttl": "1m", "note": "a\nb"}), 422, "invalid_field", "note"),
        ("a".into(), json!({"ttl": "1m", "request_id": ""}), 422, "invalid_field", "request_id"),
        ("a".into(), json!({"ttl": "1m", "request_id": "a b"}), 422, "invalid_field", "request_id"),
        ("a".into(), json!({"ttl": "1m", "request_id": "x".repeat(256)}), 422, "invalid_field", "request_id"),
        ("a".into(), json!({"ttl": "1m", "fast": "yes"}), 422, "invalid_field", "fast"),
        ("a".into(), json!({"ttl": "1m", "owner": "me"}), 422, "invalid_field", "owner"),
        ("a".into(), json!(["1m"]), 422, "invalid_field", "body"),
        ("a%20b".into(), ttl(json!("1m")), 422, "invalid_field", "name"),
        ("a%00".into(), ttl(json!("1m")), 422, "invalid_field", "name"),
        ("%7Ba%7D".into(), ttl(json!("1m")), 422, "invalid_field", "name"),
        ("a%E2%80%8B".into(), ttl(json!("1m")), 422, "invalid_field", "name"),
        ("%ff".into(), ttl(json!("1m")), 422, "invalid_field", "path"),
        (long.clone(), ttl(json!("1m")), 422, "invalid_field", "name"),
        ("held/renew".into(), owner(json!("somebody")), 409, "lock_lost", ""),
        ("held/renew".into(), owner(json!("")), 422, "invalid_field", "owner_token"),
        ("held/renew".into(), owner(json!("a\u{0}")), 422, "invalid_field", "owner_token"),
        ("held/renew".into(), owner(json!("x".repeat(65))), 422, "invalid_field", "owner_token"),
        ("held/renew".into(), owner(json!(7)), 422, "invalid_field", "owner_token"),
        ("held/renew".into(), only(grant["owner_token"].clone()), 422, "missing_field", "ttl"),
        ("held/renew".into(), json!({"owner_token": grant["owner_token"], "ttl": "0s"}), 422, "invalid_field", "ttl"),
        ("held/renew".into(), json!({"owner_token": grant["owner_token"], "ttl": "365d"}), 422, "invalid_field", "ttl"),
        ("held/release".into(), json!({}), 422, "missing_field", "owner_token"),
        ("held/release".into(), only(json!("somebody")), 409, "lock_lost", ""),
        ("nobody-s/release".into(), only(json!("somebody")), 404, "lock_unknown", ""),
        ("nobody-s/renew".into(), owner(json!("somebody")), 404, "lock_unknown", ""),
        ("held/force-release".into(), json!({"reason": ""}), 422, "invalid_field", "reason"),
        ("held/force-release".into(), json!({"reason": "x".repeat(501)}), 422, "invalid_field", "reason"),
        ("nobody-s/force-release".into(), json!({"reason": "why"}), 404, "lock_unknown", ""),
    ];
    for (at, body, status, code, field) in refused {
        let answer = server.post(&format!("/v1/locks/{at}"), body.clone()).await;
        let told = answer.json();
        assert_eq!((answer.status, &told["code"]), (status, &json!(code)), "{at} {body}: {answer:?}");
        assert_eq!(told["field"].as_str().unwrap_or_default(), field, "{at} {body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    for (at, status, code) in [
        ("/v1/locks/nobody-s", 404, "lock_unknown"),
        ("/v1/locks/a%20b", 422, "invalid_field"),
        ("/v1/locks?state=lost", 422, "invalid_field"),
        ("/v1/locks?cursor=7", 422, "invalid_field"),
        ("/v1/locks?limit=0", 422, "invalid_field"),
        ("/v1/locks?prefix=%00", 422, "invalid_field"),
    ] {
        let answer = server.get(at).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{at}");
    }
    assert_eq!(world.store.texts("select name || token || owner || until_ms from leases").await, before);
    assert_eq!(world.store.numbers("select count(*) from lock_audit").await, [0]);
    let fast = world.redis.ask(&["KEYS", "onetake:lock:*:fast"]).await;
    assert!(fast.texts().is_empty(), "{fast:?}");
    let log = server.log().join("\n");
    let token = grant["owner_token"].as_str().expect("a text");
    assert!(!log.contains(token), "no token stands in the log");
}
