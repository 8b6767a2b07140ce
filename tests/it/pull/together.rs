//! Pull workers, Node workers of both versions and our runner on one plain queue.

mod node {
    use super::super::*;
    use crate::support::node::{Behaviour, BullMq, Worker};

    const JOBS: usize = 300;

    /// What the queue's events say of each job: how often it was taken, and how often it ended.
    async fn told(world: &World, queue: &str) -> BTreeMap<String, (usize, usize)> {
        let mut told = BTreeMap::<String, (usize, usize)>::new();
        let Reply::List(entries) = world.redis.ask(&["XRANGE", &format!("bull:{queue}:events"), "-", "+"]).await else {
            panic!("the events are a stream");
        };
        for entry in &entries {
            let Reply::List(parts) = entry else { panic!("{entry:?} is no entry") };
            let fields = parts[1].texts();
            let of = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
            let Some(id) = of("jobId") else { continue };
            let job = told.entry(id.to_owned()).or_default();
            job.0 += usize::from(of("event") == Some("active"));
            job.1 += usize::from(of("event") == Some("completed"));
        }
        told
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_job_is_lost_and_none_is_done_twice() {
        let mut world = world().await;
        // Nobody loses a job for being slow.
        world.setup = world.setup.env("ONETAKE_RUNNER__LEASE", "60s");
        let server = world.server().await;
        let (old, new) = (world.peer(BullMq::V5, "mixed"), world.peer(BullMq::V6, "mixed"));
        let (mut five, mut six) =
            tokio::join!(Worker::start(&old, Behaviour::Echo, 2), Worker::start(&new, Behaviour::Echo, 2));
        let pulling = |worker: &'static str| {
            let api = Api::clone(&server);
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let claimed = claim(&api, "mixed", json!({"worker": worker, "max": 3, "wait": "2s"})).await;
                    let count = claimed["items"].as_array().map_or(0, Vec::len);
                    if count == 0 {
                        return done;
                    }
                    complete(&api, "mixed", &claimed).await;
                    done += count;
                }
            })
        };
        server.post("/v1/queues/mixed/pause", json!({})).await.expect(200);
        for n in 0..JOBS {
            add(&server, "mixed", json!({"data": n, "options": {"removeOnComplete": false}})).await;
        }
        let pullers = [pulling("pull-1"), pulling("pull-2")];
        server.post("/v1/queues/mixed/resume", json!({})).await.expect(200);
        // Both versions take part.
        five.taken().await;
        six.taken().await;
        wait::until_true("all jobs to end", 2 * PATIENCE, async || {
            server.get("/v1/queues/mixed").await.expect(200)["counts"]["completed"] == JOBS
        })
        .await;
        let mut pulled = 0;
        for puller in pullers {
            pulled += puller.await.expect("it ends");
        }
        assert!(pulled > 0, "no job was pulled");
        let told = told(&world, "mixed").await;
        assert_eq!(told.len(), JOBS);
        for (id, counts) in told {
            assert_eq!(counts, (1, 1), "{id}");
        }
        let counts = server.get("/v1/queues/mixed").await.expect(200)["counts"].clone();
        assert_eq!((&counts["active"], &counts["failed"]), (&json!(0), &json!(0)), "{counts}");
        five.close().await;
        six.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_kind_of_worker_recovers_the_jobs_of_the_others() {
        let world = world().await;
        let server = world.server().await;
        let peer = world.peer(BullMq::V6, "elsewhere");

        // A Node worker dies; whoever pulls gets its job.
        let mut dying = Worker::start_quick(&peer, Behaviour::Hang, 1).await;
        let id = add(&server, "elsewhere", json!({"data": 1})).await;
        assert_eq!(dying.taken().await, id);
        dying.kill();
        let claimed = claim(&server, "elsewhere", json!({"wait": "50s", "lease": "60s"})).await;
        assert_eq!(claimed["items"][0]["id"], id);
        complete(&server, "elsewhere", &claimed).await;

        // Whoever pulled falls silent; a Node worker gets its job.
        let id = add(&server, "elsewhere", json!({"data": 2})).await;
        let silent = claim(&server, "elsewhere", json!({"lease": "1s"})).await;
        assert_eq!(silent["items"][0]["id"], id);
        let mut worker = Worker::start_quick(&peer, Behaviour::Echo, 1).await;
        assert_eq!(worker.taken().await, id);
        assert_eq!(until_state(&server, "elsewhere", &id, "completed").await["result"], 2);
        worker.close().await;

        // And so does our runner, once the queue is declared with a processor.
        let id = add(&server, "elsewhere", json!({"data": 3})).await;
        let silent = claim(&server, "elsewhere", json!({"lease": "1s"})).await;
        assert_eq!(silent["items"][0]["id"], id);
        assert!(server.stop().await.success());
        let setup =
            world.setup.clone().config(&QUEUES.replace(
                "[queues.elsewhere]",
                "[queues.elsewhere]\nprocessor = { kind = \"builtin\", name = \"echo\" }",
            ));
        let server = Onetake::start(&setup).await;
        let done = until_state(&server, "elsewhere", &id, "completed").await;
        assert_eq!((&done["result"], &done["attempts_started"]), (&json!(3), &json!(2)));
    }
}
