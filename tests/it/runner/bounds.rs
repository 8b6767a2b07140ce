//! How long an attempt may take, how often a job may be taken, and how long it waits in between.

use super::*;

const QUEUES: &str = r#"
[queues.slow]
processor = { kind = "builtin", name = "sleep" }
[queues.bounded]
processor = { kind = "builtin", name = "sleep" }
timeout = "200ms"
[queues.wish]
processor = { kind = "builtin", name = "sleep" }
timeout = "200ms"
dedupe = { fields = ["ms"] }
[queues.doomed]
processor = { kind = "builtin", name = "fail" }
attempts = 3
max_started = 2
[queues.tabled]
processor = { kind = "builtin", name = "fail" }
backoffs = { gentle = ["150ms", "400ms"], default = ["1ms"] }
"#;

#[tokio::test]
async fn an_attempt_that_takes_too_long_has_failed() {
    let (_world, server) = start(QUEUES).await;
    let minute = json!({"ms": 60_000});
    let bounded = add(&server, "bounded", json!({"data": minute, "options": {"timeout": 60_000}})).await;
    let job = until_state(&server, &bounded, "failed").await;
    assert_eq!(
        job["failed_reason"], "took longer than 200ms and was stopped",
        "a job cannot ask for more than the queue"
    );
    let own = add(&server, "slow", json!({"data": minute, "options": {"timeout": 150, "attempts": 2}})).await;
    let job = until_state(&server, &own, "failed").await;
    assert_eq!(
        (&job["failed_reason"], &job["attempts_made"]),
        (&json!("took longer than 150ms and was stopped"), &json!(2))
    );
    let quick = add(&server, "bounded", json!({"data": {"ms": 0}})).await;
    until_state(&server, &quick, "completed").await;
    let refused = server.post("/v1/queues/slow/jobs", json!({"options": {"timeout": 0}})).await;
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("options.timeout")));
}

#[tokio::test]
async fn a_run_that_takes_too_long_has_failed() {
    let (_world, server) = start(QUEUES).await;
    let asked = server.post("/v1/queues/wish/jobs", json!({"data": {"ms": 60_000}})).await.expect(202);
    let path = format!("/v1/requests/{}", asked["id"].as_str().expect("an id"));
    let request = wait::until("the request to fail", PATIENCE, async || {
        Some(server.get(&path).await.expect(200)).filter(|request| request["state"] == "failed")
    })
    .await;
    assert_eq!(request["error"], "took longer than 200ms and was stopped");
}

#[tokio::test]
async fn a_job_that_was_taken_too_often_fails() {
    let (world, server) = start(QUEUES).await;
    let path = add(&server, "doomed", json!({"data": {"reason": "no paint"}})).await;
    let job = until_state(&server, &path, "failed").await;
    assert_eq!(
        (&job["failed_reason"], &job["attempts_made"]),
        (&json!("no paint"), &json!(2)),
        "the third start is not tried"
    );
    server.post("/v1/queues/doomed/pause", json!({})).await.expect(200);
    let path = add(&server, "doomed", json!({"data": {}, "options": {"jobId": "often"}})).await;
    world.redis.ask(&["HSET", "bull:doomed:often", "ats", "2"]).await;
    server.post("/v1/queues/doomed/resume", json!({})).await.expect(200);
    let job = until_state(&server, &path, "failed").await;
    assert_eq!(job["failed_reason"], "job started more than allowable limit");
}

#[tokio::test]
async fn a_failure_may_be_for_good() {
    let (_world, server) = start(QUEUES).await;
    let path = add(&server, "doomed", json!({"data": {"reason": "never", "final": true}})).await;
    let job = until_state(&server, &path, "failed").await;
    assert_eq!((&job["failed_reason"], &job["attempts_made"]), (&json!("never"), &json!(1)));
}

mod node_bounds {
    use super::*;
    use crate::support::node::{BullMq, Observer, Producer};

    async fn of(version: BullMq) {
        let (world, _server) = start(QUEUES).await;
        let (slow, tabled) = (world.peer(version, "slow"), world.peer(version, "tabled"));
        let (mut slow, mut tabled, mut observer) =
            tokio::join!(Producer::start(&slow), Producer::start(&tabled), Observer::start(&tabled));
        slow.give(&[json!({"data": {"ms": 60_000}, "opts": {"timeout": 150}})]);
        tabled.give(&[json!({"data": {}, "opts": {"attempts": 3, "backoff": {"type": "gentle"}}})]);
        let late = slow.ended().await.remove(0);
        assert_eq!(late.error.as_deref(), Some("took longer than 150ms and was stopped"));
        let failed = tabled.ended().await.remove(0);
        assert!(!failed.ok);
        let job = observer.job(&failed.id.unwrap()).await;
        let took = job["finishedOn"].as_i64().unwrap() - job["timestamp"].as_i64().unwrap();
        // Two clocks: the producer's notes the beginning.
        assert!(took >= 540, "150 ms after the first attempt and 400 ms after the second: {job}");
        assert_eq!(job["attemptsMade"], 3);
    }

    #[tokio::test]
    async fn producers_of_bullmq_5_ask_for_a_timeout_and_a_table() {
        of(BullMq::V5).await;
    }

    #[tokio::test]
    async fn producers_of_bullmq_6_ask_for_a_timeout_and_a_table() {
        of(BullMq::V6).await;
    }
}
