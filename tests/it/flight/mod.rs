//! The state machine of flights (runs, subscriptions, deliveries) on both stores, without a server process or Redis.

mod accept;
pub mod bench;
mod deliver;
mod idempotency;
mod leave;
mod model;
mod race;
mod retention;
mod run;
mod servers;
mod sweep;
