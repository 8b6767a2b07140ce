//! Queue operations over HTTP beside BullMQ's own verbs: two equal queues, one changed by Onetake and one by Node, are
//! equal again afterwards, key by key and event by event.

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::node::{Behaviour, BullMq, Observer, Peer, Worker};
use crate::support::redis::RedisServer;
use crate::support::resp::Reply;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

mod node_operations {
    use super::*;

    /// Each runs against both versions of BullMQ.
    macro_rules! on_both {
        ($($name:ident),* $(,)?) => {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for version in [BullMq::V5, BullMq::V6] {
                    super::$name(Twins::start(version).await).await;
                }
            }
        )*};
    }
    on_both!(
        retrying_one,
        retrying_a_child,
        promoting_one,
        changing_a_delay,
        changing_a_priority,
        updating_data,
        removing_one,
        removing_a_family,
        draining,
        cleaning,
        obliterating,
        retrying_and_promoting_all,
        setting_limits,
        refusing_in_the_same_states,
    );
}

/// The queue `ours`, which Onetake changes, and `theirs`, which Node changes. Nobody works them off unless told to.
struct Twins {
    world: World,
    server: Onetake,
    ours: (Peer, Observer),
    theirs: (Peer, Observer),
}

impl Twins {
    async fn start(version: BullMq) -> Self {
        let mut world = World::new(StoreKind::Sqlite).await;
        world.setup = world.setup.config("[queues.ours]\n[queues.theirs]\n");
        let (ours, theirs) = (world.peer(version, "ours"), world.peer(version, "theirs"));
        let (server, one, other) = tokio::join!(world.server(), Observer::start(&ours), Observer::start(&theirs));
        Self { world, server, ours: (ours, one), theirs: (theirs, other) }
    }

    fn is_v6(&self) -> bool {
        self.ours.0.version == BullMq::V6
    }

    /// Adds the same job to both.
    async fn add(&mut self, options: Value) {
        for observer in [&mut self.ours.1, &mut self.theirs.1] {
            observer.queue("add", json!(["job", {"n": 1}, options])).await;
        }
    }

    /// Adds the same flow to both; its jobs name no queue.
    async fn flow(&mut self, flow: Value) {
        fn within(queue: &str, mut flow: Value) -> Value {
            flow["queueName"] = queue.into();
            flow["name"] = "job".into();
            if let Some(children) = flow["children"].as_array_mut() {
                for child in children {
                    *child = within(queue, child.clone());
                }
            }
            flow
        }
        self.ours.1.flow(within("ours", flow.clone())).await;
        self.theirs.1.flow(within("theirs", flow)).await;
    }

    /// Lets Node work off what waits in both.
    async fn work(&mut self, behaviour: Behaviour) {
        for peer in [&self.ours.0, &self.theirs.0] {
            let worker = Worker::start(peer, behaviour, 1).await;
            let (redis, queue) = (&self.world.redis, &peer.queue);
            wait::until_true("the queue to be empty", PATIENCE, async || {
                let count = async |command: &str, state: &str| {
                    redis.ask(&[command, &format!("bull:{queue}:{state}")]).await.number()
                };
                count("LLEN", "wait").await + count("LLEN", "active").await + count("ZCARD", "prioritized").await == 0
            })
            .await;
            worker.close().await;
        }
    }

    /// Asks Onetake for a verb on its queue, and expects success.
    async fn post(&self, verb: &str, body: Value) -> Value {
        self.server.post(&format!("/v1/queues/ours/{verb}"), body).await.expect(200)
    }

    async fn their_job(&mut self, id: &str, method: &str, args: Value) {
        self.theirs.1.call(id, method, args).await;
    }

    async fn their_queue(&mut self, method: &str, args: Value) {
        self.theirs.1.queue(method, args).await;
    }

    /// Both queues look the same, ids and times aside.
    async fn are_equal(&self, after: &str) {
        self.are_equal_where(after, |_| true).await;
    }

