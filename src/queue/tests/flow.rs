//! Flows: added as a whole or not at all, and read as trees.

use super::*;
use crate::queue::{AddedFlow, ChildKind, Extent, Flow, FlowError, Keep, OnFailure};

impl World {
    pub(super) fn other(&self, name: &str) -> Queue {
        Queue::new(self.redis.clone(), "bull", QueueName::parse(name).expect("a plain name"))
    }

    /// All keys with what stands in them, but for the streams.
    pub(super) async fn everything(&self) -> Vec<String> {
        let keys = raw(&self.redis, &["KEYS", "*"]).await.texts().expect("keys are texts");
        let mut all = Vec::new();
        for key in keys {
            let look = match self.see(&format!("TYPE {key}")).await.as_str() {
                // Neither a hash nor a set has an order of its own.
                "hash" => {
                    let mut fields: Vec<_> = self.redis.hgetall(&key).await.expect("a hash").into_iter().collect();
                    fields.sort();
                    all.push(format!("{key} {fields:?}"));
                    continue;
                }
                "zset" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
                "set" => format!("SORT {key} ALPHA"),
                "list" => format!("LRANGE {key} 0 -1"),
                "string" => format!("GET {key}"),
                _ => continue,
            };
            all.push(format!("{key} {}", self.see(&look).await));
        }
        all.sort();
        all
    }
}

/// Nobody could retry or remove it any more.
#[tokio::test]
async fn a_failed_child_that_is_not_kept_holds_its_parent_up_no_longer() {
    let world = World::new().await;
    let options = JobOptions { remove_on_fail: Some(Keep::NONE), ..JobOptions::default() };
    let child = Flow { ..Flow::new(world.queue.clone(), Add { options, ..named("c") }) };
    let kept = leaf(&world.queue, "kept", OnFailure::Wait);
    let flow = Flow { children: vec![child, kept], ..leaf(&world.queue, "p", OnFailure::Wait) };
    flow.add("f", NOW).await.unwrap();
    for id in ids(&world.take(2).await) {
        let how = How::Fail { reason: "no".into(), stack: None };
        world.settle(id, how).await;
    }
    assert_eq!(world.see("SMEMBERS bull:q:p:dependencies").await, "[bull:q:kept]");
    assert_eq!(world.see("EXISTS bull:q:c").await, "0");
    world.queue.remove("kept", NOW).await.unwrap();
    assert_eq!(ids(&world.take(1).await), ["p"]);
}

pub(super) fn leaf(queue: &Queue, id: &str, on_failure: OnFailure) -> Flow {
    Flow { on_failure, ..Flow::new(queue.clone(), named(id)) }
}

/// `P` in `q` over `C1` in `r` and `M` in `r`, which is over `C2` in `q`.
fn family(world: &World) -> Flow {
    let (q, r) = (&world.queue, &world.other("r"));
    let middle = Flow { children: vec![leaf(q, "C2", OnFailure::Wait)], ..leaf(r, "M", OnFailure::IgnoreDependency) };
    Flow {
        children: vec![leaf(r, "C1", OnFailure::FailParent), middle],
        ..Flow::new(q.clone(), Add { options: JobOptions { priority: 5, ..Default::default() }, ..named("P") })
    }
}

