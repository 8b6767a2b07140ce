//! The system under test: [`Flights`], told apart from the reference by nothing but what it says and writes; and the
//! same, broken on purpose.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use onetake::flight::{
    Accepted, Ask, Channel, Claim, ClaimAsk, DeliveryAsk, DeliveryMark, Ending, Finish, Finished, Flights, Held,
    LeaseAnswer, Left, NewSubscription, Outcome, Released, RunSpec, Verdict,
};
use onetake::store::{Error, Query, Store, query};

use super::super::bench::{Bench, SCOPE, accepted, ask, key_text, spec};
use super::act::{Act, End, Mark, Wish};
use super::reference::{
    AGAIN_MS, AGE_MS, BACKOFF_MS, LEASE_MS, MAX_ATTEMPTS, NEGATIVE_MS, RELEASED, SNOOZE_MS, may_be_abandoned,
};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// A refresh starts a run although one is open, as with an index that is unique over a part of the rows only.
    SecondRun,
    /// The subscriptions are copied as they were before the flight was locked: who came last is not among them.
    CopyBeforeLock,
    /// Whoever reports is believed to hold the run.
    FinishWithoutToken,
    /// A failure is written where the result stands.
    FailureErasesResult,
    /// A run that ends by a rescue makes no deliveries.
    RescueTellsNobody,
    /// Whoever marks is believed to hold the delivery.
    MarkWithoutToken,
    /// An attempt that ended in silence is not counted.
    CrashIsFree,
    /// A leaver's delivery stays in the line.
    LeaverIsTold,
}

pub struct System<'b> {
    bench: &'b Bench,
    fault: Fault,
    /// Ids of the flights, by key.
    ids: HashMap<String, String>,
    /// Requests that the step before this one made.
    arrived: Vec<String>,
}

impl<'b> System<'b> {
    /// Over empty tables.
    pub async fn new(bench: &'b Bench, fault: Fault) -> Self {
        let system = Self { bench, fault, ids: HashMap::new(), arrived: Vec::new() };
        system.write(query("-- test.clear\ndelete from flights")).await.expect("the store is up");
        system
    }

    fn flights(&self) -> &Flights {
        &self.bench.flights
    }

    pub fn store(&self) -> &Store {
        self.bench.flights.store()
    }

    async fn write(&self, statement: Query) -> Result<(), Error> {
        self.store()
            .unit_of_work("test.write", move |tx| {
                let statement = statement.clone();
                Box::pin(async move { tx.execute(statement).await })
            })
            .await
    }

    fn id(&self, key: &str) -> String {
        self.ids.get(key).cloned().unwrap_or_else(|| "nobody".into())
    }

    pub async fn act(&mut self, act: &Act) -> Result<String, Error> {
        let arrived = std::mem::take(&mut self.arrived);
        match act {
            Act::Accept(wishes) => self.accept(wishes).await,
            Act::Claim { key, generation, token } => self.claim(key, *generation, token).await,
            Act::Renew { key, token } => self.renew(key, token).await,
            Act::Finish { key, token, ending, value } => self.finish(key, token, *ending, value, &arrived).await,
            Act::Pass { ms } => {
                self.bench.pass(from_ms(*ms)).await;
                Ok("passed".into())
            }
            Act::Rescue => self.rescue().await,
            Act::Restart => self.flights().disown_all().await.map(|()| "restarted".into()),
            Act::Leave { request } => self.leave(request).await,
            Act::Release { key } => self.release(key).await,
            Act::Lease { request, token } => self.lease(request, token).await,
            Act::Mark { request, token, mark } => self.mark(request, token, *mark).await,
            Act::Replay { request } => {
                let replayed = self.flights().replay_delivery(request).await?;
                Ok(replayed.map_or("unknown", |replayed| if replayed { "replayed" } else { "not dead" }).into())
            }
        }
    }

