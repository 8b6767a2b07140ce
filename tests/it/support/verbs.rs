//! All that a server does with Redis, once: for servers on which one wants to know whether it works at all.

use reqwest::Method;
use serde_json::{Value, json};

use super::http::Api;
use super::wait::{self, PATIENCE};

/// How the two queues that [`work_through`] needs are called.
pub struct Names {
    /// Worked off by the processor `echo`.
    pub echo: &'static str,
    /// Worked off by nobody.
    pub held: &'static str,
}

impl Names {
    pub const PLAIN: Self = Self { echo: "echo", held: "held" };
    pub const TAGGED: Self = Self { echo: "{echo}", held: "{held}" };

    /// TOML that declares them.
    pub fn config(&self) -> String {
        format!(
            "[queues.\"{}\"]\nprocessor = {{ kind = \"builtin\", name = \"echo\" }}\n\
             backoff = {{ kind = \"fixed\", delay = \"50ms\" }}\n[queues.\"{}\"]\n",
            self.echo, self.held
        )
    }
}

/// Goes through the queue operations over HTTP: jobs of all kinds and states, each verb, schedulers.
pub async fn work_through(api: &Api, names: &Names) {
    run_jobs(api, names.echo).await;
    dedupe(api, names.echo).await;
    change_jobs(api, names.held).await;
    whole_queue(api, names.held).await;
    schedulers(api, names).await;
    locks(api).await;
}

async fn add(api: &Api, queue: &str, options: Value) -> String {
    let body = json!({"name": "job", "data": {"n": 1}, "options": options});
    let job = api.post(&format!("/v1/queues/{queue}/jobs"), body).await.expect(201);
    job["job"]["id"].as_str().expect("a job has an id").to_owned()
}

async fn until_state(api: &Api, queue: &str, id: &str, state: &str) -> Value {
    wait::until(&format!("job {id} of {queue} to be {state}"), PATIENCE, async || {
        let job = api.get(&format!("/v1/queues/{queue}/jobs/{id}")).await.json();
        (job["state"] == state).then_some(job)
    })
    .await
}

async fn run_jobs(api: &Api, queue: &str) {
    let mut ids = Vec::new();
    for options in
        [json!({}), json!({"priority": 3}), json!({"delay": 300}), json!({"lifo": true}), json!({"attempts": 2})]
    {
        ids.push(add(api, queue, options).await);
    }
    for id in &ids {
        assert_eq!(until_state(api, queue, id, "completed").await["data"], json!({"n": 1}));
    }
    api.post(&format!("/v1/queues/{queue}/jobs/{}/retry", ids[0]), json!({"reset_attempts": true})).await.expect(200);
    until_state(api, queue, &ids[0], "completed").await;
    let logs = api.get(&format!("/v1/queues/{queue}/jobs/{}/logs", ids[0])).await;
    assert_eq!(logs.status, 200, "{}", logs.text);
}

async fn dedupe(api: &Api, queue: &str) {
    let wish = json!({"data": {"n": 2}, "dedupe": {"key": "two"}, "subscriber": {"id": "olga"}});
    let first = api.post(&format!("/v1/queues/{queue}/jobs"), wish.clone()).await.expect(202);
    wait::until_true("the request to be ready", PATIENCE, async || {
        let view = api.get(&format!("/v1/requests/{}", first["id"].as_str().expect("an id"))).await.json();
        view["state"] == "ready"
    })
    .await;
    let later = json!({"data": {"n": 2}, "dedupe": {"key": "two"}, "subscriber": {"id": "ivan"}});
    assert_eq!(api.post(&format!("/v1/queues/{queue}/jobs"), later).await.expect(200)["status"], "ready");
}

