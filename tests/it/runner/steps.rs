//! Jobs of several steps: a program that puts its own job off.

use super::*;

/// Three steps; the last returns what it was given.
const STEPS: &str = r#"in=$(cat); case "$in" in
*'"step":0'*) echo '{"next":"delay","ms":50,"data":{"at":"two"}}'; exit 75;;
*'"step":1'*) echo '{"next":"wait","data":{"at":"three"}}'; exit 75;;
*) printf %s "$in";; esac"#;

#[tokio::test]
async fn a_job_of_three_steps_is_one_attempt() {
    let (_world, server) = start(&shell("steps", STEPS)).await;
    let path = add(&server, "steps", json!({"data": {"at": "one"}})).await;
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["attempts_made"], &job["attempts_started"]), (&json!(1), &json!(3)));
    assert_eq!(job["data"], json!({"at": "three"}));
    let given = &job["result"];
    assert_eq!((&given["data"], &given["step"], &given["attempt"]), (&json!({"at": "three"}), &json!(2), &json!(1)));
}

mod node_steps {
    use super::*;
    use crate::support::node::{Behaviour, BullMq, Observer, Producer, Worker};

    async fn seen_by(version: BullMq) {
        let (world, _server) = start(&shell("steps", STEPS)).await;
        let peer = world.peer(version, "steps");
        let (mut producer, mut observer) = tokio::join!(Producer::start(&peer), Observer::start(&peer));
        producer.give(&[json!({"data": {"at": "one"}, "opts": {"attempts": 1}})]);
        let outcome = producer.ended().await.remove(0);
        assert_eq!(
            (outcome.ok, &outcome.value.as_ref().unwrap()["data"]["at"]),
            (true, &json!("three")),
            "{outcome:?}"
        );
        let id = outcome.id.unwrap();
        observer.event("completed", &id).await;
        let expected = ["added", "waiting", "active", "delayed", "waiting", "active", "waiting", "active", "completed"];
        assert_eq!(observer.events_of(&id), expected);
        let job = observer.job(&id).await;
        assert_eq!((&job["attemptsMade"], &job["attemptsStarted"]), (&json!(1), &json!(3)), "{job}");
    }

    #[tokio::test]
    async fn bullmq_5_sees_one_attempt() {
        seen_by(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_sees_one_attempt() {
        seen_by(BullMq::V6).await;
    }

    /// The children are added while the parent runs, and worked on by Node.
    #[tokio::test]
    async fn a_running_job_waits_for_children_that_node_adds_and_works_on() {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let script = format!(
            r#"case "$(cat)" in *'"step":0'*) while [ ! -e {} ]; do sleep 0.05; done; echo '{{"next":"children"}}'; exit 75;;
            *) echo '"together"';; esac"#,
            go.display()
        );
        let (world, server) = start(&format!("{}[queues.kids]\n", shell("parents", &script))).await;
        let (kids, parents) = (world.peer(BullMq::V6, "kids"), world.peer(BullMq::V6, "parents"));
        let (mut kids, mut parents) = tokio::join!(Observer::start(&kids), Observer::start(&parents));
        let path = add(&server, "parents", json!({"options": {"jobId": "p"}})).await;
        until_state(&server, &path, "active").await;
        for n in 0..2 {
            let child = json!(["child", {"n": n}, {"parent": {"id": "p", "queue": "bull:parents"}}]);
            kids.queue("add", child).await;
        }
        std::fs::write(&go, "").unwrap();
        until_state(&server, &path, "waiting-children").await;
        let worker = Worker::start(&world.peer(BullMq::V5, "kids"), Behaviour::Echo, 1).await;
        let job = until_state(&server, &path, "completed").await;
        assert_eq!((&job["result"], &job["attempts_made"]), (&json!("together"), &json!(1)));
        assert_eq!(job["children"]["processed"], 2);
        let values = parents.call("p", "getChildrenValues", json!([])).await;
        assert_eq!(values.as_object().map(serde_json::Map::len), Some(2), "{values}");
        worker.close().await;
    }
}
