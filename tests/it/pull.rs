//! Workers that pull their jobs over HTTP: woken without polling, recovered when they die, and beside Node's own workers and
//! our runner on one queue.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::puller::{Language, Puller};
use crate::support::resp::Reply;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

mod lost;
mod together;

const QUEUES: &str = r#"
[queues.pulled]
processor = { kind = "pull" }
[queues.elsewhere]
[queues.mixed]
processor = { kind = "builtin", name = "echo" }
concurrency = 2
"#;

async fn world() -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(QUEUES);
    world
}

async fn add(server: &Onetake, queue: &str, body: Value) -> String {
    let added = server.post(&format!("/v1/queues/{queue}/jobs"), body).await.expect(201);
    added["job"]["id"].as_str().expect("an id").to_owned()
}

async fn claim(api: &Api, queue: &str, wish: Value) -> Value {
    api.post(&format!("/v1/queues/{queue}/claims"), wish).await.expect(200)
}

async fn complete(api: &Api, queue: &str, claim: &Value) {
    for job in claim["items"].as_array().expect("a list") {
        let path = format!("/v1/queues/{queue}/claims/{}/complete", job["id"].as_str().expect("an id"));
        api.post(&path, json!({"token": claim["token"], "result": "pulled"})).await.expect(200);
    }
}

async fn job(server: &Onetake, queue: &str, id: &str) -> Value {
    server.get(&format!("/v1/queues/{queue}/jobs/{id}")).await.expect(200)
}

async fn until_state(server: &Onetake, queue: &str, id: &str, state: &str) -> Value {
    wait::until(&format!("{id} to be {state}"), 2 * PATIENCE, async || {
        Some(job(server, queue, id).await).filter(|job| job["state"] == state)
    })
    .await
}

/// How many connections wait for the marker on behalf of claims.
async fn blocked(world: &World) -> usize {
    let clients = world.redis.ask(&["CLIENT", "LIST"]).await;
    let clients = clients.text().expect("a text");
    clients.lines().filter(|line| line.contains(":w:onetake-claims") && line.contains("cmd=bzpopmin")).count()
}

