//! One namespace in Redis, one store.

use std::time::Duration;

use super::bench::{Bench, Server};
use crate::support::redis::RedisServer;
use crate::support::server::{Onetake, Setup};
use crate::support::store::{StoreKind, TestStore};

#[tokio::test]
async fn a_second_store_on_the_same_namespace_is_refused_until_the_first_is_gone() {
    let (redis, first, second) =
        tokio::join!(RedisServer::start(), TestStore::start(StoreKind::Sqlite), TestStore::start(StoreKind::Sqlite));
    let setup = Setup::new(&redis.url(), &first.url());
    let server = Onetake::start(&setup).await;
    let other = Setup::new(&redis.url(), &second.url());
    let refused = Onetake::spawn(&other);
    assert_eq!(refused.wait_exit(Duration::from_secs(30)).await.code(), Some(1));
    let said = refused.log().join("\n");
    let ours = first.texts("select id from store_identity").await.remove(0);
    assert!(said.contains("another store uses this namespace") && said.contains(&ours), "{said}");
    assert!(said.contains("redis-cli del onetake:store"), "it says what to do: {said}");
    assert_eq!(redis.ask(&["GET", "onetake:store"]).await.text(), Some(ours.as_str()));

    // Another namespace is free, and the same store comes back to its own.
    let apart = other.clone().env("ONETAKE_REDIS__NAMESPACE", "two").env("ONETAKE_REDIS__PREFIX", "two-bull");
    assert_eq!(Onetake::start(&apart).await.stop().await.code(), Some(0));
    assert_eq!(server.stop().await.code(), Some(0));
    assert_eq!(Onetake::start(&setup).await.stop().await.code(), Some(0));

    // The first one is gone for good: what the message says helps.
    redis.ask(&["DEL", "onetake:store"]).await;
    assert_eq!(Onetake::start(&other).await.stop().await.code(), Some(0));
}

mod on_postgres {
    use super::{Bench, Server, StoreKind};

    #[tokio::test]
    async fn servers_of_one_database_share_the_namespace_also_after_a_wipe() {
        let bench = Bench::new(StoreKind::Postgres).await;
        let (one, other): (Server, Server) = (bench.server().await, bench.server().await);
        for server in [&one, &other] {
            server.locks.claim_namespace().await.expect("both are up").expect("it is ours");
        }
        bench.redis.wipe().await;
        other.locks.claim_namespace().await.expect("both are up").expect("it is ours");
        one.locks.claim_namespace().await.expect("both are up").expect("it is ours");
        bench.redis.ask(&["SET", "onetake:store", "somebody"]).await;
        let foreign = one.locks.claim_namespace().await.expect("both are up").expect_err("it is not ours");
        assert_eq!(foreign.theirs, "somebody");
    }
}
