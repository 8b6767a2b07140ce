//! A wish over HTTP: claim, accept, publish.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Error, Intake, hot};
use crate::catalog::Entry;
use crate::clock::{Millis, millis};
use crate::config;
use crate::dedupe::{Look, What};
use crate::fault;
use crate::flight::{
    Accepted, Answer, Ask, Channel, DueDelivery, DueRun, Idempotency, NewSubscription, RunSpec, RunState, Status,
};
use crate::id::{self, QueueName};
use crate::idempotency::StoredAnswer;
use crate::publish::Publish;
use crate::retry::Backoff;

/// How a subscriber wants to be given the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Deliver {
    Poll,
    Webhook { url: String },
    Telegram { chat: String },
    Mailbox { chat: Option<String> },
}

/// Who asks, and how they want to be answered.
#[derive(Clone, Debug)]
pub struct SubscriberSpec {
    pub id: String,
    pub deliver: Deliver,
}

impl SubscriberSpec {
    pub(super) fn channel(&self) -> Channel {
        match self.deliver {
            Deliver::Poll => Channel::Poll,
            Deliver::Webhook { .. } => Channel::Webhook,
            Deliver::Telegram { .. } => Channel::Telegram,
            Deliver::Mailbox { .. } => Channel::Mailbox,
        }
    }

    fn target(&self) -> Value {
        match &self.deliver {
            Deliver::Poll => json!({}),
            Deliver::Webhook { url } => json!({"url": url}),
            Deliver::Telegram { chat } => json!({"chat": chat}),
            Deliver::Mailbox { chat } => json!({"chat": chat}),
        }
    }

    pub(super) fn subscription(&self, id: String) -> NewSubscription {
        NewSubscription { id, subscriber: self.id.clone(), channel: self.channel(), target: self.target().to_string() }
    }
}

/// A wish for one result.
#[derive(Clone)]
pub struct Submit {
    /// The declared queue.
    pub scope: QueueName,
    /// The dedupe key, as a JSON array of its parts.
    pub key: String,
    pub name: String,
    /// JSON text.
    pub data: String,
    pub delay_ms: i64,
    pub priority: u32,
    pub attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    pub max_age_ms: Option<i64>,
    pub refresh: bool,
    pub subscriber: SubscriberSpec,
    pub idempotency: Option<Idempotency>,
}

/// What the asker is told.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// Decided by SQL.
    Accepted(Box<Accepted>),
    /// A fresh result, from Redis or this process's memory: nobody is to be told later, so nothing was written.
    Ready {
        key: String,
        generation: i64,
        result: Bytes,
        made_at_ms: Millis,
    },
    /// Answered before under the same `Idempotency-Key`.
    Replayed(StoredAnswer),
    KeyReused,
}

impl Intake {
    /// Takes a wish in. What it returns may be told to the asker.
    ///
    /// # Errors
    /// [`Error::Store`] when SQL is away (nothing was accepted), [`Error::UnknownQueue`], [`Error::Invalid`].
    pub async fn submit(&self, submit: Submit) -> Result<Submitted, Error> {
        let scope = submit.scope.as_str();
        let entry = self.catalog.get(scope).ok_or_else(|| Error::UnknownQueue(scope.to_owned()))?;
        let dedupe = entry.settings.dedupe.as_ref();
        let max_age_ms = smaller(dedupe.and_then(|d| d.max_age).map(|age| millis(age.0)), submit.max_age_ms);
        // Only an answer that nobody must be able to look up again may come from Redis alone.
        let may_skip_sql =
            submit.subscriber.deliver == Deliver::Poll && !submit.refresh && submit.idempotency.is_none();
        let now_ms = self.flights.store().clock().now_ms();
        let hot_name = may_skip_sql.then(|| hot::Name::of(scope, &submit.key));
        if let Some(name) = &hot_name
            && let Some(known) = self.hot.get(name)
            && max_age_ms.is_none_or(|max| now_ms - known.made_at_ms <= max)
        {
            return Ok(ready(&submit, &known));
        }
        let member = format!("{} {}", submit.subscriber.channel().as_str(), submit.subscriber.id);
        let look = self.dedupe().claim(scope, &submit.key, now_ms, max_age_ms, submit.refresh, member).await.ok();
        fault::point("accept.claimed");
        let look = match (look, hot_name) {
            (Some(Look::Ready { flight, generation, result, made_at_ms }), Some(name)) => {
                let known = Arc::new(hot::Ready { flight, generation, result, made_at_ms });
                self.hot.offer(name, &known, now_ms);
                return Ok(ready(&submit, &known));
            }
            (look, _) => look,
        };
        let ask = ask(entry, &submit, max_age_ms, submit.subscriber.subscription(id::new_id()));
        let run = ask.run.clone();
        let accepted = match self.flights.accept(ask).await? {
            Answer::Accepted(accepted) => accepted,
            Answer::Replayed(stored) => return Ok(Submitted::Replayed(stored)),
            Answer::KeyReused => return Ok(Submitted::KeyReused),
        };
        fault::point("accept.committed");
        self.publish(&accepted, &run, look.as_ref());
        Ok(Submitted::Accepted(accepted))
    }