    async fn are_equal_where(&self, after: &str, counts: impl Fn(&String) -> bool) {
        let (mut ours, mut theirs) = (dump(&self.world.redis, "ours").await, dump(&self.world.redis, "theirs").await);
        ours.retain(&counts);
        theirs.retain(&counts);
        let only_in = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        let differences = (only_in(&ours, &theirs), only_in(&theirs, &ours));
        assert_eq!(differences, (vec![], vec![]), "{:?}, after {after}", self.ours.0.version);
    }
}

/// Every key of a queue, one a line, without what is different each time: times and the queue's name.
async fn dump(redis: &RedisServer, queue: &str) -> Vec<String> {
    let keys = redis.ask(&["KEYS", &format!("bull:{queue}:*")]).await;
    let mut lines = Vec::new();
    // When somebody last looked for stalled jobs ends by itself, at any time.
    for key in keys.texts().into_iter().filter(|key| !key.ends_with(":stalled-check")) {
        let kind = redis.ask(&["TYPE", key]).await;
        let value = match kind.text().expect("a type") {
            "string" => redis.ask(&["GET", key]).await,
            "list" => redis.ask(&["LRANGE", key, "0", "-1"]).await,
            "set" => sorted(redis.ask(&["SMEMBERS", key]).await, 1),
            "hash" => sorted(redis.ask(&["HGETALL", key]).await, 2),
            "zset" => redis.ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).await,
            "stream" => {
                let Reply::List(entries) = redis.ask(&["XRANGE", key, "-", "+"]).await else { panic!("no stream") };
                for (at, entry) in entries.into_iter().enumerate() {
                    let Reply::List(mut parts) = entry else { panic!("no entry") };
                    lines.push(timeless(&format!("{key} {at:03} {:?}", parts.remove(1))));
                }
                continue;
            }
            other => panic!("{key} is a {other}"),
        };
        lines.push(timeless(&format!("{key} {value:?}")));
    }
    let mut lines: Vec<String> =
        lines.into_iter().map(|line| line.replace(&format!("bull:{queue}"), "bull:q")).collect();
    lines.sort();
    lines
}

/// The entries of a reply in order, each of `size` values.
fn sorted(reply: Reply, size: usize) -> Reply {
    let mut entries: Vec<Vec<Reply>> = match reply {
        Reply::List(items) => items.chunks(size).map(<[_]>::to_vec).collect(),
        other => panic!("{other:?}"),
    };
    entries.sort_by_key(|entry| format!("{entry:?}"));
    Reply::List(entries.concat())
}

/// Numbers of more than 12 digits are times, or scores made of times.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() > 12 { "T" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

async fn retrying_one(mut twins: Twins) {
    twins.add(json!({"attempts": 1})).await;
    twins.add(json!({"lifo": true})).await;
    if twins.is_v6() {
        twins.add(json!({"priority": 4})).await; // BullMQ 5 forgets it
    }
    twins.work(Behaviour::Fail).await;
    twins.add(json!({})).await;
    let ids: &[&str] = if twins.is_v6() { &["1", "2", "3"] } else { &["1", "2"] };
    for id in ids {
        twins.post(&format!("jobs/{id}/retry"), json!({"state": "failed"})).await;
        twins.their_job(id, "retry", json!(["failed"])).await;
    }
    twins.are_equal("retrying the failed").await;
    twins.work(Behaviour::Echo).await;
    twins.post("jobs/1/retry", json!({})).await;
    twins.their_job("1", "retry", json!(["completed"])).await;
    twins.post("jobs/2/retry", json!({"reset_attempts": true})).await;
    let reset = json!({"resetAttemptsMade": true, "resetAttemptsStarted": true});
    twins.their_job("2", "retry", json!(["completed", reset])).await;
    twins.are_equal("retrying the completed").await;
}

