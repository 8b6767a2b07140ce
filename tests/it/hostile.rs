//! Hostile hashes in front of a running server: the runner goes on to the next job, and lists can still be looked at.

use serde_json::{Value, json};

use crate::support::node::{BullMq, Observer};
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

const QUEUES: &str = "[queues.echo]\nprocessor = { kind = \"builtin\", name = \"echo\" }\nconcurrency = 4\n";

/// Fields of jobs that no client should write.
const HASHES: &[&[&str]] = &[
    &["data", "{nope"],
    &["data", "1", "opts", "[[["],
    &["data", "1", "opts", r#"{"removeOnComplete":1e300,"stackTraceLimit":-1}"#],
    &["data", "1", "opts", "7", "ats", "nan", "atm", "inf", "stc", "x"],
    &["data", "1", "priority", "nan", "delay", "nan", "timestamp", "-inf"],
    &["data", "1", "parentKey", "bull:echo:text", "parent", "{nope"],
    &["data", "1", "deid", "list", "opts", r#"{"de":{"id":"list"}}"#],
    &["data", "1", "rjk", "nothing", "opts", r#"{"repeat":{"pattern":"x","count":"y"}}"#],
    &["data", "1", "rjk", "text", "opts", r#"{"repeat":{"every":1e300}}"#],
    &["data", "1", "stacktrace", r#"{"a":1}"#, "progress", "{nope", "returnvalue", "nope", "attemptsMade", "nan"],
    &["defa", "put off"],
    &["nobody", "knows this"],
];

async fn until_idle(world: &World) {
    let is_idle = async || {
        let mut left = 0;
        for list in ["wait", "active"] {
            left += world.redis.ask(&["LLEN", &format!("bull:echo:{list}")]).await.number();
        }
        for set in ["prioritized", "delayed"] {
            left += world.redis.ask(&["ZCARD", &format!("bull:echo:{set}")]).await.number();
        }
        left == 0
    };
    wait::until_true("nothing to be left to do", 2 * PATIENCE, is_idle).await;
}

async fn hostile_world() -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(QUEUES);
    world.redis.ask(&["SET", "bull:echo:text", "a parent that is none"]).await;
    world.redis.ask(&["SET", "bull:echo:text:dependencies", "no set"]).await;
    world.redis.ask(&["RPUSH", "bull:echo:de:list", "no text"]).await;
    world.redis.ask(&["SET", "bull:echo:repeat:text", "no scheduler"]).await;
    world.redis.ask(&["ZADD", "bull:echo:repeat", "inf", "text"]).await;
    for (number, fields) in HASHES.iter().enumerate() {
        let id = format!("hostile-{number}");
        let key = format!("bull:echo:{id}");
        let command: Vec<&str> = ["HSET", &key].into_iter().chain(fields.iter().copied()).collect();
        world.redis.ask(&command).await;
        // By every way on which a job comes to a worker.
        match number % 3 {
            0 => world.redis.ask(&["LPUSH", "bull:echo:wait", &id]).await,
            1 => world.redis.ask(&["ZADD", "bull:echo:delayed", "5", &id]).await,
            _ => world.redis.ask(&["ZADD", "bull:echo:prioritized", "1", &id]).await,
        };
    }
    // And ids without a hash, with a text under their key, or odd in themselves.
    for id in ["ghost", "text", "", "0:1", "a:b:c:d", "wait"] {
        world.redis.ask(&["RPUSH", "bull:echo:wait", id]).await;
        world.redis.ask(&["ZADD", "bull:echo:delayed", "6", id]).await;
        world.redis.ask(&["ZADD", "bull:echo:prioritized", "6", id]).await;
        world.redis.ask(&["LPUSH", "bull:echo:active", id]).await;
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_jobs_stop_neither_the_queue_nor_its_lists() {
    let world = hostile_world().await;
    let server = world.server().await;
    for n in 0..10 {
        server
            .post("/v1/queues/echo/jobs", json!({"data": n, "options": {"jobId": format!("good-{n}")}}))
            .await
            .expect(201);
    }
    for n in 0..10 {
        let path = format!("/v1/queues/echo/jobs/good-{n}");
        wait::until_true(&format!("good-{n} to complete"), 2 * PATIENCE, async || {
            server.get(&path).await.expect(200)["state"] == "completed"
        })
        .await;
    }
    until_idle(&world).await;
    for number in 0..HASHES.len() {
        let ended = server.get(&format!("/v1/queues/echo/jobs/hostile-{number}")).await;
        if ended.status != 404 {
            let state = ended.expect(200)["state"].clone();
            assert!(matches!(state.as_str(), Some("completed" | "failed")), "hostile-{number} is {state}");
        }
    }
    for state in ["waiting", "active", "delayed", "prioritized", "waiting-children", "completed", "failed"] {
        let page = server.get(&format!("/v1/queues/echo/jobs?state={state}&limit=100")).await.expect(200);
        assert!(page["items"].is_array(), "{state}: {page}");
    }
    let schedulers = server.get("/v1/queues/echo/schedulers").await.expect(200);
    assert_eq!(schedulers["items"].as_array().map(Vec::len), Some(0), "{schedulers}");
    assert_eq!(server.get("/v1/queues").await.status, 200);
}

mod node_getters {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn node_still_counts_and_sees_sound_jobs_end() {
        super::seen_from_node().await;
    }
}

async fn seen_from_node() {
    let world = hostile_world().await;
    let _server = world.server().await;
    until_idle(&world).await;
    for version in [BullMq::V5, BullMq::V6] {
        let mut observer = Observer::start(&world.peer(version, "echo")).await;
        let counts: Value = observer.queue("getJobCounts", json!(["completed", "failed", "active", "delayed"])).await;
        assert_eq!((&counts["active"], &counts["delayed"]), (&json!(0), &json!(0)), "{counts}");
        assert_eq!(observer.queue("isPaused", json!([])).await, false);
        // One whose data nobody can read throws in Node, as it would without us; it is where it belongs.
        assert!(world.redis.ask(&["ZSCORE", "bull:echo:failed", "hostile-0"]).await.text().is_some());
        assert!(observer.try_call("hostile-0", "getState", json!([])).await.is_err());
        assert_eq!(observer.call("hostile-10", "getState", json!([])).await, "failed");
        observer.queue("add", json!(["n", {"sound": true}, {"jobId": format!("sound-{version:?}")}])).await;
        observer.event("completed", &format!("sound-{version:?}")).await;
    }
}
