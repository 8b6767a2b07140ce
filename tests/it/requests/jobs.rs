//! Plain jobs over HTTP and from Node: added with all options, worked off, and looked at.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::node::{Behaviour, BullMq, Producer, Worker};
use crate::support::resp::Reply;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

const QUEUES: &str = r#"
[queues.echo]
processor = { kind = "builtin", name = "echo" }
[queues.doomed]
processor = { kind = "builtin", name = "fail" }
backoffs = { gentle = ["150ms", "250ms"] }
[queues.slow]
processor = { kind = "builtin", name = "sleep" }
"#;

/// Plain jobs touch no store: one is enough.
async fn world() -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(QUEUES);
    world
}

async fn start() -> (World, Onetake) {
    let world = world().await;
    let server = world.server().await;
    (world, server)
}

/// Adds a job; its path.
async fn add(api: &Api, queue: &str, job: Value) -> String {
    let answer = api.post(&format!("/v1/queues/{queue}/jobs"), job).await;
    let added = answer.expect(201);
    let path = format!("/v1/queues/{queue}/jobs/{}", added["job"]["id"].as_str().expect("an id"));
    assert_eq!((answer.header("location"), &added["job"]["queue"]), (path.as_str(), &json!(queue)));
    path
}

async fn until_state(api: &Api, path: &str, state: &str) -> Value {
    wait::until(&format!("{path} to be {state}"), PATIENCE, async || {
        Some(api.get(path).await.expect(200)).filter(|job| job["state"] == state)
    })
    .await
}

#[tokio::test]
async fn a_plain_job_is_worked_off_and_can_be_looked_at() {
    let (world, server) = start().await;
    let data = json!({"a": [1, {"b": null}], "text": "Аня"});
    let path = add(&server, "echo", json!({"name": "greet", "data": data})).await;
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["name"], &job["data"], &job["result"]), (&json!("greet"), &data, &data));
    assert_eq!((&job["attempts_made"], &job["attempts_started"]), (&json!(1), &json!(1)));
    assert!(job["finished_on"].as_i64() >= job["processed_on"].as_i64(), "{job}");
    let listed = server.get("/v1/queues/echo/jobs?state=completed").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    // A job's own id is kept, and adding it again adds nothing.
    let named = json!({"data": 1, "options": {"jobId": "of mine"}});
    let answer = server.post("/v1/queues/echo/jobs", named.clone()).await;
    assert_eq!(answer.header("location"), "/v1/queues/echo/jobs/of%20mine");
    until_state(&server, "/v1/queues/echo/jobs/of%20mine", "completed").await;
    server.post("/v1/queues/echo/jobs", json!({"data": 2, "options": {"jobId": "of mine"}})).await.expect(201);
    assert_eq!(server.get("/v1/queues/echo/jobs/of%20mine").await.expect(200)["result"], 1);
    assert_eq!(server.get("/v1/queues/echo/jobs/nobody").await.expect(404)["code"], "job_unknown");
    let gone = add(&server, "echo", json!({"data": 1, "options": {"removeOnComplete": true}})).await;
    wait::until_true("the job to be removed", PATIENCE, async || server.get(&gone).await.status == 404).await;
    assert_eq!(world.store.numbers("select count(*) from flights").await, [0]);
}

#[tokio::test]
async fn a_failing_job_is_retried_with_backoff_and_then_fails() {
    let (_world, server) = start().await;
    let options = json!({"attempts": 3, "backoff": {"type": "exponential", "delay": 100}});
    let path = add(&server, "doomed", json!({"data": {"reason": "no paint"}, "options": options})).await;
    let job = until_state(&server, &path, "failed").await;
    assert_eq!((&job["failed_reason"], &job["attempts_made"]), (&json!("no paint"), &json!(3)));
    assert_eq!(job["stacktrace"].as_array().map(Vec::len), Some(3));
    // 100 ms before the second attempt, 200 ms before the third.
    let took = job["finished_on"].as_i64().unwrap() - job["timestamp"].as_i64().unwrap();
    assert!(took >= 300, "{took} ms");
    let once = add(&server, "doomed", json!({"data": {}})).await;
    assert_eq!(until_state(&server, &once, "failed").await["attempts_made"], 1);
}

#[tokio::test]
async fn a_job_may_name_one_of_its_queue_s_tables_of_waits() {
    let (_world, server) = start().await;
    let gentle = json!({"attempts": 3, "backoff": {"type": "gentle"}});
    let path = add(&server, "doomed", json!({"data": {}, "options": gentle})).await;
    let job = until_state(&server, &path, "failed").await;
    let took = job["finished_on"].as_i64().unwrap() - job["timestamp"].as_i64().unwrap();
    assert!(took >= 400, "{took} ms");
    for (queue, backoff, field) in [
        ("doomed", json!({"type": "rough"}), "options.backoff"),
        ("echo", json!({"type": "gentle"}), "options.backoff"),
        ("doomed", json!({"type": "gentle", "delay": 1}), "options.backoff"),
    ] {
        let wish = json!({"data": 1, "options": {"backoff": backoff}});
        let refused = server.post(&format!("/v1/queues/{queue}/jobs"), wish).await;
        assert_eq!(refused.expect(422)["field"], field);
    }
}

