//! Job schedulers, over HTTP and together with Node's: whoever sets one up and whoever takes its runs, each run is made once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::node::{Behaviour, BullMq, Observer, Worker};
use crate::support::resp::Reply;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

mod cron;

const QUEUES: &str = r#"
[queues.tick]
processor = { kind = "builtin", name = "echo" }
[queues.far]
"#;

async fn world() -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(QUEUES);
    world
}

/// What became of one run.
#[derive(Debug, Default)]
struct Run {
    added: usize,
    taken: usize,
    ended: usize,
}

/// The runs of the scheduler `s`, by their times, as the queue's events tell them.
async fn runs(world: &World, queue: &str) -> BTreeMap<i64, Run> {
    let mut runs = BTreeMap::<i64, Run>::new();
    let Reply::List(entries) = world.redis.ask(&["XRANGE", &format!("bull:{queue}:events"), "-", "+"]).await else {
        panic!("the events are a stream");
    };
    for entry in &entries {
        let Reply::List(parts) = entry else { panic!("{entry:?} is no entry") };
        let fields = parts[1].texts();
        let of = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
        let Some(time) = of("jobId").and_then(|id| id.strip_prefix("repeat:s:")) else { continue };
        let run = runs.entry(time.parse().expect("a time")).or_default();
        match of("event") {
            Some("added") => run.added += 1,
            Some("active") => run.taken += 1,
            Some("completed") => run.ended += 1,
            _ => {}
        }
    }
    runs
}

async fn until_ended(world: &World, queue: &str, count: usize) -> BTreeMap<i64, Run> {
    wait::until(&format!("{count} runs to end"), PATIENCE, async || {
        Some(runs(world, queue).await).filter(|runs| runs.values().filter(|run| run.ended > 0).count() >= count)
    })
    .await
}

/// No run was made or worked on twice, and none was left out but those whose time had passed when the next was made.
async fn assert_seamless(world: &World, queue: &str, runs: &BTreeMap<i64, Run>, every: i64) {
    for (time, run) in runs {
        assert!(run.added == 1 && run.taken <= 1 && run.ended <= 1, "{time}: {run:?}");
    }
    let times: Vec<_> = runs.keys().copied().collect();
    for pair in times.windows(2) {
        let made = world.redis.ask(&["HGET", &format!("bull:{queue}:repeat:s:{}", pair[1]), "timestamp"]).await;
        let made: i64 = made.text().and_then(|text| text.parse().ok()).expect("a time");
        let after = |made: i64| pair[0] + every * (1 + (made - pair[0]).max(0) / every);
        // Node looks at its clock some milliseconds before it notes the time.
        assert!(after(made) == pair[1] || after(made - 50) == pair[1], "{pair:?}, made at {made}");
    }
}

async fn set(server: &Onetake, queue: &str, wish: Value) -> Value {
    let answer = server.request(reqwest::Method::PUT, &format!("/v1/queues/{queue}/schedulers/s"), Some(wish)).await;
    answer.expect("the server answers").expect(201)
}

#[tokio::test]
async fn an_interval_ticks_until_it_is_removed() {
    let world = world().await;
    let server = world.server().await;
    let shown = set(&server, "tick", json!({"every": 200, "name": "n", "data": {"a": 1}})).await;
    assert_eq!((&shown["every"], &shown["name"], &shown["data"]), (&json!(200), &json!("n"), &json!({"a": 1})));
    let runs = until_ended(&world, "tick", 5).await;
    assert_seamless(&world, "tick", &runs, 200).await;
    let listed = server.get("/v1/queues/tick/schedulers").await.expect(200);
    assert_eq!((&listed["total"], &listed["items"][0]["id"], &listed["next"]), (&json!(1), &json!("s"), &json!(null)));
    let first = runs.keys().next().unwrap();
    let job = server.get(&format!("/v1/queues/tick/jobs/repeat:s:{first}")).await.expect(200);
    assert_eq!((&job["name"], &job["result"], &job["state"]), (&json!("n"), &json!({"a": 1}), &json!("completed")));

    server.delete("/v1/queues/tick/schedulers/s").await.expect(200);
    wait::until_true("nothing to be left", PATIENCE, async || {
        let counts = server.get("/v1/queues/tick").await.expect(200)["counts"].clone();
        ["waiting", "active", "delayed"].iter().all(|state| counts[state] == 0)
    })
    .await;
    assert_eq!(server.get("/v1/queues/tick/schedulers/s").await.expect(404)["code"], "scheduler_unknown");
    assert_eq!(server.delete("/v1/queues/tick/schedulers/s").await.expect(404)["code"], "scheduler_unknown");
}

