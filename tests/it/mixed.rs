//! Mixed workers: Node's of both majors and our runner on one plain queue. No job is lost, none is run by two at once, those
//! of a worker that dies or hangs are recovered by the others, and whoever pauses, the others resume.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::books::{accounts, active, all_ended_once, over};
use crate::support::http::Api;
use crate::support::node::{Behaviour, BullMq, Observer, Producer, Worker};
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

const QUEUES: &str = r#"
[queues.nap]
processor = { kind = "builtin", name = "sleep" }
concurrency = 2
[queues.five]
processor = { kind = "builtin", name = "sleep" }
concurrency = 3
[queues.six]
processor = { kind = "builtin", name = "sleep" }
concurrency = 3
"#;

mod node_workers {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn three_kinds_of_workers_share_the_work() {
        super::share().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn our_runner_finishes_what_killed_node_workers_held() {
        super::recovers_theirs().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn node_workers_finish_what_our_killed_runner_held() {
        super::recover_ours().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_worker_that_hung_learns_that_its_job_is_done() {
        super::hung().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_pauses_the_others_resume() {
        super::pausing().await;
    }
}

async fn world() -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(QUEUES);
    world
}

async fn add(api: &Api, queue: &str, count: usize, ms: u64) {
    let path = format!("/v1/queues/{queue}/jobs");
    let adds = (0..count).map(|_| api.post(&path, json!({"data": {"ms": ms}})));
    for answer in futures::future::join_all(adds).await {
        answer.expect(201);
    }
}

async fn share() {
    const JOBS: usize = 240;
    let world = world().await;
    let server = world.server().await;
    server.post("/v1/queues/nap/pause", json!({})).await.expect(200);
    add(&server, "nap", JOBS, 30).await;
    let (five, six) = (world.peer(BullMq::V5, "nap"), world.peer(BullMq::V6, "nap"));
    let (_five, _six, mut observer) = tokio::join!(
        Worker::start_hasty(&five, Behaviour::Nap, 2, "five"),
        Worker::start_hasty(&six, Behaviour::Nap, 2, "six"),
        Observer::start(&six),
    );
    // Each sees the others in the list of workers.
    let listed = observer.queue("getWorkers", json!([])).await;
    let names: BTreeSet<_> =
        listed.as_array().expect("a list").iter().filter_map(|worker| worker["rawname"].as_str()).collect();
    assert!(names.len() >= 3, "{names:?}");
    server.post("/v1/queues/nap/resume", json!({})).await.expect(200);

    let accounts = all_ended_once(&world.redis, "nap", JOBS).await;
    let mut shares = BTreeMap::<String, usize>::new();
    for (id, account) in &accounts {
        assert_eq!(account.taken, 1, "{id} was begun twice");
        let by = world.redis.ask(&["HGET", &format!("bull:nap:{id}"), "pb"]).await;
        let by = by.text().expect("each worker has a name");
        let kind = if by.starts_with("onetake-") { "ours" } else { by };
        *shares.entry(kind.to_owned()).or_default() += 1;
    }
    assert_eq!(shares.len(), 3, "{shares:?}");
}

async fn recovers_theirs() {
    let world = world().await;
    for (version, queue) in [(BullMq::V5, "five"), (BullMq::V6, "six")] {
        let peer = world.peer(version, queue);
        let (mut worker, mut producer) =
            tokio::join!(Worker::start_hasty(&peer, Behaviour::Hang, 3, "theirs"), Producer::start(&peer));
        producer.give(&vec![json!({"data": {"ms": 1}}); 5]);
        producer.added().await;
        for _ in 0..3 {
            worker.taken().await;
        }
        worker.kill();
    }
    let _server = world.server().await;
    for queue in ["five", "six"] {
        let accounts = all_ended_once(&world.redis, queue, 5).await;
        assert_eq!(accounts.values().filter(|account| account.taken == 2).count(), 3, "{accounts:?}");
        assert_eq!(world.redis.ask(&["ZCARD", &format!("bull:{queue}:completed")]).await.number(), 5);
    }
}

async fn recover_ours() {
    let world = world().await;
    let mut server = world.server().await;
    for queue in ["five", "six"] {
        add(&server, queue, 5, 60_000).await;
        wait::until_true("three jobs to be in hand", PATIENCE, async || active(&world.redis, queue).await == 3).await;
    }
    server.kill();
    for (version, queue) in [(BullMq::V5, "five"), (BullMq::V6, "six")] {
        let worker = Worker::start_hasty(&world.peer(version, queue), Behaviour::Nap, 3, "theirs").await;
        let accounts = all_ended_once(&world.redis, queue, 5).await;
        assert_eq!(accounts.values().filter(|account| account.taken == 2).count(), 3, "{accounts:?}");
        worker.close().await;
    }
}

async fn hung() {
    let world = world().await;
    for (version, queue) in [(BullMq::V5, "five"), (BullMq::V6, "six")] {
        let peer = world.peer(version, queue);
        let (mut worker, mut producer) =
            tokio::join!(Worker::start_hasty(&peer, Behaviour::Hang, 1, "theirs"), Producer::start(&peer));
        producer.give(&[json!({"data": {"ms": 1}})]);
        producer.added().await;
        worker.taken().await;
        worker.freeze();
        let server = world.server().await;
        all_ended_once(&world.redis, queue, 1).await;
        // It wakes and renews a lease that it has lost.
        worker.thaw();
        producer.ended().await;
        let accounts = accounts(&world.redis, queue).await;
        assert!(accounts.values().all(|account| account.ended == 1 && account.taken == 2), "{accounts:?}");
        server.stop().await;
    }
}

/// Who pauses or resumes.
#[derive(Clone, Copy, Debug)]
enum Who {
    Five,
    Six,
    We,
}

async fn set_paused(who: Who, pauses: bool, server: &Onetake, five: &mut Observer, six: &mut Observer) {
    let verb = if pauses { "pause" } else { "resume" };
    match who {
        Who::Five => five.queue(verb, json!([])).await,
        Who::Six => six.queue(verb, json!([])).await,
        Who::We => server.post(&format!("/v1/queues/nap/{verb}"), json!({})).await.expect(200),
    };
}

async fn pausing() {
    use Who::{Five, Six, We};
    let world = world().await;
    let server = world.server().await;
    let (old, new) = (world.peer(BullMq::V5, "nap"), world.peer(BullMq::V6, "nap"));
    let (mut five, mut six) = tokio::join!(Observer::start(&old), Observer::start(&new));
    let mut jobs = 0;
    // Everybody adds while it is paused. BullMQ 5 keeps its jobs in a list of their own then, and would overwrite the other
    // one on resuming (this is why it must not be the one to resume a queue that others add to).
    for (pauser, resumer) in [(We, We), (Six, We), (We, Six), (Five, We), (Five, Six), (Six, Six)] {
        set_paused(pauser, true, &server, &mut five, &mut six).await;
        let before = over(&world.redis, "nap").await;
        add(&server, "nap", 2, 1).await;
        for observer in [&mut five, &mut six] {
            observer.queue("add", json!(["n", {"ms": 1}])).await;
            observer.queue("add", json!(["n", {"ms": 1}, {"priority": 3}])).await;
            observer.queue("add", json!(["n", {"ms": 1}, {"delay": 10}])).await;
        }
        jobs += 8;
        assert_eq!(over(&world.redis, "nap").await, before, "{pauser:?} paused it");
        let counts = server.get("/v1/queues/nap").await.expect(200);
        let of = |state: &str| counts["counts"][state].as_u64().expect("a count");
        assert_eq!(of("waiting") + of("prioritized") + of("delayed"), 8, "{counts}");
        assert_eq!(counts["paused"], true);
        set_paused(resumer, false, &server, &mut five, &mut six).await;
        let is_over = async || over(&world.redis, "nap").await == jobs;
        wait::until_true(&format!("{resumer:?} to have resumed what {pauser:?} paused"), 2 * PATIENCE, is_over).await;
    }
    // Alone with its own jobs, BullMQ 5 resumes what it paused.
    set_paused(Five, true, &server, &mut five, &mut six).await;
    five.queue("add", json!(["n", {"ms": 1}])).await;
    set_paused(Five, false, &server, &mut five, &mut six).await;
    all_ended_once(&world.redis, "nap", jobs + 1).await;
}
