//! What is refused at the door, and how it is told.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_wish_that_makes_no_sense_is_refused_with_the_field() {
    let world = World::new().await;
    let long = "я".repeat(300);
    for (body, code, field) in [
        (json!({"user": "u"}), "missing_field", "name"),
        (json!({"name": "Anna"}), "missing_field", "user"),
        (json!({"name": "", "user": "u"}), "invalid_field", "name"),
        (json!({"name": " \u{a0} ", "user": "u"}), "invalid_field", "name"),
        (json!({"name": long, "user": "u"}), "invalid_field", "name"),
        (json!({"name": "An\u{0}na", "user": "u"}), "invalid_field", "name"),
        (json!({"name": "An\u{202e}na", "user": "u"}), "invalid_field", "name"),
        (json!({"name": 7, "user": "u"}), "invalid_field", "name"),
        (json!({"name": ["Anna"], "user": "u"}), "invalid_field", "name"),
        (json!({"name": "Anna", "user": ""}), "invalid_field", "user"),
        (json!({"name": "Anna", "user": "a\nb"}), "invalid_field", "user"),
        (json!({"name": "Anna", "user": 1.5}), "invalid_field", "user"),
        (json!({"name": "Anna", "user": {}}), "invalid_field", "user"),
        (json!({"name": "Anna", "user": long}), "invalid_field", "user"),
        (json!({"name": "Anna", "user": "u", "chat": true}), "invalid_field", "chat"),
        (json!({"name": "Anna", "user": "u", "gender": "robot"}), "invalid_field", "gender"),
        (json!({"name": "Anna", "user": "u", "template": "snow"}), "invalid_field", "template"),
        (json!({"name": "Anna", "user": "u", "refresh": "yes"}), "invalid_field", "refresh"),
        (json!({"name": "Anna", "user": "u", "nmae": "x"}), "invalid_field", "nmae"),
    ] {
        let answered = world.post("/v1/videos", body.clone()).await;
        assert_eq!(answered.problem(422, code), field, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_much_of_it_is_refused() {
    let world = World::new().await;
    let send = |body: String| world.send(Method::POST, "/v1/videos", &[("content-type", "text/plain")], body);
    for broken in
        ["", "{", "nope", "{\"name\":\"x\",\"user\":\"u\"} {}", "\u{feff}{}", "{\"name\":\"\\ud800\",\"user\":\"u\"}"]
    {
        send(broken.to_owned()).await.problem(400, "invalid_json");
    }
    send("[]".to_owned()).await.problem(422, "invalid_field");
    send("[".repeat(1000) + &"]".repeat(1000)).await.problem(400, "json_too_deep");
    send(format!("{{\"name\":\"{}\"}}", "x".repeat(2_000_000))).await.problem(413, "body_too_large");
    let not_utf8 = world.send(Method::POST, "/v1/videos", &[], vec![b'"', 0xff, b'"']).await;
    not_utf8.problem(400, "invalid_json");
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let world = World::new().await;
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(100_000))));
    let answered = world.send(Method::POST, "/v1/videos", &[], Body::from_stream(chunks)).await;
    answered.problem(413, "body_too_large");
}

