//! Jobs that give themselves children, wait for them, and go on with what those made.

use super::*;

/// What the job's program says in its first step; in the next it sums up what its children made.
fn sums(first: &str) -> String {
    let script = r#"in=$(cat); case "$in" in *'"step":0'*) FIRST;; *) sum=0
for n in $(printf %s "$in" | grep -o '"result":[0-9]*' | cut -d: -f2); do sum=$((sum+n)); done; echo $sum;; esac"#;
    shell("sums", &script.replace("FIRST", first))
}

/// Says that it waits for two children, one of which has a child itself.
const TWO: &str = r#"echo '{"next":"children","add":[{"queue":"part","data":2,"options":{"jobId":"a"}},
{"queue":"part","data":40,"children":[{"queue":"part","data":1000}]}]}'; exit 75"#;

const PARTS: &str = "[queues.part]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";

#[tokio::test]
async fn a_job_adds_its_children_and_sums_up_what_they_made() {
    let (_world, server) = start(&format!("{}{PARTS}", sums(TWO))).await;
    let path = add(&server, "sums", json!({})).await;
    let job = until_state(&server, &path, "completed").await;
    assert_eq!((&job["result"], &job["attempts_made"], &job["attempts_started"]), (&json!(42), &json!(1), &json!(2)));
    assert_eq!(job["children"], json!({"unprocessed": 0, "processed": 2, "ignored": 0, "failed": 0}));
    let child = server.get("/v1/queues/part/jobs/a").await.expect(200);
    assert_eq!((&child["state"], &child["result"]), (&json!("completed"), &json!(2)));
    assert_eq!(counts(&server, "part").await["completed"], 3);
}

#[tokio::test]
async fn children_that_cannot_be_fail_the_job_for_good_and_none_is_added() {
    let say = |list: &str| format!(r#"echo '{{"next":"children","add":{list}}}'; exit 75"#);
    let taken = r#"[{"queue":"part"},{"queue":"part","children":[{"queue":"held","options":{"jobId":"k"}}]}]"#;
    for (list, reason) in [
        ("5", "add: "),
        (r#"{"queue":"part"}"#, "add: "),
        (r#"[{"queue":"part"},["part"]]"#, "add[1]: "),
        (r#"[{"queue":"part"},{"queue":"nope"}]"#, "add[1].queue: no queue of this name is declared"),
        (r#"[{"queue":"part","childern":[]}]"#, "add[0].childern: "),
        (r#"[{"queue":"part","options":{"jobId":"7"}}]"#, "add[0]: a job id must not be an integer"),
        (r#"[{"queue":"part","parent":{"queue":"sums","id":"j"}}]"#, "add[0].parent: "),
        (r#"[{"queue":"part","options":{"jobId":"x"}},{"queue":"part","options":{"jobId":"x"}}]"#, "add[1]: two jobs"),
        (taken, "add[1].children[0]: a job of this id is there already, and is another one's child"),
    ] {
        let (_world, server) = start(&format!("{}{PARTS}[queues.held]\n", sums(&say(list)))).await;
        let other = json!({"queue": "held", "children": [{"queue": "held", "options": {"jobId": "k"}}]});
        server.post("/v1/flows", other).await.expect(201);
        let path = add(&server, "sums", json!({"options": {"jobId": "j", "attempts": 5}})).await;
        let job = until_state(&server, &path, "failed").await;
        let told = job["failed_reason"].as_str().unwrap_or_default();
        assert!(told.starts_with(reason), "{list}: {told}");
        assert_eq!(job["attempts_made"], 1, "{list}");
        let counts = counts(&server, "part").await;
        assert!(counts.as_object().unwrap().values().all(|count| count == 0), "{list}: {counts}");
    }
}

#[tokio::test]
async fn a_server_that_dies_before_the_step_has_ended_has_added_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (started, go) = (folder.path().join("started"), folder.path().join("go"));
    let first = format!("echo > {}; while [ ! -e {} ]; do sleep 0.05; done; {TWO}", started.display(), go.display());
    let (world, mut server) = start(&format!("{}{PARTS}", sums(&first))).await;
    let path = add(&server, "sums", json!({})).await;
    wait::until_true("the first run to start", PATIENCE, async || started.exists()).await;
    server.kill();
    std::fs::write(&go, "").unwrap();
    let second = world.server().await;
    let job = until_state(&second, &path, "completed").await;
    assert_eq!(job["result"], 42);
    assert_eq!(counts(&second, "part").await["completed"], 3);
}

mod node {
    use super::*;
    use crate::support::node::{BullMq, Observer};

    async fn seen_by(version: BullMq) {
        let (world, server) = start(&format!("{}{PARTS}", sums(TWO))).await;
        let mut observer = Observer::start(&world.peer(version, "sums")).await;
        let path = add(&server, "sums", json!({"options": {"jobId": "top"}})).await;
        until_state(&server, &path, "completed").await;
        let tree = observer.tree("sums", "top").await;
        let mut children = tree["children"].as_array().expect("a list").clone();
        children.sort_by_key(|child| child["children"].to_string());
        assert_eq!((&children[0]["id"], &children[0]["queue"]), (&json!("a"), &json!("part")), "{tree}");
        assert_eq!(children[1]["children"].as_array().map(Vec::len), Some(1), "{tree}");
        observer.event("completed", "top").await;
        let expected = ["added", "waiting", "active", "waiting-children", "waiting", "active", "completed"];
        assert_eq!(observer.events_of("top"), expected);
        let values = observer.call("top", "getChildrenValues", json!([])).await;
        let values: i64 = values.as_object().expect("an object").values().filter_map(Value::as_i64).sum();
        assert_eq!(values, 42);
    }

    #[tokio::test]
    async fn bullmq_5_sees_the_children_as_its_own() {
        seen_by(BullMq::V5).await;
    }

    #[tokio::test]
    async fn bullmq_6_sees_the_children_as_its_own() {
        seen_by(BullMq::V6).await;
    }
}
