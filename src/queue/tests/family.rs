//! Parents and children, as FlowProducer leaves them.

use super::*;
use crate::queue::{ChildKind, ChildrenCounts, Finished, Retry};

/// A parent `P` in `bull:q` with the children `C1` and `C2`, which say `policy` about their failing.
async fn family(policy: &str) -> World {
    let world = World::new().await;
    world.queue.add(vec![named("C1"), named("C2")], NOW).await.unwrap();
    let parent = format!("{{\"id\":\"P\",\"queueKey\":\"bull:q\"{policy}}}");
    for child in ["bull:q:C1", "bull:q:C2"] {
        world.run(&["HSET", child, "parentKey", "bull:q:P", "parent", &parent]).await;
        world.run(&["SADD", "bull:q:P:dependencies", child]).await;
    }
    world.run(&["HSET", "bull:q:P", "name", "p", "timestamp", &NOW.to_string(), "delay", "0", "priority", "0"]).await;
    world.run(&["ZADD", "bull:q:waiting-children", &NOW.to_string(), "P"]).await;
    assert_eq!(world.take(2).await.jobs.len(), 2);
    world.news().await;
    world
}

#[tokio::test]
async fn a_parent_is_released_by_its_last_child() {
    let world = family("").await;
    world.settle("C1", complete("1")).await;
    assert_eq!(world.see("SMEMBERS bull:q:P:dependencies").await, "[bull:q:C2]");
    assert_eq!(world.queue.state("P").await.unwrap().unwrap().as_str(), "waiting-children");
    world.news().await;
    world.settle("C2", complete("{\"r\":2}")).await;
    assert_eq!(world.see("HGET bull:q:P:processed bull:q:C2").await, "{\"r\":2}");
    let expected = ["waiting jobId=P prev=waiting-children", "completed jobId=C2 returnvalue={\"r\":2} prev=active"];
    assert_eq!(world.news().await, expected);
    assert_eq!(ids(&world.take(1).await), ["P"]);
    assert_eq!(world.settle("P", complete("1")).await, Settlement::Settled);
}

#[tokio::test]
async fn a_failed_child_holds_its_parent_up_unless_it_says_otherwise() {
    let world = family("").await;
    world.settle("C1", fail("no")).await;
    world.settle("C2", complete("1")).await;
    assert_eq!(world.see("SMEMBERS bull:q:P:dependencies").await, "[bull:q:C1]");
    assert_eq!(world.queue.state("P").await.unwrap().unwrap().as_str(), "waiting-children");
}

#[tokio::test]
async fn a_failed_child_may_fail_its_parent() {
    let world = family(",\"fpof\":true").await;
    world.settle("C1", fail("no")).await;
    assert_eq!(world.see("HGET bull:q:P defa").await, "child bull:q:C1 failed");
    assert_eq!(world.see("ZRANGE bull:q:P:unsuccessful 0 -1").await, "[bull:q:C1]");
    let taken = world.take(1).await;
    assert_eq!(readable(&taken.jobs[0]).deferred_failure.as_deref(), Some("child bull:q:C1 failed"));
    assert_eq!(world.settle("P", complete("1")).await, Settlement::ChildFailed);
    assert_eq!(world.settle("P", fail("child bull:q:C1 failed")).await, Settlement::Settled);
}

#[tokio::test]
async fn a_failed_child_may_be_ignored_recorded_or_forgotten() {
    let world = family(",\"cpof\":true").await;
    world.settle("C1", fail("no")).await;
    assert_eq!(world.see("HGET bull:q:P:failed bull:q:C1").await, "no");
    assert_eq!(ids(&world.take(1).await), ["P"]);
    assert_eq!(world.settle("P", complete("1")).await, Settlement::ChildrenPending);

    let world = family(",\"idof\":true").await;
    world.settle("C1", fail("no")).await;
    assert_eq!(world.queue.state("P").await.unwrap().unwrap().as_str(), "waiting-children");
    world.settle("C2", fail("neither")).await;
    assert_eq!(world.see("HGET bull:q:P:failed bull:q:C2").await, "neither");
    assert_eq!(ids(&world.take(1).await), ["P"]);

    let world = family(",\"rdof\":true").await;
    world.settle("C1", fail("no")).await;
    world.settle("C2", complete("1")).await;
    assert_eq!(world.see("EXISTS bull:q:P:failed bull:q:P:dependencies").await, "0");
    assert_eq!(ids(&world.take(1).await), ["P"]);
}