#[tokio::test]
async fn a_job_that_makes_no_sense_is_refused_with_the_field() {
    let world = World::with(MAIL_IS_MADE_HERE).await;
    let key = |key: &str| json!({"dedupe": {"key": key}});
    for (queue, body, code, field) in [
        ("a%20b", json!({}), "invalid_field", "queue"),
        ("a:b", json!({}), "invalid_field", "queue"),
        ("%7Ba%7D%7Bb%7D", json!({}), "invalid_field", "queue"),
        (&"q".repeat(101), json!({}), "invalid_field", "queue"),
        ("video-work", json!({}), "invalid_field", "queue"),
        ("onetake-delivery", json!({}), "invalid_field", "queue"),
        ("mail", json!({"options": {"priority": 3_000_000}}), "invalid_field", "options.priority"),
        ("mail", json!({"options": {"priority": -1}}), "invalid_field", "options.priority"),
        ("mail", json!({"options": {"delay": "soon"}}), "invalid_field", "options.delay"),
        ("mail", json!({"options": {"backoff": {"type": "slow"}}}), "invalid_field", "options.backoff"),
        ("mail", json!({"options": {"backoff": {"type": "fixed", "dleay": 1}}}), "invalid_field", "options.backoff"),
        ("mail", json!({"options": {"backoff": ["fixed", 1, 0]}}), "invalid_field", "options.backoff"),
        ("mail", json!({"options": {"backoff": u64::MAX}}), "invalid_field", "options.backoff"),
        (
            "mail",
            json!({"options": {"backoff": {"type": "fixed", "delay": u64::MAX}}}),
            "invalid_field",
            "options.backoff.delay",
        ),
        ("mail", json!({"options": {"timeout": u64::MAX}}), "invalid_field", "options.timeout"),
        ("mail", json!({"options": {"removeOnComplete": {"cuont": 1}}}), "invalid_field", "options.removeOnComplete"),
        ("mail", json!({"options": [5_000]}), "invalid_field", "options"),
        ("mail", json!({"dedupe": ["k"]}), "invalid_field", "dedupe"),
        ("mail", json!({"options": {"jobId": "a:b"}}), "invalid_field", "options.jobId"),
        ("mail", json!({"options": {"jobId": "7"}}), "invalid_field", "options.jobId"),
        ("mail", json!({"subscriber": {"id": "u"}}), "invalid_field", "subscriber"),
        ("mail", key(""), "invalid_field", "dedupe.key"),
        ("mail", key(&"k".repeat(513)), "invalid_field", "dedupe.key"),
        ("mail", key("a\tb"), "invalid_field", "dedupe.key"),
        ("mail", json!({"dedupe": {}}), "missing_field", "dedupe.key"),
        ("mail", json!({"dedupe": {"fields": []}}), "invalid_field", "dedupe.fields"),
        ("mail", json!({"dedupe": {"fields": ["to"]}, "data": {}}), "missing_field", "data.to"),
        ("mail", json!({"dedupe": {"fields": ["to"]}, "data": {"to": [1]}}), "invalid_field", "data.to"),
        ("letters", json!({"data": {"kind": "x"}}), "missing_field", "data.to"),
        ("letters", json!({"data": {"to": "x"}, "options": {"jobId": "j"}}), "invalid_field", "options.jobId"),
        (
            "letters",
            json!({"data": {"to": "x"}, "subscriber": {"id": "u", "deliver": "telegram", "chat": 1}}),
            "invalid_field",
            "subscriber.deliver",
        ),
        (
            "letters",
            json!({"data": {"to": "x"}, "subscriber": {"id": "u", "deliver": "webhook"}}),
            "missing_field",
            "subscriber.url",
        ),
        (
            "letters",
            json!({"data": {"to": "x"}, "subscriber": {"id": "u", "deliver": "webhook", "url": "file:///x"}}),
            "invalid_field",
            "subscriber.url",
        ),
    ] {
        let answered = world.post(&format!("/v1/queues/{queue}/jobs"), body.clone()).await;
        assert_eq!(answered.problem(422, code), field, "{queue} {body}");
    }
    world.post("/v1/queues/nope/jobs", json!({})).await.problem(404, "queue_unknown");
    // Nothing is wrong with this one, but a plain job lives in Redis alone.
    let put_off = world.post("/v1/queues/mail/jobs", json!({"data": [1]})).await;
    put_off.problem(503, "redis_unavailable");
    assert_eq!(put_off.header("retry-after"), "1");
}

#[tokio::test]
async fn a_body_whose_fields_may_all_be_left_out_may_be_left_out_itself() {
    let world = World::new().await;
    for body in ["", "{}"] {
        let cancelled = world.send(Method::POST, "/v1/orders/0000000000000000000000000000abcd/cancel", &[], body).await;
        assert_eq!(cancelled.status, 404, "{body}: {}", cancelled.text);
    }
    let nothing = json!({"user": "u", "reason": " \n"});
    let refused = world.post("/v1/orders/0000000000000000000000000000abcd/cancel", nothing).await;
    assert_eq!(refused.problem(422, "invalid_field"), "reason");
}

#[tokio::test]
async fn queries_and_ids_are_checked() {
    let world = World::new().await;
    for (path, field) in [
        ("/v1/requests?limit=0", "limit"),
        ("/v1/requests?limit=many", "limit"),
        ("/v1/requests?state=asleep", "state"),
        ("/v1/requests?cursor='or''='", "cursor"),
        ("/v1/deliveries?channel=pigeon", "channel"),
        ("/v1/dedupe?state=odd", "state"),
        ("/v1/dedupe/video/anna", "key"),
        ("/v1/mailbox/%ff", "path"),
    ] {
        assert_eq!(world.get(path).await.problem(422, "invalid_field"), field, "{path}");
    }
    for id in ["x", "..", "00000000000000000000000000000000", "%00"] {
        world.get(&format!("/v1/requests/{id}")).await.problem(404, "request_unknown");
        world.get(&format!("/v1/requests/{id}/events")).await.problem(404, "request_unknown");
        world.get(&format!("/v1/deliveries/{id}")).await.problem(404, "delivery_unknown");
    }
    world.get("/v1/dedupe/video/%5B%22x%22%5D").await.problem(404, "dedupe_unknown");
}

#[tokio::test]
async fn an_idempotency_key_is_checked() {
    let world = World::new().await;
    for bad in ["", "a b", "ключ", &"k".repeat(256)] {
        let headers = [("idempotency-key", bad)];
        let answered = world.send(Method::POST, "/v1/videos", &headers, "{\"name\":\"A\",\"user\":\"u\"}").await;
        assert_eq!(answered.problem(422, "invalid_field"), "Idempotency-Key", "{bad}");
    }
}
