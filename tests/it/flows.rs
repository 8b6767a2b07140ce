//! Flows that are added over HTTP, seen by Node as its own, and worked off by Node's workers and our runner alike.

mod node {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use crate::support::node::{Behaviour, BullMq, Observer, Worker};
    use crate::support::resp::Reply;
    use crate::support::server::Onetake;
    use crate::support::store::StoreKind;
    use crate::support::wait::{self, PATIENCE};
    use crate::support::world::World;

    const QUEUES: &str = r#"
    [queues.top]
    [queues.part]
    [queues.made]
    processor = { kind = "builtin", name = "echo" }
    [queues.broken]
    processor = { kind = "builtin", name = "fail" }
    "#;

    async fn world() -> World {
        let mut world = World::new(StoreKind::Sqlite).await;
        world.setup = world.setup.config(QUEUES);
        world
    }

    async fn until_state(server: &Onetake, queue: &str, id: &str, state: &str) -> Value {
        wait::until(&format!("{id} to be {state}"), 2 * PATIENCE, async || {
            let job = server.get(&format!("/v1/queues/{queue}/jobs/{id}")).await.expect(200);
            Some(job).filter(|job| job["state"] == state)
        })
        .await
    }

    /// What stands in Redis about the queues `<prefix>top` and `<prefix>part`, without the prefix, times and counters of
    /// connections: by key, texts of JSON as JSON, lists and sets as they are.
    async fn picture(world: &World, prefix: &str) -> BTreeMap<String, Value> {
        let base = format!("bull:{prefix}");
        let keys = world.redis.ask(&["KEYS", &format!("{base}*")]).await;
        let mut picture = BTreeMap::new();
        for key in keys.texts() {
            let plain = |text: &str| text.replace(&base, "bull:").replace('"', "'");
            let kind = world.redis.ask(&["TYPE", key]).await;
            let words: &[&str] = match kind.text().expect("a text") {
                "hash" => &["HGETALL", key],
                "zset" if key.ends_with(":prioritized") => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
                "zset" => &["ZRANGE", key, "0", "-1"],
                "set" => &["SMEMBERS", key],
                "list" => &["LRANGE", key, "0", "-1"],
                "stream" => &["XRANGE", key, "-", "+"],
                _ => &["GET", key],
            };
            let seen = match world.redis.ask(words).await {
                Reply::List(entries) if kind.text() == Some("stream") => {
                    let fields = entries.iter().map(|entry| match entry {
                        Reply::List(parts) => parts[1].texts().join(" "),
                        other => panic!("{other:?} is no entry"),
                    });
                    json!(fields.map(|line| without_time(&plain(&line))).collect::<Vec<_>>())
                }
                list @ Reply::List(_) if kind.text() == Some("hash") => {
                    let texts = list.texts();
                    let fields = texts.chunks(2).filter(|pair| !matches!(pair[0], "timestamp" | "version"));
                    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
                    let field = |pair: &[&str]| (pair[0].to_owned(), value(&pair[1].replace(&base, "bull:")));
                    json!(fields.map(field).collect::<BTreeMap<_, Value>>())
                }
                list @ Reply::List(_) => {
                    let mut members: Vec<_> = list.texts().into_iter().map(plain).collect();
                    // What is scored by its time may be of one millisecond or of several.
                    if kind.text() == Some("set") || key.ends_with(":waiting-children") {
                        members.sort();
                    }
                    json!(members)
                }
                other => json!(format!("{other:?}")),
            };
            picture.insert(plain(key), seen);
        }
        picture
    }