async fn retrying_a_child(mut twins: Twins) {
    for (parent, policy) in [
        ("a", json!({})),
        ("b", json!({"failParentOnFailure": true})),
        ("c", json!({"ignoreDependencyOnFailure": true})),
        ("d", json!({"removeDependencyOnFailure": true})),
    ] {
        let mut options = policy;
        options["jobId"] = format!("{parent}-child").into();
        twins.flow(json!({"opts": {"jobId": parent}, "children": [{"opts": options}]})).await;
    }
    twins.work(Behaviour::Fail).await;
    for parent in ["a", "b", "c", "d"] {
        let child = format!("{parent}-child");
        twins.post(&format!("jobs/{child}/retry"), json!({})).await;
        twins.their_job(&child, "retry", json!(["failed"])).await;
        twins.are_equal(&format!("retrying {child}")).await;
    }
    twins.work(Behaviour::Echo).await;
    twins.post("jobs/a-child/retry", json!({})).await;
    twins.their_job("a-child", "retry", json!(["completed"])).await;
    twins.are_equal("retrying a completed child").await;
}

async fn promoting_one(mut twins: Twins) {
    twins.add(json!({"delay": 60_000})).await;
    twins.add(json!({"delay": 70_000, "priority": 3})).await;
    twins.add(json!({"delay": 80_000})).await;
    for id in ["2", "1"] {
        twins.post(&format!("jobs/{id}/promote"), json!({})).await;
        twins.their_job(id, "promote", json!([])).await;
    }
    twins.are_equal("promoting").await;
}

async fn changing_a_delay(mut twins: Twins) {
    twins.add(json!({"delay": 60_000})).await;
    twins.add(json!({"delay": 70_000})).await;
    for (id, delay) in [("1", 90_000), ("2", 5_000)] {
        twins.post(&format!("jobs/{id}/delay"), json!({"delay": delay})).await;
        twins.their_job(id, "changeDelay", json!([delay])).await;
    }
    twins.are_equal("changing delays").await;
    let refused = twins.server.post("/v1/queues/ours/jobs/1/delay", json!({"delay": -1})).await;
    assert_eq!(refused.expect(422)["code"], "invalid_field");
}

async fn changing_a_priority(mut twins: Twins) {
    for options in [json!({}), json!({}), json!({"priority": 5}), json!({"priority": 5}), json!({"delay": 60_000})] {
        twins.add(options).await;
    }
    for (id, wish) in [
        ("1", json!({"priority": 5})),
        ("3", json!({"priority": 0})),
        ("4", json!({"priority": 2, "lifo": true})),
        ("2", json!({"priority": 0, "lifo": true})),
        ("5", json!({"priority": 7})),
    ] {
        twins.post(&format!("jobs/{id}/priority"), wish.clone()).await;
        twins.their_job(id, "changePriority", json!([wish])).await;
        twins.are_equal(&format!("another priority for {id}")).await;
    }
}

async fn updating_data(mut twins: Twins) {
    twins.add(json!({})).await;
    twins.add(json!({"delay": 60_000})).await;
    for id in ["1", "2"] {
        let data = json!({"n": [2, null], "text": "Аня/"});
        twins.post(&format!("jobs/{id}/data"), json!({"data": data})).await;
        twins.their_job(id, "updateData", json!([data])).await;
    }
    twins.are_equal("other data").await;
}

async fn remove(twins: &mut Twins, id: &str, children: bool) {
    twins.server.delete(&format!("/v1/queues/ours/jobs/{id}?children={children}")).await.expect(200);
    twins.their_job(id, "remove", json!([{"removeChildren": children}])).await;
    // BullMQ tells of each parent that it waits, just before it removes it as well.
    twins.are_equal_where(&format!("removing {id}"), |line| !children || !line.starts_with("bull:q:events")).await;
}

async fn removing_one(mut twins: Twins) {
    twins.add(json!({"jobId": "old"})).await;
    twins.work(Behaviour::Fail).await;
    for (id, options) in [
        ("waits", json!({"deduplication": {"id": "k"}})),
        ("prior", json!({"priority": 5})),
        ("later", json!({"delay": 60_000})),
        ("other", json!({})),
    ] {
        let mut options = options;
        options["jobId"] = id.into();
        twins.add(options).await;
    }
    for id in ["old", "waits", "prior", "later"] {
        remove(&mut twins, id, false).await;
    }
}

