//! What a queue does, in plain Rust: lists for lists, sorted vectors for sorted sets, and no regard for speed.

use std::collections::{BTreeMap, BTreeSet};

use super::act::{Act, End};
use crate::clock::Millis;
use crate::queue::{Finished, State};

/// A job found without a worker more often than this is failed by its next taker.
pub const MAX_STALLED: u32 = 1;

#[derive(Clone, Debug, Default)]
pub struct Job {
    pub priority: u32,
    pub lifo: bool,
    pub forget: bool,
    pub delay: Millis,
    pub made: u32,
    pub started: u32,
    pub stalled: u32,
    pub must_fail: bool,
    pub lock: Option<String>,
    pub timestamp: Millis,
    pub processed: Option<Millis>,
    pub finished: Option<Millis>,
}

/// The queue. Each id is in one of its states.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    pub jobs: BTreeMap<String, Job>,
    /// From the head to the tail, which is taken first.
    pub wait: Vec<String>,
    /// The newest first.
    pub active: Vec<String>,
    /// By priority and turn, then by id: 0 is the front of a priority.
    pub prioritized: BTreeSet<(u32, u64, String)>,
    /// By the time at which they are due, then by their coming.
    pub delayed: BTreeSet<(Millis, u64, String)>,
    pub parked: BTreeSet<(Millis, String)>,
    pub completed: BTreeSet<(Millis, String)>,
    pub failed: BTreeSet<(Millis, String)>,
    pub suspects: BTreeSet<String>,
    pub turns: u64,
    pub is_paused: bool,
    pub concurrency: Option<u32>,
}