#[tokio::test]
async fn a_limit_is_kept() {
    let world = world().await;
    let server = world.server().await;
    set(&server, "tick", json!({"every": 100, "limit": 3})).await;
    set_again_is_refused_as_new(&server).await;
    until_ended(&world, "tick", 3).await;
    let counts = server.get("/v1/queues/tick").await.expect(200)["counts"].clone();
    assert_eq!((&counts["delayed"], &counts["waiting"]), (&json!(0), &json!(0)), "the last run makes none");
    assert_eq!(server.get("/v1/queues/tick/schedulers/s").await.expect(200)["job_state"], "completed");
}

/// Bad wishes leave the scheduler as it is.
async fn set_again_is_refused_as_new(server: &Onetake) {
    let path = "/v1/queues/tick/schedulers/s";
    for (wish, field) in [
        (json!({}), "every"),
        (json!({"every": 5, "pattern": "* * * * *"}), "pattern"),
        (json!({"every": 0}), "every"),
        (json!({"every": 100, "limit": 0}), "limit"),
        (json!({"every": 100, "end_date": "2020-01-01T00:00:00Z"}), "end_date"),
        (json!({"every": 100, "start_date": 4_000_000_000_000_i64}), "start_date"),
        (json!({"every": 100, "tz": "UTC"}), "tz"),
        (json!({"pattern": "* * * * *", "offset": 5}), "offset"),
        (json!({"pattern": "0 0 0 0 0 0 0"}), "pattern"),
        (json!({"pattern": "61 * * * *"}), "pattern"),
        (json!({"pattern": "* * * * *", "tz": "Moon/Base"}), "tz"),
        (json!({"every": 100, "options": {"delay": 5}}), "options.delay"),
        (json!({"every": 100, "options": {"jobId": "mine"}}), "options.jobId"),
    ] {
        let answer = server.request(reqwest::Method::PUT, path, Some(wish.clone())).await.expect("the server answers");
        let problem = answer.json();
        assert_eq!(answer.status, 422, "{wish}: {problem}");
        assert_eq!(problem["field"], field, "{wish}");
    }
}

/// The whole process dies; what it had taken is taken again by the next one, and the chain goes on.
async fn dies_at(point: &str) {
    let world = world().await;
    let doomed = Onetake::start(&world.setup.clone().fault(point)).await;
    // It may die before it answers.
    let path = "/v1/queues/tick/schedulers/s";
    let _ = doomed.request(reqwest::Method::PUT, path, Some(json!({"every": 300}))).await;
    doomed.wait_exit().await;
    let _server = world.server().await;
    let runs = until_ended(&world, "tick", 4).await;
    for (time, run) in &runs {
        assert_eq!(run.added, 1, "{time}: {run:?}");
    }
    // Nothing but the runs whose time passed while nobody lived is missing.
    let times: Vec<_> = runs.keys().copied().collect();
    assert!(times.windows(2).all(|pair| (pair[1] - pair[0]) % 300 == 0), "{times:?}");
}

#[tokio::test]
async fn a_kill_between_taking_a_run_and_making_the_next_breaks_no_chain() {
    dies_at("schedule.taken").await;
}

#[tokio::test]
async fn a_kill_after_making_the_next_run_makes_no_second_one() {
    dies_at("schedule.made").await;
}

#[tokio::test]
async fn every_point_of_a_run_is_tested() {
    assert_eq!(onetake::fault::SCHEDULER_POINTS, ["schedule.taken", "schedule.made"]);
}

mod node_schedulers {
    use super::*;

    async fn node_sets_up_and_we_work(version: BullMq) {
        let world = world().await;
        let peer = world.peer(version, "tick");
        let (_server, mut node) = tokio::join!(world.server(), Observer::start(&peer));
        let template = json!({"name": "n", "data": {"a": 1}, "opts": {"attempts": 2}});
        node.queue("upsertJobScheduler", json!(["s", {"every": 200}, template])).await;
        let runs = until_ended(&world, "tick", 5).await;
        assert_seamless(&world, "tick", &runs, 200).await;
        for time in runs.keys().take(5) {
            let job = node.job(&format!("repeat:s:{time}")).await;
            assert_eq!((&job["name"], &job["returnvalue"]), (&json!("n"), &json!({"a": 1})), "{job}");
        }
        let shown = node.queue("getJobScheduler", json!(["s"])).await;
        assert_eq!((&shown["every"], &shown["name"]), (&json!(200), &json!("n")), "{shown}");
        assert!(shown["iterationCount"].as_i64() >= Some(6), "{shown}");
        assert_eq!(node.queue("removeJobScheduler", json!(["s"])).await, true);
    }

    #[tokio::test]
    async fn runs_of_bullmq_5_go_on() {
        node_sets_up_and_we_work(BullMq::V5).await;
    }

