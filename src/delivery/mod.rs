//! Handing a result to whoever asked: Telegram, webhook, mailbox, or the Node job that is waiting for it.
//!
//! The clients here send one message and say what came of it; who sends when, and how often, is the caller's business.

pub mod address;
pub mod client;
pub mod mailbox;
pub mod signature;
pub mod telegram;
pub mod template;
pub mod webhook;

use std::time::Duration;

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