impl Reference {
    /// Does it, and says what the queue should say.
    pub fn act(&mut self, act: &Act, now: Millis) -> String {
        match act {
            Act::Pass { .. } => "passed".into(),
            Act::Add { id, priority, delay, lifo, forget } => {
                if self.jobs.contains_key(id) {
                    return "Duplicate".into();
                }
                let (priority, delay, lifo, forget) = (*priority, *delay, *lifo, *forget);
                let job = Job { priority, lifo, forget, delay, timestamp: now, ..Job::default() };
                self.jobs.insert(id.clone(), job);
                if delay > 0 {
                    self.delay(id, now + delay)
                } else {
                    self.push(id, priority, lifo)
                }
                "Added".into()
            }
            Act::Take { client, most } => format!("{:?}", self.take(client, *most, now)),
            Act::Settle { id, client, end, take } => {
                let settled = self.settle(id, client, *end, now);
                let taken = take.map(|most| self.take(client, most, now)).unwrap_or_default();
                format!("{settled} {taken:?}")
            }
            Act::Extend { ids, client } => {
                let mut lost = Vec::new();
                for id in ids {
                    if self.holds(id, client) {
                        self.suspects.remove(id);
                    } else {
                        lost.push(id);
                    }
                }
                format!("{lost:?}")
            }
            Act::Expire { id } => {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.lock = None;
                }
                "expired".into()
            }
            Act::Scan => self.scan(),
            Act::Reclaim { client, held } => {
                let mut back = Vec::new();
                for id in self.active.clone() {
                    if !held.contains(&id) && self.holds(&id, client) {
                        self.leave(&id);
                        let job = self.job(&id);
                        (job.lock, job.started) = (None, job.started.saturating_sub(1));
                        if job.started == 0 {
                            job.processed = None;
                        }
                        let priority = job.priority;
                        self.push_front(&id, priority);
                        back.push(id);
                    }
                }
                format!("{back:?}")
            }
            Act::Remove { id } => match self.jobs.get(id) {
                None => {
                    self.suspects.remove(id); // of a job that was cleaned away
                    "Absent".into()
                }
                Some(job) if job.lock.is_some() => "Locked".into(),
                Some(_) => {
                    self.erase(id);
                    "Removed".into()
                }
            },
            Act::Retry { id, from, anew } => {
                let state = self.jobs.contains_key(id).then(|| self.state_of(id));
                match (state, from) {
                    (None, _) => "Absent".into(),
                    (Some("completed"), None | Some(Finished::Completed))
                    | (Some("failed"), None | Some(Finished::Failed)) => {
                        self.retry(id, *anew);
                        "Made".into()
                    }
                    _ => "WrongState".into(),
                }
            }
            Act::Promote { id } => self.if_delayed(id, |queue, id| queue.promote(id)),
            Act::ChangeDelay { id, delay } => self.if_delayed(id, |queue, id| {
                queue.leave(id);
                queue.job(id).delay = *delay;
                queue.delay(id, now + delay);
            }),
            Act::ChangePriority { id, priority, lifo } => {
                if !self.jobs.contains_key(id) {
                    return "Absent".into();
                }
                self.job(id).priority = *priority;
                if matches!(self.state_of(id), "wait" | "prioritized") {
                    self.leave(id);
                    if *lifo { self.push_front(id, *priority) } else { self.push(id, *priority, false) }
                }
                "Made".into()
            }
            Act::FinishParked { id } => match self.jobs.get(id).map(|_| self.state_of(id)) {
                None => "Gone".into(),
                Some("waiting-children") => {
                    self.finish(id, true, now);
                    "Finished".into()
                }
                // Nobody asks: see `Play::step`.
                Some(state) => state.to_owned(),
            },
            Act::Pause => {
                self.is_paused = true;
                "paused".into()
            }
            Act::Resume => {
                self.is_paused = false;
                "resumed".into()
            }
            Act::Concurrency { limit } => {
                self.concurrency = *limit;
                "set".into()
            }
            Act::Drain { delayed } => {
                let states: &[&str] =
                    if *delayed { &["wait", "prioritized", "delayed"] } else { &["wait", "prioritized"] };
                self.erase_where(|state, _| states.contains(&state))
            }
            Act::Clean { state, grace } => {
                let (wanted, latest) = (*state, now - grace);
                self.erase_where(|state, job| {
                    let age = match wanted {
                        State::Waiting | State::Active => job.finished.or(job.processed).unwrap_or(job.timestamp),
                        State::Delayed => job.processed.unwrap_or(job.timestamp),
                        State::Prioritized => job.timestamp,
                        _ => job.finished.unwrap_or(0),
                    };
                    let name = if wanted == State::Waiting { "wait" } else { wanted.as_str() };
                    state == name && wanted != State::WaitingChildren && job.lock.is_none() && age <= latest
                })
            }
            Act::RetryAll { from } => {
                let set = if *from == Finished::Completed { &self.completed } else { &self.failed };
                let ids: Vec<String> = set.iter().map(|(_, id)| id.clone()).collect();
                for id in &ids {
                    self.retry(id, false);
                }
                ids.len().to_string()
            }
            Act::PromoteAll => {
                let ids: Vec<String> = self.delayed.iter().map(|(_, _, id)| id.clone()).collect();
                for id in &ids {
                    self.promote(id);
                }
                ids.len().to_string()
            }
        }
    }

    pub fn state_of(&self, id: &str) -> &'static str {
        let is = |id_there: &String| id_there == id;
        if self.wait.iter().any(is) {
            "wait"
        } else if self.active.iter().any(is) {
            "active"
        } else if self.prioritized.iter().any(|(_, _, there)| is(there)) {
            "prioritized"
        } else if self.delayed.iter().any(|(_, _, there)| is(there)) {
            "delayed"
        } else if self.parked.iter().any(|(_, there)| is(there)) {
            "waiting-children"
        } else if self.completed.iter().any(|(_, there)| is(there)) {
            "completed"
        } else {
            "failed"
        }
    }

    fn job(&mut self, id: &str) -> &mut Job {
        self.jobs.get_mut(id).expect("it was asked whether there is one")
    }

    fn holds(&self, id: &str, client: &str) -> bool {
        self.jobs.get(id).is_some_and(|job| job.lock.as_deref() == Some(client))
    }

    fn push(&mut self, id: &str, priority: u32, lifo: bool) {
        if priority > 0 {
            self.turns += 1;
            self.prioritized.insert((priority, self.turns, id.to_owned()));
        } else if lifo {
            self.wait.push(id.to_owned());
        } else {
            self.wait.insert(0, id.to_owned());
        }
    }

    fn push_front(&mut self, id: &str, priority: u32) {
        if priority > 0 {
            self.prioritized.insert((priority, 0, id.to_owned()));
        } else {
            self.wait.push(id.to_owned());
        }
    }

    fn delay(&mut self, id: &str, due: Millis) {
        let next = self.delayed.iter().filter(|(at, _, _)| *at == due).map(|(_, turn, _)| turn + 1).max();
        self.delayed.insert((due, next.unwrap_or(0), id.to_owned()));
    }

    /// Out of its state, whichever that is.
    fn leave(&mut self, id: &str) {
        self.wait.retain(|there| there != id);
        self.active.retain(|there| there != id);
        self.prioritized.retain(|(_, _, there)| there != id);
        self.delayed.retain(|(_, _, there)| there != id);
        for set in [&mut self.parked, &mut self.completed, &mut self.failed] {
            set.retain(|(_, there)| there != id);
        }
        self.suspects.remove(id);
    }

    fn erase(&mut self, id: &str) {
        self.leave(id);
        self.jobs.remove(id);
    }

    fn erase_where(&mut self, wants: impl Fn(&str, &Job) -> bool) -> String {
        let ids: Vec<String> =
            self.jobs.iter().filter(|(id, job)| wants(self.state_of(id), job)).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            // Bulk removals know nothing of suspects: whoever is not active any more is passed over.
            let was_suspect = self.suspects.contains(id);
            self.erase(id);
            if was_suspect {
                self.suspects.insert(id.clone());
            }
        }
        ids.len().to_string()
    }

    fn promote(&mut self, id: &str) {
        self.leave(id);
        let priority = self.job(id).priority;
        self.job(id).delay = 0;
        self.push(id, priority, false);
    }

    fn retry(&mut self, id: &str, anew: bool) {
        self.leave(id);
        let job = self.job(id);
        (job.processed, job.finished) = (None, None);
        if anew {
            (job.made, job.started) = (0, 0);
        }
        let (priority, lifo) = (job.priority, job.lifo);
        self.push(id, priority, lifo);
    }

    fn if_delayed(&mut self, id: &str, act: impl FnOnce(&mut Self, &str)) -> String {
        if !self.jobs.contains_key(id) {
            return "Absent".into();
        } else if self.state_of(id) != "delayed" {
            return "WrongState".into();
        }
        act(self, id);
        "Made".into()
    }

    fn take(&mut self, client: &str, most: u32, now: Millis) -> Vec<String> {
        let due: Vec<String> =
            self.delayed.iter().filter(|(due, _, _)| *due <= now).map(|(_, _, id)| id.clone()).collect();
        for id in due {
            self.promote(&id);
        }
        let free = self.concurrency.map_or(u32::MAX, |limit| limit.saturating_sub(self.active.len() as u32));
        let room = most.min(free) as usize;
        if room == 0 || self.is_paused {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < room {
            let next = self.wait.pop().or_else(|| self.prioritized.pop_first().map(|(_, _, id)| id));
            let Some(id) = next else {
                self.turns = 0; // nobody waits by priority: the count may begin anew
                break;
            };
            let job = self.job(&id);
            job.started += 1;
            job.processed = Some(now);
            job.lock = Some(client.to_owned());
            self.active.insert(0, id.clone());
            taken.push(id);
        }
        taken
    }

    fn settle(&mut self, id: &str, client: &str, end: End, now: Millis) -> &'static str {
        if !self.holds(id, client) {
            return "Lost";
        }
        self.job(id).lock = None;
        let (priority, lifo) = (self.job(id).priority, self.job(id).lifo);
        match end {
            End::Complete => self.finish(id, true, now),
            End::Fail => self.finish(id, false, now),
            End::Retry { delay } => {
                self.leave(id);
                self.job(id).made += 1;
                if delay > 0 {
                    self.job(id).delay = delay;
                    self.delay(id, now + delay);
                } else {
                    self.push(id, priority, lifo);
                }
            }
            End::Delay { from_now } => {
                self.leave(id);
                self.job(id).delay = from_now.max(0);
                self.delay(id, now + from_now.max(0));
            }
            End::Wait => {
                self.leave(id);
                self.push_front(id, priority);
            }
            End::Park => {
                self.leave(id);
                self.parked.insert((now, id.to_owned()));
            }
        }
        "Settled"
    }

    fn finish(&mut self, id: &str, completes: bool, now: Millis) {
        self.leave(id);
        if self.job(id).forget {
            self.jobs.remove(id);
            return;
        }
        let job = self.job(id);
        job.made += 1;
        job.finished = Some(now);
        if completes {
            self.completed.insert((now, id.to_owned()));
        } else {
            job.must_fail = false;
            self.failed.insert((now, id.to_owned()));
        }
    }

    /// In no particular order: the set of suspects has none.
    fn scan(&mut self) -> String {
        let mut recovered = Vec::new();
        for id in std::mem::take(&mut self.suspects) {
            if self.active.contains(&id) && self.job(&id).lock.is_none() {
                self.leave(&id);
                let job = self.job(&id);
                job.stalled += 1;
                job.must_fail |= job.stalled > MAX_STALLED;
                self.push_front(&id, 0);
                recovered.push(id);
            }
        }
        self.suspects = self.active.iter().cloned().collect();
        recovered.sort();
        format!("{recovered:?}")
    }
}