    #[tokio::test]
    async fn runs_of_bullmq_6_go_on() {
        node_sets_up_and_we_work(BullMq::V6).await;
    }

    #[tokio::test]
    async fn a_pattern_of_node_s_goes_on_until_its_end() {
        let world = world().await;
        let peer = world.peer(BullMq::V6, "tick");
        let (_server, mut node) = tokio::join!(world.server(), Observer::start(&peer));
        let rule = json!({"pattern": "* * * * * *", "tz": "Europe/Stockholm", "limit": 3});
        node.queue("upsertJobScheduler", json!(["s", rule, {"opts": {"priority": 3}}])).await;
        let runs = until_ended(&world, "tick", 3).await;
        assert_eq!(runs.len(), 3, "{runs:?}");
        assert_seamless(&world, "tick", &runs, 1000).await;
        let last = runs.keys().last().unwrap();
        let options = node.job(&format!("repeat:s:{last}")).await["opts"].clone();
        assert_eq!((&options["repeat"]["count"], &options["prevMillis"]), (&json!(3), &json!(last)), "{options}");
    }

    #[tokio::test]
    async fn a_repeatable_of_bullmq_5_goes_on_with_its_data() {
        let world = world().await;
        let peer = world.peer(BullMq::V5, "tick");
        let (server, mut node) = tokio::join!(world.server(), Observer::start(&peer));
        node.queue("add", json!(["n", {"a": 1}, {"repeat": {"every": 200}}])).await;
        let done = wait::until("four runs", PATIENCE, async || {
            let page = server.get("/v1/queues/tick/jobs?state=completed&limit=200").await.expect(200);
            page["items"].as_array().cloned().filter(|done| done.len() >= 4)
        })
        .await;
        for job in &done {
            assert_eq!(
                (&job["name"], &job["data"], &job["attempts_started"]),
                (&json!("n"), &json!({"a": 1}), &json!(1))
            );
        }
        assert_eq!(node.queue("getRepeatableJobs", json!([])).await.as_array().map(Vec::len), Some(1));
    }

    /// Its `drain` drops the run that waits, and keeps the id of another job instead.
    #[tokio::test]
    async fn a_schedule_that_node_s_drain_broke_goes_on() {
        let world = world().await;
        let mut node = Observer::start(&world.peer(BullMq::V6, "tick")).await;
        node.queue("add", json!(["plain", {}])).await;
        node.queue("upsertJobScheduler", json!(["s", {"every": 500}])).await;
        node.queue("drain", json!([])).await;
        let server = world.server().await;
        let runs = until_ended(&world, "tick", 3).await;
        for (time, run) in &runs {
            assert!(run.added == 1 && run.taken <= 1, "{time}: {run:?}");
        }
        let told = server.log().iter().any(|line| line.contains("1 schedulers that had stopped"));
        assert!(told, "it had stopped: {:?}", server.log());
    }

    async fn we_set_up_and_node_works(version: BullMq) {
        let world = world().await;
        let peer = world.peer(version, "far");
        let (server, _worker) = tokio::join!(world.server(), Worker::start(&peer, Behaviour::Echo, 1));
        set(&server, "far", json!({"every": 200, "limit": 6, "data": {"a": 1}, "options": {"attempts": 2}})).await;
        let runs = until_ended(&world, "far", 6).await;
        assert_eq!(runs.len(), 6, "{runs:?}");
        assert_seamless(&world, "far", &runs, 200).await;
        let mut node = Observer::start(&peer).await;
        let last = format!("repeat:s:{}", runs.keys().last().unwrap());
        let job = node.job(&last).await;
        assert_eq!((&job["data"], &job["opts"]["attempts"]), (&json!({"a": 1}), &json!(2)), "{job}");
        assert_eq!(node.queue("getJobSchedulersCount", json!([])).await, 1);
    }

    #[tokio::test]
    async fn workers_of_bullmq_5_run_our_schedulers() {
        we_set_up_and_node_works(BullMq::V5).await;
    }

    #[tokio::test]
    async fn workers_of_bullmq_6_run_our_schedulers() {
        we_set_up_and_node_works(BullMq::V6).await;
    }

    #[tokio::test]
    async fn all_kinds_of_workers_share_one_scheduler() {
        let world = world().await;
        let (five, six) = (world.peer(BullMq::V5, "tick"), world.peer(BullMq::V6, "tick"));
        let (_server, _five, _six, mut node) = tokio::join!(
            world.server(),
            Worker::start(&five, Behaviour::Echo, 1),
            Worker::start(&six, Behaviour::Echo, 1),
            Observer::start(&six)
        );
        node.queue("upsertJobScheduler", json!(["s", {"every": 100}])).await;
        let runs = until_ended(&world, "tick", 30).await;
        assert_seamless(&world, "tick", &runs, 100).await;
    }

