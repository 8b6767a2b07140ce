//! Domains built on queues, dedupe, locks and units of work.

pub mod videos;
