//! The harness itself: a test is worth what its servers are.

use std::time::Duration;

use super::support::http::Api;
use super::support::on_each_store;
use super::support::process::Launch;
use super::support::redis::RedisServer;
use super::support::resp::{self, Reply};
use super::support::store::{StoreKind, TestStore};
use super::support::wait;

#[tokio::test]
async fn a_durable_redis_keeps_what_it_acknowledged_over_a_kill() {
    let mut redis = RedisServer::start_durable().await;
    redis.ask(&["SET", "name", "Anna"]).await;
    redis.restart().await;
    assert_eq!(redis.ask(&["GET", "name"]).await.text(), Some("Anna"));
}

#[tokio::test]
async fn a_replaced_or_wiped_redis_is_empty_at_the_same_address() {
    let mut redis = RedisServer::start_durable().await;
    let url = redis.url();
    redis.ask(&["RPUSH", "names", "Anna", "Boris"]).await;
    assert_eq!(redis.ask(&["LRANGE", "names", "0", "-1"]).await.texts(), ["Anna", "Boris"]);
    redis.wipe().await;
    assert_eq!(redis.ask(&["EXISTS", "names"]).await.number(), 0);
    redis.ask(&["SET", "name", "Anna"]).await;
    redis.replace().await;
    assert_eq!(redis.ask(&["GET", "name"]).await, Reply::Nil);
    assert_eq!(redis.url(), url);
}

#[tokio::test]
async fn a_refusal_of_redis_is_an_answer() {
    let redis = RedisServer::start().await;
    assert!(matches!(redis.ask(&["NONSENSE"]).await, Reply::Error(text) if text.starts_with("ERR unknown command")));
}

#[tokio::test]
async fn a_frozen_redis_answers_when_it_is_thawed() {
    let redis = RedisServer::start().await;
    redis.freeze();
    let asked = tokio::time::timeout(Duration::from_millis(200), redis.ask(&["PING"])).await;
    assert!(asked.is_err(), "a frozen Redis does not answer");
    redis.thaw();
    assert_eq!(redis.ask(&["PING"]).await.text(), Some("PONG"));
}

on_each_store!(a_store_is_empty_and_keeps_what_is_written, two_stores_share_nothing);

async fn a_store_is_empty_and_keeps_what_is_written(kind: StoreKind) {
    let mut store = TestStore::start(kind).await;
    store.change("create table names (name text not null)").await;
    assert_eq!(store.change("insert into names values ('Anna'), ('Борис')").await, 2);
    if let TestStore::Postgres(server) = &mut store {
        server.restart().await;
    }
    assert_eq!(store.numbers("select count(*) from names").await, [2]);
    assert_eq!(store.texts("select name from names order by name").await, ["Anna", "Борис"]);
}

async fn two_stores_share_nothing(kind: StoreKind) {
    let (one, other) = tokio::join!(TestStore::start(kind), TestStore::start(kind));
    one.change("create table names (name text)").await;
    other.change("create table names (name text)").await;
    assert_ne!(one.url(), other.url());
}

#[tokio::test]
async fn servers_die_with_the_test_that_started_them() {
    const CHILD: &str = "ONETAKE_TEST_CHILD";
    // This test is both: the one that is killed, and, outside it, the one that looks.
    if std::env::var_os(CHILD).is_some() {
        let redis = RedisServer::start().await;
        println!("\nport {}", redis.port());
        std::future::pending::<()>().await;
    }
    let this = std::env::current_exe().expect("we run from a file").display().to_string();
    let name = "harness::servers_die_with_the_test_that_started_them";
    // What the killed test cannot tidy up goes with this folder.
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let mut child = Launch::new("test", this)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .env("TMPDIR", folder.path().display().to_string())
        .talks()
        .spawn();
    let port = loop {
        let line = child.read().await.expect("the port before the end");
        if let Some(port) = line.strip_prefix("port ") {
            break port.parse().expect("a port");
        }
    };
    resp::ask(port, &["PING"]).await.expect("it is up");
    child.kill();
    wait::until_true("Redis to die", wait::PATIENCE, || async { resp::ask(port, &["PING"]).await.is_err() }).await;
}

#[tokio::test]
async fn events_are_read_as_they_come() {
    let body = "retry: 5\n\n: hello\n\nid: 1\nevent: state\ndata: {\"a\":1}\n\nid: 2\nevent: state\ndata: {\"a\":\ndata: 2}\n\n";
    let page =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut connection, _) = listener.accept().await.expect("a client comes");
        let _ = connection.read(&mut [0; 4096]).await;
        connection.write_all(page.as_bytes()).await.expect("the client reads");
    });
    let mut events = Api::new(&format!("http://{address}")).events("/events").await;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(format!("{} {} {}", event.id, event.name, event.data));
    }
    assert_eq!(seen, [r#"1 state {"a":1}"#, r#"2 state {"a":2}"#]);
}