    /// Times in a line of events: numbers of thirteen digits.
    fn without_time(line: &str) -> String {
        let word =
            |word: &str| if word.len() == 13 && word.parse::<u64>().is_ok() { "TIME".into() } else { word.to_owned() };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_flow_of_ours_stands_as_node_leaves_its_own() {
        let mut world = world().await;
        world.setup = world.setup.env("ONETAKE_QUEUES__OPEN", "true");
        let server = world.server().await;
        let child = |queue: &str, id: &str, more: Value| {
            let mut child = json!({"queue": queue, "name": "n", "data": {"of": id}, "options": {"jobId": id}});
            child.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            child
        };
        let ours = |p: &str| {
            let (top, part) = (format!("{p}top"), format!("{p}part"));
            child(
                &top,
                "P",
                json!({"options": {"jobId": "P", "priority": 4, "attempts": 2}, "children": [
                    child(&part, "A", json!({"on_failure": "fail_parent"})),
                    child(&part, "B", json!({"on_failure": "ignore_dependency", "options": {"jobId": "B", "priority": 2}})),
                    child(&part, "C", json!({"on_failure": "remove_dependency", "options": {"jobId": "C", "delay": 60_000}})),
                    child(&top, "M", json!({"on_failure": "continue_parent", "children": [
                        child(&top, "D", json!({"options": {"jobId": "D", "lifo": true, "removeOnComplete": 5}})),
                    ]})),
                ]}),
            )
        };
        server.post("/v1/flows", ours("o-")).await.expect(201);

        let node = |queue: &str, id: &str, opts: Value, children: Vec<Value>| {
            let mut opts = opts;
            opts["jobId"] = json!(id);
            json!({"name": "n", "queueName": queue, "data": {"of": id}, "opts": opts, "children": children})
        };
        let theirs = node(
            "n-top",
            "P",
            json!({"priority": 4, "attempts": 2}),
            vec![
                node("n-part", "A", json!({"failParentOnFailure": true}), vec![]),
                node("n-part", "B", json!({"ignoreDependencyOnFailure": true, "priority": 2}), vec![]),
                node("n-part", "C", json!({"removeDependencyOnFailure": true, "delay": 60_000}), vec![]),
                node(
                    "n-top",
                    "M",
                    json!({"continueParentOnFailure": true}),
                    vec![node("n-top", "D", json!({"lifo": true, "removeOnComplete": 5}), vec![])],
                ),
            ],
        );
        Observer::start(&world.peer(BullMq::V6, "elsewhere")).await.flow(theirs).await;
        let (ours, theirs) = (picture(&world, "o-").await, picture(&world, "n-").await);
        for (key, theirs) in &theirs {
            if key.ends_with(":meta") {
                continue;
            }
            let mut ours = ours.get(key).cloned().unwrap_or_default();
            let mut theirs = theirs.clone();
            // Node notes no attempts as 0 of them.
            let options = theirs.get_mut("opts").and_then(Value::as_object_mut);
            if let Some(options) = options.filter(|options| options.get("attempts") == Some(&json!(0))) {
                options.remove("attempts");
            }
            if key.ends_with(":events") {
                // Siblings and generations come in another order; what is told of each job is the same.
                for events in [&mut ours, &mut theirs] {
                    let list = events.as_array_mut().expect("a list");
                    list.sort_by_key(Value::to_string);
                }
            }
            assert_eq!(ours, theirs, "{key}");
        }
        let keys = |picture: &BTreeMap<String, Value>| picture.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&theirs));
    }

    #[tokio::test]
    async fn node_sees_our_flow_as_its_own_and_works_it_off() {
        for version in [BullMq::V5, BullMq::V6] {
            let world = world().await;
            let server = world.server().await;
            let flow = json!({"queue": "top", "data": "all", "options": {"jobId": "P"}, "children": [
                {"queue": "part", "data": {"n": 1}, "options": {"jobId": "A"}},
                {"queue": "made", "data": {"n": 2}, "options": {"jobId": "B"}, "children": [
                    {"queue": "part", "data": {"n": 3}, "options": {"jobId": "C"}},
                ]},
            ]});
            server.post("/v1/flows", flow).await.expect(201);
            let mut observer = Observer::start(&world.peer(version, "top")).await;
            let mut tree = observer.tree("top", "P").await;
            let children = tree["children"].as_array_mut().expect("a list");
            children.sort_by_key(|child| child["id"].to_string());
            let leaf = |id: &str| json!({"id": id, "queue": "part", "children": []});
            let middle = json!({"id": "B", "queue": "made", "children": [leaf("C")]});
            assert_eq!(tree, json!({"id": "P", "queue": "top", "children": [leaf("A"), middle]}));
            let dependencies = observer.call("P", "getDependencies", json!([])).await;
            let mut open = dependencies["unprocessed"].as_array().expect("a list").clone();
            open.sort_by_key(Value::to_string);
            assert_eq!(open, [json!("bull:made:B"), json!("bull:part:A")]);

            // Node works the leaves and the root off, our runner what is between.
            let peer = |queue| world.peer(version, queue);
            let parts = Worker::start(&peer("part"), Behaviour::Echo, 2).await;
            until_state(&server, "top", "P", "waiting").await;
            let values = observer.call("P", "getChildrenValues", json!([])).await;
            assert_eq!(values, json!({"bull:part:A": {"n": 1}, "bull:made:B": {"n": 2}}));
            let top = Worker::start(&peer("top"), Behaviour::Echo, 1).await;
            assert_eq!(until_state(&server, "top", "P", "completed").await["result"], "all");
            assert_eq!(observer.event("completed", "P").await["returnvalue"], "all");
            let shown = server.get("/v1/queues/top/jobs/P/tree").await.expect(200);
            assert_eq!(shown["counts"], json!({"unprocessed": 0, "processed": 2, "ignored": 0, "failed": 0}));
            assert!(shown["children"].as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "completed")));
            parts.close().await;
            top.close().await;
        }
    }

    #[tokio::test]
    async fn a_failing_child_means_what_its_policy_says_whoever_works() {
        let world = world().await;
        let server = world.server().await;
        let mut observer = Observer::start(&world.peer(BullMq::V6, "made")).await;
        for (policy, state) in [
            ("fail_parent", "failed"),
            ("continue_parent", "failed"), // its other child is still pending when it wants to complete
            ("ignore_dependency", "completed"),
            ("remove_dependency", "completed"),
        ] {
            // By our runner: the queue `broken` fails everything, `made` echoes.
            let root = format!("root-{policy}");
            let flow = json!({"queue": "made", "data": policy, "options": {"jobId": root}, "children": [
                {"queue": "broken", "on_failure": policy},
                {"queue": "made", "on_failure": policy, "options": {"delay": if policy == "continue_parent" { 60_000 } else { 0 }}},
            ]});
            server.post("/v1/flows", flow).await.expect(201);
            let ended = until_state(&server, "made", &root, state).await;
            let dependencies = observer.call(&root, "getDependencies", json!([])).await;
            let count = |kind: &str| {
                dependencies[kind]
                    .as_array()
                    .map_or_else(|| dependencies[kind].as_object().map_or(0, serde_json::Map::len), Vec::len)
            };
            let seen = (count("processed"), count("unprocessed"), count("ignored"), count("failed"));
            let expected = match policy {
                "continue_parent" => (0, 1, 1, 0),
                "ignore_dependency" => (1, 0, 1, 0),
                "remove_dependency" => (1, 0, 0, 0),
                // The other child may have ended before or after.
                _ => (seen.0, 1 - seen.0, 0, 1),
            };
            assert_eq!(seen, expected, "{policy}: {ended}");
        }

        // By a Node worker.
        let failing = Worker::start(&world.peer(BullMq::V6, "part"), Behaviour::Fail, 1).await;
        let flow = json!({"queue": "made", "options": {"jobId": "by-node"}, "children": [
            {"queue": "part", "on_failure": "fail_parent", "options": {"jobId": "doomed"}},
        ]});
        server.post("/v1/flows", flow).await.expect(201);
        let failed = until_state(&server, "made", "by-node", "failed").await;
        assert_eq!(failed["failed_reason"], "child bull:part:doomed failed");
        let shown = server.get("/v1/queues/made/jobs/by-node/tree").await.expect(200);
        assert_eq!(
            (&shown["children"][0]["kind"], &shown["children"][0]["state"]),
            (&json!("failed"), &json!("failed"))
        );
        failing.close().await;
    }
}
