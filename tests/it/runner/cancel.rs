//! Cancelling jobs: what is running is stopped with all that it started, by whichever server runs it, and whatever dies.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A program with a child; both write their process ids down, one line an attempt.
struct Hanging {
    folder: TempDir,
}

impl Hanging {
    fn new() -> Self {
        Self { folder: TempDir::with_prefix("onetake-hang-").unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pids")
    }

    fn queue(&self) -> String {
        shell("hang", &format!("sleep 1000 & echo $$ $! >> {}; wait", self.file().display()))
    }

    /// The process ids of each attempt so far.
    fn attempts(&self) -> Vec<Vec<i32>> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().map(|line| line.split(' ').filter_map(|pid| pid.parse().ok()).collect()).collect()
    }

    async fn until_begun(&self) {
        wait::until_true("the program to run", PATIENCE, async || !self.attempts().is_empty()).await;
    }

    /// All that was ever started is gone, and there was one attempt.
    async fn assert_gone(&self) {
        let attempts = self.attempts();
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        for pid in &attempts[0] {
            wait::until_true("the processes to be gone", PATIENCE, async || !is_alive(*pid)).await;
        }
    }
}

/// Whether a process is there; one that is dead and not yet collected is not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Leases so long that no renewal comes while a test looks: what is heard, is heard at once.
async fn unhurried(queues: &str) -> World {
    let mut world = world(queues).await;
    for (name, value) in [("LEASE", "10m"), ("RENEW", "3m")] {
        world.setup = world.setup.env(&format!("ONETAKE_RUNNER__{name}"), value);
    }
    world
}

/// A second server on the same queues, which shares neither store nor channels with the first.
async fn stranger(world: &World, queues: &str) -> (World, Onetake) {
    let mut other = super::world(queues).await;
    let namespace = ("ONETAKE_REDIS__NAMESPACE", "other");
    other.setup = other.setup.env(namespace.0, namespace.1).env("REDIS_URL", world.redis.url());
    let server = other.server().await;
    (other, server)
}

async fn cancel(api: &Api, path: &str, status: u16) -> Value {
    api.post(&format!("{path}/cancel"), json!({"reason": "no longer wanted"})).await.expect(status)
}

#[tokio::test]
async fn a_running_program_is_stopped_with_its_children_and_the_job_fails_for_good() {
    let hanging = Hanging::new();
    let world = unhurried(&hanging.queue()).await;
    let server = world.server().await;
    let path = add(&server, "hang", json!({"options": {"attempts": 5}})).await;
    hanging.until_begun().await;
    assert_eq!(cancel(&server, &path, 202).await["state"], "active");
    let job = until_state(&server, &path, "failed").await;
    assert_eq!((&job["failed_reason"], &job["attempts_made"]), (&json!("no longer wanted"), &json!(1)));
    hanging.assert_gone().await;
    assert_eq!(cancel(&server, &path, 409).await["code"], "job_wrong_state");
    // An operator may change their mind.
    server.post(&format!("{path}/retry"), json!({})).await.expect(200);
    wait::until_true("another attempt", PATIENCE, async || hanging.attempts().len() == 2).await;
}

#[tokio::test]
async fn a_cancellation_whose_message_is_lost_is_found_by_the_next_renewal() {
    let hanging = Hanging::new();
    let world = world(&hanging.queue()).await;
    let server = world.server().await;
    let path = add(&server, "hang", json!({})).await;
    hanging.until_begun().await;
    // Its messages go another way; it has no room for the job itself.
    let (_other, elsewhere) = stranger(&world, "[queues.hang]\n").await;
    cancel(&elsewhere, &path, 202).await;
    assert_eq!(until_state(&server, &path, "failed").await["failed_reason"], "no longer wanted");
    hanging.assert_gone().await;
}

#[tokio::test]
async fn a_cancelled_job_whose_server_dies_is_not_run_again() {
    let hanging = Hanging::new();
    let world = world(&hanging.queue()).await;
    let mut server = world.server().await;
    let path = add(&server, "hang", json!({"options": {"attempts": 5}})).await;
    hanging.until_begun().await;
    let (_other, elsewhere) = stranger(&world, &hanging.queue()).await;
    // It cannot hear any more.
    server.freeze();
    let told = cancel(&elsewhere, &path, 202).await;
    server.kill();
    assert_eq!(told["attempts_started"], 1, "{told}");
    let job = until_state(&elsewhere, &path, "failed").await;
    assert_eq!(job["failed_reason"], "no longer wanted");
    hanging.assert_gone().await;
}

