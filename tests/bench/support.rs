//! The servers and processes of the integration tests, which own them.

#![expect(dead_code, reason = "the integration tests use more of them")]

#[path = "../it/support/port.rs"]
pub mod port;
#[path = "../it/support/postgres.rs"]
pub mod postgres;
#[path = "../it/support/process.rs"]
pub mod process;
#[path = "../it/support/redis.rs"]
pub mod redis;
#[path = "../it/support/resp.rs"]
pub mod resp;
#[path = "../it/support/store.rs"]
pub mod store;
#[path = "../it/support/wait.rs"]
pub mod wait;
