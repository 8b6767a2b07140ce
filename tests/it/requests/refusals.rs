//! What is refused is refused whole: nothing is stored, and the server lives on.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::making::{Making, ask, until_delivered};
use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::world::World;

on_each_store!(bad_input_is_told_and_stores_nothing);

async fn bad_input_is_told_and_stores_nothing(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await;
    let plain = "[queues.plain]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    world.setup = world.setup.config(&format!("{}{plain}", making.quick()));
    let server = world.server().await;

    let video = |name: Value| json!({"name": name, "user": "olga"});
    let job = |options: Value| json!({"data": {}, "options": options});
    let long = "x".repeat(101);
    let refused: Vec<(&str, Value, u16, &str)> = vec![
        ("/v1/videos", video(json!("")), 422, "invalid_field"),
        ("/v1/videos", video(json!("  \t ")), 422, "invalid_field"),
        ("/v1/videos", video(json!("a\u{0}b")), 422, "invalid_field"),
        ("/v1/videos", video(json!("a\u{202e}b")), 422, "invalid_field"),
        ("/v1/videos", video(json!("\u{200b}")), 422, "invalid_field"),
        ("/v1/videos", video(json!("a\nb")), 422, "invalid_field"),
        ("/v1/videos", video(json!(long)), 422, "invalid_field"),
        ("/v1/videos", video(json!(17)), 422, "invalid_field"),
        ("/v1/videos", video(json!(["Anna"])), 422, "invalid_field"),
        ("/v1/videos", json!({"user": "olga"}), 422, "missing_field"),
        ("/v1/videos", json!({"name": "Anna"}), 422, "missing_field"),
        ("/v1/videos", json!({"name": "Anna", "user": ""}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": {"id": 1}}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": 1.5}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": "o", "gender": "dragon"}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": "o", "template": "../../etc"}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": "o", "refresh": "yes"}), 422, "invalid_field"),
        ("/v1/videos", json!({"name": "Anna", "user": "o", "admin": true}), 422, "invalid_field"),
        ("/v1/videos", json!(["Anna"]), 422, "invalid_field"),
        ("/v1/queues/nowhere/jobs", json!({}), 404, "queue_unknown"),
        ("/v1/queues/a:b/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/a%20b/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/%00/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/%ff/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/%7b%7d/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/video-work/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/onetake-delivery/jobs", json!({}), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"priority": -1})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"priority": 2_097_152})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"delay": -5})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"delay": u64::MAX})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"jobId": "a:b"})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"jobId": "17"})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"jobId": ""})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"attempts": 1001})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", job(json!({"backoff": {"type": "wild", "delay": 1}})), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", json!({"data": {}, "dedupe": {}}), 422, "missing_field"),
        ("/v1/queues/plain/jobs", json!({"data": {}, "dedupe": {"key": ""}}), 422, "invalid_field"),
        ("/v1/queues/plain/jobs", json!({"dedupe": {"key": "k"}, "options": {"jobId": "j"}}), 422, "invalid_field"),
        ("/v1/queues/video/jobs", json!({"data": {"gender": "girl"}}), 422, "missing_field"),
        ("/v1/queues/video/jobs", json!({"data": {"name": {"first": "Anna"}}}), 422, "invalid_field"),
    ];
    for (at, body, status, code) in refused {
        let answer = server.post(at, body.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{at} {body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }

    let address = server.base_url().trim_start_matches("http://");
    let deep = format!(r#"{{"name":"Anna","user":"olga","x":{}}}"#, "[".repeat(100_000));
    let large = format!(r#"{{"name":"{}","user":"olga"}}"#, "x".repeat(2 << 20));
    for (body, status) in [("{", 400), ("", 400), ("\u{feff}{}", 400), ("null", 422), (&deep, 400), (&large, 413)] {
        let told = raw(address, &post(body.as_bytes())).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{:.60}: {told}", body);
    }
    // No HTTP at all, a body that is no text, and one that never comes.
    raw(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n").await;
    let told = raw(address, &post(b"{\"name\":\"\xff\xfe\",\"user\":\"olga\"}")).await;
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    let mut cut = TcpStream::connect(address).await.expect("the server listens");
    cut.write_all(b"POST /v1/videos HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{\"na")
        .await
        .expect("it reads");
    drop(cut);

    for table in ["flights", "subscriptions", "deliveries", "idempotency"] {
        assert_eq!(world.store.numbers(&format!("select count(*) from {table}")).await, [0], "{table}");
    }
    assert_eq!(world.redis.ask(&["EXISTS", "bull:plain:id", "bull:video-work:id"]).await.number(), 0, "no job either");
    ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    assert_eq!(making.runs(), ["Anna"]);
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/videos HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What a server answers to some bytes, until it hangs up. It may do so before it has read them all.
async fn raw(address: &str, bytes: &[u8]) -> String {
    let connection = TcpStream::connect(address).await.expect("the server listens");
    let (mut reading, mut writing) = connection.into_split();
    let sending = async {
        let _ = writing.write_all(bytes).await;
    };
    let mut told = Vec::new();
    let hearing = async {
        let _ = reading.read_to_end(&mut told).await;
    };
    // Not shut down after writing: to half a connection the server owes no answer.
    tokio::join!(sending, hearing);
    String::from_utf8_lossy(&told).into_owned()
}