#[tokio::test]
async fn a_flow_stands_as_bullmq_lays_it_out() {
    let world = World::new().await;
    let AddedFlow { jobs, is_new } = family(&world).add("f", NOW).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|(queue, id)| format!("{queue} {id}")).collect();
    assert_eq!((ids, is_new), (["q P", "r C1", "r M", "q C2"].map(str::to_owned).to_vec(), true));
    assert_eq!(world.see("ZRANGE bull:q:waiting-children 0 -1 WITHSCORES").await, format!("[P {NOW}]"));
    assert_eq!(world.see("ZRANGE bull:r:waiting-children 0 -1").await, "[M]");
    assert_eq!(world.see("LRANGE bull:r:wait 0 -1").await, "[C1]");
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[C2]");
    assert_eq!(world.see("EXISTS bull:q:prioritized bull:q:delayed").await, "0", "a parent's priority counts later");
    assert_eq!(world.see("MGET bull:q:id bull:r:id").await, "[2 2]");
    assert_eq!(world.see("SCARD bull:q:P:dependencies").await, "2");
    assert_eq!(world.see("SMEMBERS bull:r:M:dependencies").await, "[bull:q:C2]");
    for (key, parent) in [
        ("bull:r:C1", r#"{"fpof":true,"id":"P","queueKey":"bull:q"}"#),
        ("bull:r:M", r#"{"id":"P","idof":true,"queueKey":"bull:q"}"#),
        ("bull:q:C2", r#"{"id":"M","queueKey":"bull:r"}"#),
    ] {
        let stored: serde_json::Value = serde_json::from_str(&world.see(&format!("HGET {key} parent")).await).unwrap();
        assert_eq!(stored, serde_json::from_str::<serde_json::Value>(parent).unwrap(), "{key}");
    }
    assert_eq!(world.see("HGET bull:q:C2 parentKey").await, "bull:r:M");
    let options: serde_json::Value = serde_json::from_str(&world.see("HGET bull:r:C1 opts").await).unwrap();
    let parent = serde_json::json!({"id": "P", "queue": "bull:q"});
    assert_eq!(options, serde_json::json!({"jobId": "C1", "fpof": true, "parent": parent}));
    assert_eq!(world.see("EXISTS bull:q:marker bull:r:marker").await, "2");
    assert_eq!(world.see("HGET bull:r:meta opts.maxLenEvents").await, "10000");
    let told = ["added jobId=P name=n", "waiting-children jobId=P", "added jobId=C2 name=n", "waiting jobId=C2"];
    assert_eq!(world.news().await, told);
}

#[tokio::test]
async fn a_flow_that_is_there_is_not_added_again() {
    let world = World::new().await;
    let unnamed = Flow {
        children: vec![Flow::new(world.other("r"), plain()), Flow::new(world.queue.clone(), plain())],
        ..Flow::new(world.queue.clone(), plain())
    };
    let first = unnamed.add("f-x", NOW).await.unwrap();
    assert_eq!(first.jobs.iter().map(|job| job.1.as_str()).collect::<Vec<_>>(), ["f-x-0", "f-x-1", "f-x-2"]);
    let before = world.everything().await;
    let again = unnamed.add("f-x", NOW + 5).await.unwrap();
    assert_eq!((again.jobs == first.jobs, again.is_new), (true, false));
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn a_refused_flow_changes_nothing() {
    let world = World::new().await;
    let r = world.other("r");
    family(&world).add("f", NOW).await.unwrap();
    let before = world.everything().await;
    let over = |children| Flow { children, ..Flow::new(world.queue.clone(), named("root")) };
    let deduplicating = {
        let deduplication = crate::queue::Deduplication { id: "d".into(), ..Default::default() };
        let options = JobOptions { deduplication: Some(deduplication), ..Default::default() };
        Flow::new(r.clone(), job(options))
    };
    let deep = (0..40).fold(Flow::new(r.clone(), plain()), |below, _| Flow {
        children: vec![below],
        ..Flow::new(r.clone(), plain())
    });
    let wide = over((0..1_000).map(|_| Flow::new(r.clone(), plain())).collect());
    let parent_again = Flow { children: vec![leaf(&r, "x", OnFailure::Wait)], ..leaf(&r, "M", OnFailure::Wait) };
    let cases = [
        (over(vec![leaf(&r, "new", OnFailure::Wait), leaf(&r, "C1", OnFailure::Wait)]), "OtherParent { at: [1] }"),
        (over(vec![parent_again]), "ParentExists { at: [0] }"),
        (over(vec![leaf(&r, "a", OnFailure::Wait), leaf(&r, "a", OnFailure::Wait)]), "Twice { at: [1] }"),
        (over(vec![leaf(&r, "5", OnFailure::Wait)]), "Job { at: [0], source: IntegerId }"),
        (over(vec![deduplicating]), "Deduplication { at: [0] }"),
        (deep, "TooLarge"),
        (wide, "TooLarge"),
    ];
    for (flow, why) in cases {
        let refused: FlowError = flow.add("g", NOW).await.unwrap_err();
        assert_eq!(format!("{refused:?}"), why);
        assert_eq!(world.everything().await, before, "{why}");
    }
}

#[tokio::test]
async fn a_child_that_is_there_already_counts_as_it_is() {
    let world = World::new().await;
    world.queue.add(vec![named("done"), named("waits")], NOW).await.unwrap();
    world.take(1).await;
    world.settle("done", complete("{\"r\":1}")).await;
    let over = |id: &str, children: &[&str]| Flow {
        children: children.iter().map(|child| leaf(&world.queue, child, OnFailure::Wait)).collect(),
        ..leaf(&world.queue, id, OnFailure::Wait)
    };
    over("P", &["done", "waits"]).add("f", NOW).await.unwrap();
    assert_eq!(world.see("HGETALL bull:q:P:processed").await, "[bull:q:done {\"r\":1}]");
    assert_eq!(world.see("SMEMBERS bull:q:P:dependencies").await, "[bull:q:waits]");
    assert_eq!(world.see("HMGET bull:q:waits parentKey data").await, "[bull:q:P {}]");
    world.take(1).await;
    world.settle("waits", complete("2")).await;
    assert_eq!(ids(&world.take(1).await), ["P"]);

    // All of its children had completed: it need not wait.
    world.queue.add(vec![named("also done")], NOW).await.unwrap();
    world.take(1).await;
    world.settle("also done", complete("3")).await;
    over("Q", &["also done"]).add("f", NOW).await.unwrap();
    assert_eq!(ids(&world.take(1).await), ["Q"]);
}

#[tokio::test]
async fn each_policy_does_to_the_parent_what_it_says() {
    for (policy, state) in [
        (OnFailure::Wait, "waiting-children"),
        (OnFailure::FailParent, "waiting"),
        (OnFailure::ContinueParent, "waiting"),
        (OnFailure::IgnoreDependency, "waiting-children"),
        (OnFailure::RemoveDependency, "waiting-children"),
    ] {
        let world = World::new().await;
        let children = vec![leaf(&world.queue, "C1", policy), leaf(&world.queue, "C2", policy)];
        Flow { children, ..leaf(&world.queue, "P", OnFailure::Wait) }.add("f", NOW).await.unwrap();
        assert_eq!(ids(&world.take(1).await), ["C1"]);
        world.settle("C1", fail("no")).await;
        assert_eq!(world.queue.state("P").await.unwrap().unwrap().as_str(), state, "{policy:?}");
        let taken = world.take(3).await;
        let second: Vec<_> = taken.jobs.iter().map(Record::id).filter(|id| *id == "C2").collect();
        assert_eq!(second, ["C2"], "{policy:?}");
        world.settle("C2", complete("1")).await;
        let last = if policy == OnFailure::Wait { "waiting-children" } else { "waiting" };
        let state = world.queue.state("P").await.unwrap().unwrap();
        assert!(state.as_str() == last || state.as_str() == "active", "{policy:?}: {state}");
    }
}

#[tokio::test]
async fn a_tree_is_read_as_far_as_one_wants_to_look() {
    let world = World::new().await;
    let r = world.other("r");
    family(&world).add("f", NOW).await.unwrap();
    let queue_of = |name: &str| [&world.queue, &r].into_iter().find(|queue| queue.name().as_str() == name).cloned();
    let far = Extent { depth: 10, width: 20, jobs: 100 };
    let tree = world.queue.tree("P", far, queue_of).await.unwrap().unwrap();
    let names = |branch: &crate::queue::Branch| branch.children.iter().map(|b| b.key.clone()).collect::<Vec<_>>();
    assert_eq!((tree.key.as_str(), names(&tree)), ("bull:q:P", vec!["bull:r:C1".to_owned(), "bull:r:M".to_owned()]));
    assert_eq!(names(&tree.children[1]), ["bull:q:C2"]);
    assert!(matches!(tree.children[0].place, Some((ChildKind::Unprocessed, None))));
    assert_eq!(tree.job.as_ref().unwrap().children.unprocessed, 2);

    let near = world.queue.tree("P", Extent { depth: 1, ..far }, queue_of).await.unwrap().unwrap();
    assert!(near.children.iter().all(|child| child.children.is_empty() && child.job.is_some()));
    let narrow = world.queue.tree("P", Extent { width: 1, ..far }, queue_of).await.unwrap().unwrap();
    // Which one the set names first is Redis' affair.
    assert_eq!(narrow.children.len(), 1);
    let few = world.queue.tree("P", Extent { jobs: 3, ..far }, queue_of).await.unwrap().unwrap();
    assert_eq!((few.children.len(), few.children[1].children.len()), (2, 0));
    assert_eq!(world.queue.tree("P", Extent { depth: 0, ..far }, queue_of).await.unwrap().unwrap().children.len(), 0);
    assert!(world.queue.tree("nobody", far, queue_of).await.unwrap().is_none());
    assert!(world.queue.tree("meta", far, queue_of).await.unwrap().is_none());

    // Of a queue that is not known here only the key is told; and a circle ends where the depth does.
    let known = |name: &str| (name == "q").then(|| world.queue.clone());
    let tree = world.queue.tree("P", far, known).await.unwrap().unwrap();
    assert!(tree.children.iter().all(|child| child.job.is_none()));
    world.run(&["SADD", "bull:q:C2:dependencies", "bull:q:P", "strange", "bull:q:", "other:q:1"]).await;
    let tree = world.queue.tree("P", Extent { jobs: 30, ..far }, queue_of).await.unwrap().unwrap();
    assert_eq!(tree.children[1].children[0].children.len(), 4);
}

#[tokio::test]
async fn a_limit_of_events_that_is_none_does_not_stop_a_flow_half_way() {
    let world = World::new().await;
    for (queue, limit) in [("q", "-1"), ("r", "10.5")] {
        world.run(&["HSET", &format!("bull:{queue}:meta"), "opts.maxLenEvents", limit]).await;
    }
    assert!(family(&world).add("f", NOW).await.unwrap().is_new);
    assert_eq!(world.see("HGET bull:q:meta opts.maxLenEvents").await, "10000");
    assert_eq!(world.see("EXISTS bull:q:marker bull:r:marker").await, "2", "both have a leaf that can be taken");
}
