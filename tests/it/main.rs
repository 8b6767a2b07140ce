//! Integration tests: the real binary with real Redis, Postgres and npm `bullmq` peers, each test with servers of its own.
//!
//! Two names are a convention that `tests/setup/test` relies on when a machine lacks a tool: a test that needs Postgres
//! lives in a module `on_postgres` (made by [`support::on_each_store`]), one that needs Node in a module whose name
//! starts with `node`. Those that start no server at all are in `packaging`.

mod crash;
mod delivery;
mod flight;
mod harness;
mod leaks;
mod locks;
mod loss;
mod main_job;
mod node_peers;
mod orders;
mod packaging;
mod races;
mod requests;
mod runner;
mod saga;
mod schedulers;
mod serve;
mod store;
mod storm;
mod support;
mod workloads;
