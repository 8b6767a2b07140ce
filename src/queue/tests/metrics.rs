//! How many jobs ended, by the minute, as BullMQ counts it.

use super::*;
use crate::queue::{Cancelled, ParkedEnd, ParkedHow, ParkedOutcome};

const MINUTE: Millis = 60_000;

async fn counting(points: u32) -> World {
    World::on(Terms { metrics: points, ..Terms::default() }).await
}

impl World {
    /// Ends so many jobs at once, of which the last fails.
    async fn end(&self, jobs: u32, now: Millis) {
        self.queue.add((0..jobs).map(|_| plain()).collect(), now).await.unwrap();
        let taken = self.take_at(jobs, now).await;
        let mut ends: Vec<Ended> = taken.jobs.iter().map(|record| ended(record.id(), complete("1"))).collect();
        ends.last_mut().expect("there are some").how = fail("no");
        self.queue.settle(&ends, None, now).await.unwrap();
    }

    async fn points(&self) -> (String, String) {
        let totals = self.see("HMGET bull:q:metrics:completed count prevTS prevCount").await;
        (totals, self.see("LRANGE bull:q:metrics:completed:data 0 -1").await)
    }
}

#[tokio::test]
async fn a_minute_is_told_with_the_first_end_after_it() {
    let world = counting(5).await;
    world.end(4, NOW).await;
    assert_eq!(world.points().await, (format!("[3 {NOW} 0]"), "[]".into()), "the present minute is not told yet");
    world.end(3, NOW + 1).await;
    assert_eq!(world.points().await, (format!("[5 {NOW} 0]"), "[]".into()));
    let next = NOW + MINUTE;
    world.end(2, next).await;
    assert_eq!(world.points().await, (format!("[6 {next} 5]"), "[5]".into()));
    // Minutes without an end are zeros, the newest first.
    let later = next + 3 * MINUTE;
    world.end(2, later).await;
    assert_eq!(world.points().await, (format!("[7 {later} 6]"), "[0 0 1 5]".into()));
    assert_eq!(world.see("HGET bull:q:metrics:failed count").await, "4");
    assert_eq!(world.see("LRANGE bull:q:metrics:failed:data 0 -1").await, "[0 0 1 2]");
}

#[tokio::test]
async fn no_more_points_than_wanted_are_kept() {
    let world = counting(3).await;
    world.end(2, NOW).await;
    world.end(3, NOW + MINUTE).await;
    world.end(2, NOW + 1000 * MINUTE).await;
    assert_eq!(world.points().await.1, "[0 0 2]");
    world.end(2, NOW + 990 * MINUTE).await;
    assert_eq!(world.points().await.1, "[0 0 2]", "a clock that goes back tells nothing");
}

#[tokio::test]
async fn nothing_is_counted_where_nobody_wants_it() {
    let world = World::new().await;
    world.end(2, NOW).await;
    assert_eq!(world.see("EXISTS bull:q:metrics:completed bull:q:metrics:failed").await, "0");
}

#[tokio::test]
async fn parked_and_cancelled_jobs_count_as_well() {
    let world = counting(5).await;
    world.queue.add(vec![plain(), plain()], NOW).await.unwrap();
    world.take(1).await;
    world.settle("1", How::Park { fields: vec![("ot:mark".to_owned(), "m".to_owned())] }).await;
    let end = ParkedEnd {
        id: "1".to_owned(),
        timestamp: NOW,
        mark_field: "ot:mark".to_owned(),
        mark_value: "m".to_owned(),
        how: ParkedHow::Complete { value: json("1") },
    };
    assert_eq!(world.queue.finish_parked(&[end], NOW).await.unwrap(), [ParkedOutcome::Finished]);
    assert_eq!(world.queue.cancel("2", "no", "w", NOW).await.unwrap(), Cancelled::Failed);
    for kind in ["completed", "failed"] {
        assert_eq!(world.see(&format!("HGET bull:q:metrics:{kind} count")).await, "1", "{kind}");
    }
}