async fn change_jobs(api: &Api, queue: &str) {
    let verb = async |id: &str, verb: &str, body: Value| {
        api.post(&format!("/v1/queues/{queue}/jobs/{id}/{verb}"), body).await.expect(200)
    };
    let delayed = add(api, queue, json!({"delay": 600_000})).await;
    assert_eq!(until_state(api, queue, &delayed, "delayed").await["id"], json!(delayed));
    verb(&delayed, "delay", json!({"delay": 900_000})).await;
    assert_eq!(verb(&delayed, "promote", json!({})).await["state"], "waiting");
    assert_eq!(verb(&delayed, "priority", json!({"priority": 5})).await["state"], "prioritized");
    assert_eq!(verb(&delayed, "data", json!({"data": {"n": 3}})).await["data"], json!({"n": 3}));
    let gone = api.delete(&format!("/v1/queues/{queue}/jobs/{delayed}?children=true")).await;
    assert_eq!(gone.expect(200)["removed"], true);
    let listed = api.get(&format!("/v1/queues/{queue}/jobs?state=waiting")).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
}

async fn whole_queue(api: &Api, queue: &str) {
    let verb = async |verb: &str, body: Value| api.post(&format!("/v1/queues/{queue}/{verb}"), body).await.expect(200);
    verb("concurrency", json!({"limit": 3})).await;
    verb("rate-limit", json!({"max": 10, "duration": 1000})).await;
    for limit in ["concurrency", "rate-limit", "limiter"] {
        let cleared = api.delete(&format!("/v1/queues/{queue}/{limit}")).await;
        assert_eq!(cleared.status, 200, "{}", cleared.text);
    }
    for options in [json!({}), json!({"delay": 600_000}), json!({"priority": 1})] {
        add(api, queue, options).await;
    }
    assert_eq!(verb("promote", json!({})).await["processed"], 1);
    verb("clean", json!({"state": "waiting"})).await;
    assert_eq!(verb("drain", json!({"delayed": true})).await["done"], true);
    verb("retry", json!({"state": "failed"})).await;
    verb("trim-events", json!({"keep": 10})).await;
    verb("pause", json!({})).await;
    assert_eq!(api.get(&format!("/v1/queues/{queue}")).await.expect(200)["paused"], true);
    verb("obliterate", json!({"force": true})).await;
    verb("resume", json!({})).await;
}

async fn schedulers(api: &Api, names: &Names) {
    let path = format!("/v1/queues/{}/schedulers/tick", names.echo);
    let body = json!({"every": 200, "name": "tick", "limit": 3});
    let set = api.request(Method::PUT, &path, Some(body)).await.expect("an answer");
    assert!(matches!(set.status, 200 | 201), "{}", set.text);
    wait::until_true("two runs of the scheduler", PATIENCE, async || {
        let jobs = api.get(&format!("/v1/queues/{}/jobs?state=completed&limit=100", names.echo)).await.expect(200);
        let jobs = jobs["items"].as_array().cloned().unwrap_or_default();
        jobs.iter().filter(|job| job["id"].as_str().is_some_and(|id| id.starts_with("repeat:tick:"))).count() >= 2
    })
    .await;
    assert_eq!(api.get(&path).await.status, 200);
    assert_eq!(api.delete(&path).await.status, 200);
}

async fn locks(api: &Api) {
    for fast in [false, true] {
        let name = if fast { "quick" } else { "nightly" };
        let wish = json!({"ttl": "30s", "fast": fast});
        let held = api.post(&format!("/v1/locks/{name}"), wish.clone()).await.expect(200);
        assert_eq!(api.post(&format!("/v1/locks/{name}"), wish).await.status, 409);
        let owner = json!({"owner_token": held["owner_token"], "ttl": "30s", "fast": fast});
        let renewed = api.post(&format!("/v1/locks/{name}/renew"), owner).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text);
        let owner = json!({"owner_token": held["owner_token"], "fast": fast});
        let released = api.post(&format!("/v1/locks/{name}/release"), owner).await;
        assert_eq!(released.status, 200, "{}", released.text);
    }
}
