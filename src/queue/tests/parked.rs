//! Followers: parked, and ended from outside.

use super::*;
use crate::queue::{Parked, ParkedEnd, ParkedHow, ParkedOutcome, ParkedPage, Removal};

fn park() -> How {
    How::Park { fields: vec![("ot:flight".to_owned(), "f1".to_owned()), ("ot:generation".to_owned(), "1".to_owned())] }
}

fn end(id: &str, mark: &str, how: ParkedHow) -> ParkedEnd {
    let mark_field = "ot:flight".to_owned();
    ParkedEnd { id: id.to_owned(), timestamp: NOW, mark_field, mark_value: mark.to_owned(), how }
}

fn done() -> ParkedHow {
    ParkedHow::Complete { value: json("{\"file\":\"a.mp4\"}") }
}

async fn finish(world: &World, end: ParkedEnd) -> ParkedOutcome {
    world.queue.finish_parked(&[end], NOW + 9).await.unwrap()[0]
}

async fn parked() -> World {
    let world = World::new().await;
    world.add(job(JobOptions { attempts: 2, ..Default::default() })).await;
    world.take(1).await;
    world.news().await;
    assert_eq!(world.settle("1", park()).await, Settlement::Settled);
    world
}

#[tokio::test]
async fn a_parked_job_waits_for_children_that_it_does_not_have() {
    let world = parked().await;
    assert_eq!(world.news().await, ["waiting-children jobId=1 prev=active"]);
    assert_eq!(world.see("ZRANGE bull:q:waiting-children 0 -1 WITHSCORES").await, format!("[1 {NOW}]"));
    assert_eq!(world.see("EXISTS bull:q:1:lock bull:q:active").await, "0");
    let Some(Record::Job(job)) = world.queue.job("1").await.unwrap() else { panic!("it is there") };
    assert!(job.extra.contains(&("ot:flight".to_owned(), "f1".to_owned())));
    assert_eq!(job.attempts_made, 0);
}

#[tokio::test]
async fn a_parked_job_ends_as_if_it_had_run() {
    let world = parked().await;
    world.news().await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::Finished);
    assert_eq!(world.news().await, ["completed jobId=1 returnvalue={\"file\":\"a.mp4\"} prev=active"]);
    assert_eq!(world.see("ZRANGE bull:q:completed 0 -1 WITHSCORES").await, format!("[1 {}]", NOW + 9));
    assert_eq!(world.see("HMGET bull:q:1 atm finishedOn").await, format!("[1 {}]", NOW + 9));
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::AlreadyFinished);
    assert_eq!(world.news().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_parked_job_fails_as_if_it_had_run() {
    let world = parked().await;
    world.news().await;
    let failed = || ParkedHow::Fail { reason: "no such template".to_owned() };
    assert_eq!(finish(&world, end("1", "f1", failed())).await, ParkedOutcome::Finished);
    assert_eq!(world.news().await, ["failed jobId=1 failedReason=no such template prev=active"]);
    assert_eq!(world.see("ZSCORE bull:q:failed 1").await, (NOW + 9).to_string());
}

#[tokio::test]
async fn another_job_of_the_same_id_is_left_alone() {
    let world = parked().await;
    assert_eq!(finish(&world, end("1", "f2", done())).await, ParkedOutcome::Gone);
    let older = ParkedEnd { timestamp: NOW - 1, ..end("1", "f1", done()) };
    assert_eq!(finish(&world, older).await, ParkedOutcome::Gone);
    assert_eq!(finish(&world, end("2", "f1", done())).await, ParkedOutcome::Gone);
    assert_eq!(world.queue.state("1").await.unwrap().unwrap().as_str(), "waiting-children");
}

#[tokio::test]
async fn a_parked_job_that_somebody_made_wait_again_is_not_ended() {
    let world = parked().await;
    world.run(&["ZREM", "bull:q:waiting-children", "1"]).await;
    world.run(&["LPUSH", "bull:q:wait", "1"]).await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::NotParked);
    world.take(1).await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::NotParked);
    world.settle("1", park()).await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::Finished);
}

#[tokio::test]
async fn a_job_on_its_way_to_being_parked_is_waited_for() {
    let world = World::new().await;
    world.add(job(JobOptions::default())).await;
    world.take(1).await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::NotParked);
    world.settle("1", park()).await;
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::Finished);
}

#[tokio::test]
async fn parked_ids_without_a_job_are_pruned() {
    let world = parked().await;
    world.run(&["ZADD", "bull:q:waiting-children", "1", "ghost", "2", "ghost2"]).await;
    let marked = vec![Parked { id: "1".to_owned(), timestamp: NOW, mark: "f1".to_owned() }];
    let page = world.queue.look_at_parked(None, 100, "ot:flight").await.unwrap();
    assert_eq!(page, ParkedPage { removed: 2, marked, next: None });
    assert_eq!(world.see("ZRANGE bull:q:waiting-children 0 -1").await, "[1]");
    assert_eq!(world.queue.remove("1", NOW).await.unwrap(), Removal::Removed);
    assert_eq!(finish(&world, end("1", "f1", done())).await, ParkedOutcome::Gone);
}

#[tokio::test]
async fn something_else_under_a_parked_id_stops_none_of_its_batch() {
    let world = parked().await;
    world.run(&["SET", "bull:q:text", "is no job"]).await;
    world.run(&["ZADD", "bull:q:waiting-children", "1", "text"]).await;
    let ends = [end("1", "f1", done()), end("text", "f1", done())];
    assert_eq!(
        world.queue.finish_parked(&ends, NOW + 9).await.unwrap(),
        [ParkedOutcome::Finished, ParkedOutcome::Gone]
    );
    assert_eq!(world.see("ZRANGE bull:q:completed 0 -1").await, "[1]");
}
