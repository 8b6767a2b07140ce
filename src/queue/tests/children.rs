//! Children that are added under a job that is there: by themselves, or in the step in which it begins to wait for them.
//! What they leave there is compared with BullMQ's own in `tests/it/golden`.

use super::flow::leaf;
use super::*;
use crate::queue::{AddedFlow, ChildKind, Flow, FlowError, OnFailure, Plan};

/// A child under the job `over` of `q`.
async fn under(world: &World, over: &str, flow: &Flow) -> Result<AddedFlow, FlowError> {
    flow.add_under(&world.queue, over, "f", NOW).await
}

fn child(world: &World, id: &str) -> Flow {
    leaf(&world.queue, id, OnFailure::Wait)
}

fn branch(world: &World, over: &str, flows: &[Flow]) -> How {
    let children = Plan::of_children(&world.queue, over, flows, "f", NOW).expect("they can be children");
    How::Branch { children, data: Some(json("\"two\"")), step: 1 }
}

/// The job `P`, which is run.
async fn running() -> World {
    let world = World::new().await;
    world.add(named("P")).await;
    assert_eq!(ids(&world.take(1).await), ["P"]);
    world.news().await;
    world
}

#[tokio::test]
async fn a_child_that_cannot_be_one_is_refused_and_nothing_changes() {
    let world = running().await;
    let r = world.other("r");
    // G waits for O, and O for C.
    let family = Flow {
        children: vec![Flow { children: vec![child(&world, "C")], ..child(&world, "O") }],
        ..leaf(&r, "G", OnFailure::Wait)
    };
    family.add("f", NOW).await.unwrap();
    world.add(named("done")).await;
    world.add(named("broken")).await;
    assert_eq!(ids(&world.take(3).await), ["C", "done", "broken"]);
    world.settle("done", complete("1")).await;
    world.settle("broken", fail("no")).await;
    world.news().await;
    let before = world.everything().await;
    let over = |children| Flow { children, ..child(&world, "new") };
    for (parent, flow, why) in [
        ("nobody", child(&world, "new"), "NoParent"),
        ("meta", child(&world, "new"), "NoParent"),
        ("P:lock", child(&world, "new"), "NoParent"),
        ("wait", child(&world, "new"), "NoParent"),
        ("done", child(&world, "new"), "ParentEnded"),
        ("broken", child(&world, "new"), "ParentEnded"),
        ("P", child(&world, "O"), "OtherParent { at: [] }"),
        ("P", over(vec![child(&world, "y"), child(&world, "C")]), "OtherParent { at: [1] }"),
        ("P", Flow { children: vec![child(&world, "x")], ..child(&world, "done") }, "ParentExists { at: [] }"),
        ("C", leaf(&r, "G", OnFailure::Wait), "Circle { at: [] }"),
        ("C", over(vec![leaf(&r, "G", OnFailure::Wait)]), "Circle { at: [0] }"),
        ("P", child(&world, "P"), "Circle { at: [] }"),
        ("P", over(vec![child(&world, "P")]), "Circle { at: [0] }"),
        ("P", over(vec![child(&world, "a"), child(&world, "a")]), "Twice { at: [1] }"),
        ("P", child(&world, "5"), "Job { at: [], source: IntegerId }"),
    ] {
        let refused = under(&world, parent, &flow).await.unwrap_err();
        assert_eq!(format!("{refused:?}"), why, "{parent}");
        assert_eq!(world.everything().await, before, "{why}");
    }
    assert_eq!(world.news().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_added_again_has_counted_already() {
    let world = running().await;
    let r = world.other("r");
    let middle = Flow { children: vec![Flow::new(world.queue.clone(), plain())], ..Flow::new(r.clone(), plain()) };
    assert!(under(&world, "P", &middle).await.unwrap().is_new);
    let ignored = leaf(&world.queue, "I", OnFailure::IgnoreDependency);
    assert!(under(&world, "P", &ignored).await.unwrap().is_new);
    assert_eq!(ids(&world.take(2).await), ["f-1", "I"]);
    world.settle("I", fail("no")).await;
    world.settle("f-1", complete("1")).await;
    // But for the counters, which move with every attempt to add.
    let seen = async || {
        let mut all = world.everything().await;
        all.retain(|key| !key.starts_with("bull:q:id ") && !key.starts_with("bull:r:id "));
        all
    };
    let before = seen().await;
    world.news().await;
    for (flow, root) in [(&middle, "f-0"), (&ignored, "I")] {
        let again = under(&world, "P", flow).await.unwrap();
        assert_eq!((again.is_new, again.jobs[0].1.as_str()), (false, root));
        assert_eq!(seen().await, before, "neither a child of a child, nor one that failed, is waited for anew");
    }
    assert_eq!(world.news().await, ["duplicated jobId=I"], "the other root is of r");
}

#[tokio::test]
async fn a_parent_that_waits_for_nobody_else_goes_on_when_its_new_child_was_done_before() {
    let world = running().await;
    world.add(named("done")).await;
    world.take(1).await;
    world.settle("done", complete("1")).await;
    let waits = How::Park { fields: Vec::new() };
    world.settle("P", waits).await;
    under(&world, "P", &child(&world, "done")).await.unwrap();
    assert_eq!(ids(&world.take(1).await), ["P"]);
    assert_eq!(world.see("HGETALL bull:q:P:processed").await, "[bull:q:done 1]");
}

#[tokio::test]
async fn a_job_is_given_children_in_the_step_in_which_it_begins_to_wait_for_them() {
    let world = running().await;
    let r = world.other("r");
    let flows =
        [child(&world, "A"), Flow { children: vec![child(&world, "C")], ..leaf(&r, "M", OnFailure::IgnoreDependency) }];
    let ends = [ended("P", branch(&world, "P", &flows))];
    let (settled, next) = world.queue.settle(&ends, Some(&by("t", 5)), NOW).await.unwrap();
    assert_eq!((settled, ids(&next)), (vec![Settlement::Settled], vec!["A", "C"]), "the same call may take them");
    assert_eq!(world.see("HMGET bull:q:P data onetake-step atm").await, "[\"two\" 1 -]");
    assert_eq!(world.see("SORT bull:q:P:dependencies ALPHA").await, "[bull:q:A bull:r:M]");
    assert_eq!(world.see("EXISTS bull:q:P:lock").await, "0");
    assert_eq!(world.see("ZRANGE bull:q:waiting-children 0 -1").await, "[P]");
    assert_eq!(
        world.news().await[..5],
        [
            "added jobId=A name=n",
            "waiting jobId=A",
            "added jobId=C name=n",
            "waiting jobId=C",
            "waiting-children jobId=P prev=active"
        ]
    );
    // Ended together with others, in one call.
    world.settle("C", complete("3")).await;
    assert_eq!(r.take(&by("t", 1), NOW).await.unwrap().jobs.len(), 1);
    world.settle("A", complete("{\"n\":1}")).await;
    r.settle(&[ended("M", fail("no"))], None, NOW).await.unwrap();
    assert_eq!(ids(&world.take(1).await), ["P"]);
    let left = world.queue.children_results("P").await.unwrap().expect("they are few");
    let left: Vec<_> = left.into_iter().map(|(kind, child)| (kind, child.key, child.told.unwrap())).collect();
    let expected = [(ChildKind::Processed, "bull:q:A", "{\"n\":1}"), (ChildKind::Ignored, "bull:r:M", "no")];
    assert_eq!(left, expected.map(|(kind, key, told)| (kind, key.to_owned(), told.to_owned())));
    // All of its new children were done before: it runs again at once.
    world.settle("P", branch(&world, "P", &[child(&world, "A")])).await;
    assert_eq!(ids(&world.take(1).await), ["P"]);
}

#[tokio::test]
async fn of_several_that_end_together_each_finds_what_those_before_it_left() {
    let world = running().await;
    world.queue.add(vec![named("Q"), named("R")], NOW).await.unwrap();
    assert_eq!(ids(&world.take(2).await), ["Q", "R"]);
    let ends = [
        ended("P", branch(&world, "P", &[child(&world, "A")])),
        ended("Q", branch(&world, "Q", &[child(&world, "B"), child(&world, "A")])),
        ended("R", branch(&world, "R", &[child(&world, "P")])),
    ];
    let (settled, _) = world.queue.settle(&ends, None, NOW).await.unwrap();
    let refused = Settlement::ChildrenRefused { code: 3, place: 2 };
    assert_eq!(settled, [Settlement::Settled, refused, Settlement::Settled]);
    assert_eq!(world.see("SMEMBERS bull:q:R:dependencies").await, "[bull:q:P]");
    assert_eq!(world.see("EXISTS bull:q:B").await, "0");
    assert_eq!(
        refused.children_refused(&ends[1].how).unwrap().told("add"),
        "add[1]: a job of this id is there already, and is another one's child"
    );
}

#[tokio::test]
async fn a_branch_that_is_refused_changes_nothing_and_leaves_the_job_held() {
    let world = running().await;
    Flow { children: vec![child(&world, "C")], ..child(&world, "O") }.add("f", NOW).await.unwrap();
    world.news().await;
    let taken = branch(&world, "P", &[child(&world, "A"), child(&world, "C")]);
    let before = world.everything().await;
    let unchanged = async |why: &str| {
        assert_eq!(world.everything().await, before, "{why}");
        assert_eq!(world.news().await, Vec::<String>::new(), "{why}");
    };
    assert_eq!(world.settle("P", taken).await, Settlement::ChildrenRefused { code: 3, place: 2 });
    unchanged("another one's child").await;
    let fit = || branch(&world, "P", &[child(&world, "A")]);
    let stale = Ended { token: "other".to_owned(), ..ended("P", fit()) };
    assert_eq!(world.queue.settle(&[stale], None, NOW).await.unwrap().0, [Settlement::Lost]);
    unchanged("a stale worker").await;
    world.run(&["ZADD", "bull:q:P:unsuccessful", "1", "bull:q:X"]).await;
    assert_eq!(world.settle("P", fit()).await, Settlement::ChildFailed);
    world.run(&["DEL", "bull:q:P:unsuccessful"]).await;
    unchanged("a child that failed").await;
    assert_eq!(world.settle("P", fit()).await, Settlement::Settled);
}

#[tokio::test]
async fn more_than_can_be_handed_over_is_not_read() {
    let world = running().await;
    assert_eq!(world.queue.children_results("P").await.unwrap(), Some(Vec::new()));
    let large = "x".repeat(9 * 1024 * 1024);
    world.run(&["HSET", "bull:q:P:processed", "bull:q:a", &large]).await;
    assert_eq!(world.queue.children_results("P").await.unwrap().map(|all| all.len()), Some(1));
    world.run(&["HSET", "bull:q:P:failed", "bull:q:b", &large]).await;
    assert_eq!(world.queue.children_results("P").await.unwrap(), None);
    world.run(&["DEL", "bull:q:P:failed", "bull:q:P:processed"]).await;
    let mut many = vec!["HSET".to_owned(), "bull:q:P:processed".to_owned()];
    many.extend((0..1_001).flat_map(|n| [format!("bull:q:{n}"), "1".to_owned()]));
    world.run(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.queue.children_results("P").await.unwrap(), None);
}

#[tokio::test]
async fn broken_keys_of_another_queue_fail_the_job_and_nobody_else() {
    let world = running().await;
    world.add(named("Q")).await;
    world.take(1).await;
    let of_r = || branch(&world, "P", &[leaf(&world.other("r"), "A", OnFailure::Wait)]);
    world.run(&["SET", "bull:r:A", "no job"]).await;
    assert_eq!(world.settle("P", of_r()).await, Settlement::ChildrenRefused { code: 7, place: 0 });
    world.run(&["DEL", "bull:r:A"]).await;
    world.run(&["SET", "bull:r:wait", "no list"]).await;
    let ends = [ended("P", of_r()), ended("Q", complete("1"))];
    assert_eq!(world.queue.settle(&ends, None, NOW).await.unwrap().0, [Settlement::Settled; 2]);
    let states = [world.queue.state("P").await.unwrap().unwrap(), world.queue.state("Q").await.unwrap().unwrap()];
    assert_eq!(states.map(|state| state.as_str()), ["failed", "completed"]);
    assert!(world.see("HGET bull:q:P failedReason").await.starts_with("its children could not all be added"));
}