    /// All at once, in this order.
    async fn accept(&mut self, wishes: &[Wish]) -> Result<String, Error> {
        if self.fault == Fault::SecondRun {
            for wish in wishes.iter().filter(|wish| wish.refresh) {
                let end = "-- test.second_run
                    update flights set state = 'cancelled', run_token = null
                    where key = $1 and state in ('pending', 'running')";
                self.write(query(end).bind(key_text(&wish.key))).await?;
            }
        }
        let answers = join_all(wishes.iter().map(|wish| self.flights().accept(ask_of(wish)))).await;
        let mut told = Vec::new();
        for (wish, answer) in wishes.iter().zip(answers) {
            let answer = accepted(answer?);
            told.push(said(&answer));
            self.ids.insert(wish.key.clone(), answer.flight);
            self.arrived.push(wish.id.clone());
        }
        Ok(told.join("; "))
    }

    async fn claim(&self, key: &str, generation: i64, token: &str) -> Result<String, Error> {
        let claim = ClaimAsk { flight: self.id(key), generation, token: token.into(), lease_ms: LEASE_MS };
        Ok(match self.flights().claim(claim).await? {
            Claim::Claimed(run) => format!("claimed {}, attempt {}", run.generation, run.attempt),
            Claim::Over(outcome) => over(&outcome),
            Claim::In(left) => format!("in {}", left.as_millis()),
            Claim::Exhausted => "exhausted".into(),
            Claim::Unknown => "unknown".into(),
        })
    }

    async fn renew(&self, key: &str, token: &str) -> Result<String, Error> {
        let held = Held { id: self.id(key), token: token.into() };
        let kept = self.flights().renew_runs(vec![held], from_ms(LEASE_MS)).await?;
        Ok(if kept.is_empty() { "lost" } else { "renewed" }.into())
    }

    async fn finish(
        &self,
        key: &str,
        token: &str,
        ending: End,
        value: &str,
        arrived: &[String],
    ) -> Result<String, Error> {
        let mut token = token.to_owned();
        if self.fault == Fault::FinishWithoutToken {
            let holder = "-- test.holder\nselect run_token from flights where key = $1 and state = 'running'";
            if let Some(row) = self.store().fetch_optional(query(holder).bind(key_text(key))).await? {
                token = row.get("run_token")?;
            }
        }
        let is_failure = matches!(ending, End::Failed | End::FailedForGood);
        let ending = match ending {
            End::Succeeded => Ending::Succeeded(value.into()),
            End::Failed => Ending::Failed(value.into()),
            End::FailedForGood => Ending::FailedForGood(value.into()),
            End::Later => Ending::Later(from_ms(SNOOZE_MS), value.into()),
        };
        let report =
            Finish { flight: self.id(key), token, ending, negative_ttl: from_ms(NEGATIVE_MS), with: Vec::new() };
        let finished = self.flights().finish(report).await?;
        match (&finished, self.fault) {
            (Finished::Over { outcome: Outcome::Failed(_), .. }, Fault::FailureErasesResult) if is_failure => {
                let erase = "-- test.erase
                    update flights set result = null, result_generation = null, made_at_ms = null where key = $1";
                self.write(query(erase).bind(key_text(key))).await?;
            }
            (Finished::Over { flight, .. }, Fault::CopyBeforeLock) => {
                for id in arrived {
                    let miss = "-- test.miss\ndelete from deliveries where id = $1 and generation = $2";
                    self.write(query(miss).bind(id.as_str()).bind(flight.generation)).await?;
                }
            }
            _ => {}
        }
        Ok(ended(&finished))
    }

    async fn rescue(&self) -> Result<String, Error> {
        let mut told = Vec::new();
        for finished in self.flights().rescue(100).await? {
            let flight = match &finished {
                Finished::Over { flight, .. } => flight.as_ref(),
                Finished::Again(run) => &run.flight,
                Finished::Lost => continue,
            };
            let harm = match (&finished, self.fault) {
                (Finished::Over { .. }, Fault::RescueTellsNobody) => {
                    Some("-- test.forget\ndelete from deliveries where flight_id = $1 and generation = $2")
                }
                (Finished::Again(_), Fault::CrashIsFree) => {
                    Some("-- test.free\nupdate flights set attempt = attempt - 1 where id = $1 and generation = $2")
                }
                _ => None,
            };
            if let Some(harm) = harm {
                self.write(query(harm).bind(flight.flight.as_str()).bind(flight.generation)).await?;
            }
            told.push(format!("{} {}", flight.key.trim_matches(['[', ']', '"']), ended(&finished)));
        }
        told.sort();
        Ok(told.join("; "))
    }

