//! Onetake: a Redis-native job queue and dedupe server.
//!
//! Ask for the same thing a thousand times: it is made once, and everyone who asked gets it.

pub mod clock;
pub mod config;
pub mod delivery;
pub mod fault;
pub mod id;
pub mod processor;
pub mod queue;
pub mod redis;
pub mod retry;