async fn removing_a_family(mut twins: Twins) {
    for top in ["a", "b", "c"] {
        let name = |suffix: &str| json!({"jobId": format!("{top}{suffix}")});
        let grandchild = json!([{"opts": name("-2-1")}]);
        let children = json!([{"opts": name("-1")}, {"opts": name("-2"), "children": grandchild}]);
        twins.flow(json!({"opts": name(""), "children": children})).await;
    }
    remove(&mut twins, "a-2-1", false).await;
    remove(&mut twins, "c", false).await;
    remove(&mut twins, "b", true).await;
    let counts = twins.server.get("/v1/queues/ours/jobs/a").await.expect(200)["children"].clone();
    assert_eq!(counts, json!({"unprocessed": 2, "processed": 0, "ignored": 0, "failed": 0}));
    twins.work(Behaviour::Echo).await;
    let children = twins.server.get("/v1/queues/ours/jobs/a/children").await.expect(200);
    let mut keys: Vec<_> = children["items"].as_array().unwrap().iter().map(|child| &child["key"]).collect();
    keys.sort_by_key(|key| key.to_string());
    assert_eq!(keys, ["bull:ours:a-1", "bull:ours:a-2"]);
    assert_eq!(children["items"][0]["result"], json!({}));
    remove(&mut twins, "a", true).await;
}

async fn draining(mut twins: Twins) {
    twins.add(json!({})).await;
    twins.work(Behaviour::Echo).await;
    for options in [json!({}), json!({"priority": 5}), json!({"delay": 60_000}), json!({"deduplication": {"id": "k"}})]
    {
        twins.add(options).await;
    }
    let child = |id: &str| json!({"opts": {"jobId": id}});
    twins.flow(json!({"opts": {"jobId": "p"}, "children": [child("p-1"), child("p-2")]})).await;
    assert_eq!(twins.post("drain", json!({})).await, json!({"done": true, "processed": 5}));
    twins.their_queue("drain", json!([])).await;
    twins.are_equal("draining").await;
    assert_eq!(twins.post("drain", json!({"delayed": true})).await["processed"], 1);
    twins.their_queue("drain", json!([true])).await;
    twins.are_equal("draining the delayed").await;
}

async fn cleaning(mut twins: Twins) {
    for _ in 0..4 {
        twins.add(json!({})).await;
    }
    twins.work(Behaviour::Echo).await;
    for options in [json!({}), json!({}), json!({"priority": 5}), json!({"delay": 60_000})] {
        twins.add(options).await;
    }
    for (state, kind, grace, limit, cleaned) in [
        ("completed", "completed", 0, 3, 3),
        ("completed", "completed", 60_000, 100, 0),
        ("waiting", "wait", 60_000, 100, 0),
        ("waiting", "wait", 0, 100, 2),
        ("prioritized", "prioritized", 0, 100, 1),
        ("delayed", "delayed", 0, 100, 1),
        ("active", "active", 0, 100, 0),
        ("failed", "failed", 0, 100, 0),
    ] {
        let done = twins.post("clean", json!({"state": state, "grace": grace, "limit": limit})).await;
        assert_eq!(done, json!({"done": true, "processed": cleaned}), "{state}");
        twins.their_queue("clean", json!([grace, limit, kind])).await;
        twins.are_equal(&format!("cleaning {state}, {grace}, {limit}")).await;
    }
}

