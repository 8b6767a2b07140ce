//! Locks: one holder at a time, whatever dies, freezes or cannot see whom.

mod bench;
mod bounds;
mod command;
mod frozen;
mod http;
mod lease;
mod model;
mod naive;
mod namespace;
mod partition;
mod unit;
