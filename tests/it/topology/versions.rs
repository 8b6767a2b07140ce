//! Other releases than the machine's own: the oldest that we promise, and a later one.
//!
//! A module's name says what it stands on; `tests/setup/install` fetches these servers. The whole engine is run on them by
//! the unit tests (`queue::tests::versions`), the server with its main job here.

use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::redis::{Kind, RedisServer};
use crate::support::store::StoreKind;
use crate::support::verbs::{Names, work_through};
use crate::support::world::World;

async fn everything_works_on(program: &'static str) {
    let making = Making::new();
    let redis = RedisServer::start_as(Kind { durable: true, program: Some(program), ..Kind::default() }).await;
    let url = redis.url();
    let mut world = World::on(StoreKind::Sqlite, redis, &url).await;
    world.setup = world.setup.config(&format!("{}{}", making.quick(), Names::PLAIN.config()));
    let server = world.server().await;
    for user in ["olga", "ivan"] {
        ask(&server, "Anna", user).await;
        until_delivered(&server, user, 1).await;
    }
    until_settled(&world.store).await;
    assert_eq!(making.runs(), ["Anna"]);
    work_through(&server, &Names::PLAIN).await;
    assert_eq!(server.stop().await.code(), Some(0));
}

mod on_redis_6 {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_works() {
        super::everything_works_on("redis-server-6.2").await;
    }
}

mod on_valkey_9 {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_works() {
        super::everything_works_on("valkey-server-9").await;
    }
}