async fn until_blocked(world: &World, count: usize) {
    wait::until_true(&format!("{count} blocked connections"), PATIENCE, async || blocked(world).await == count).await;
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_the_marker_alone() {
    let mut world = world().await;
    // Nobody looks again by themselves.
    world.setup = world.setup.env("ONETAKE_RUNNER__DRAIN_DELAY", "10m");
    let server = world.server().await;
    let waiting = |count: usize| {
        let claims = (0..count).map(|_| {
            let api = Api::clone(&server);
            tokio::spawn(async move { claim(&api, "elsewhere", json!({"wait": "55s", "lease": "60s"})).await })
        });
        claims.collect::<Vec<_>>()
    };
    let claims = waiting(20);
    until_blocked(&world, 1).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(add(&server, "elsewhere", json!({"data": n})).await);
    }
    let mut claimed = Vec::new();
    for claim in claims {
        let claim = claim.await.expect("it is answered");
        let items = claim["items"].as_array().expect("a list");
        assert_eq!(items.len(), 1, "{claim}");
        claimed.push(items[0]["id"].as_str().expect("an id").to_owned());
        complete(&server, "elsewhere", &claim).await;
    }
    claimed.sort_by_key(|id| id.parse::<u32>().expect("a number"));
    assert_eq!(claimed, ids);
    until_blocked(&world, 0).await;

    // A delayed job at its time, and a paused queue when it goes on.
    let claims = waiting(1);
    until_blocked(&world, 1).await;
    let delayed = add(&server, "elsewhere", json!({"options": {"delay": 700}})).await;
    for claim in claims {
        assert_eq!(claim.await.expect("it is answered")["items"][0]["id"], delayed);
    }
    server.post("/v1/queues/elsewhere/pause", json!({})).await.expect(200);
    let held_up = add(&server, "elsewhere", json!({})).await;
    let claims = waiting(1);
    until_blocked(&world, 1).await;
    server.post("/v1/queues/elsewhere/resume", json!({})).await.expect(200);
    for claim in claims {
        assert_eq!(claim.await.expect("it is answered")["items"][0]["id"], held_up);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_leaves_nothing_taken() {
    let mut world = world().await;
    // Nobody looks again by themselves: a connection that is not blocked is one that was given up.
    world.setup = world.setup.env("ONETAKE_RUNNER__DRAIN_DELAY", "10m");
    let server = world.server().await;
    for _ in 0..5 {
        let api = Api::clone(&server);
        let waiting =
            tokio::spawn(async move { claim(&api, "elsewhere", json!({"wait": "55s", "lease": "1h"})).await });
        until_blocked(&world, 1).await;
        waiting.abort();
        let _ = waiting.await;
        // The server has noticed, and the marker is left to others.
        until_blocked(&world, 0).await;
        let id = add(&server, "elsewhere", json!({})).await;
        assert_eq!(world.redis.ask(&["ZCARD", "bull:elsewhere:marker"]).await.number(), 1);
        assert_eq!(job(&server, "elsewhere", &id).await["state"], "waiting");
        let claimed = claim(&server, "elsewhere", json!({})).await;
        assert_eq!(claimed["items"][0]["id"], id);
        complete(&server, "elsewhere", &claimed).await;
        world.redis.ask(&["DEL", "bull:elsewhere:marker"]).await;
    }
}

#[tokio::test]
async fn a_pulled_queue_is_looked_after_although_nobody_asks() {
    let world = world().await;
    let server = world.server().await;
    let delayed = add(&server, "pulled", json!({"options": {"delay": 500}})).await;
    until_state(&server, "pulled", &delayed, "waiting").await;
    let claimed = claim(&server, "pulled", json!({"lease": "1s", "worker": "w"})).await;
    assert_eq!(claimed["items"][0]["id"], delayed);
    let recovered = until_state(&server, "pulled", &delayed, "waiting").await;
    assert_eq!(recovered["attempts_started"], 1);
    let late = format!("/v1/queues/pulled/claims/{delayed}/complete");
    assert_eq!(server.post(&late, json!({"token": claimed["token"]})).await.expect(409)["code"], "lease_lost");
    let refused = server.post("/v1/queues/pulled/jobs", json!({"dedupe": {"key": "k"}})).await.expect(422);
    assert_eq!(refused["field"], "dedupe");
}

#[tokio::test]
async fn a_server_that_stops_answers_those_who_wait() {
    let world = world().await;
    let server = world.server().await;
    let api = Api::clone(&server);
    let waiting = tokio::spawn(async move { claim(&api, "pulled", json!({"wait": "55s"})).await });
    until_blocked(&world, 1).await;
    assert!(server.stop().await.success());
    assert_eq!(waiting.await.expect("it is answered")["items"], json!([]));
}

#[tokio::test]
async fn without_redis_a_claim_is_put_off() {
    let mut world = world().await;
    let server = world.server().await;
    let api = Api::clone(&server);
    let waiting = tokio::spawn(async move { api.post("/v1/queues/pulled/claims", json!({"wait": "55s"})).await });
    until_blocked(&world, 1).await;
    world.redis.kill();
    assert_eq!(waiting.await.expect("it is answered").expect(503)["code"], "redis_unavailable");
    world.redis.restart().await;
    let id = wait::until("redis to be seen again", PATIENCE, async || {
        let added = server.post("/v1/queues/pulled/jobs", json!({})).await;
        (added.status == 201).then(|| added.json()["job"]["id"].as_str().map(str::to_owned))?
    })
    .await;
    assert_eq!(claim(&server, "pulled", json!({"wait": "30s"})).await["items"][0]["id"], id);
}

/// Jobs that succeed, that fail once, and that fail for good, by a worker in that language.
async fn a_worker_works_a_queue_off(language: Language) {
    let world = world().await;
    let server = world.server().await;
    let good = add(&server, "pulled", json!({"data": {"steps": 4, "x": "Ünïcode ✓"}})).await;
    let bad = add(&server, "pulled", json!({"data": {"error": "no such luck"}, "options": {"attempts": 2}})).await;
    let mut worker = Puller::start(language, &server, "pulled", 10);
    assert_eq!(worker.took().await, good);
    let done = until_state(&server, "pulled", &good, "completed").await;
    assert_eq!(done["result"]["language"], format!("{language:?}").to_lowercase());
    assert_eq!((&done["result"]["data"]["x"], &done["progress"]), (&json!("Ünïcode ✓"), &json!(100)));
    let log = server.get(&format!("/v1/queues/pulled/jobs/{good}/logs")).await.expect(200);
    assert_eq!(log["items"], json!(["25 %", "50 %", "75 %", "100 %"]));
    let failed = until_state(&server, "pulled", &bad, "failed").await;
    assert_eq!((&failed["failed_reason"], &failed["attempts_made"]), (&json!("no such luck"), &json!(2)));
    assert!(failed["stacktrace"][1].as_str().is_some_and(|stack| stack.contains("work")), "{failed}");
    // One that nobody wants any more is let go of with the next heartbeat, long before its end.
    let options = json!({"attempts": 2});
    let long = add(&server, "pulled", json!({"data": {"steps": 100_000, "pause": 0.1}, "options": options})).await;
    while worker.took().await != long {}
    let cancel = format!("/v1/queues/pulled/jobs/{long}/cancel");
    assert_eq!(server.post(&cancel, json!({"reason": "wrong address"})).await.status, 202);
    let stopped = until_state(&server, "pulled", &long, "failed").await;
    assert_eq!((&stopped["failed_reason"], &stopped["attempts_made"]), (&json!("wrong address"), &json!(1)));
    // Waiting for the next job, it is told at once.
    until_blocked(&world, 1).await;
    let next = add(&server, "pulled", json!({"data": {}})).await;
    until_state(&server, "pulled", &next, "completed").await;
}

/// A worker is killed with a job in hand; another gets it, and works for longer than its lease.
async fn a_killed_worker_s_job_is_done_by_another(first: Language, second: Language) {
    let world = world().await;
    let server = world.server().await;
    let id = add(&server, "pulled", json!({"data": {"steps": 4, "pause": 2.5}})).await;
    let mut dying = Puller::start(first, &server, "pulled", 8);
    assert_eq!(dying.took().await, id);
    dying.kill();
    let mut heir = Puller::start(second, &server, "pulled", 8);
    assert_eq!(heir.took().await, id);
    let done = until_state(&server, "pulled", &id, "completed").await;
    assert_eq!(done["result"]["language"], format!("{second:?}").to_lowercase());
    assert_eq!((&done["attempts_started"], &done["attempts_made"]), (&json!(2), &json!(1)), "{done}");
}

mod python {
    use super::*;

    #[tokio::test]
    async fn a_worker_works_a_queue_off() {
        super::a_worker_works_a_queue_off(Language::Python).await;
    }
}

mod node {
    use super::*;

    #[tokio::test]
    async fn a_worker_works_a_queue_off() {
        super::a_worker_works_a_queue_off(Language::Node).await;
    }
}

mod node_and_python {
    use super::*;

    #[tokio::test]
    async fn a_job_of_a_killed_python_worker_is_done_by_a_node_worker() {
        a_killed_worker_s_job_is_done_by_another(Language::Python, Language::Node).await;
    }

    #[tokio::test]
    async fn a_job_of_a_killed_node_worker_is_done_by_a_python_worker() {
        a_killed_worker_s_job_is_done_by_another(Language::Node, Language::Python).await;
    }
}
