//! Looking at the workers of a queue, and turning them while they run.

use super::*;

const QUEUES: &str = r#"
[queues.slow]
processor = { kind = "builtin", name = "sleep" }
[queues.quick]
processor = { kind = "builtin", name = "noop" }
metrics = 10
[queues.idle]
[queues.wish]
processor = { kind = "builtin", name = "echo" }
dedupe = { fields = ["a"] }
"#;

async fn until_active(api: &Api, count: u64) {
    wait::until_true(&format!("{count} to be active"), PATIENCE, async || counts(api, "slow").await["active"] == count)
        .await;
}

#[tokio::test]
async fn a_server_runs_more_or_fewer_jobs_at_once_from_now_on() {
    let (_world, server) = start(QUEUES).await;
    let mut paths = Vec::new();
    for _ in 0..5 {
        paths.push(add(&server, "slow", json!({"data": {"ms": 600_000}})).await);
    }
    until_active(&server, 1).await;
    let shown = server.get("/v1/queues/slow/workers").await.expect(200);
    assert_eq!((&shown["concurrency"], shown["workers"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let set = server.post("/v1/queues/slow/workers", json!({"concurrency": 3})).await.expect(200);
    assert_eq!(set["concurrency"], 3);
    until_active(&server, 3).await;
    // With fewer, those that run go on, and no other begins.
    server.post("/v1/queues/slow/workers", json!({"concurrency": 2})).await.expect(200);
    for path in &paths[..2] {
        server.post(&format!("{path}/cancel"), json!({})).await.expect(202);
        until_state(&server, path, "failed").await;
    }
    until_active(&server, 2).await;
    assert_eq!(server.get(&paths[4]).await.expect(200)["state"], "waiting");
}

#[tokio::test]
async fn what_cannot_be_turned_is_refused() {
    let (_world, server) = start(QUEUES).await;
    for (queue, body, status, what) in [
        ("slow", json!({"concurrency": 0}), 422, "concurrency"),
        ("slow", json!({"concurrency": 10_001}), 422, "concurrency"),
        ("slow", json!({"concurency": 5}), 422, "concurency"),
        ("wish", json!({"concurrency": 5}), 422, "queue"),
        ("idle", json!({"concurrency": 5}), 409, "not_run_here"),
        ("nobody", json!({"concurrency": 5}), 404, "queue_unknown"),
    ] {
        let problem = server.post(&format!("/v1/queues/{queue}/workers"), body).await.expect(status);
        assert!(problem["field"] == what || problem["code"] == what, "{queue}: {problem}");
    }
    assert_eq!(server.get("/v1/queues/slow/workers").await.expect(200)["concurrency"], 1);
    assert_eq!(server.get("/v1/queues/idle/workers").await.expect(200)["concurrency"], Value::Null);
}

mod node_workers {
    use super::*;
    use crate::support::node::{BullMq, Observer};

    async fn lists_ours(version: BullMq) {
        let (world, server) = start(QUEUES).await;
        let mut observer = Observer::start(&world.peer(version, "slow")).await;
        let name = wait::until("a worker", PATIENCE, async || {
            let shown = server.get("/v1/queues/slow/workers").await.expect(200);
            shown["workers"][0].as_str().map(str::to_owned)
        })
        .await;
        let listed = observer.queue("getWorkers", json!([])).await;
        let listed = listed.as_array().expect("a list");
        assert!(name.starts_with("onetake-"), "{name}");
        let raw = listed[0]["rawname"].as_str().expect("it has a name");
        assert!(listed.len() == 1 && raw.ends_with(&format!(":w:{name}")), "{listed:?}");
        assert_eq!(observer.queue("getWorkersCount", json!([])).await, 1);
    }

    #[tokio::test]
    async fn bullmq_5_lists_our_runner_by_name() {
        lists_ours(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_lists_our_runner_by_name() {
        lists_ours(BullMq::V6).await;
    }

    async fn shows_our_metrics(version: BullMq) {
        let (world, server) = start(QUEUES).await;
        let mut observer = Observer::start(&world.peer(version, "quick")).await;
        let run = async || {
            let path = add(&server, "quick", json!({})).await;
            until_state(&server, &path, "completed").await;
        };
        for _ in 0..3 {
            run().await;
        }
        // Three minutes later, as the counters see it.
        let totals = "bull:quick:metrics:completed";
        let since = world.redis.ask(&["HGET", totals, "prevTS"]).await;
        let since: i64 = since.text().expect("it counts").parse().unwrap();
        world.redis.ask(&["HSET", totals, "prevTS", &(since - 180_000).to_string()]).await;
        run().await;
        let metrics = observer.queue("getMetrics", json!(["completed"])).await;
        assert_eq!(metrics["meta"]["count"], 4, "{metrics}");
        let points: Vec<i64> = metrics["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_str().map_or(n.as_i64(), |n| n.parse().ok()).unwrap())
            .collect();
        // Another minute may have begun meanwhile.
        assert!(
            points.len() >= 3 && points.last() == Some(&3) && points[..points.len() - 1].iter().sum::<i64>() <= 1,
            "{metrics}"
        );
        assert_eq!(observer.queue("getMetrics", json!(["failed"])).await["data"], json!([]));
    }

    #[tokio::test]
    async fn bullmq_5_shows_our_metrics() {
        shows_our_metrics(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_shows_our_metrics() {
        shows_our_metrics(BullMq::V6).await;
    }
}
