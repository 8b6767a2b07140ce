//! One walk: names what each step concerns, lets the reference and the system do it, and compares.

use super::super::bench::Bench;
use super::act::{Act, Step, Wish};
use super::invariants;
use super::picture::Picture;
use super::reference::Reference;
use super::system::{Fault, System};

pub struct Play<'b> {
    reference: Reference,
    system: System<'b>,
    before: Picture,
    /// (key, token) of all who were given a run and have not died, the stale ones too.
    workers: Vec<(String, String)>,
    /// (request, token) of all who were given a delivery.
    senders: Vec<(String, String)>,
    requests: Vec<String>,
    named: u32,
}

impl<'b> Play<'b> {
    pub async fn begin(bench: &'b Bench, fault: Fault) -> Self {
        Self {
            reference: Reference::new(bench.clock().now_ms()),
            system: System::new(bench, fault).await,
            before: Picture::default(),
            workers: Vec::new(),
            senders: Vec::new(),
            requests: Vec::new(),
            named: 0,
        }
    }

    /// # Errors
    /// What is wrong after it.
    pub async fn step(&mut self, step: &Step) -> Result<(), String> {
        let Some(act) = self.name(step) else { return Ok(()) };
        let expected = self.reference.act(&act);
        let told = self.system.act(&act).await.map_err(|error| format!("{act:?}: {error:?}"))?;
        if told != expected {
            return Err(format!("{act:?} said\n  {told}, where\n  {expected} was expected"));
        }
        match &act {
            Act::Claim { key, token, .. } if told.starts_with("claimed") => {
                self.workers.push((key.clone(), token.clone()));
            }
            Act::Lease { request, token } if told.starts_with("leased") => {
                self.senders.push((request.clone(), token.clone()));
            }
            _ => {}
        }
        let now = Picture::of(self.system.store()).await.map_err(|error| format!("{error:?}"))?;
        let may_forget = matches!(act, Act::Release { .. });
        invariants::check(&self.before, &now, may_forget).map_err(|wrong| format!("{act:?}: {wrong}"))?;
        if now != self.reference.picture {
            return Err(format!("{act:?} left\n{now:#?}, where\n{:#?} was expected", self.reference.picture));
        }
        self.before = now;
        Ok(())
    }

    /// `None` if the step concerns nobody.
    fn name(&mut self, step: &Step) -> Option<Act> {
        Some(match step {
            Step::Accept(wanted) => {
                let wishes = wanted.iter().map(|wanted| {
                    let id = self.new_name("r");
                    self.requests.push(id.clone());
                    Wish {
                        id,
                        key: key(wanted.key),
                        subscriber: format!("u{}", wanted.subscriber),
                        polls: wanted.polls,
                        refresh: wanted.refresh,
                        strict: wanted.strict,
                    }
                });
                Act::Accept(wishes.collect())
            }
            Step::Claim { key: chosen, behind } => {
                let key = key(*chosen);
                let current = self.reference.picture.flights.get(&key).map_or(1, |flight| flight.generation);
                Act::Claim { generation: current - i64::from(*behind), token: self.new_name("t"), key }
            }
            Step::Renew { worker } => {
                let (key, token) = choose(&self.workers, *worker)?;
                Act::Renew { key, token }
            }
            Step::Finish { worker, ending } => {
                let (key, token) = choose(&self.workers, *worker)?;
                let value = self.new_name("\"v") + "\"";
                Act::Finish { key, token, ending: *ending, value }
            }
            Step::Crash { worker } => {
                let dead = choose(&self.workers, *worker)?;
                self.workers.retain(|alive| *alive != dead);
                return None;
            }
            Step::Pass { ms } => Act::Pass { ms: *ms },
            Step::Rescue => Act::Rescue,
            Step::Restart => Act::Restart,
            Step::Leave { request } => Act::Leave { request: choose(&self.requests, *request)? },
            Step::Release { key: chosen } => Act::Release { key: key(*chosen) },
            Step::Lease { request } => {
                let request = choose(&self.requests, *request)?;
                Act::Lease { request, token: self.new_name("s") }
            }
            Step::Mark { sender, mark } => {
                let (request, token) = choose(&self.senders, *sender)?;
                Act::Mark { request, token, mark: *mark }
            }
            Step::Replay { request } => Act::Replay { request: choose(&self.requests, *request)? },
        })
    }

    fn new_name(&mut self, kind: &str) -> String {
        self.named += 1;
        format!("{kind}{:04}", self.named)
    }
}

fn key(chosen: u8) -> String {
    format!("k{chosen}")
}

/// Mostly one of the last few: the oldest have nothing left to say.
fn choose<T: Clone>(among: &[T], chosen: u8) -> Option<T> {
    let recent = &among[among.len().saturating_sub(5)..];
    let among = if chosen.is_multiple_of(4) { among } else { recent };
    among.get(usize::from(chosen / 4) % among.len().max(1)).cloned()
}
