//! Job schedulers: setting them up, one run after the other, the ends of the chain, and mending it.

use serde_json::{Value, json as value};

use super::*;
use crate::queue::{Error, Next, Removal, Rule, SchedulerError, State, Upsert};

/// 8 ms past a multiple of 1000.
const SLOT: Millis = 1_795_169_113_008;

fn every(every_ms: i64) -> Upsert {
    Upsert {
        id: "s".to_owned(),
        rule: Rule::Every { every_ms, offset_ms: None },
        limit: None,
        start_ms: None,
        end_ms: None,
        immediately: false,
        name: None,
        data: json("{}"),
        options: JobOptions::default(),
    }
}

fn pattern(pattern: &str) -> Upsert {
    Upsert { rule: Rule::Pattern { pattern: pattern.to_owned(), tz: Some("UTC".to_owned()) }, ..every(1) }
}

fn run(due: Millis) -> String {
    format!("repeat:s:{due}")
}

impl World {
    /// Sets it up; when its first run is due.
    async fn schedule(&self, upsert: &Upsert, now: Millis) -> Millis {
        let upserted = self.queue.upsert_scheduler(upsert, now).await.expect("it can be");
        assert_eq!(upserted.run_id, run(upserted.due_ms));
        upserted.due_ms
    }

    /// Takes one run, as the runner does, and makes the next.
    async fn work_run(&self, now: Millis) -> Next {
        let taken = self.take_at(1, now).await;
        let next = self.queue.schedule_next(readable(&taken.jobs[0]), now).await.expect("it can be");
        let end = ended(taken.jobs[0].id(), complete("1"));
        self.queue.settle(&[end], None, now).await.expect("the script answers");
        next
    }

