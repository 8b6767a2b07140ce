//! Onetake: a Redis-native job queue and dedupe server.
//!
//! Ask for the same thing a thousand times: it is made once, and everyone who asked gets it.

pub mod access;
pub mod app;
pub mod batch;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dedupe;
pub mod delivery;
pub mod fault;
pub mod files;
pub mod flight;
pub mod http;
pub mod id;
pub mod idempotency;
pub mod intake;
pub mod json;
pub mod lock;
pub mod pace;
pub mod processor;
pub mod publish;
pub mod queue;
pub mod reconcile;
pub mod redis;
pub mod refusal;
pub mod retry;
pub mod runner;
pub mod saga;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod workloads;
