//! What the integration tests stand on: servers that they may kill, peers, and bounded waiting.
//!
//! Everything here ends with its test: by `Drop`, and by the kernel (parent-death signal) where the test itself is killed.

pub mod board;
pub mod certificates;
pub mod cloudpayments;
pub mod cluster;
pub mod http;
pub mod making;
pub mod node;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod puller;
pub mod redis;
pub mod resp;
pub mod sentinel;
pub mod server;
pub mod store;
pub mod telegram;
pub mod verbs;
pub mod wait;
pub mod webhook;
pub mod world;

/// Runs each named fact, an `async fn(StoreKind)`, on both stores: `on_sqlite::fact` and `on_postgres::fact`.
macro_rules! on_each_store {
    ($($fact:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                super::$fact($crate::support::store::StoreKind::Sqlite).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                super::$fact($crate::support::store::StoreKind::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_each_store;
