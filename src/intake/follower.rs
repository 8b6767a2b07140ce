//! A wish as a Node job: the job becomes a follower of the run that makes its result.
//!
//! The runner takes the job from the intake queue, asks here, and does to the job what the answer says. The ids of its
//! subscriptions are derived from the job, so that a job that is taken again after a crash finds what was promised to it
//! before. One that has ended and is retried by hand asks anew.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::submit::{Deliver, Submit, SubscriberSpec, run_spec};
use super::{Error, Intake};
use crate::catalog::Entry;
use crate::clock::{Millis, millis};
use crate::fault;
use crate::flight::{Answer, Ask, Channel, NewSubscription, Outcome};
use crate::id;
use crate::queue::{ParkedEnd, ParkedHow};

/// A job from an intake queue.
#[derive(Clone, Debug)]
pub struct Follower {
    pub id: String,
    pub name: String,
    /// When the producer added it: after a wipe of Redis its ids begin anew, and the id may be somebody else's.
    pub timestamp: i64,
    /// How often it has ended already: above 0 if somebody retried it by hand.
    pub attempts_made: u32,
    /// What the run is to be given, JSON text.
    pub data: String,
    /// The dedupe key.
    pub key: String,
    /// Who else is to be given the result: the user and chat in the job's data.
    pub subscriber: Option<SubscriberSpec>,
    pub priority: u32,
}

/// What is to be done to the job.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowerAnswer {
    /// It ends at once.
    Over(Outcome),
    /// It waits for this generation of this flight.
    Park { flight: String, generation: i64 },
}

/// The hash field of a parked job, and its value for a generation of a flight.
pub const PARKED_FIELD: &str = "onetake";

pub fn parked_mark(flight: &str, generation: i64) -> String {
    format!("{flight}-{generation}")
}

/// The flight and the generation that a mark names.
pub fn read_parked_mark(mark: &str) -> Option<(&str, i64)> {
    let (flight, generation) = mark.rsplit_once('-')?;
    // Anything may stand there.
    if !id::is_id(flight) {
        return None;
    }
    Some((flight, generation.parse().ok()?))
}

/// How a job ends that was parked under this mark, when its run has ended so.
pub fn parked_end(id: String, timestamp: Millis, mark: String, outcome: &Outcome) -> ParkedEnd {
    let how = match outcome {
        Outcome::Succeeded(value) => {
            let value = RawValue::from_string(value.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned());
            ParkedHow::Complete { value }
        }
        Outcome::Failed(reason) | Outcome::Cancelled(reason) => ParkedHow::Fail { reason: reason.clone() },
    };
    ParkedEnd { id, timestamp, mark_field: PARKED_FIELD.to_owned(), mark_value: mark, how }
}

impl Intake {
    /// Takes a Node job's wish in.
    ///
    /// # Errors
    /// [`Error::Store`] when SQL is away: put the job back.
    pub async fn follow(&self, entry: &Entry, job: Follower) -> Result<FollowerAnswer, Error> {
        let queue = entry.name.as_str();
        let timestamp = job.timestamp.to_string();
        let attempts_made = job.attempts_made.to_string();
        let derived = |kind: &str| id::derived_id(&[kind, queue, &job.id, &timestamp, &attempts_made]);
        let target = json!({"queue": queue, "job": job.id, "timestamp": job.timestamp});
        let mut subscriptions = vec![NewSubscription {
            id: derived("follower"),
            subscriber: format!("{queue}/{}", job.id),
            channel: Channel::Follower,
            target: target.to_string(),
        }];
        if let Some(subscriber) = &job.subscriber {
            subscriptions.push(subscriber.subscription(derived("subscriber")));
        }
        let submit = Submit {
            scope: entry.scope.clone(),
            key: job.key,
            name: job.name,
            data: job.data,
            delay_ms: 0,
            priority: job.priority,
            attempts: None,
            backoff: None,
            max_age_ms: None,
            refresh: false,
            subscriber: SubscriberSpec { id: String::new(), deliver: Deliver::Poll },
            idempotency: None,
        };
        let run = run_spec(entry.scope.work(), &entry.settings, &submit);
        let ask = Ask {
            scope: entry.scope.as_str().to_owned(),
            key: submit.key,
            run: run.clone(),
            max_age_ms: entry.settings.dedupe.as_ref().and_then(|d| d.max_age).map(|age| millis(age.0)),
            refresh: false,
            subscriptions,
            is_repeatable: true,
            despite_failure: job.attempts_made > 0,
            idempotency: None,
        };
        let accepted = match self.flights.accept(ask).await? {
            Answer::Accepted(accepted) => accepted,
            Answer::Replayed(_) | Answer::KeyReused => {
                return Err(Error::invalid("job", "a Node job has no idempotency key"));
            }
        };
        fault::point("follower.accepted");
        self.publish(&accepted, &run, None);
        Ok(match accepted.outcome {
            Some(outcome) => FollowerAnswer::Over(outcome),
            None => FollowerAnswer::Park { flight: accepted.flight, generation: accepted.generation },
        })
    }

    /// Who is to be given the result, by a job's data: `userId` (or `user`) and `chatId` (or `chat`), texts or numbers.
    pub fn subscriber_in(&self, data: &Value) -> Option<SubscriberSpec> {
        let field = |names: [&str; 2]| {
            names.into_iter().find_map(|name| match data.get(name)? {
                Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
        };
        let (user, chat) = (field(["userId", "user"]), field(["chatId", "chat"]));
        let id = user.or_else(|| chat.clone())?;
        Some(SubscriberSpec { id, deliver: self.push_target(chat) })
    }

    /// Where a user's result is pushed to: their chat if there is a bot, else their mailbox.
    pub fn push_target(&self, chat: Option<String>) -> Deliver {
        match chat {
            Some(chat) if self.has_telegram => Deliver::Telegram { chat },
            chat => Deliver::Mailbox { chat },
        }
    }
}
