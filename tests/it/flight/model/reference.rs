//! The state machine once more, as simply as it can be said: no SQL, no batches, one thing at a time.

use super::act::{Act, End, Mark, Wish};
use super::picture::{Delivery, Flight, Made, Picture, Request, Run};

pub const MAX_ATTEMPTS: i64 = 2;
pub const LEASE_MS: i64 = 1000;
pub const BACKOFF_MS: i64 = 300;
pub const SNOOZE_MS: i64 = 200;
/// How long a failure is remembered.
pub const NEGATIVE_MS: i64 = 500;
/// The oldest result that the strict take.
pub const AGE_MS: i64 = 800;
/// The wait before a delivery is tried again.
pub const AGAIN_MS: i64 = 400;
pub const RELEASED: &str = "by hand";
pub const ABANDONED: &str = "everyone who asked has left";
pub const SILENT: &str = "the worker fell silent";

/// Runs of other keys go on when nobody wants them any more.
pub fn may_be_abandoned(key: &str) -> bool {
    key == "k0"
}

pub struct Reference {
    now_ms: i64,
    pub picture: Picture,
}

impl Reference {
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms, picture: Picture::default() }
    }

    /// Does it, and says what the asker is told.
    pub fn act(&mut self, act: &Act) -> String {
        match act {
            Act::Accept(wishes) => wishes.iter().map(|wish| self.accept(wish)).collect::<Vec<_>>().join("; "),
            Act::Claim { key, generation, token } => self.claim(key, *generation, token),
            Act::Renew { key, token } => self.renew(key, token),
            Act::Finish { key, token, ending, value } => self.finish(key, token, *ending, value),
            Act::Pass { ms } => {
                self.now_ms += ms;
                "passed".into()
            }
            Act::Rescue => self.rescue(),
            Act::Restart => self.restart(),
            Act::Leave { request } => self.leave(request),
            Act::Release { key } => self.release(key),
            Act::Lease { request, token } => self.lease(request, token),
            Act::Mark { request, token, mark } => self.mark(request, token, *mark),
            Act::Replay { request } => self.replay(request),
        }
    }

    fn accept(&mut self, wish: &Wish) -> String {
        let now_ms = self.now_ms;
        let flight = self.picture.flights.entry(wish.key.clone()).or_default();
        let fresh = flight.result.clone().filter(|made| !wish.strict || now_ms - made.at_ms <= AGE_MS);
        let is_remembered = flight.state == "failed" && flight.negative_until_ms.is_some_and(|until| until > now_ms);
        match fresh {
            Some(made) if !wish.refresh => self.answer(wish, "ready", made.generation),
            _ if flight.is_open() => {
                let generation = flight.generation;
                self.subscribe(wish, "subscribed", generation)
            }
            _ if is_remembered && !wish.refresh => {
                let generation = flight.generation;
                self.answer(wish, "failed", generation)
            }
            _ => {
                *flight = Flight {
                    generation: flight.generation + 1,
                    state: "pending".into(),
                    next_at_ms: now_ms,
                    result: flight.result.clone(),
                    ..Flight::default()
                };
                let generation = flight.generation;
                self.subscribe(wish, "queued", generation)
            }
        }
    }

    /// An open request of the same subscriber, or a new one.
    fn request(&mut self, wish: &Wish, generation: i64) -> (String, bool) {
        let request = Request {
            key: wish.key.clone(),
            generation,
            subscriber: wish.subscriber.clone(),
            polls: wish.polls,
            state: "open".into(),
        };
        if let Some((id, _)) = self.picture.requests.iter().find(|(_, standing)| **standing == request) {
            return (id.clone(), false);
        }
        self.picture.requests.insert(wish.id.clone(), request);
        (wish.id.clone(), true)
    }

    fn subscribe(&mut self, wish: &Wish, status: &str, generation: i64) -> String {
        let (id, _) = self.request(wish, generation);
        format!("{status} {generation}, request {id}")
    }

    /// Of a generation that has ended: who only polls has the answer already.
    fn answer(&mut self, wish: &Wish, status: &str, generation: i64) -> String {
        if wish.polls {
            return format!("{status} {generation}");
        }
        let (id, is_new) = self.request(wish, generation);
        if is_new {
            self.picture.deliveries.insert(id.clone(), self.due("queued"));
        }
        format!("{status} {generation}, request {id}{}", if is_new { ", due" } else { "" })
    }

    fn due(&self, state: &str) -> Delivery {
        Delivery {
            state: state.into(),
            attempts: 0,
            ambiguous: 0,
            next_at_ms: self.now_ms,
            token: None,
            lease_until_ms: None,
        }
    }

    fn claim(&mut self, key: &str, generation: i64, token: &str) -> String {
        let Some(flight) = self.picture.flights.get_mut(key) else { return "unknown".into() };
        if generation != flight.generation || !flight.is_open() {
            let run = self.picture.runs.get(&(key.to_owned(), generation));
            return run.map_or("unknown".into(), over);
        }
        let free_at_ms = if flight.state == "running" { flight.lease_until_ms } else { Some(flight.next_at_ms) };
        let left_ms = free_at_ms.unwrap_or(0) - self.now_ms;
        if left_ms > 0 {
            return format!("in {left_ms}");
        }
        if flight.attempt >= MAX_ATTEMPTS {
            return "exhausted".into();
        }
        flight.state = "running".into();
        flight.attempt += 1;
        flight.token = Some(token.into());
        flight.lease_until_ms = Some(self.now_ms + LEASE_MS);
        format!("claimed {generation}, attempt {}", flight.attempt)
    }

    fn held(&mut self, key: &str, token: &str) -> Option<&mut Flight> {
        let flight = self.picture.flights.get_mut(key)?;
        (flight.state == "running" && flight.token.as_deref() == Some(token)).then_some(flight)
    }

    fn renew(&mut self, key: &str, token: &str) -> String {
        let until_ms = self.now_ms + LEASE_MS;
        match self.held(key, token) {
            Some(flight) => {
                flight.lease_until_ms = Some(until_ms);
                "renewed".into()
            }
            None => "lost".into(),
        }
    }

    fn finish(&mut self, key: &str, token: &str, ending: End, value: &str) -> String {
        let Some(flight) = self.held(key, token) else {
            let ended =
                self.picture.runs.iter().find(|((of, _), run)| of == key && run.token.as_deref() == Some(token));
            return ended.map_or("lost".into(), |(_, run)| over(run));
        };
        let attempt = flight.attempt;
        match ending {
            End::Succeeded => {
                flight.result = Some(Made { value: value.into(), generation: flight.generation, at_ms: 0 });
                let now_ms = self.now_ms;
                self.end(key, "succeeded", value, 0);
                let made = self.picture.flights.get_mut(key).and_then(|flight| flight.result.as_mut());
                made.expect("it was just put there").at_ms = now_ms;
            }
            End::FailedForGood => self.end(key, "failed", value, NEGATIVE_MS),
            End::Failed if attempt >= MAX_ATTEMPTS => self.end(key, "failed", value, NEGATIVE_MS),
            End::Failed => return self.put_back(key, BACKOFF_MS),
            End::Later => {
                flight.attempt -= 1;
                return self.put_back(key, SNOOZE_MS);
            }
        }
        let generation = self.picture.flights[key].generation;
        over(&self.picture.runs[&(key.to_owned(), generation)])
    }

    fn put_back(&mut self, key: &str, wait_ms: i64) -> String {
        let now_ms = self.now_ms;
        if let Some(flight) = self.picture.flights.get_mut(key) {
            let (generation, attempt, result) = (flight.generation, flight.attempt, flight.result.clone());
            let next_at_ms = now_ms + wait_ms;
            *flight = Flight { generation, attempt, result, next_at_ms, state: "pending".into(), ..Flight::default() };
        }
        format!("again in {wait_ms}")
    }

    /// The run ends, and everyone who still wants it is told.
    fn end(&mut self, key: &str, state: &str, told: &str, negative_ms: i64) {
        let due = [self.due("queued"), self.due("delivered")];
        let Some(flight) = self.picture.flights.get_mut(key) else { return };
        let run = Run { state: state.into(), told: told.into(), token: flight.token.take() };
        flight.state = state.into();
        flight.lease_until_ms = None;
        flight.next_at_ms = self.now_ms;
        flight.negative_until_ms = (negative_ms > 0).then_some(self.now_ms + negative_ms);
        self.picture.runs.insert((key.into(), flight.generation), run);
        for (id, request) in &mut self.picture.requests {
            if request.key == key && request.generation == flight.generation && request.state == "open" {
                self.picture.deliveries.insert(id.clone(), due[usize::from(request.polls)].clone());
                if request.polls {
                    request.state = "closed".into();
                }
            }
        }
    }

    fn rescue(&mut self) -> String {
        let now_ms = self.now_ms;
        let is_silent = |flight: &Flight| {
            flight.state == "running" && flight.lease_until_ms.is_some_and(|until_ms| until_ms <= now_ms)
        };
        let silent = self.picture.flights.iter().filter(|(_, flight)| is_silent(flight));
        let silent: Vec<_> = silent.map(|(key, flight)| (key.clone(), flight.attempt)).collect();
        let told = silent.into_iter().map(|(key, attempt)| {
            if attempt < MAX_ATTEMPTS {
                return format!("{key} {}", self.put_back(&key, BACKOFF_MS));
            }
            self.end(&key, "failed", SILENT, 0);
            format!("{key} over failed {SILENT}")
        });
        told.collect::<Vec<_>>().join("; ")
    }

    fn restart(&mut self) -> String {
        for flight in self.picture.flights.values_mut().filter(|flight| flight.state == "running") {
            flight.lease_until_ms = Some(0);
        }
        for delivery in self.picture.deliveries.values_mut().filter(|delivery| delivery.state == "leased") {
            delivery.lease_until_ms = Some(0);
        }
        "restarted".into()
    }

    fn leave(&mut self, id: &str) -> String {
        let Some(request) = self.picture.requests.get_mut(id) else { return "unknown".into() };
        let mut delivery = self.picture.deliveries.get_mut(id);
        if request.state != "open" || delivery.as_ref().is_some_and(|delivery| delivery.state != "queued") {
            return "final".into();
        }
        request.state = "left".into();
        if let Some(delivery) = &mut delivery {
            delivery.state = "suppressed".into();
        }
        let (key, generation) = (request.key.clone(), request.generation);
        let flight = &self.picture.flights[&key];
        let is_wanted = self
            .picture
            .requests
            .values()
            .any(|other| other.key == key && other.generation == generation && other.state == "open");
        let is_last = flight.is_open() && flight.generation == generation && !is_wanted && may_be_abandoned(&key);
        if is_last {
            self.end(&key, "cancelled", ABANDONED, 0);
        }
        format!("left{}", if is_last { ", the last" } else { "" })
    }

    fn release(&mut self, key: &str) -> String {
        let Some(flight) = self.picture.flights.get(key) else { return "unknown".into() };
        let cancelled = flight.is_open().then_some(flight.generation);
        if cancelled.is_some() {
            self.end(key, "cancelled", RELEASED, 0);
        }
        if let Some(flight) = self.picture.flights.get_mut(key) {
            flight.result = None;
            flight.negative_until_ms = None;
        }
        format!("released {cancelled:?}")
    }

    fn lease(&mut self, id: &str, token: &str) -> String {
        let Some(delivery) = self.picture.deliveries.get_mut(id) else { return "unknown".into() };
        let was_leased = delivery.state == "leased";
        let free_at_ms = if was_leased { delivery.lease_until_ms.unwrap_or(0) } else { delivery.next_at_ms };
        if !was_leased && delivery.state != "queued" {
            return "over".into();
        }
        if free_at_ms > self.now_ms {
            return format!("in {}", free_at_ms - self.now_ms);
        }
        delivery.state = "leased".into();
        delivery.attempts += 1;
        delivery.ambiguous += i64::from(was_leased);
        delivery.token = Some(token.into());
        delivery.lease_until_ms = Some(self.now_ms + LEASE_MS);
        format!("leased, attempt {}, ambiguous {}", delivery.attempts, delivery.ambiguous)
    }

    fn mark(&mut self, id: &str, token: &str, mark: Mark) -> String {
        let held = self.picture.deliveries.get_mut(id);
        let held = held.filter(|held| held.state == "leased" && held.token.as_deref() == Some(token));
        let Some(delivery) = held else { return "lost".into() };
        delivery.lease_until_ms = None;
        let state = match mark {
            Mark::Again { counts, ambiguous } => {
                delivery.attempts -= i64::from(!counts);
                delivery.ambiguous += i64::from(ambiguous);
                delivery.next_at_ms = self.now_ms + AGAIN_MS;
                "queued"
            }
            Mark::Delivered => "delivered",
            Mark::Suppressed => "suppressed",
            Mark::Dead => "dead",
        };
        delivery.state = state.into();
        let request = self.picture.requests.get_mut(id).filter(|request| request.state == "open");
        if let Some(request) = request.filter(|_| state != "queued") {
            request.state = "closed".into();
        }
        "marked".into()
    }

    fn replay(&mut self, id: &str) -> String {
        let due = self.due("queued");
        match self.picture.deliveries.get_mut(id) {
            None => "unknown".into(),
            Some(delivery) if delivery.state == "dead" || delivery.state == "suppressed" => {
                *delivery = due;
                "replayed".into()
            }
            Some(_) => "not dead".into(),
        }
    }
}

fn over(run: &Run) -> String {
    format!("over {} {}", run.state, run.told)
}
