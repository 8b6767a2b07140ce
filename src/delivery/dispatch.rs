//! T7 in a runner: leases a delivery, has it sent by its channel, and marks what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use metrics::counter;
use serde_json::json;
use tracing::{debug, warn};

use super::chat::Chats;
use super::follower;
use super::mailbox;
use super::webhook::Webhook;
use super::{Outcome, webhook_body};
use crate::clock::{Clock, millis};
use crate::config;
use crate::fault;
use crate::flight::{Channel, DeliveryAsk, DeliveryLease, DeliveryMark, Flights, LeaseAnswer, Verdict};
use crate::id;
use crate::publish::Publisher;
use crate::queue::{How, Job};
use crate::retry::{self, Backoff};
use crate::runner::{Handler, Hold, Holds};
use crate::store::Query;

/// How often a sending that may have arrived is repeated.
const AMBIGUOUS_RESENDS: i64 = 2;
/// How often SQL may refuse to write an outcome down before it is written without what came with it.
const REFUSALS: u32 = 3;
const SQL_AWAY: Duration = Duration::from_secs(1);

/// Sends deliveries. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    pub flights: Flights,
    pub publisher: Publisher,
    pub holds: Holds,
    pub clock: Clock,
    pub settings: Arc<config::Settings>,
    /// Without a bot token there is none.
    pub chats: Option<Chats>,
    pub webhook: Webhook,
}

/// A verdict, and the rows that belong to it.
pub(super) type Sent = (Verdict, Vec<Query>);

#[async_trait]
impl Handler for Deliveries {
    async fn handle(&self, job: Job, _hold: Hold) -> How {
        match job.id.strip_prefix("d-") {
            Some(id) => self.advance(id).await,
            None => How::Fail { reason: "this queue takes no jobs from outside".into(), stack: None },
        }
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn poll(&self, most: usize, _hold: Hold) -> Vec<BoxFuture<'static, ()>> {
        if self.flights.was_paused(self.settings.delivery.queue.as_str()).await.unwrap_or(true) {
            return Vec::new();
        }
        let due = self.flights.due_deliveries(u32::try_from(most).unwrap_or(u32::MAX)).await.unwrap_or_default();
        due.into_iter()
            .map(|delivery| {
                let deliveries = self.clone();
                Box::pin(async move {
                    deliveries.advance(&delivery.id).await;
                }) as BoxFuture<'static, ()>
            })
            .collect()
    }
}

impl Deliveries {
    async fn advance(&self, id: &str) -> How {
        let ask =
            DeliveryAsk { id: id.to_owned(), token: id::new_token(), lease_ms: millis(self.settings.runner.lease.0) };
        let lease = match self.flights.lease_delivery(ask).await {
            Ok(LeaseAnswer::Leased(lease)) => *lease,
            Ok(LeaseAnswer::In(wait)) => return self.delay(wait),
            Ok(LeaseAnswer::Over) => return complete("over"),
            Ok(LeaseAnswer::Unknown) => return How::Fail { reason: "no such delivery".into(), stack: None },
            Err(error) => {
                debug!(%error, "put a delivery back: SQL is away");
                return self.delay(SQL_AWAY);
            }
        };
        fault::point("deliver.leased");
        let hold = Hold::default();
        let _held = self.holds.delivery(&lease.id, &lease.token, &hold);
        let (verdict, with) = self.send(&lease).await;
        fault::point("deliver.sent");
        let how = match &verdict {
            Verdict::Delivered { .. } => complete("delivered"),
            Verdict::Again { after, .. } => self.delay(*after),
            Verdict::Suppressed { reason } | Verdict::Dead { reason, .. } => {
                How::Fail { reason: reason.clone(), stack: None }
            }
        };
        let word = match &verdict {
            Verdict::Delivered { .. } => "delivered",
            Verdict::Again { .. } => "again",
            Verdict::Suppressed { .. } => "suppressed",
            Verdict::Dead { .. } => "dead",
        };
        counter!("onetake_deliveries_total", "channel" => lease.channel.as_str(), "outcome" => word).increment(1);
        self.mark(DeliveryMark { id: lease.id, token: lease.token, verdict, with }).await;
        fault::point("deliver.marked");
        how
    }