#[tokio::test]
async fn removing_the_last_child_releases_the_parent() {
    let world = family("").await;
    world.settle("C1", complete("1")).await;
    world.settle("C2", fail("no")).await;
    world.queue.remove("C2", NOW).await.unwrap();
    assert_eq!(ids(&world.take(1).await), ["P"]);
}

#[tokio::test]
async fn a_retried_child_is_counted_on_again() {
    for (policy, place) in [(",\"fpof\":true", "unsuccessful"), (",\"cpof\":true", "failed")] {
        let world = family(policy).await;
        world.settle("C1", fail("no")).await;
        assert_eq!(world.see(&format!("EXISTS bull:q:P:{place}")).await, "1");
        world.queue.retry("C1", Retry { from: Some(Finished::Failed), anew: false }).await.unwrap();
        assert_eq!(world.see(&format!("EXISTS bull:q:P:{place}")).await, "0", "{policy}");
        assert_eq!(world.see("SCARD bull:q:P:dependencies").await, "2", "{policy}");
    }
    let world = family("").await;
    world.settle("C1", complete("1")).await;
    world.queue.retry("C1", Retry::default()).await.unwrap();
    assert_eq!(world.see("EXISTS bull:q:P:processed").await, "0");
    assert_eq!(world.see("SCARD bull:q:P:dependencies").await, "2");
}

#[tokio::test]
async fn children_are_counted_and_listed_by_what_became_of_them() {
    let world = family("").await;
    world.settle("C1", complete("{\"r\":1}")).await;
    world.run(&["HSET", "bull:q:P:failed", "bull:q:C3", "no"]).await;
    world.run(&["ZADD", "bull:q:P:unsuccessful", "5", "bull:q:C4"]).await;
    let counts = world.queue.children_counts("P").await.unwrap();
    assert_eq!(counts, ChildrenCounts { unprocessed: 1, processed: 1, ignored: 1, failed: 1 });
    assert_eq!(world.queue.children_counts("nobody").await.unwrap(), ChildrenCounts::default());
    for (kind, key, told) in [
        (ChildKind::Unprocessed, "bull:q:C2", None),
        (ChildKind::Processed, "bull:q:C1", Some("{\"r\":1}")),
        (ChildKind::Ignored, "bull:q:C3", Some("no")),
        (ChildKind::Failed, "bull:q:C4", None),
    ] {
        let (children, next) = world.queue.children("P", kind, None, 10).await.unwrap();
        let seen: Vec<_> = children.iter().map(|child| (child.key.as_str(), child.told.as_deref())).collect();
        assert_eq!((seen, next), (vec![(key, told)], None), "{}", kind.as_str());
    }
}

#[tokio::test]
async fn many_children_come_in_pages() {
    let world = World::new().await;
    let mut words: Vec<String> = ["SADD", "bull:q:P:dependencies"].map(str::to_owned).to_vec();
    words.extend((0..700).map(|n| format!("bull:q:child-{n}")));
    world.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), None);
    loop {
        let (page, next) = world.queue.children("P", ChildKind::Unprocessed, cursor, 100).await.unwrap();
        assert!(page.len() < 400);
        seen.extend(page.into_iter().map(|child| child.key));
        if next.is_none() {
            break;
        }
        cursor = next;
    }
    assert_eq!(seen.len(), 700);
}