#[tokio::test]
async fn a_cancellation_outlives_redis() {
    let hanging = Hanging::new();
    let mut world = world(&hanging.queue()).await;
    // Long leases, so that the frozen server is still the owner when it comes back; and it looks often.
    world.setup = world.setup.env("ONETAKE_RUNNER__LEASE", "5m");
    let server = world.server().await;
    let path = add(&server, "hang", json!({})).await;
    hanging.until_begun().await;
    let (_other, elsewhere) = stranger(&world, "[queues.hang]\n").await;
    server.freeze();
    cancel(&elsewhere, &path, 202).await;
    world.redis.restart().await;
    server.thaw();
    wait::until_true("the job to have failed", PATIENCE, async || {
        let answer = server.get(&path).await;
        answer.status == 200 && answer.json()["failed_reason"] == "no longer wanted"
    })
    .await;
    hanging.assert_gone().await;
}

#[tokio::test]
async fn what_waits_fails_at_once_and_bad_wishes_change_nothing() {
    let (_world, server) = start("[queues.idle]\n[queues.wish.dedupe]\nfields = [\"a\"]\n[queues.wish.processor]\nkind = \"builtin\"\nname = \"echo\"\n").await;
    for options in [json!({}), json!({"priority": 3}), json!({"delay": 60_000})] {
        let path = add(&server, "idle", json!({"options": options})).await;
        let refused = server.post(&format!("{path}/cancel"), json!({"reason": "  "})).await;
        assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("reason")));
        let long = json!({"reason": "x".repeat(1001)});
        assert_eq!(server.post(&format!("{path}/cancel"), long).await.expect(422)["field"], "reason");
        assert_ne!(server.get(&path).await.expect(200)["state"], "failed");
        let job = cancel(&server, &path, 200).await;
        assert_eq!((&job["state"], &job["failed_reason"]), (&json!("failed"), &json!("no longer wanted")));
        // Without a body, there is a reason all the same.
        let path = add(&server, "idle", json!({"options": options})).await;
        let answer = server.post(&format!("{path}/cancel"), json!({})).await.expect(200);
        assert_eq!(answer["failed_reason"], "cancelled");
    }
    assert_eq!(cancel(&server, "/v1/queues/idle/jobs/nobody", 404).await["code"], "job_unknown");
    assert_eq!(cancel(&server, "/v1/queues/nobody/jobs/1", 404).await["code"], "queue_unknown");
    assert_eq!(cancel(&server, "/v1/queues/wish/jobs/1", 422).await["field"], "queue");
}

mod node_cancel {
    use super::*;
    use crate::support::node::{Behaviour, BullMq, Producer, Worker};

    async fn of(version: BullMq) {
        let hanging = Hanging::new();
        let (world, server) = start(&format!("{}[queues.theirs]\n", hanging.queue())).await;
        let (ours, theirs) = (world.peer(version, "hang"), world.peer(version, "theirs"));
        let (mut ours, mut worker, mut theirs) =
            tokio::join!(Producer::start(&ours), Worker::start(&theirs, Behaviour::Hang, 1), Producer::start(&theirs));
        // Its producer hears that a job of ours was cancelled.
        ours.give(&[json!({"data": {}, "opts": {"attempts": 3}})]);
        let id = ours.added().await.remove(0);
        hanging.until_begun().await;
        cancel(&server, &format!("/v1/queues/hang/jobs/{id}"), 202).await;
        let outcome = ours.ended().await.remove(0);
        assert_eq!((outcome.ok, outcome.error.as_deref()), (false, Some("no longer wanted")));
        hanging.assert_gone().await;
        // A job that its own worker runs is left alone; one that waits is not.
        theirs.give(&[json!({"data": {}}), json!({"data": {}})]);
        let ids = theirs.added().await;
        let taken = worker.taken().await;
        let waits = ids.iter().find(|id| **id != taken).expect("it takes one");
        let path = |id: &str| format!("/v1/queues/theirs/jobs/{id}");
        assert_eq!(cancel(&server, &path(&taken), 409).await["code"], "job_foreign");
        assert_eq!(server.get(&path(&taken)).await.expect(200)["state"], "active");
        cancel(&server, &path(waits), 200).await;
        wait::until_true("the producer to be told", PATIENCE, async || {
            server.get(&path(waits)).await.expect(200)["state"] == "failed"
        })
        .await;
    }

    #[tokio::test]
    async fn bullmq_5_is_told() {
        of(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_is_told() {
        of(BullMq::V6).await;
    }

    /// The mark on a job is BullMQ's own, so its workers heed it where ours has died.
    #[tokio::test]
    async fn a_node_worker_does_not_run_what_was_cancelled_here() {
        let hanging = Hanging::new();
        let world = world(&hanging.queue()).await;
        let mut server = world.server().await;
        let path = add(&server, "hang", json!({"options": {"attempts": 5}})).await;
        hanging.until_begun().await;
        let (_other, elsewhere) = stranger(&world, "[queues.hang]\n").await;
        server.freeze();
        cancel(&elsewhere, &path, 202).await;
        server.kill();
        let options = json!({"stalledInterval": 500});
        let _worker = Worker::start_with(&world.peer(BullMq::V6, "hang"), Behaviour::Echo, 1, &options).await;
        let job = until_state(&elsewhere, &path, "failed").await;
        assert_eq!(job["failed_reason"], "no longer wanted");
    }
}
