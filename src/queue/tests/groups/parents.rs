//! Jobs of groups that wait for their children.

use super::*;
use crate::queue::{Flow, Plan};

/// Each group may run one job.
fn one_place() -> Terms {
    let groups = GroupDefaults { concurrency: NonZeroU32::new(1), ..GroupDefaults::default() };
    Terms { groups, ..Terms::default() }
}

#[tokio::test]
async fn a_parent_counts_for_its_group_again_when_its_children_are_done() {
    let world = World::on(one_place()).await;
    world.add(own("parent", "a")).await;
    world.add(named("child")).await;
    let parent = "{\"id\":\"parent\",\"queueKey\":\"bull:q\"}";
    world.run(&["HSET", "bull:q:child", "parentKey", "bull:q:parent", "parent", parent]).await;
    world.run(&["SADD", "bull:q:parent:dependencies", "bull:q:child"]).await;
    assert_eq!(world.take(2).await.jobs.len(), 2);
    world.settle("parent", How::Move { to: Move::Children, data: None, step: 1 }).await;
    assert_eq!(world.private().await, BTreeSet::new(), "nothing is left of its group");
    world.settle("child", complete("1")).await;
    assert_eq!(ids(&world.take(2).await), ["parent"]);
    world.add(own("next", "a")).await;
    assert_eq!(ids(&world.take(2).await), Vec::<&str>::new(), "its group has one place, and that is the parent's");
    world.settle("parent", complete("1")).await;
    assert_eq!(ids(&world.take(2).await), ["next"]);
    world.settle("next", complete("1")).await;
    assert_eq!(world.private().await, BTreeSet::new());
}

#[tokio::test]
async fn a_parent_of_a_group_may_be_given_children_as_any_other() {
    let world = World::on(one_place()).await;
    let r = Queue::on_terms(world.redis.clone(), "bull", QueueName::parse("r").unwrap(), one_place());
    world.add(own("parent", "a")).await;
    assert_eq!(world.take(1).await.jobs.len(), 1);
    let child = |id| Flow::new(r.clone(), named(id));
    let children = Plan::of_children(&world.queue, "parent", &[child("first")], "f", NOW).unwrap();
    world.settle("parent", How::Branch { children, data: None, step: 1 }).await;
    assert_eq!(world.private().await, BTreeSet::new(), "nothing is left of its group");
    assert!(child("second").add_under(&world.queue, "parent", "f", NOW).await.unwrap().is_new);
    assert_eq!(r.take(&by("t", 2), NOW).await.unwrap().jobs.len(), 2);
    r.settle(&[ended("first", complete("1"))], None, NOW).await.unwrap();
    // As if that had been forgotten: the last child is one that has completed before.
    world.run(&["SREM", "bull:q:parent:dependencies", "bull:r:second"]).await;
    r.add(vec![named("third")], NOW).await.unwrap();
    r.take(&by("t", 1), NOW).await.unwrap();
    r.settle(&[ended("third", complete("1"))], None, NOW).await.unwrap();
    assert!(child("third").add_under(&world.queue, "parent", "f", NOW).await.unwrap().is_new);
    assert_eq!(ids(&world.take(2).await), ["parent"]);
    world.add(own("next", "a")).await;
    assert_eq!(ids(&world.take(2).await), Vec::<&str>::new(), "its group has one place, and that is the parent's");
    world.settle("parent", complete("1")).await;
    assert_eq!(ids(&world.take(2).await), ["next"]);
}
