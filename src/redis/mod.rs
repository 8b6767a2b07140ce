//! Redis, as the rest of the program sees it: commands, scripts, blocking marker watches, streams, subscriptions, and whether
//! the server is there at all.
//!
//! fred and bb8 live in this module alone; no type of theirs leaves it. A command is sent once or not at all: what timed
//! out or lost its connection is [`Error::Unreachable`], its outcome unknown, and the caller knows how to repeat it.

mod address;
mod blocking;
mod client;
mod commands;
mod error;
mod info;
mod monitor;
mod nodes;
mod probe;
mod reply;
mod rights;
mod script;
mod stream;
mod subscribe;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use blocking::{MarkerWatch, Wake};
pub use client::Redis;
pub use commands::{Page, ScoredPage};
pub use error::{Cause, Error};
pub use info::ServerInfo;
pub use reply::Reply;
pub use rights::{COMMANDS, Rights};
pub use script::Script;
pub use stream::{Entry, StreamWatch};
pub use subscribe::Subscription;