    async fn options_of(&self, id: &str) -> Value {
        let text = self.see(&format!("HGET bull:q:{id} opts")).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    async fn refused(&self, upsert: &Upsert, now: Millis) -> SchedulerError {
        match self.queue.upsert_scheduler(upsert, now).await {
            Err(Error::Scheduler(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn made(due: Millis) -> Next {
    Next::Run { id: run(due), due_ms: due }
}

#[tokio::test]
async fn an_interval_begins_now_and_each_run_makes_the_next() {
    let world = World::new().await;
    let upsert = Upsert { name: Some("n".to_owned()), data: json("{\"a\":1}"), ..every(1000) };
    assert_eq!(world.schedule(&upsert, SLOT).await, SLOT);
    assert_eq!(world.see("ZRANGE bull:q:repeat 0 -1 WITHSCORES").await, format!("[s {SLOT}]"));
    assert_eq!(world.see("HMGET bull:q:repeat:s name every offset ic data opts").await, "[n 1000 8 1 {\"a\":1} -]");
    assert_eq!(world.see("GET bull:q:id").await, "1");
    let id = run(SLOT);
    assert_eq!(world.news().await, [format!("added jobId={id} name=n"), format!("waiting jobId={id}")]);
    assert_eq!(world.see(&format!("HMGET bull:q:{id} rjk name data delay")).await, "[s n {\"a\":1} 0]");

    assert_eq!(world.work_run(SLOT + 40).await, made(SLOT + 1000));
    let next = run(SLOT + 1000);
    let (added, delayed) =
        (format!("added jobId={next} name=n"), format!("delayed jobId={next} delay={}", SLOT + 1000));
    assert!(world.news().await.join(";").contains(&format!("{added};{delayed}")));
    assert_eq!(world.see("HGET bull:q:repeat:s ic").await, "2");
    let options = world.options_of(&next).await;
    assert_eq!(options["repeat"], value!({"every": 1000, "count": 2}));
    assert_eq!((&options["jobId"], &options["delay"]), (&value!(next), &value!(960)));
    assert_eq!(world.queue.state(&next).await.unwrap(), Some(State::Delayed));
    assert_eq!(world.queue.remove(&next, SLOT).await.unwrap(), Removal::Scheduled);
}

#[tokio::test]
async fn a_run_is_made_once_whoever_makes_it() {
    let world = World::new().await;
    world.schedule(&every(1000), SLOT).await;
    let taken = world.take_at(1, SLOT).await;
    let job = readable(&taken.jobs[0]);
    assert_eq!(world.queue.schedule_next(job, SLOT).await.unwrap(), made(SLOT + 1000));
    assert_eq!(world.queue.schedule_next(job, SLOT).await.unwrap(), Next::NotPresent);
    assert_eq!(world.queue.counts().await.unwrap().delayed, 1);
    assert_eq!(world.see("HGET bull:q:repeat:s ic").await, "2");
    assert_eq!(world.work_run(SLOT + 1000).await, made(SLOT + 2000));
    assert_eq!(world.queue.schedule_next(job, SLOT).await.unwrap(), Next::NotPresent);
}

#[tokio::test]
async fn what_was_missed_is_not_made_up_for() {
    let world = World::new().await;
    world.schedule(&every(1000), SLOT).await;
    assert_eq!(world.work_run(SLOT + 5500).await, made(SLOT + 6000));
    assert_eq!(world.work_run(SLOT + 7000).await, made(SLOT + 8000), "a slot that is now is over");
}

#[tokio::test]
async fn a_run_that_stalls_before_it_made_the_next_makes_it_later() {
    let world = World::new().await;
    world.schedule(&every(1000), SLOT).await;
    world.take_at(1, SLOT).await;
    world.run(&["DEL", &format!("bull:q:{}:lock", run(SLOT))]).await;
    for _ in 0..2 {
        world.run(&["DEL", "bull:q:stalled-check"]).await;
        world.queue.recover_stalled(SLOT, 1000, 0).await.unwrap();
        assert!(world.queue.mend_schedulers(SLOT).await.unwrap().is_empty(), "somebody will take it");
    }
    assert_eq!(world.work_run(SLOT + 100).await, made(SLOT + 1000));
}

#[tokio::test]
async fn a_limit_and_an_end_end_the_chain() {
    let world = World::new().await;
    world.schedule(&Upsert { limit: Some(2), ..every(1000) }, SLOT).await;
    assert_eq!(world.work_run(SLOT).await, made(SLOT + 1000));
    assert_eq!(world.work_run(SLOT + 1000).await, Next::Ended);
    assert!(world.queue.mend_schedulers(SLOT + 2000).await.unwrap().is_empty(), "the end is no fault");
    // Setting it up anew counts from the beginning.
    world.schedule(&Upsert { limit: Some(2), ..every(1000) }, SLOT + 1500).await;
    assert_eq!(world.work_run(SLOT + 2000).await, made(SLOT + 3000));
    assert_eq!(world.see("HGET bull:q:repeat:s ic").await, "3");

    let world = World::new().await;
    world.schedule(&Upsert { end_ms: Some(SLOT + 1500), ..every(1000) }, SLOT).await;
    assert_eq!(world.work_run(SLOT + 1500).await, made(SLOT + 2000));
    assert_eq!(world.work_run(SLOT + 2000).await, Next::Ended);
    assert_eq!(world.see("ZSCORE bull:q:repeat s").await, (SLOT + 2000).to_string());
}

#[tokio::test]
async fn a_pattern_goes_by_its_zone() {
    let world = World::new().await;
    let rule = Rule::Pattern { pattern: "30 2 * * *".to_owned(), tz: Some("Europe/Berlin".to_owned()) };
    let upsert = Upsert { rule, ..every(1) };
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let first = world.schedule(&upsert, at("2026-03-28T12:00:00Z")).await;
    assert_eq!(first, at("2026-03-29T01:30:00Z"), "02:30 is left out that night: half an hour after the change");
    assert_eq!(world.options_of(&run(first)).await["prevMillis"], first);
    assert_eq!(world.work_run(first + 5).await, made(at("2026-03-30T00:30:00Z")));
    let options = world.options_of(&run(at("2026-03-30T00:30:00Z"))).await;
    assert_eq!(options["repeat"], value!({"pattern": "30 2 * * *", "tz": "Europe/Berlin", "count": 2}));
    // A clock that is behind does not make the same run again.
    let taken = world.take_at(1, at("2026-03-30T00:30:00Z")).await;
    let next = world.queue.schedule_next(readable(&taken.jobs[0]), at("2026-03-29T23:00:00Z")).await.unwrap();
    assert_eq!(next, made(at("2026-03-31T00:30:00Z")));
}

#[tokio::test]
async fn setting_up_again_replaces_the_run_that_waits() {
    let world = World::new().await;
    let first = world.schedule(&every(60_000), SLOT).await;
    world.news().await;
    let named = Upsert { name: Some("other".to_owned()), ..every(60_000) };
    assert_eq!(world.schedule(&named, SLOT + 500).await, first, "the same interval goes on at its time");
    assert_eq!(world.queue.ids(State::Waiting, 0, 9).await.unwrap(), [run(first)]);
    assert_eq!(world.see(&format!("HGET bull:q:{} name", run(first))).await, "other");
    assert!(!world.news().await.join(";").contains("removed"));
    assert_eq!(world.schedule(&every(45_000), SLOT + 500).await, SLOT + 500, "another one begins anew");
    assert_eq!(world.queue.counts().await.unwrap().waiting, 1);
    assert_eq!(world.see(&format!("EXISTS bull:q:{}", run(first))).await, "0");
    let midnight = world.schedule(&pattern("0 0 * * *"), SLOT + 600).await;
    assert_eq!(midnight % 86_400_000, 0);
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.waiting, counts.delayed), (0, 1));
    assert_eq!(world.see("HMGET bull:q:repeat:s every pattern ic").await, "[- 0 0 * * * 1]");
}

#[tokio::test]
async fn setting_up_while_a_run_is_under_way_makes_the_next_one() {
    let world = World::new().await;
    world.schedule(&every(1000), SLOT).await;
    let taken = world.take_at(1, SLOT).await;
    assert_eq!(world.schedule(&every(1000), SLOT + 10).await, SLOT + 1000);
    assert_eq!(world.queue.schedule_next(readable(&taken.jobs[0]), SLOT + 20).await.unwrap(), Next::NotPresent);
    assert_eq!(world.queue.counts().await.unwrap().delayed, 1);
}

#[tokio::test]
async fn removing_takes_the_run_along_that_is_not_due() {
    let world = World::new().await;
    world.schedule(&Upsert { start_ms: Some(SLOT + 9000), ..every(1000) }, SLOT).await;
    world.news().await;
    assert!(world.queue.remove_scheduler("s").await.unwrap());
    assert_eq!(world.news().await, [format!("removed jobId={} prev=delayed", run(SLOT + 9000))]);
    assert_eq!(world.see("KEYS bull:q:repeat*").await, "[]");
    assert!(!world.queue.remove_scheduler("s").await.unwrap());
    world.schedule(&every(1000), SLOT).await;
    assert!(world.queue.remove_scheduler("s").await.unwrap());
    assert_eq!(world.work_run(SLOT).await, Next::NoScheduler, "a run that waited is the last");
    assert_eq!(world.see("KEYS bull:q:repeat").await, "[]");
}

#[tokio::test]
async fn schedulers_are_listed_by_the_time_of_their_runs() {
    let world = World::new().await;
    for n in (0..5).rev() {
        let upsert = Upsert { id: format!("s{n}"), start_ms: Some(SLOT + 1 + n), limit: Some(7), ..every(1000) };
        world.queue.upsert_scheduler(&upsert, SLOT).await.unwrap();
    }
    world.run(&["ZADD", "bull:q:repeat", "1", "ghost"]).await;
    let (page, total) = world.queue.schedulers(1, 2).await.unwrap();
    let listed: Vec<_> = page.iter().map(|scheduler| (scheduler.id.as_str(), scheduler.next_ms)).collect();
    assert_eq!((listed, total), (vec![("s0", SLOT + 1), ("s1", SLOT + 2)], 6));
    let (rest, _) = world.queue.schedulers(3, 100).await.unwrap();
    assert_eq!(rest.len(), 3);
    let shown = world.queue.scheduler("s3").await.unwrap().unwrap();
    assert_eq!(
        (shown.every_ms, shown.limit, shown.iterations, shown.name.as_str()),
        (Some(1000), Some(7), Some(1), "s3")
    );
    assert!(world.queue.scheduler("ghost").await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused_before_anything_is_written() {
    let world = World::new().await;
    let id = |id: &str| Upsert { id: id.to_owned(), ..every(1000) };
    let offset = |offset_ms| Upsert { rule: Rule::Every { every_ms: 1000, offset_ms: Some(offset_ms) }, ..every(1) };
    for (upsert, error) in [
        (id(""), SchedulerError::IdLength),
        (id("a:5"), SchedulerError::IdShape),
        (id("a:b:c:d:e f"), SchedulerError::IdShape),
        (every(0), SchedulerError::Every),
        (every(-5), SchedulerError::Every),
        (every(i64::MAX), SchedulerError::TooLate),
        (offset(-1), SchedulerError::Offset),
        (offset(1000), SchedulerError::Offset),
        (Upsert { limit: Some(0), ..every(1000) }, SchedulerError::Limit),
        (Upsert { end_ms: Some(SLOT), ..every(1000) }, SchedulerError::EndPast),
        (Upsert { start_ms: Some(SLOT + 9), end_ms: Some(SLOT + 8), ..every(9) }, SchedulerError::EndBeforeStart),
        (Upsert { start_ms: Some(SLOT + 9), immediately: true, ..every(9) }, SchedulerError::ImmediatelyAndStart),
        (Upsert { end_ms: Some(SLOT + 5), ..pattern("0 0 * * *") }, SchedulerError::NoRun),
    ] {
        assert_eq!(world.refused(&upsert, SLOT).await, error);
    }
    assert!(matches!(world.refused(&pattern("61 * * * *"), SLOT).await, SchedulerError::Pattern(_)));
    for zone in ["Berlin", "UTC5", "UTC+x", ""] {
        let rule = Rule::Pattern { pattern: "* * * * *".to_owned(), tz: Some(zone.to_owned()) };
        assert!(
            matches!(world.refused(&Upsert { rule, ..every(1) }, SLOT).await, SchedulerError::TimeZone(_)),
            "{zone}"
        );
    }
    assert_eq!(world.see("KEYS *").await, "[]");
}

#[tokio::test]
async fn a_chain_that_broke_is_mended() {
    let world = World::new().await;
    world.schedule(&every(1000), SLOT).await;
    // Taken and ended by somebody who knows nothing of schedulers.
    world.take_at(1, SLOT).await;
    assert!(world.queue.mend_schedulers(SLOT).await.unwrap().is_empty(), "it may still make the next");
    world.settle(&run(SLOT), complete("1")).await;
    assert_eq!(world.queue.mend_schedulers(SLOT + 2500).await.unwrap(), [run(SLOT + 3000)]);
    assert!(world.queue.mend_schedulers(SLOT + 2500).await.unwrap().is_empty());
    let options = world.options_of(&run(SLOT + 3000)).await;
    assert_eq!(options["repeat"], value!({"every": 1000, "count": 2}));
    // Deleted before its time, with everything that it knew.
    let next = run(SLOT + 3000);
    world.run(&["DEL", &format!("bull:q:{next}")]).await;
    world.run(&["ZREM", "bull:q:delayed", &next]).await;
    let mend = || world.queue.mend_schedulers(SLOT + 2600);
    let (one, other, third) = tokio::try_join!(mend(), mend(), mend()).unwrap();
    assert_eq!([one, other, third].concat(), [run(SLOT + 3000)], "it is made again, once");
    assert_eq!(world.queue.counts().await.unwrap().delayed, 1);
    assert_eq!(world.work_run(SLOT + 3000).await, made(SLOT + 4000));
    // One that is a ghost of the waiting list.
    world.take_at(0, SLOT + 4000).await;
    world.run(&["DEL", &format!("bull:q:{}", run(SLOT + 4000))]).await;
    assert_eq!(world.queue.mend_schedulers(SLOT + 4100).await.unwrap(), [run(SLOT + 5000)]);
}

#[tokio::test]
async fn a_chain_with_a_limit_is_not_mended_by_guessing() {
    let world = World::new().await;
    let upsert = Upsert { limit: Some(5), ..every(1000) };
    world.schedule(&upsert, SLOT).await;
    world.run(&["DEL", &format!("bull:q:{}", run(SLOT)), "bull:q:wait"]).await;
    assert!(world.queue.mend_schedulers(SLOT + 9000).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeatable_of_bullmq_5_without_its_run_yet_is_not_mended() {
    let world = World::new().await;
    world.run(&["ZADD", "bull:q:repeat", &SLOT.to_string(), "s"]).await;
    world.run(&["HSET", "bull:q:repeat:s", "name", "n", "every", "1000"]).await;
    assert!(world.queue.mend_schedulers(SLOT).await.unwrap().is_empty(), "its producer adds the run next");
    assert_eq!(world.see(&format!("EXISTS bull:q:{}", run(SLOT))).await, "0");
}

#[tokio::test]
async fn a_repeatable_of_bullmq_5_keeps_its_data() {
    let world = World::new().await;
    let key = "0123456789abcdef0123456789abcdef";
    let (id, due) = (format!("repeat:{key}:{SLOT}"), SLOT.to_string());
    world.run(&["ZADD", "bull:q:repeat", &due, key]).await;
    world.run(&["HSET", &format!("bull:q:repeat:{key}"), "name", "old", "every", "1000"]).await;
    let options = format!("{{\"repeat\":{{\"every\":1000,\"count\":1}},\"jobId\":\"{id}\",\"delay\":0}}");
    let hash = ["name", "old", "data", "{\"a\":1}", "opts", &options, "timestamp", &due, "delay", "0", "priority", "0"];
    world.run(&[&["HSET", &format!("bull:q:{id}")][..], &hash, &["rjk", key]].concat()).await;
    world.run(&["LPUSH", "bull:q:wait", &id]).await;
    for n in 1..=2 {
        let next = Next::Run { id: format!("repeat:{key}:{}", SLOT + n * 1000), due_ms: SLOT + n * 1000 };
        assert_eq!(world.work_run(SLOT + (n - 1) * 1000).await, next);
        let data = world.see(&format!("HGET bull:q:repeat:{key}:{} data", SLOT + n * 1000)).await;
        assert_eq!(data, "{\"a\":1}");
    }
}
