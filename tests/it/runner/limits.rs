//! Rate limits of a worker's own, and those that a job asks for.

use super::*;

const PACED: &str = r#"
[queues.paced]
processor = { kind = "builtin", name = "noop" }
concurrency = 10
limiter = { max = 2, duration = "1s" }
"#;

#[tokio::test]
async fn a_queue_is_taken_from_no_faster_than_its_limiter_says() {
    let (_world, server) = start(PACED).await;
    let mut paths = Vec::new();
    for _ in 0..6 {
        paths.push(add(&server, "paced", json!({})).await);
    }
    let mut begun = Vec::new();
    for path in &paths {
        begun.push(until_state(&server, path, "completed").await["processed_on"].as_i64().expect("a time"));
    }
    // Two a window, and each window begins when the one before has ended. Redis counts the time, we note it.
    let took = begun.iter().max().unwrap() - begun.iter().min().unwrap();
    assert!(took >= 1_900, "{begun:?}");
}

/// Says once that the queue is held up for ten minutes.
const POLITE: &str =
    r#"case "$(cat)" in *'"step":0'*) echo '{"next":"limit","ms":600000}'; exit 75;; *) echo '"done"';; esac"#;

#[tokio::test]
async fn a_job_may_hold_its_queue_up() {
    let (_world, server) = start(&shell("polite", POLITE)).await;
    let path = add(&server, "polite", json!({})).await;
    let job = wait::until("the job to be back", PATIENCE, async || {
        Some(server.get(&path).await.expect(200))
            .filter(|job| job["attempts_started"] == 1 && job["state"] == "waiting" && job["position"] == 0)
    })
    .await;
    assert_eq!(job["attempts_made"], 0);
    server.delete("/v1/queues/polite/limiter").await.expect(200);
    let job = until_state(&server, &path, "completed").await;
    assert_eq!(
        (&job["attempts_made"], &job["attempts_started"], &job["result"]),
        (&json!(1), &json!(2), &json!("done"))
    );
}

mod node_limits {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::support::node::{Behaviour, BullMq, Observer, Worker};

    /// One machine's clock tells all times here, but Redis keeps its own of the present command.
    const SLACK: i64 = 50;

    fn now_ms() -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        i64::try_from(now.as_millis()).expect("it is not that late")
    }

    /// Our job asks for it, our server is gone, and a Node worker waits until it has passed.
    async fn node_waits(version: BullMq) {
        let (world, mut server) = start(&shell("polite", POLITE)).await;
        let path = add(&server, "polite", json!({})).await;
        wait::until_true("the limit", PATIENCE, async || {
            world.redis.ask(&["PTTL", "bull:polite:limiter"]).await.number() > 0
                && server.get(&path).await.expect(200)["state"] == "waiting"
        })
        .await;
        server.kill();
        let peer = world.peer(version, "polite");
        // A Node worker heeds a limit only if it has one of its own.
        let options = json!({"limiter": {"max": 1000, "duration": 1000}, "maximumRateLimitDelay": 200});
        let (mut node, mut observer) =
            tokio::join!(Worker::start_with(&peer, Behaviour::Echo, 1, &options), Observer::start(&peer));
        let left = observer.queue("getRateLimitTtl", json!([])).await.as_i64().expect("a time");
        assert!(left > 0, "{left}");
        let over = now_ms() + 2_000;
        world.redis.ask(&["PEXPIRE", "bull:polite:limiter", "2000"]).await;
        let id = node.taken().await;
        let begun = observer.job(&id).await["processedOn"].as_i64().expect("a time");
        assert!(begun >= over - SLACK, "taken {} ms too early", over - begun);
    }

    #[tokio::test]
    async fn bullmq_5_waits_when_one_of_our_jobs_says_so() {
        node_waits(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_waits_when_one_of_our_jobs_says_so() {
        node_waits(BullMq::V6).await;
    }

    #[tokio::test]
    async fn we_wait_when_node_says_so() {
        let world = world(&shell("polite", "echo 1")).await;
        let mut node = Observer::start(&world.peer(BullMq::V6, "polite")).await;
        node.queue("rateLimit", json!([600_000])).await;
        node.queue("add", json!(["n", {}, {"jobId": "a"}])).await;
        let server = world.server().await;
        wait::until_true("the worker", PATIENCE, async || {
            server.get("/v1/queues/polite/workers").await.expect(200)["workers"][0].is_string()
        })
        .await;
        assert_eq!(server.get("/v1/queues/polite/jobs/a").await.expect(200)["state"], "waiting");
        node.queue("removeRateLimitKey", json!([])).await;
        let over = now_ms() + 2_000;
        node.queue("rateLimit", json!([2_000])).await;
        let path = add(&server, "polite", json!({"options": {"lifo": true}})).await;
        let job = until_state(&server, &path, "completed").await;
        let begun = job["processed_on"].as_i64().expect("a time");
        assert!(begun >= over - SLACK, "taken {} ms too early", over - begun);
    }
}
