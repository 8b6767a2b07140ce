//! Webhooks by the Standard Webhooks rules, from the door to the endpoint.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{history, until_state};
use crate::support::http::{Answer, Api};
use crate::support::making::Making;
use crate::support::on_each_store;
use crate::support::server::{Onetake, Setup};
use crate::support::store::StoreKind;
use crate::support::wait;
use crate::support::webhook::{Message, RETRY_AFTER_S, Receiver};
use crate::support::world::World;

on_each_store!(
    a_result_is_sent_once_and_signed,
    a_failing_endpoint_is_tried_again_by_the_schedule_under_one_id,
    a_retry_is_not_slept_through_when_a_check_for_stalled_jobs_is_always_due,
    an_endpoint_that_is_gone_is_told_nothing_more,
    a_used_up_schedule_ends_dead_and_can_be_replayed,
    a_failed_run_and_a_cancelled_one_are_told,
    private_addresses_are_refused_at_the_door,
);

/// 24 bytes.
const KEY: &[u8] = b"twenty-four secret bytes";
const STEPS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(500)];

async fn a_result_is_sent_once_and_signed(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let server = Onetake::start(&webhooks(&world, &making.quick())).await;
    let id = ask(&server, "Anna", &receiver.url("/ready")).await.expect(202)["id"].as_str().unwrap().to_owned();
    let view = until_state(&server, &id, "delivered").await;
    assert_eq!((&view["receipt"], history(&view)), (&json!("204"), vec!["delivered"]));

    let messages = receiver.messages("/ready");
    assert_eq!(messages.len(), 1);
    assert_signed(&messages[0]);
    assert_eq!(messages[0].id, id);
    let body = messages[0].json();
    assert_eq!(body["type"], "request.ready");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
    assert_eq!(body["data"]["request"], *id);
    assert_eq!(body["data"]["subscriber"], "shop");
    assert_eq!(body["data"]["queue"], "video");
    assert_eq!(body["data"]["key"], r#"["anna","neutral","default"]"#);
    assert_eq!(body["data"]["result"], json!({"made": true}));

    let later = ask(&server, "Anna", &receiver.url("/later")).await.expect(200);
    assert_eq!(later["status"], "ready");
    assert_signed(&receiver.wait_for("/later", 1).await[0]);
    assert_eq!(making.runs().len(), 1);
}

async fn a_failing_endpoint_is_tried_again_by_the_schedule_under_one_id(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let server = Onetake::start(&webhooks(&world, &making.quick())).await;
    receiver.script("/shaky", [500, 302]);
    let id = ask(&server, "Anna", &receiver.url("/shaky")).await.expect(202)["id"].as_str().unwrap().to_owned();
    let view = until_state(&server, &id, "delivered").await;
    assert_eq!(history(&view), ["retry", "retry", "delivered"]);
    assert_eq!(view["attempts"], 3);

    let messages = receiver.messages("/shaky");
    assert_eq!(messages.len(), 3);
    for (pair, step) in messages.windows(2).zip(STEPS) {
        assert_eq!(pair[0].id, pair[1].id, "receivers know a repetition by its id");
        assert!(pair[1].at - pair[0].at >= step, "{:?} is too soon", pair[1].at - pair[0].at);
    }
    messages.iter().for_each(assert_signed);
}

/// With nothing in hand, only its own wait wakes a consumer; here each of its steps ends when the next check is due.
async fn a_retry_is_not_slept_through_when_a_check_for_stalled_jobs_is_always_due(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let setup = webhooks(&world, &making.quick()).env("ONETAKE_RUNNER__STALLED_INTERVAL", "1ms");
    let server = Onetake::start(&setup).await;
    receiver.script("/shaky", [500]);
    let id = ask(&server, "Anna", &receiver.url("/shaky")).await.expect(202)["id"].as_str().unwrap().to_owned();
    until_state(&server, &id, "delivered").await;
    assert_eq!(server.stop().await.code(), Some(0));
}

async fn an_endpoint_that_is_gone_is_told_nothing_more(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let server = Onetake::start(&webhooks(&world, &making.quick())).await;
    receiver.script("/gone", [410]);
    let gone = ask(&server, "Anna", &receiver.url("/gone")).await.expect(202);
    let here = ask(&server, "Anna", &receiver.url("/here")).await.json();
    let view = until_state(&server, gone["id"].as_str().unwrap(), "suppressed").await;
    assert!(view["error"].as_str().unwrap().contains("410"), "{view}");
    until_state(&server, here["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(receiver.messages("/gone").len(), 1);
}

async fn a_used_up_schedule_ends_dead_and_can_be_replayed(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let server = Onetake::start(&webhooks(&world, &making.quick())).await;
    // One that asks for patience each time has no more tries than any other.
    receiver.script("/busy", [503, 500, 503]);
    let id = ask(&server, "Anna", &receiver.url("/busy")).await.expect(202)["id"].as_str().unwrap().to_owned();
    let view = until_state(&server, &id, "dead").await;
    assert_eq!(history(&view), ["retry", "retry", "dead"]);
    assert!(view["error"].as_str().unwrap().contains("after 3 attempts"), "{view}");
    let messages = receiver.messages("/busy");
    assert!(messages[1].at - messages[0].at >= Duration::from_secs(RETRY_AFTER_S), "as the endpoint asked");

    let dead = server.get("/v1/deliveries?state=dead&channel=webhook&queue=video").await.expect(200);
    assert_eq!(dead["items"][0]["id"], *id);
    assert_eq!(server.post(&format!("/v1/deliveries/{id}/replay"), json!({})).await.expect(200)["state"], "queued");
    let view = until_state(&server, &id, "delivered").await;
    assert_eq!(history(&view), ["retry", "retry", "dead", "replayed", "delivered"]);
    let messages = receiver.messages("/busy");
    assert_eq!(messages.len(), 4);
    assert!(messages.iter().all(|message| message.id == id));
}

async fn a_failed_run_and_a_cancelled_one_are_told(kind: StoreKind) {
    let (making, receiver, world) = (Making::new(), Receiver::start().await, World::new(kind).await);
    let begun = making.file("begun");
    let script = format!(
        r#"case "$job" in *Anna*) echo no paint left >&2; exit 65;; *) touch {}; sleep 600;; esac"#,
        begun.display()
    );
    let server = Onetake::start(&webhooks(&world, &making.config(&script, ""))).await;

    ask(&server, "Anna", &receiver.url("/failed")).await.expect(202);
    let told = receiver.wait_for("/failed", 1).await[0].json();
    assert_eq!(told["type"], "request.failed");
    assert!(told["data"]["error"].as_str().unwrap().contains("no paint left"), "{told}");
    assert_eq!(told["data"]["result"], Value::Null);

    ask(&server, "Ivan", &receiver.url("/cancelled")).await.expect(202);
    wait::until_true("the run has begun", wait::PATIENCE, async || begun.exists()).await;
    let key = r#"/v1/dedupe/video/["ivan","neutral","default"]/release"#;
    server.post(key, json!({"reason": "no time"})).await.expect(200);
    let told = receiver.wait_for("/cancelled", 1).await[0].json();
    assert_eq!((&told["type"], &told["data"]["error"]), (&json!("request.cancelled"), &json!("no time")));
}

async fn private_addresses_are_refused_at_the_door(kind: StoreKind) {
    let (making, world) = (Making::new(), World::new(kind).await);
    let setup = webhooks(&world, &making.quick()).env("ONETAKE_WEBHOOK__ALLOW_PRIVATE", "false");
    let server = Onetake::start(&setup).await;
    for url in [
        "http://127.0.0.1/",
        "https://[::1]/",
        "http://10.1.2.3:8080/hook",
        "http://0x7f.1/",
        "http://[::ffff:192.168.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "http://shop.localhost:81/",
        "ftp://example.com/",
        "https://user:password@example.com/",
        "example.com",
    ] {
        let problem = ask(&server, "Anna", url).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_field"), &json!("subscriber.url")), "{url}");
    }
    assert_eq!(world.store.numbers("select count(*) from subscriptions").await, [0]);
    assert!(making.runs().is_empty());
}

/// Servers that may send webhooks to this machine, each step of whose schedule a test can wait for.
fn webhooks(world: &World, config: &str) -> Setup {
    let schedule: Vec<String> = STEPS.iter().map(|step| format!("\"{}ms\"", step.as_millis())).collect();
    let setup = world.setup.clone().config(config);
    setup
        .env("ONETAKE_WEBHOOK__SECRET", format!("whsec_{}", STANDARD.encode(KEY)))
        .env("ONETAKE_WEBHOOK__ALLOW_PRIVATE", "true")
        .env("ONETAKE_WEBHOOK__SCHEDULE", format!("[{}]", schedule.join(",")))
}

async fn ask(api: &Api, name: &str, url: &str) -> Answer {
    let subscriber = json!({"id": "shop", "deliver": "webhook", "url": url});
    api.post("/v1/queues/video/jobs", json!({"data": {"name": name}, "subscriber": subscriber})).await
}

/// The signature again, from what was received and the shared secret alone.
fn assert_signed(message: &Message) {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("HMAC takes a key of any length");
    mac.update(format!("{}.{}.{}", message.id, message.timestamp, message.body).as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(message.signature, signature);
    let sent_s: u64 = message.timestamp.parse().expect("the time is in seconds");
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970").as_secs();
    assert!(now_s.abs_diff(sent_s) < 60, "{sent_s} is not now, {now_s}");
}
