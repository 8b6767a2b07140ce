//! Integration tests: the real binary with real Redis, Postgres and npm `bullmq` peers, each test with servers of its own.
//!
//! Some names are a convention that `tests/setup/test` relies on when a machine lacks a tool: a test that needs Postgres
//! lives in a module `on_postgres` (made by [`support::on_each_store`]), one that needs Node in a module whose name
//! starts with `node` (`node_chromium`: a browser too), one that needs Python in one with `python` in its name. So it is with
//! `openssl`, and with the other servers that `tests/setup/install` fetches: `on_redis_6`, `on_valkey_9`. Those that start no
//! server at all are in `packaging`.

mod books;
mod crash;
mod delivery;
mod flight;
mod flows;
mod golden;
mod groups;
mod harness;
mod hostile;
mod leaks;
mod locks;
mod loss;
mod main_job;
mod mixed;
mod node_chromium;
mod node_peers;
mod orders;
mod packaging;
mod pull;
mod races;
mod requests;
mod runner;
mod saga;
mod schedulers;
mod serve;
mod store;
mod storm;
mod support;
mod topology;
mod workloads;
