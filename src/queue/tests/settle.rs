//! Ending attempts.

use super::*;
use crate::queue::Keep;

async fn taken(options: JobOptions) -> World {
    let world = World::new().await;
    world.add(job(options)).await;
    assert_eq!(world.take(1).await.jobs.len(), 1);
    world.news().await;
    world
}

#[tokio::test]
async fn a_completed_job_looks_as_bullmq_leaves_it() {
    let world = World::new().await;
    world.add(Add::new("ok", json("{}"))).await;
    world.take_at(1, NOW + 1).await;
    let (settled, _) = world.queue.settle(&[ended("1", complete("{\"r\":1}"))], None, NOW + 2).await.unwrap();
    assert_eq!(settled, [Settlement::Settled]);
    let expected = [
        "atm=1".to_owned(),
        "ats=1".to_owned(),
        "data={}".to_owned(),
        "delay=0".to_owned(),
        format!("finishedOn={}", NOW + 2),
        "name=ok".to_owned(),
        "opts={}".to_owned(),
        "pb=w one".to_owned(),
        "priority=0".to_owned(),
        format!("processedOn={}", NOW + 1),
        "returnvalue={\"r\":1}".to_owned(),
        format!("timestamp={NOW}"),
    ];
    assert_eq!(world.hash("1").await, expected.join("\n"));
    assert_eq!(world.see("ZRANGE bull:q:completed 0 -1 WITHSCORES").await, format!("[1 {}]", NOW + 2));
    assert_eq!(world.see("EXISTS bull:q:1:lock bull:q:active bull:q:stalled").await, "0");
    let events = world.events().await;
    let expected = [
        "added jobId=1 name=ok",
        "waiting jobId=1",
        "active jobId=1 prev=waiting",
        "completed jobId=1 returnvalue={\"r\":1} prev=active",
        "drained",
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_job_fails_only_after_its_attempts() {
    let world = taken(JobOptions { attempts: 3, ..Default::default() }).await;
    world.settle("1", retry(200)).await;
    let due = NOW + 200;
    assert_eq!(world.news().await, [format!("delayed jobId=1 delay={due}")]);
    assert_eq!(world.see("ZSCORE bull:q:delayed 1").await, (due * 4096).to_string());
    assert_eq!(world.see("ZSCORE bull:q:marker 1").await, due.to_string());
    assert_eq!(world.see("HMGET bull:q:1 atm delay failedReason").await, "[1 200 oops]");
    world.take_at(1, due).await;
    world.settle("1", retry(0)).await;
    assert_eq!(world.news().await.last().unwrap(), "waiting jobId=1 prev=active");
    world.take_at(1, due).await;
    world.news().await;
    world.settle("1", fail("a/b \"c\"")).await;
    let expected =
        ["failed jobId=1 failedReason=a/b \"c\" prev=active", "retries-exhausted jobId=1 attemptsMade=3", "drained"];
    assert_eq!(world.news().await, expected);
    let Some(Record::Job(job)) = world.queue.job("1").await.unwrap() else { panic!("it is there") };
    assert_eq!((job.attempts_made, job.attempts_started, job.delay_ms), (3, 3, 0));
    assert_eq!(job.stacktrace, ["Error: oops", "Error: oops", "Error: a/b \"c\""]);
    assert_eq!(job.failed_reason.as_deref(), Some("a/b \"c\""));
}

#[tokio::test]
async fn an_early_final_failure_does_not_exhaust_retries() {
    let world = taken(JobOptions { attempts: 5, stack_trace_limit: Some(0), ..Default::default() }).await;
    world.settle("1", fail("no")).await;
    assert_eq!(world.news().await, ["failed jobId=1 failedReason=no prev=active", "drained"]);
    assert_eq!(world.see("HGET bull:q:1 stacktrace").await, "[]");
}

#[tokio::test]
async fn a_retry_keeps_the_priority() {
    let world = taken(JobOptions { attempts: 5, priority: 3, ..Default::default() }).await;
    world.settle("1", retry(0)).await;
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1").await, "[1]");
    world.take(1).await;
    world.settle("1", retry(10)).await;
    world.take_at(0, NOW + 10).await;
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1").await, "[1]");
}

#[tokio::test]
async fn waiting_and_delaying_do_not_count_as_attempts() {
    let world = taken(JobOptions::default()).await;
    world.add(plain()).await;
    world.news().await;
    assert_eq!(world.settle("1", How::Wait).await, Settlement::Settled);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[2 1]", "to the front");
    assert_eq!(world.news().await, ["waiting jobId=1 prev=active"]);
    assert_eq!(ids(&world.take(1).await), ["1"]);
    assert_eq!(world.settle("1", How::Delay { until_ms: NOW + 700 }).await, Settlement::Settled);
    assert_eq!(world.see("HMGET bull:q:1 atm delay").await, "[- 700]");
    assert_eq!(world.news().await.last().unwrap(), &format!("delayed jobId=1 delay={}", NOW + 700));
}

#[tokio::test]
async fn a_prioritized_job_goes_back_to_the_front_of_its_priority() {
    let world = World::new().await;
    let prioritized = || job(JobOptions { priority: 2, ..Default::default() });
    world.queue.add(vec![prioritized(), prioritized()], NOW).await.unwrap();
    world.take(1).await;
    world.settle("1", How::Wait).await;
    assert_eq!(world.see("ZRANGE bull:q:prioritized 0 -1 WITHSCORES").await, "[1 8589934592 2 8589934594]");
}

#[tokio::test]
async fn a_stale_worker_cannot_settle() {
    let world = taken(JobOptions::default()).await;
    let before = (world.hash("1").await, world.see("LRANGE bull:q:active 0 -1").await);
    let other = Ended { token: "other".to_owned(), ..ended("1", complete("1")) };
    let ends = [other, ended("none", complete("1"))];
    assert_eq!(world.queue.settle(&ends, None, NOW).await.unwrap().0, [Settlement::Lost, Settlement::Lost]);
    world.run(&["DEL", "bull:q:1:lock"]).await;
    for how in [complete("1"), fail("x"), retry(0), retry(5), How::Wait, How::Delay { until_ms: 1 }] {
        assert_eq!(world.settle("1", how).await, Settlement::Lost);
    }
    assert_eq!((world.hash("1").await, world.see("LRANGE bull:q:active 0 -1").await), before);
    assert_eq!(world.news().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_job_taken_out_of_active_keeps_its_lock_and_is_lost() {
    let world = taken(JobOptions::default()).await;
    world.run(&["LREM", "bull:q:active", "0", "1"]).await;
    assert_eq!(world.settle("1", fail("x")).await, Settlement::Lost);
    assert_eq!(world.see("GET bull:q:1:lock").await, "t");
    assert!(!world.hash("1").await.contains("failedReason"));
}

#[tokio::test]
async fn settling_twice_tells_lost_the_second_time() {
    let world = taken(JobOptions::default()).await;
    let twice = [ended("1", complete("1")), ended("1", complete("2"))];
    assert_eq!(world.queue.settle(&twice, None, NOW).await.unwrap().0, [Settlement::Settled, Settlement::Lost]);
    assert_eq!(world.see("HGET bull:q:1 returnvalue").await, "1");
}

#[tokio::test]
async fn one_call_settles_a_batch_and_takes_the_next() {
    let world = World::new().await;
    world.queue.add((0..6).map(|_| plain()).collect(), NOW).await.unwrap();
    world.take(3).await;
    world.news().await;
    let ends = [ended("1", complete("1")), ended("2", fail("no")), ended("3", retry(0))];
    let (settled, taken) = world.queue.settle(&ends, Some(&by("t", 2)), NOW).await.unwrap();
    assert_eq!(settled, [Settlement::Settled; 3]);
    assert_eq!(ids(&taken), ["4", "5"]);
    let news = world.news().await;
    assert_eq!(news.iter().filter(|event| *event == "drained").count(), 0);
    assert_eq!(news.last().unwrap(), "active jobId=5 prev=waiting");
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[3 6]");
}

#[tokio::test]
async fn drained_is_told_when_nothing_is_left_now_or_later() {
    let world = World::new().await;
    world.add(plain()).await;
    world.take(1).await;
    world.news().await;
    let (_, next) = world.queue.settle(&[ended("1", complete("1"))], Some(&by("t", 1)), NOW).await.unwrap();
    assert!(next.jobs.is_empty());
    assert_eq!(world.news().await.last().unwrap(), "drained");
    world.queue.add(vec![plain(), job(JobOptions { delay_ms: 5, ..Default::default() })], NOW).await.unwrap();
    world.take(1).await;
    let (_, next) = world.queue.settle(&[ended("2", complete("1"))], Some(&by("t", 1)), NOW).await.unwrap();
    assert_eq!(next.next_due_ms, Some(NOW + 5));
    assert!(!world.news().await.contains(&"drained".to_owned()), "a delayed job suppresses it");
    world.take(1).await;
    assert!(!world.news().await.contains(&"drained".to_owned()), "a plain take never tells it");
}

#[tokio::test]
async fn a_jobs_own_retention_comes_before_the_queues() {
    let retention = Retention { completed: Keep::last(2), failed: Keep::NONE };
    let world = World::keeping(retention).await;
    let keep = |keep| job(JobOptions { remove_on_complete: keep, remove_on_fail: keep, ..Default::default() });
    world.queue.add(vec![keep(None), keep(None), keep(None), keep(Some(Keep::NONE)), keep(None)], NOW).await.unwrap();
    world.take(5).await;
    for (at, id) in ["1", "2", "3", "4"].iter().enumerate() {
        world.queue.settle(&[ended(id, complete("1"))], None, NOW + at as i64).await.unwrap();
    }
    assert_eq!(world.see("ZRANGE bull:q:completed 0 -1").await, "[2 3]");
    assert_eq!(world.see("EXISTS bull:q:1 bull:q:4").await, "0");
    world.news().await;
    world.queue.log("5", "line", None).await.unwrap();
    world.settle("5", fail("no")).await;
    assert_eq!(world.see("EXISTS bull:q:5 bull:q:5:logs bull:q:failed").await, "0");
    assert_eq!(world.news().await[0], "failed jobId=5 failedReason=no prev=active");
}

#[tokio::test]
async fn old_finished_jobs_are_pruned_by_age() {
    let world = World::new().await;
    let keep = Keep { age_s: Some(10), ..Keep::ALL };
    let aged = || job(JobOptions { remove_on_complete: Some(keep), ..Default::default() });
    world.queue.add(vec![aged(), aged()], NOW).await.unwrap();
    world.take(2).await;
    world.settle("1", complete("1")).await;
    world.queue.settle(&[ended("2", complete("1"))], None, NOW + 10_001).await.unwrap();
    assert_eq!((world.see("ZRANGE bull:q:completed 0 -1").await, world.hash("1").await), ("[2]".into(), "".into()));
}
