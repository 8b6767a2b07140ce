//! Groups of jobs with real servers: beside stock workers and without our own, over a crash, and by the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::resp::Reply;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait;
use crate::support::world::World;

mod node;

/// What many jobs may take on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(100);

/// `ours` has workers of ours, `theirs` has none.
const QUEUES: &str = r#"
[queues.ours]
processor = { kind = "builtin", name = "sleep" }
concurrency = 6
[queues.theirs]
[queues.theirs.groups]
concurrency = 3
"#;

async fn world(kind: StoreKind) -> World {
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(QUEUES);
    world
}

async fn add(server: &Onetake, queue: &str, group: &str) -> String {
    let body = json!({"data": {"ms": 50}, "options": {"group": {"id": group}, "attempts": 3}});
    let added = server.post(&format!("/v1/queues/{queue}/jobs"), body).await.expect(201);
    added["job"]["id"].as_str().expect("a job has an id").to_owned()
}

async fn limit(server: &Onetake, queue: &str, group: &str, concurrency: u32) {
    let path = format!("/v1/queues/{queue}/groups/{group}");
    let answer = server.request(Method::PUT, &path, Some(json!({"concurrency": concurrency}))).await;
    answer.expect("the server answers").expect(200);
}

async fn until_completed(world: &World, queue: &str, count: i64) {
    wait::until_true(&format!("{count} jobs of {queue} to complete"), LONG, async || {
        world.redis.ask(&["ZCARD", &format!("bull:{queue}:completed")]).await.number() == count
    })
    .await;
}

/// Nothing is told of groups any more.
async fn until_forgotten(world: &World) {
    wait::until_true("the groups to be forgotten", LONG, async || {
        world.redis.ask(&["KEYS", "onetake:groups:*"]).await.texts().is_empty()
    })
    .await;
}

/// The events of a queue: their names and their jobs.
async fn events(world: &World, queue: &str) -> Vec<(String, String)> {
    let Reply::List(entries) = world.redis.ask(&["XRANGE", &format!("bull:{queue}:events"), "-", "+"]).await else {
        panic!("the events are a stream");
    };
    let told = entries.iter().map(|entry| {
        let Reply::List(parts) = entry else { panic!("{entry:?} is no entry") };
        let fields = parts[1].texts();
        let of = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map_or("", |pair| pair[1]).to_owned();
        (of("event"), of("jobId"))
    });
    told.collect()
}

/// The most jobs of each group that were active at once, as the events tell.
fn peaks(events: &[(String, String)], groups: &BTreeMap<String, &'static str>) -> BTreeMap<&'static str, usize> {
    let (mut running, mut peaks) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
    for (event, id) in events {
        let Some(group) = groups.get(id) else { continue };
        let running = running.entry(group).or_default();
        match event.as_str() {
            "active" => *running += 1,
            "completed" | "failed" | "delayed" | "stalled" => *running = running.saturating_sub(1),
            _ => {}
        }
        let peak = peaks.entry(*group).or_default();
        *peak = (*running).max(*peak);
    }
    peaks
}

/// Between the moment at which `id` may run and the one at which it does: how many others became active.
fn overtaken(events: &[(String, String)], id: &str) -> usize {
    let at = |name: &str| events.iter().position(|(event, job)| event == name && job == id).expect(name);
    events[at("waiting")..at("active")].iter().filter(|(event, _)| event == "active").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_runner_loses_no_job_of_a_group() {
    let world = world(StoreKind::Sqlite).await;
    let mut server = world.server().await;
    let mut groups = BTreeMap::new();
    for (group, concurrency) in [("one", 1), ("two", 2)] {
        limit(&server, "ours", group, concurrency).await;
        for _ in 0..15 {
            groups.insert(add(&server, "ours", group).await, group);
        }
    }
    wait::until_true("some jobs to run", LONG, async || {
        world.redis.ask(&["ZCARD", "bull:ours:completed"]).await.number() > 3
    })
    .await;
    server.kill();
    let server = world.server().await;
    until_completed(&world, "ours", 30).await;
    let peaks = peaks(&events(&world, "ours").await, &groups);
    assert!(peaks["one"] <= 1 && peaks["two"] <= 2, "{peaks:?}");
    for group in ["one", "two"] {
        let path = format!("/v1/queues/ours/groups/{group}");
        let shown = server.get(&path).await.expect(200);
        assert_eq!((&shown["waiting"], &shown["released"]), (&json!(0), &json!(0)), "{shown}");
        server.delete(&path).await.expect(200);
    }
    until_forgotten(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_speaks_of_groups() {
    let world = world(StoreKind::Sqlite).await;
    let server = world.server().await;
    let ask = async |line: &str| -> Value {
        let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_onetake"))
            .args(["--json", "--server", server.base_url()])
            .args(line.split(' '))
            .output();
        let output = command.await.expect("the binary runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let shown = async |group: &str| server.get(&format!("/v1/queues/theirs/groups/{group}")).await.expect(200);
    ask("enqueue theirs --data {} --group a").await;
    ask("enqueue theirs --data {} --group a").await;
    ask("group set theirs a --concurrency 1 --max 5 --per 1s").await;
    let a = shown("a").await;
    assert_eq!((&a["waiting"], &a["concurrency"], &a["rate_limit"]["max"]), (&json!(1), &json!(1), &json!(5)));
    ask("group pause theirs a").await;
    assert_eq!(shown("a").await["paused"], true);
    let listed = ask("group ls theirs").await;
    assert_eq!(listed["items"][0]["waiting"], 2, "{listed}");
    ask("group resume theirs a").await;
    ask("group set theirs a --clear").await;
    let a = shown("a").await;
    assert_eq!((&a["paused"], &a["concurrency"], &a["released"]), (&json!(false), &Value::Null, &json!(1)));
}
