//! Handing a result to whoever asked: Telegram, webhook, mailbox, or the Node job that is waiting for it.
//!
//! [`telegram`] and [`webhook`] send one message and say what came of it; [`Deliveries`] decides who sends when, and how
//! often. A delivery to the mailbox is a row in the transaction that marks it.

pub mod address;
mod chat;
pub mod client;
mod dispatch;
mod follower;
pub mod mailbox;
mod message;
pub mod signature;
pub mod telegram;
mod upload;
pub mod webhook;

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use crate::clock::Millis;
use crate::flight::{DeliveryLease, Outcome as RunOutcome};

pub use chat::Chats;
pub use dispatch::Deliveries;

/// What came of one sending.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The other side has it. `receipt` is what it called it (a Telegram message id, an HTTP status).
    Delivered { receipt: String },
    /// It was certainly not delivered; try again, not before `after` if given.
    Retry { after: Option<Duration>, reason: String },
    /// The body was written and no clear answer came: it may or may not have been delivered.
    Ambiguous { reason: String },
    /// The receiver wants nothing more from us (blocked, gone). This delivery ends; nothing is wrong with us.
    Suppressed { reason: String },
    /// It can never succeed as it is.
    Rejected { reason: String },
}

/// What a webhook is told: the same text for every attempt of a delivery, but for the time.
fn webhook_body(lease: &DeliveryLease, now_ms: Millis) -> String {
    let (kind, result, error) = match &lease.outcome {
        RunOutcome::Succeeded(value) => ("request.ready", RawValue::from_string(value.clone()).ok(), None),
        RunOutcome::Failed(reason) => ("request.failed", None, Some(reason)),
        RunOutcome::Cancelled(reason) => ("request.cancelled", None, Some(reason)),
    };
    #[derive(serde::Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: Data<'a>,
    }
    #[derive(serde::Serialize)]
    struct Data<'a> {
        request: &'a str,
        subscriber: &'a str,
        queue: &'a str,
        key: &'a str,
        generation: i64,
        result: Option<Box<RawValue>>,
        error: Option<&'a String>,
    }
    let timestamp = jiff::Timestamp::from_millisecond(now_ms).map(|t| t.to_string()).unwrap_or_default();
    let data = Data {
        request: &lease.id,
        subscriber: &lease.subscriber,
        queue: &lease.scope,
        key: &lease.key,
        generation: lease.generation,
        result,
        error,
    };
    serde_json::to_string(&Body { r#type: kind, timestamp, data }).unwrap_or_else(|_| json!({"type": kind}).to_string())
}
