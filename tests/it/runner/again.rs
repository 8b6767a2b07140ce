//! Jobs that come back to the worker that had them.

use std::path::Path;

use super::*;

/// A job that says where it is, and goes on when it is told to: `started-N`, `go-N` for its Nth run.
fn told(queue: &str, folder: &Path) -> String {
    let script = r#"cd FOLDER; n=1; while ! mkdir run-$n 2>/dev/null; do n=$((n+1)); done
echo $$ > pid-$n.tmp; mv pid-$n.tmp started-$n; while [ ! -e go-$n ]; do sleep 0.02; done; echo $n"#;
    shell(queue, &script.replace("FOLDER", &folder.display().to_string()))
}

async fn until_started(folder: &Path, run: u32) -> String {
    let file = folder.join(format!("started-{run}"));
    wait::until(&format!("run {run} to start"), PATIENCE, async || std::fs::read_to_string(&file).ok()).await
}

fn go(folder: &Path, run: u32) {
    std::fs::write(folder.join(format!("go-{run}")), "").unwrap();
}

#[tokio::test]
async fn an_attempt_that_lost_its_job_does_not_end_the_next_one_of_the_same_worker() {
    let folder = tempfile::tempdir().unwrap();
    let (world, server) = start(&format!("{}concurrency = 2\n", told("twice", folder.path()))).await;
    let path = add(&server, "twice", json!({"options": {"jobId": "j"}})).await;
    let first = until_started(folder.path(), 1).await;
    // Its lock ran out, and it was found as stalled: it waits again, and the worker has a place left.
    for command in [
        &["DEL", "bull:twice:j:lock"][..],
        &["LREM", "bull:twice:active", "0", "j"],
        &["RPUSH", "bull:twice:wait", "j"],
        &["ZADD", "bull:twice:marker", "0", "0"],
    ] {
        world.redis.ask(command).await;
    }
    until_started(folder.path(), 2).await;
    go(folder.path(), 1);
    let process = format!("/proc/{}", first.trim());
    wait::until_true("the first run gone", PATIENCE, async || !Path::new(&process).exists()).await;
    go(folder.path(), 2);
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["result"], &job["attempts_started"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn a_job_that_completes_before_its_children_is_an_attempt_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (world, server) = start(&told("parents", folder.path())).await;
    let path = add(&server, "parents", json!({"options": {"jobId": "p", "attempts": 2}})).await;
    until_started(folder.path(), 1).await;
    let children = "bull:parents:p:dependencies";
    world.redis.ask(&["SADD", children, "bull:kids:k"]).await;
    go(folder.path(), 1);
    until_started(folder.path(), 2).await;
    world.redis.ask(&["DEL", children]).await;
    go(folder.path(), 2);
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["result"], &job["attempts_made"]), (&json!(2), &json!(2)));
    assert!(job["failed_reason"].as_str().is_some_and(|reason| reason.contains("children")), "{job}");
}

/// Nobody mends schedules meanwhile: that happens once in a stalled interval.
#[tokio::test]
async fn a_run_that_is_failed_instead_of_worked_on_has_a_next_one() {
    let queues =
        "[runner]\nstalled_interval = \"1h\"\n[queues.tick]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    let (world, server) = start(queues).await;
    server.post("/v1/queues/tick/pause", json!({})).await.expect(200);
    let every = Some(json!({"every": 500}));
    let set = server.request(reqwest::Method::PUT, "/v1/queues/tick/schedulers/s", every).await;
    set.expect("the server answers").expect(201);
    let run = wait::until("a run to wait", PATIENCE, async || {
        let ids = world.redis.ask(&["LRANGE", "bull:tick:wait", "0", "-1"]).await;
        ids.texts().first().map(|id| (*id).to_owned())
    })
    .await;
    world.redis.ask(&["HSET", &format!("bull:tick:{run}"), "defa", "not this time"]).await;
    server.post("/v1/queues/tick/resume", json!({})).await.expect(200);
    let job = until_state(&server, &format!("/v1/queues/tick/jobs/{run}"), "failed").await;
    assert_eq!(job["failed_reason"], json!("not this time"));
    wait::until_true("a later run to complete", PATIENCE, async || {
        world.redis.ask(&["ZCARD", "bull:tick:completed"]).await.number() > 0
    })
    .await;
}