async fn obliterating(mut twins: Twins) {
    twins.add(json!({})).await;
    twins.work(Behaviour::Fail).await;
    for options in [json!({}), json!({"priority": 5}), json!({"delay": 60_000}), json!({"deduplication": {"id": "k"}})]
    {
        twins.add(options).await;
    }
    let refused = twins.server.post("/v1/queues/ours/obliterate", json!({})).await.expect(409);
    assert_eq!(refused["code"], "queue_not_paused");
    twins.post("pause", json!({})).await;
    assert_eq!(twins.post("obliterate", json!({})).await, json!({"done": true, "processed": 5}));
    twins.their_queue("obliterate", json!([])).await;
    twins.are_equal("obliterating").await;
    assert_eq!(dump(&twins.world.redis, "ours").await, Vec::<String>::new());
}

async fn retrying_and_promoting_all(mut twins: Twins) {
    for _ in 0..5 {
        twins.add(json!({})).await;
    }
    twins.work(Behaviour::Fail).await;
    let retried = twins.post("retry", json!({"state": "failed"})).await;
    assert_eq!((&retried["done"], &retried["processed"]), (&json!(true), &json!(5)));
    twins.their_queue("retryJobs", json!([{"state": "failed"}])).await;
    twins.are_equal("retrying all the failed").await;
    twins.work(Behaviour::Echo).await;
    twins.post("retry", json!({"state": "completed"})).await;
    twins.their_queue("retryJobs", json!([{"state": "completed"}])).await;
    twins.are_equal("retrying all the completed").await;
    twins.add(json!({"delay": 60_000})).await;
    twins.add(json!({"delay": 50_000})).await;
    twins.post("promote", json!({})).await;
    twins.their_queue("promoteJobs", json!([])).await;
    // BullMQ leaves the delay that they had.
    for (queue, id) in [("ours", "6"), ("ours", "7"), ("theirs", "6"), ("theirs", "7")] {
        twins.world.redis.ask(&["HSET", &format!("bull:{queue}:{id}"), "delay", "0"]).await;
    }
    twins.are_equal("promoting all").await;
}

async fn setting_limits(mut twins: Twins) {
    for n in 0..150 {
        twins.add(json!({"jobId": format!("job-{n}")})).await;
    }
    twins.post("concurrency", json!({"limit": 3})).await;
    twins.their_queue("setGlobalConcurrency", json!([3])).await;
    twins.post("rate-limit", json!({"max": 5, "duration": 1000})).await;
    twins.their_queue("setGlobalRateLimit", json!([5, 1000])).await;
    twins.post("trim-events", json!({"keep": 50})).await;
    twins.their_queue("trimEvents", json!([50])).await;
    twins.are_equal("setting limits").await;
    let shown = twins.server.get("/v1/queues/ours").await.expect(200);
    assert_eq!((&shown["concurrency"], &shown["rate_limit"]), (&json!(3), &json!({"max": 5, "duration": 1000})));
    twins.world.redis.ask(&["SET", "bull:ours:limiter", "5", "PX", "60000"]).await;
    for path in ["concurrency", "rate-limit", "limiter"] {
        twins.server.delete(&format!("/v1/queues/ours/{path}")).await.expect(200);
    }
    twins.their_queue("removeGlobalConcurrency", json!([])).await;
    twins.their_queue("removeGlobalRateLimit", json!([])).await;
    twins.are_equal("clearing limits").await;
}

