//! All that a server needs, new and empty: most tests start here.

use super::node::{BullMq, Peer};
use super::redis::RedisServer;
use super::server::{Onetake, Setup};
use super::store::{StoreKind, TestStore};

/// A Redis, a store and the setup of servers that use them. `world.redis.kill()` and the like are fair play.
pub struct World {
    pub redis: RedisServer,
    pub store: TestStore,
    pub setup: Setup,
}

impl World {
    /// With a Redis that keeps an append-only file, as in production.
    pub async fn new(kind: StoreKind) -> Self {
        let (redis, store) = tokio::join!(RedisServer::start_durable(), TestStore::start(kind));
        let setup = Setup::new(&redis.url(), &store.url());
        Self { redis, store, setup }
    }

    /// On a Redis of the test's choice, at the address by which servers shall find it.
    pub async fn on(kind: StoreKind, redis: RedisServer, url: &str) -> Self {
        let store = TestStore::start(kind).await;
        let setup = Setup::new(url, &store.url());
        Self { redis, store, setup }
    }

    /// Starts a server of this world.
    pub async fn server(&self) -> Onetake {
        Onetake::start(&self.setup).await
    }

    /// A BullMQ peer of this world.
    pub fn peer(&self, version: BullMq, queue: &str) -> Peer {
        Peer::new(version, &self.redis, queue)
    }
}
