//! Requests and deliveries as callers are shown them.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::Millis;
pub use crate::clock::rfc3339;
use crate::flight::{Accepted, Channel, DeliveryEvent, DeliveryView, Outcome, RunState, Status};
use crate::intake::{RequestState, RequestView};

/// A request for a result.
#[derive(Serialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestBody<'a> {
    /// Nothing for an asker who only polls and is answered at once: there is nothing to come back for.
    pub id: Option<&'a str>,
    /// In the answer to a POST: `ready`, `subscribed` or `queued`; `failed` where a recent failure is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub status: Option<Status>,
    /// `waiting`, `running`, `ready`, `failed`, `cancelled` or `left`; all but the first two are final.
    pub state: &'static str,
    pub queue: &'a str,
    /// A JSON array of the key's parts.
    pub key: &'a str,
    pub generation: i64,
    /// How many jobs are served before its run.
    pub position: Option<u64>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub progress: Option<&'a RawValue>,
    pub attempt: i64,
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<&'a RawValue>,
    pub error: Option<&'a str>,
    /// RFC 3339.
    pub made_at: Option<String>,
    pub delivery: Option<DeliveryBody<'a>>,
    pub links: Links,
}

#[derive(Default, Serialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    pub this: Option<String>,
    /// Server-sent events.
    pub events: Option<String>,
}

impl Links {
    pub fn to(base: &str, id: &str) -> Self {
        let this = request_path(base, id);
        Self { events: Some(format!("{this}/events")), this: Some(this) }
    }
}

/// The address of a request. `base` is the configured public address, or empty.
pub fn request_path(base: &str, id: &str) -> String {
    format!("{base}/v1/requests/{id}")
}

impl<'a> RequestBody<'a> {
    pub fn of(view: &'a RequestView, base: &str) -> Self {
        let row = &view.row;
        let (result, error) = told(row.outcome.as_ref());
        Self {
            id: Some(&row.id),
            status: None,
            state: view.state.as_str(),
            queue: &row.scope,
            key: &row.key,
            generation: row.generation,
            position: view.position,
            progress: view.progress.as_deref(),
            attempt: row.attempt,
            result,
            error,
            made_at: (view.state == RequestState::Ready).then_some(row.finished_at_ms).flatten().map(rfc3339),
            delivery: row.delivery.as_ref().map(DeliveryBody::of),
            links: Links::to(base, &row.id),
        }
    }

    /// What an asker is told at once, as SQL decided.
    pub fn accepted(accepted: &'a Accepted, base: &str) -> Self {
        let (result, error) = told(accepted.outcome.as_ref());
        let state = match (&accepted.outcome, accepted.run_state) {
            (Some(Outcome::Succeeded(_)), _) => RequestState::Ready,
            (Some(Outcome::Failed(_)), _) => RequestState::Failed,
            (Some(Outcome::Cancelled(_)), _) => RequestState::Cancelled,
            (None, RunState::Running) => RequestState::Running,
            (None, _) => RequestState::Waiting,
        };
        let id = accepted.requests.first().map(String::as_str);
        let made_at_ms = accepted.result.as_ref().filter(|_| result.is_some()).map(|(_, _, made_at_ms)| *made_at_ms);
        Self {
            id,
            status: Some(accepted.status),
            state: state.as_str(),
            queue: &accepted.scope,
            key: &accepted.key,
            generation: accepted.generation,
            position: None,
            progress: None,
            attempt: accepted.attempt,
            result,
            error,
            made_at: made_at_ms.map(rfc3339),
            delivery: None,
            links: id.map(|id| Links::to(base, id)).unwrap_or_default(),
        }
    }

    /// A fresh result for an asker who only polls.
    pub fn ready(queue: &'a str, key: &'a str, generation: i64, result: &'a [u8], made_at_ms: Millis) -> Self {
        Self {
            id: None,
            status: Some(Status::Ready),
            state: RequestState::Ready.as_str(),
            queue,
            key,
            generation,
            position: None,
            progress: None,
            attempt: 0,
            result: serde_json::from_slice(result).ok(),
            error: None,
            made_at: Some(rfc3339(made_at_ms)),
            delivery: None,
            links: Links::default(),
        }
    }

    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// The result, or why there is none.
fn told(outcome: Option<&Outcome>) -> (Option<&RawValue>, Option<&str>) {
    match outcome {
        Some(Outcome::Succeeded(result)) => (raw(result), None),
        Some(Outcome::Failed(reason) | Outcome::Cancelled(reason)) => (None, Some(reason)),
        None => (None, None),
    }
}

/// One handing-over of a result.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryBody<'a> {
    pub id: &'a str,
    /// The request that it belongs to; it has the same id.
    pub request: &'a str,
    /// `poll`, `mailbox`, `telegram`, `webhook` or `follower`.
    #[schema(value_type = String)]
    pub channel: Channel,
    #[schema(value_type = Object)]
    pub target: Option<&'a RawValue>,
    /// `queued`, `leased`, `delivered`, `suppressed` or `dead`.
    pub state: &'a str,
    pub attempts: i64,
    /// When it is to be sent, while it is queued.
    pub next_at: Option<String>,
    pub error: Option<&'a str>,
    /// What the receiver called it: a Telegram message id, an HTTP status.
    pub receipt: Option<&'a str>,
    pub queue: &'a str,
    pub key: &'a str,
    pub generation: i64,
    pub created_at: String,
    pub updated_at: String,
    /// Only where one delivery is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<EventBody<'a>>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryEvent)]
pub struct EventBody<'a> {
    pub at: String,
    pub event: &'a str,
    pub detail: Option<&'a str>,
}

impl<'a> DeliveryBody<'a> {
    pub fn of(view: &'a DeliveryView) -> Self {
        Self {
            id: &view.id,
            request: &view.id,
            channel: view.channel,
            target: raw(&view.target),
            state: &view.state,
            attempts: view.attempts,
            next_at: (view.state == "queued").then(|| rfc3339(view.next_at_ms)),
            error: view.error.as_deref(),
            receipt: view.receipt.as_deref(),
            queue: &view.scope,
            key: &view.key,
            generation: view.generation,
            created_at: rfc3339(view.created_at_ms),
            updated_at: rfc3339(view.updated_at_ms),
            history: None,
        }
    }

    pub fn with_history(view: &'a DeliveryView, history: &'a [DeliveryEvent]) -> Self {
        let event = |event: &'a DeliveryEvent| EventBody {
            at: rfc3339(event.at_ms),
            event: &event.event,
            detail: event.detail.as_deref(),
        };
        Self { history: Some(history.iter().map(event).collect()), ..Self::of(view) }
    }
}

/// Stored JSON as it is; what is none is left out.
pub fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

pub fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and JSON are JSON")
}