/// Every verb in every state: what Node's verb refuses is refused, and what it does is done.
async fn refusing_in_the_same_states(mut twins: Twins) {
    let id = |state: &str| json!({"jobId": format!("{state}-job")});
    twins.add(id("completed")).await;
    twins.work(Behaviour::Echo).await;
    twins.add(id("failed")).await;
    twins.work(Behaviour::Fail).await;
    let (mut one, mut other) = tokio::join!(
        Worker::start(&twins.ours.0, Behaviour::Hang, 1),
        Worker::start(&twins.theirs.0, Behaviour::Hang, 1)
    );
    twins.add(id("active")).await;
    for worker in [&mut one, &mut other] {
        worker.taken().await;
        worker.kill();
    }
    let child = json!([{"opts": {"jobId": "child", "delay": 60_000}}]);
    twins.flow(json!({"opts": id("waiting-children"), "children": child})).await;
    for (name, options) in
        [("waiting", json!({})), ("prioritized", json!({"priority": 5})), ("delayed", json!({"delay": 60_000}))]
    {
        let mut options = options;
        options["jobId"] = format!("{name}-job").into();
        twins.add(options).await;
    }
    // Locks have tokens of their own, and workers that were killed left what they wrote last.
    let counts = |line: &String| !line.contains(":lock") && !line.contains("stalled");
    let states = ["waiting", "prioritized", "delayed", "waiting-children", "active", "completed", "failed", "nobody"];
    let priority = if twins.is_v6() { 3 } else { 0 }; // BullMQ 5 forgets it when it retries
    // The verbs that move a job come last.
    for (verb, wish, method, args) in [
        ("data", json!({"data": 7}), "updateData", json!([7])),
        ("priority", json!({"priority": priority}), "changePriority", json!([{"priority": priority}])),
        ("delay", json!({"delay": 70_000}), "changeDelay", json!([70_000])),
        ("retry", json!({"state": "failed"}), "retry", json!(["failed"])),
        ("promote", json!({}), "promote", json!([])),
    ] {
        for state in states {
            let path = format!("/v1/queues/ours/jobs/{state}-job/{verb}");
            let done = twins.server.post(&path, wish.clone()).await.status;
            let theirs = twins.theirs.1.try_call(&format!("{state}-job"), method, args.clone()).await;
            // A job that is not there cannot be called: null.
            let expected =
                if theirs == Ok(Value::Null) && state == "nobody" { 404 } else { theirs.map_or(409, |_| 200) };
            assert_eq!(done, expected, "{verb} of {state}");
            twins.are_equal_where(&format!("{verb} of {state}"), counts).await;
        }
    }
    for state in states.into_iter().filter(|state| *state != "nobody") {
        let done = twins.server.delete(&format!("/v1/queues/ours/jobs/{state}-job")).await.status;
        let args = json!([{"removeChildren": false}]);
        let theirs = twins.theirs.1.try_call(&format!("{state}-job"), "remove", args).await;
        assert_eq!(done, theirs.map_or(409, |_| 200), "removing {state}");
        twins.are_equal_where(&format!("removing {state}"), counts).await;
    }
}

/// The commands are clients of the same API: one that works over many jobs asks until it is done.
#[tokio::test]
async fn the_command_line_drains_a_large_queue() {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config("[queues.plain]\n");
    let server = world.server().await;
    fill(&server, &world.redis, 25_000).await;
    let first = server.post("/v1/queues/plain/drain", json!({})).await.expect(200);
    assert_eq!(first, json!({"done": false, "processed": 20_000}), "one call does a bounded part");
    fill(&server, &world.redis, 25_000).await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_onetake"))
        .args(["queue", "drain", "plain", "--server", server.base_url()])
        .output()
        .expect("the binary runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "removed 30000 of plain\n", "{output:?}");
    assert_eq!(server.get("/v1/queues/plain").await.expect(200)["counts"]["waiting"], 0);
}

/// Many waiting jobs, made by Redis itself.
async fn fill(api: &Api, redis: &RedisServer, count: u32) {
    let make = "for n = 1, ARGV[1] do
        local id = redis.call('INCR', 'bull:plain:id')
        redis.call('HSET', 'bull:plain:' .. id, 'name', 'n', 'data', '{}', 'timestamp', 1)
        redis.call('LPUSH', 'bull:plain:wait', id)
    end";
    // A few at a time: Redis answers nobody else meanwhile, and must not look as if it were away.
    const AT_ONCE: u32 = 1_000;
    for first in (0..count).step_by(AT_ONCE as usize) {
        redis.ask(&["EVAL", make, "0", &AT_ONCE.min(count - first).to_string()]).await;
    }
    assert!(api.get("/v1/queues/plain").await.expect(200)["counts"]["waiting"].as_u64() >= Some(u64::from(count)));
}