    /// What [`Flights::accept_in`](crate::flight::Flights::accept_in) is to be asked for a wish that belongs to another
    /// change in SQL. `id` is the request's; `mark` goes into the target beside the address, so that equal wishes of one
    /// subscriber stay apart.
    ///
    /// # Errors
    /// [`Error::UnknownQueue`].
    pub fn prepare(&self, submit: &Submit, id: String, mark: (&str, &str)) -> Result<Ask, Error> {
        let scope = submit.scope.as_str();
        let entry = self.catalog.get(scope).ok_or_else(|| Error::UnknownQueue(scope.to_owned()))?;
        let max_age = entry.settings.dedupe.as_ref().and_then(|d| d.max_age).map(|age| millis(age.0));
        let mut target = submit.subscriber.target();
        target[mark.0] = json!(mark.1);
        let subscription = NewSubscription { target: target.to_string(), ..submit.subscriber.subscription(id) };
        Ok(ask(entry, submit, smaller(max_age, submit.max_age_ms), subscription))
    }

    /// Tells Redis of a wish that was accepted inside another unit of work, after its commit.
    pub fn accepted(&self, accepted: &Accepted, run: &RunSpec) {
        self.publish(accepted, run, None);
    }

    /// Tells Redis what SQL decided, where it does not know.
    pub(super) fn publish(&self, accepted: &Accepted, run: &RunSpec, look: Option<&Look>) {
        for id in &accepted.deliveries {
            self.announcer.publisher.send(Publish::Delivery(DueDelivery { id: id.clone(), due_in: Duration::ZERO }));
        }
        let is_news = match accepted.status {
            Status::Queued => true,
            Status::Subscribed => !matches!(look, Some(Look::Subscribed)),
            Status::Ready | Status::Failed => !matches!(look, Some(Look::Ready { .. })),
        };
        if !is_news {
            return;
        }
        if accepted.run_state == RunState::Pending {
            self.announcer.publisher.send(Publish::Run(Box::new(DueRun {
                flight: accepted.snapshot(),
                attempt: accepted.attempt,
                name: run.name.clone(),
                data: run.data.clone(),
                priority: accepted.priority,
                due_in: Duration::from_millis(u64::try_from(accepted.next_at_ms - accepted.now_ms).unwrap_or(0)),
            })));
        } else {
            self.announcer.publisher.send(Publish::Mark(Box::new(accepted.snapshot())));
        }
    }

    /// An operator's release, in SQL and in Redis; true if there was such a key.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn release(&self, scope: &str, key: &str, reason: &str) -> Result<bool, Error> {
        use crate::flight::Released;
        let Released::Released { flight, cancelled } = self.flights.release(scope, key, reason).await? else {
            return Ok(false);
        };
        // If Redis is away, the row stays dirty, and the reconciler tells it later.
        let _ = self.dedupe().release(scope, key).await;
        self.ended(&flight, cancelled, What::Released).await;
        Ok(true)
    }

    /// The asker of a request leaves.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn leave(&self, request: &str) -> Result<crate::flight::Left, Error> {
        use crate::flight::Left;
        let left = self.flights.leave(request).await?;
        if let Left::Left { flight, generation, cancelled } = &left {
            if let Some(row) = self.flights.request(request).await? {
                let member = format!("{} {}", row.channel.as_str(), row.subscriber);
                let _ = self.dedupe().leave(&row.scope, &row.key, &member).await;
                if *cancelled {
                    let _ = self.dedupe().release(&row.scope, &row.key).await;
                }
            }
            if *cancelled {
                self.ended(flight, Some(*generation), What::Cancelled).await;
            }
        }
        Ok(left)
    }

    async fn ended(&self, flight: &str, generation: Option<i64>, what: What) {
        self.forget_hot(flight, what);
        self.announcer.ended(flight, generation, what).await;
    }
}

fn ready(submit: &Submit, known: &hot::Ready) -> Submitted {
    Submitted::Ready {
        key: submit.key.clone(),
        generation: known.generation,
        result: known.result.clone(),
        made_at_ms: known.made_at_ms,
    }
}

fn ask(entry: &Entry, submit: &Submit, max_age_ms: Option<i64>, subscription: NewSubscription) -> Ask {
    Ask {
        scope: submit.scope.as_str().to_owned(),
        key: submit.key.clone(),
        run: run_spec(entry.scope.work(), &entry.settings, submit),
        max_age_ms,
        refresh: submit.refresh,
        subscriptions: vec![subscription],
        is_repeatable: false,
        despite_failure: false,
        idempotency: submit.idempotency.clone(),
    }
}

pub(super) fn run_spec(work: QueueName, settings: &config::Queue, submit: &Submit) -> RunSpec {
    RunSpec {
        queue: work.as_str().to_owned(),
        name: submit.name.clone(),
        data: submit.data.clone(),
        priority: i64::from(submit.priority),
        delay_ms: submit.delay_ms,
        max_attempts: i64::from(submit.attempts.unwrap_or(settings.attempts).max(1)),
        backoff: serde_json::to_string(&submit.backoff.unwrap_or(settings.backoff)).expect("a backoff is JSON"),
        cancel_when_abandoned: settings.dedupe.as_ref().is_some_and(|d| d.cancel_when_abandoned),
    }
}

pub(super) fn smaller(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