    /// All keys of the scheduler and of its run, but for the times at which things were done.
    async fn dump(world: &World, queue: &str) -> BTreeMap<String, Value> {
        let base = format!("bull:{queue}:");
        let keys = world.redis.ask(&["KEYS", &format!("{base}*")]).await;
        let keys: BTreeSet<String> = keys.texts().into_iter().map(str::to_owned).collect();
        let mut dump = BTreeMap::new();
        for key in keys {
            let name = key[base.len()..].to_owned();
            let kind = world.redis.ask(&["TYPE", &key]).await.text().unwrap_or_default().to_owned();
            let value = match kind.as_str() {
                "hash" => {
                    let flat = world.redis.ask(&["HGETALL", &key]).await;
                    let fields = flat.texts().chunks(2).map(|pair| (pair[0].to_owned(), said(pair[1]))).collect();
                    timeless(Value::Object(fields))
                }
                "zset" => json!(world.redis.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await.texts()),
                "list" => json!(world.redis.ask(&["LRANGE", &key, "0", "-1"]).await.texts()),
                "string" => json!(world.redis.ask(&["GET", &key]).await.text()),
                "stream" => {
                    let Reply::List(entries) = world.redis.ask(&["XRANGE", &key, "-", "+"]).await else { panic!() };
                    let fields = |entry: &Reply| match entry {
                        Reply::List(parts) => json!(parts[1].texts()),
                        other => panic!("{other:?}"),
                    };
                    Value::Array(entries.iter().map(fields).collect())
                }
                other => json!(other),
            };
            dump.insert(name, value);
        }
        // Only starting a Node queue writes its version.
        if let Some(meta) = dump.get_mut("meta").and_then(Value::as_object_mut) {
            meta.remove("version");
        }
        dump
    }

    /// JSON objects are compared by what they say, everything else letter by letter.
    fn said(text: &str) -> Value {
        serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| json!(text))
    }

    fn timeless(mut hash: Value) -> Value {
        for at in ["/timestamp", "/delay", "/opts/timestamp", "/opts/delay"] {
            if let Some(time) = hash.pointer_mut(at) {
                *time = json!("some time");
            }
        }
        hash
    }

    #[tokio::test]
    async fn what_we_write_is_what_node_writes() {
        let world = world().await;
        let start = 1_000_000_000_000_i64 * 2;
        let whole =
            json!({"attempts": 3, "priority": 5, "removeOnComplete": true, "removeOnFail": {"count": 5, "age": 60}});
        let end = start + 86_400_000;
        for (n, (rule, wish, opts)) in [
            (json!({"every": 60_000, "startDate": start}), json!({"every": 60_000, "start_date": start}), json!({})),
            (
                json!({"every": 60_000, "startDate": start + 7, "limit": 3, "endDate": end}),
                json!({"every": 60_000, "start_date": start + 7, "limit": 3, "end_date": end}),
                whole.clone(),
            ),
            (
                json!({"pattern": "*/5 * * * * *", "tz": "Europe/Stockholm", "startDate": start, "limit": 2}),
                json!({"pattern": "*/5 * * * * *", "tz": "Europe/Stockholm", "start_date": start, "limit": 2}),
                whole,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (ours, theirs) = (format!("ours{n}"), format!("theirs{n}"));
            let mut setup = world.setup.clone();
            setup = setup.config(&format!("[queues.{ours}]\n"));
            let server = Onetake::start(&setup).await;
            let mut node = Observer::start(&world.peer(BullMq::V6, &theirs)).await;
            for again in [false, true] {
                let data = json!({"a": [1, "ä/ö"], "again": again});
                let template = json!({"name": "n", "data": data, "opts": opts});
                node.queue("upsertJobScheduler", json!(["s", rule, template])).await;
                let mut wish = wish.clone();
                wish["name"] = json!("n");
                wish["data"] = data;
                wish["options"] = opts.clone();
                let path = format!("/v1/queues/{ours}/schedulers/s");
                let answer = server.request(reqwest::Method::PUT, &path, Some(wish)).await.expect("it answers");
                assert_eq!(answer.status, if again { 200 } else { 201 }, "{}", answer.text);
                assert_eq!(dump(&world, &ours).await, dump(&world, &theirs).await, "{rule}");
            }
            server.delete(&format!("/v1/queues/{ours}/schedulers/s")).await.expect(200);
            node.queue("removeJobScheduler", json!(["s"])).await;
            assert_eq!(dump(&world, &ours).await, dump(&world, &theirs).await, "{rule}");
            server.stop().await;
        }
    }
}