    async fn leave(&self, request: &str) -> Result<String, Error> {
        let left = self.flights().leave(request).await?;
        if self.fault == Fault::LeaverIsTold {
            let keep = "-- test.keep
                update deliveries set state = 'queued' where id = $1 and error = 'the asker left'";
            self.write(query(keep).bind(request)).await?;
        }
        Ok(match left {
            Left::Left { cancelled, .. } => format!("left{}", if cancelled { ", the last" } else { "" }),
            Left::Final => "final".into(),
            Left::Unknown => "unknown".into(),
        })
    }

    async fn release(&self, key: &str) -> Result<String, Error> {
        Ok(match self.flights().release(SCOPE, &key_text(key), RELEASED).await? {
            Released::Released { cancelled, .. } => format!("released {cancelled:?}"),
            Released::Unknown => "unknown".into(),
        })
    }

    async fn lease(&self, request: &str, token: &str) -> Result<String, Error> {
        let sender = DeliveryAsk { id: request.into(), token: token.into(), lease_ms: LEASE_MS };
        Ok(match self.flights().lease_delivery(sender).await? {
            LeaseAnswer::Leased(lease) => {
                format!("leased, attempt {}, ambiguous {}", lease.attempts, lease.ambiguous)
            }
            LeaseAnswer::In(left) => format!("in {}", left.as_millis()),
            LeaseAnswer::Over => "over".into(),
            LeaseAnswer::Unknown => "unknown".into(),
        })
    }

    async fn mark(&self, request: &str, token: &str, mark: Mark) -> Result<String, Error> {
        let mut token = token.to_owned();
        if self.fault == Fault::MarkWithoutToken {
            let holder = "-- test.sender\nselect lease_token from deliveries where id = $1 and state = 'leased'";
            if let Some(row) = self.store().fetch_optional(query(holder).bind(request)).await? {
                token = row.get("lease_token")?;
            }
        }
        let reason = || "busy".to_owned();
        let verdict = match mark {
            Mark::Delivered => Verdict::Delivered { receipt: "1".into() },
            Mark::Again { counts, ambiguous } => {
                Verdict::Again { after: from_ms(AGAIN_MS), reason: reason(), counts, ambiguous, slot: false }
            }
            Mark::Suppressed => Verdict::Suppressed { reason: reason() },
            Mark::Dead => Verdict::Dead { reason: reason(), ambiguous: false },
        };
        let mark = DeliveryMark { id: request.into(), token, verdict, with: Vec::new() };
        Ok(if self.flights().mark_delivery(mark).await? { "marked" } else { "lost" }.into())
    }
}

fn from_ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn ask_of(wish: &Wish) -> Ask {
    let channel = if wish.polls { Channel::Poll } else { Channel::Mailbox };
    let subscription =
        NewSubscription { id: wish.id.clone(), subscriber: wish.subscriber.clone(), channel, target: "{}".into() };
    let run = RunSpec {
        max_attempts: MAX_ATTEMPTS,
        backoff: format!(r#"{{"kind":"fixed","delay":"{BACKOFF_MS}ms"}}"#),
        cancel_when_abandoned: may_be_abandoned(&wish.key),
        ..spec()
    };
    Ask {
        run,
        refresh: wish.refresh,
        max_age_ms: wish.strict.then_some(AGE_MS),
        subscriptions: vec![subscription],
        ..ask(&wish.key, &wish.subscriber)
    }
}

fn said(accepted: &Accepted) -> String {
    let status = format!("{:?} {}", accepted.status, accepted.generation).to_lowercase();
    let requests: Vec<_> = accepted.requests.iter().map(|id| format!(", request {id}")).collect();
    format!("{status}{}{}", requests.concat(), if accepted.deliveries.is_empty() { "" } else { ", due" })
}

fn ended(finished: &Finished) -> String {
    match finished {
        Finished::Over { outcome, .. } => over(outcome),
        Finished::Again(run) => format!("again in {}", run.due_in.as_millis()),
        Finished::Lost => "lost".into(),
    }
}

fn over(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(result) => format!("over succeeded {result}"),
        Outcome::Failed(reason) => format!("over failed {reason}"),
        Outcome::Cancelled(reason) => format!("over cancelled {reason}"),
    }
}