    async fn send(&self, lease: &DeliveryLease) -> Sent {
        let is_external = matches!(lease.channel, Channel::Telegram);
        if is_external && lease.ambiguous > AMBIGUOUS_RESENDS {
            let reason = "ambiguous: it may have been delivered, and was sent again often enough".to_owned();
            return (Verdict::Dead { reason, ambiguous: false }, Vec::new());
        }
        match lease.channel {
            Channel::Poll => (Verdict::Delivered { receipt: "poll".into() }, Vec::new()),
            Channel::Mailbox => mailbox::put(lease, &self.settings.videos),
            Channel::Follower => (follower::end(lease, &self.publisher, self.clock.now_ms()).await, Vec::new()),
            Channel::Webhook => {
                let url = target(lease, "url");
                let body = webhook_body(lease, self.clock.now_ms());
                let message =
                    super::signature::Message { id: &lease.id, timestamp_s: self.clock.now_ms() / 1000, body: &body };
                let outcome = self.webhook.send(&url, message).await;
                let schedule = &self.settings.webhook.schedule;
                let step = usize::try_from(lease.attempts - 1).ok().and_then(|n| schedule.get(n)).map(|span| span.0);
                // An endpoint may slow the schedule down; it can neither hurry nor lengthen it.
                let (outcome, after) = match outcome {
                    Outcome::Retry { after: Some(told), reason } => {
                        (Outcome::Retry { after: None, reason }, step.map(|step| step.max(told)))
                    }
                    outcome => (outcome, step),
                };
                (verdict(lease, outcome, after), Vec::new())
            }
            Channel::Telegram => match &self.chats {
                Some(chats) => {
                    let is_last = lease.attempts >= i64::from(self.settings.delivery.attempts);
                    let after = (!is_last).then(|| backoff(self.settings.delivery.backoff, lease.attempts));
                    chats.send(lease, after).await
                }
                None => (Verdict::Dead { reason: "no bot token is configured".into(), ambiguous: false }, Vec::new()),
            },
        }
    }

    /// Tried until it holds: what was sent must not be sent again because SQL is away for a while.
    async fn mark(&self, mut mark: DeliveryMark) {
        let started = Instant::now();
        let mut refusals = 0;
        while let Err(error) = self.flights.mark_delivery(mark.clone()).await {
            warn!(%error, delivery = %mark.id, "could not mark delivery {}; trying again", mark.id);
            refusals += u32::from(!error.is_repeatable());
            if started.elapsed() > Duration::from_secs(60) || refusals > 2 * REFUSALS {
                return;
            }
            if refusals == REFUSALS && !mark.with.is_empty() {
                // What cannot be stored is not to come back for ever.
                let reason = "it could not be stored: see the log".to_owned();
                mark = DeliveryMark { verdict: Verdict::Dead { reason, ambiguous: false }, with: Vec::new(), ..mark };
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn delay(&self, wait: Duration) -> How {
        How::Delay { until_ms: self.clock.now_ms() + millis(wait) }
    }
}

/// What an outcome means for a delivery; `after` is when it would be tried again, `None` if never.
pub(super) fn verdict(lease: &DeliveryLease, outcome: Outcome, after: Option<Duration>) -> Verdict {
    let dead = |reason| Verdict::Dead { reason, ambiguous: false };
    match outcome {
        Outcome::Delivered { receipt } => Verdict::Delivered { receipt },
        Outcome::Suppressed { reason } => Verdict::Suppressed { reason },
        Outcome::Rejected { reason } => dead(reason),
        // Told when to come back: that is no failed attempt.
        Outcome::Retry { after: Some(told), reason } => {
            Verdict::Again { after: told, reason, counts: false, ambiguous: false, slot: false }
        }
        Outcome::Retry { after: None, reason } => match after {
            Some(after) => Verdict::Again { after, reason, counts: true, ambiguous: false, slot: false },
            None => dead(format!("gave up after {} attempts: {reason}", lease.attempts)),
        },
        Outcome::Ambiguous { reason } => match after.filter(|_| lease.ambiguous < AMBIGUOUS_RESENDS) {
            Some(after) => Verdict::Again { after, reason, counts: true, ambiguous: true, slot: false },
            None => Verdict::Dead { reason: format!("ambiguous: {reason}"), ambiguous: true },
        },
    }
}

fn backoff(policy: Backoff, attempts: i64) -> Duration {
    let attempt = u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
    retry::delay(policy, attempt, &mut rand::rng()).min(Duration::from_secs(3600))
}

/// A text in a delivery's target.
pub(super) fn target(lease: &DeliveryLease, field: &str) -> String {
    let target: serde_json::Value = serde_json::from_str(&lease.target).unwrap_or_default();
    target.get(field).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

fn complete(state: &str) -> How {
    let value = serde_json::value::to_raw_value(&json!({"state": state})).expect("an object of texts is JSON");
    How::Complete { value }
}
