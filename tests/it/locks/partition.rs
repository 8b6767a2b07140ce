//! Two servers, one of which cannot always see Redis, and names that all of them want.

use super::bench::{Bench, Crowd, name};
use crate::support::proxy::Proxy;
use crate::support::wait;
use std::time::Duration;

/// How long so many more rounds may take on a busy machine.
const SLOWLY: Duration = Duration::from_secs(90);

/// Cuts, clogs and heals one server's way to Redis; wipes Redis, kills it and freezes it; each for `rounds` commits.
pub async fn weather(bench: &mut Bench, way: &Proxy, crowd: &Crowd, rounds: i64) {
    while !crowd.is_over() {
        way.cut();
        more(crowd, rounds).await;
        way.open();
        more(crowd, rounds).await;
        bench.redis.wipe().await;
        more(crowd, rounds).await;
        way.clog();
        more(crowd, rounds).await;
        bench.redis.freeze();
        more(crowd, rounds).await;
        bench.redis.thaw();
        way.open();
        more(crowd, rounds).await;
        bench.redis.kill();
        more(crowd, rounds).await;
        bench.redis.restart().await;
        more(crowd, rounds).await;
    }
}

async fn more(crowd: &Crowd, rounds: i64) {
    let goal = crowd.done() + rounds;
    let seen = async || crowd.done() >= goal || crowd.is_over();
    wait::until_true("more rounds", SLOWLY, seen).await;
}

mod on_postgres {
    use super::{Bench, Crowd, Duration, Proxy, name, weather};
    use crate::support::store::StoreKind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn servers_that_disagree_on_redis_lose_no_update() {
        let mut bench = Bench::new(StoreKind::Postgres).await;
        let way = Proxy::to(bench.redis.port()).await;
        let servers = [bench.server().await, bench.server_by(&way.redis_url()).await];
        let names = [name("hot:1"), name("hot:2"), name("hot:3")];
        bench.counters(&names).await;
        let units = servers.iter().map(|server| server.counting()).collect::<Vec<_>>();
        let crowd = Crowd::start(&units, &names, 8, 4_000, Duration::from_millis(2));
        weather(&mut bench, &way, &crowd, 120).await;
        crowd.finish(&bench, &names).await;
        let all: i64 = bench.store.numbers("select sum(n)::bigint from counters").await[0];
        assert_eq!(all, 4_000);
    }
}

mod on_sqlite {
    use super::{Bench, Crowd, Duration, Proxy, name, weather};
    use crate::support::store::StoreKind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_one_server_loses_no_update_whatever_redis_does() {
        let mut bench = Bench::new(StoreKind::Sqlite).await;
        let way = Proxy::to(bench.redis.port()).await;
        let units = [bench.server_by(&way.redis_url()).await.counting()];
        let names = [name("hot:1"), name("hot:2")];
        bench.counters(&names).await;
        let crowd = Crowd::start(&units, &names, 8, 600, Duration::from_micros(200));
        weather(&mut bench, &way, &crowd, 40).await;
        crowd.finish(&bench, &names).await;
    }
}