#[tokio::test]
async fn order_is_by_priority_lifo_and_delay() {
    let mut world = world().await;
    // Each job is told as active once, however slow this machine is.
    world.setup = world.setup.env("ONETAKE_RUNNER__TAKE_AHEAD", "0s");
    let server = world.server().await;
    let paused = server.post("/v1/queues/echo/pause", json!({})).await.expect(200);
    assert_eq!(paused["paused"], true);
    let mut paths = Vec::new();
    for (name, options) in [
        ("low", json!({"priority": 9})),
        ("high", json!({"priority": 2})),
        ("first", json!({})),
        ("second", json!({})),
        ("lifo", json!({"lifo": true})),
        ("late", json!({"delay": 3000})),
    ] {
        paths.push((name, add(&server, "echo", json!({"name": name, "data": {}, "options": options})).await));
    }
    let late = &paths[5].1;
    assert_eq!(server.get(late).await.expect(200)["state"], "delayed");
    let counts = server.get("/v1/queues/echo").await.expect(200)["counts"].clone();
    assert_eq!((&counts["prioritized"], &counts["delayed"]), (&json!(2), &json!(1)));
    assert_eq!(server.get(&paths[2].1).await.expect(200)["position"], 1, "behind the one that was pushed in front");
    server.post("/v1/queues/echo/resume", json!({})).await.expect(200);

    for (_, path) in &paths {
        until_state(&server, path, "completed").await;
    }
    // Told by the events: jobs that end within one millisecond are listed in no particular order.
    let begun = of_kind("active", &world.redis.ask(&["XRANGE", "bull:echo:events", "-", "+"]).await);
    let name_of = |id: &String| paths.iter().find(|(_, path)| path.ends_with(&format!("/{id}"))).map(|(name, _)| *name);
    let order: Vec<_> = begun.iter().filter_map(name_of).collect();
    assert_eq!(order, ["lifo", "first", "second", "high", "low", "late"]);
    let late = server.get(late).await.expect(200);
    assert!(late["processed_on"].as_i64().unwrap() - late["timestamp"].as_i64().unwrap() >= 3000, "a delay is kept");
}

/// The jobs of all events of one kind, in their order.
fn of_kind(kind: &str, stream: &Reply) -> Vec<String> {
    let Reply::List(entries) = stream else { panic!("{stream:?} is no stream") };
    let fields = entries.iter().filter_map(|entry| match entry {
        Reply::List(parts) => parts.get(1).map(Reply::texts),
        _ => None,
    });
    let value = |fields: &[&str], name: &str| {
        fields.chunks(2).find(|pair| pair[0] == name).map_or_else(String::new, |pair| pair[1].to_owned())
    };
    fields.filter(|fields| value(fields, "event") == kind).map(|fields| value(&fields, "jobId")).collect()
}

#[tokio::test]
async fn progress_is_shown_and_events_are_bullmqs() {
    let (world, server) = start().await;
    let path = add(&server, "slow", json!({"data": {"ms": 600}})).await;
    let seen = wait::until("some progress", PATIENCE, async || {
        let progress = server.get(&path).await.expect(200)["progress"].as_i64();
        progress.filter(|percent| *percent > 0)
    })
    .await;
    assert!((10..=100).contains(&seen));
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["progress"], &job["result"]), (&json!(100), &json!(null)));
    let kinds = BTreeSet::from(["added", "waiting", "active", "progress", "completed"]);
    let stream = format!("{:?}", world.redis.ask(&["XRANGE", "bull:slow:events", "-", "+"]).await);
    for kind in kinds {
        assert!(stream.contains(&format!("Text(\"{kind}\")")), "{kind} in {stream}");
    }
}

mod node_jobs {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn our_runner_and_node_workers_share_a_queue() {
        super::side_by_side().await;
    }
}

async fn side_by_side() {
    let (world, server) = start().await;
    let (five, six) = (world.peer(BullMq::V5, "echo"), world.peer(BullMq::V6, "echo"));
    let (worker, mut old, mut new) =
        tokio::join!(Worker::start(&six, Behaviour::Echo, 2), Producer::start(&five), Producer::start(&six));
    let jobs: Vec<_> = (0..60).map(|n| json!({"data": {"n": n}})).collect();
    for producer in [&mut old, &mut new] {
        producer.give(&jobs);
    }
    for producer in [&mut old, &mut new] {
        for outcome in producer.ended().await {
            assert_eq!((outcome.ok, outcome.value), (true, Some(json!({"n": outcome.index}))));
        }
    }
    let mut makers = BTreeSet::new();
    let page = server.get("/v1/queues/echo/jobs?state=completed&limit=200").await.expect(200);
    let done = page["items"].as_array().expect("a page");
    assert_eq!(done.len(), 120);
    for job in done {
        assert_eq!(job["attempts_started"], 1, "no job was begun twice");
        let key = format!("bull:echo:{}", job["id"].as_str().unwrap());
        makers.insert(world.redis.ask(&["HGET", &key, "pb"]).await.text().unwrap_or("node").to_owned());
    }
    assert!(makers.iter().any(|name| name.starts_with("onetake-")), "{makers:?}");
    worker.close().await;
}
