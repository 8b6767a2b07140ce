//! Jobs that are taken before there is a place for them.
//!
//! A worker with few places makes a call for few jobs, and of a job that is done in less than a round trip the call is most
//! of the price. So while calls get all that they ask for, and all jobs of a call are done within a moment, the next call asks
//! for more than there are places. They wait here, and start in their order as places become free: never are more worked on
//! at once than there are places. Meanwhile no call is made, so that they end together in the next one.
//!
//! But other workers might be free for what waits here. So it waits for a moment at most, and is given back then; or at once
//! when a job ends otherwise than completed: it may have learned that the next ones had better not be tried now.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::{How, Record};

/// So many more than places, at most.
const MOST: usize = 15;
/// After some had to be given back, which costs a call.
const REST: Duration = Duration::from_secs(1);

/// What calls brought that has not been started yet.
pub(super) struct Ahead {
    moment: Duration,
    /// With the tokens by which they were taken.
    waiting: VecDeque<(Record, String)>,
    since: Instant,
    /// How many more than places the last call asked for.
    extra: usize,
    /// Whether it got all that it asked for.
    was_full: bool,
    /// How many are to end in the next call, and have not ended yet.
    open: usize,
    is_spoiled: bool,
    rests_until: Instant,
}

impl Ahead {
    /// With a `moment` of zero nothing is taken ahead.
    pub fn new(moment: Duration, now: Instant) -> Self {
        Self {
            moment,
            waiting: VecDeque::new(),
            since: now,
            extra: 0,
            was_full: false,
            open: 0,
            is_spoiled: false,
            rests_until: now,
        }
    }

    /// How many more than places the next call shall ask for. `is_free`: all that was brought has ended.
    pub fn more(&mut self, is_free: bool, now: Instant) -> usize {
        let took = now - self.since;
        self.extra = if !is_free || !self.was_full || took >= self.moment || now < self.rests_until {
            0
        } else if took > self.moment / 2 {
            self.extra // twice as many would take too long
        } else {
            (self.extra * 2 + 1).min(MOST)
        };
        self.extra
    }

    /// What a call brought that had asked for so many.
    pub fn bring(&mut self, jobs: Vec<Record>, token: &str, asked: usize, now: Instant) {
        self.since = now;
        self.was_full = jobs.len() == asked;
        self.open = if self.extra > 0 { jobs.len() } else { 0 };
        self.is_spoiled = false;
        self.waiting.extend(jobs.into_iter().map(|job| (job, token.to_owned())));
    }

    /// The next to be started.
    pub fn next(&mut self) -> Option<(Record, String)> {
        self.waiting.pop_front()
    }

    /// One that was started ended so.
    pub fn end(&mut self, how: &How) {
        self.open = self.open.saturating_sub(1);
        self.is_spoiled |= self.extra > 0 && !matches!(how, How::Complete { .. });
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether something is waited for, so that there is to be no call yet.
    pub fn holds_calls(&self) -> bool {
        self.open > 0 || !self.waiting.is_empty()
    }

    /// Until when, at most.
    pub fn ends(&self) -> Instant {
        self.since + self.moment
    }

    /// Waits no longer if the moment is over, if something went wrong, or if it `must` not. Returns whether something is to be
    /// given back, of which nobody here knows any more.
    pub fn let_go(&mut self, must: bool, now: Instant) -> bool {
        if !must && !self.is_spoiled && now < self.ends() {
            return false;
        }
        self.open = 0;
        let had_any = !self.waiting.is_empty();
        if had_any {
            self.waiting.clear();
            self.rests_until = now + REST;
        }
        had_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);

    fn jobs(count: usize) -> Vec<Record> {
        (0..count).map(|n| Record::Unreadable { id: n.to_string(), reason: String::new() }).collect()
    }

    fn completed() -> How {
        How::Complete { value: RawValue::from_string("1".to_owned()).unwrap() }
    }

    /// The world of a worker with one place.
    struct World {
        ahead: Ahead,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self { ahead: Ahead::new(MOMENT, now), now }
        }

        fn after(&mut self, time: Duration) {
            self.now += time;
        }

        /// A call that gets `less` than it asks for; for how many more than places it asked.
        fn call(&mut self, less: usize) -> usize {
            let extra = self.ahead.more(true, self.now);
            self.ahead.bring(jobs(1 + extra - less), "t", 1 + extra, self.now);
            extra
        }

        /// A call all of whose jobs are done after `ms`.
        fn call_done_after(&mut self, ms: u64) -> usize {
            let extra = self.call(0);
            while self.ahead.next().is_some() {
                self.ahead.end(&completed());
            }
            assert!(!self.ahead.holds_calls());
            self.after(Duration::from_millis(ms));
            extra
        }
    }

    #[test]
    fn more_is_taken_while_all_of_it_is_done_within_the_moment() {
        let mut world = World::new();
        let took_ms = [1, 1, 1, 6, 4, 1, 1, 10, 1, 1];
        assert_eq!(took_ms.map(|ms| world.call_done_after(ms)), [0, 1, 3, 7, 7, 15, 15, 15, 0, 1]);
        world.call(1);
        assert_eq!(world.ahead.more(true, world.now), 0, "the queue has no more");
        world.call_done_after(0);
        assert_eq!(world.ahead.more(false, world.now), 0, "some are still worked on");
        let mut never = Ahead::new(Duration::ZERO, world.now);
        never.bring(jobs(1), "t", 1, world.now);
        assert_eq!(never.more(true, world.now), 0);
    }

    #[test]
    fn what_waits_is_given_back_when_the_moment_is_over() {
        let mut world = World::new();
        world.call_done_after(0);
        assert_eq!(world.call(0), 1);
        assert!(world.ahead.next().is_some() && !world.ahead.let_go(false, world.now) && world.ahead.holds_calls());
        world.after(MOMENT);
        assert!(world.ahead.let_go(false, world.now));
        assert!(!world.ahead.holds_calls() && world.ahead.next().is_none());
        assert_eq!([0; 5].map(|ms| world.call_done_after(ms)), [0; 5], "once bitten");
        world.after(REST);
        assert_eq!([0; 3].map(|ms| world.call_done_after(ms)), [0, 1, 3], "what was before the rest says nothing");
    }

    #[test]
    fn a_job_that_does_not_complete_spoils_it() {
        let mut world = World::new();
        world.call_done_after(0);
        world.call(0);
        world.ahead.next();
        world.ahead.end(&completed());
        assert!(!world.ahead.let_go(false, world.now));
        world.ahead.end(&How::Wait);
        assert!(world.ahead.let_go(false, world.now));
        world.call(0);
        world.ahead.end(&How::Wait);
        assert!(!world.ahead.let_go(false, world.now), "there was a place for each");
        assert!(world.ahead.let_go(true, world.now));
    }
}
