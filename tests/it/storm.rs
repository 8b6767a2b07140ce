//! Many at once: 500 requests for 50 names, half over HTTP and half from Node with both majors of bullmq.

use serde_json::{Value, json};

use super::support::making::{Making, until_settled};
use super::support::node::{BullMq, Producer};
use super::support::server::Onetake;
use super::support::store::StoreKind;
use super::support::wait::PATIENCE;
use super::support::world::World;

const NAMES: usize = 50;

mod node_on_sqlite {
    #[tokio::test(flavor = "multi_thread")]
    async fn fifty_renders_for_five_hundred_requests_to_one_server() {
        super::storm(super::StoreKind::Sqlite, 1).await;
    }
}

mod node_on_postgres {
    mod on_postgres {
        #[tokio::test(flavor = "multi_thread")]
        async fn fifty_renders_for_five_hundred_requests_to_two_servers() {
            super::super::storm(super::super::StoreKind::Postgres, 2).await;
        }
    }
}

async fn storm(kind: StoreKind, servers: usize) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let servers: Vec<Onetake> = futures::future::join_all((0..servers).map(|_| world.server())).await;
    let (peer_five, peer_six) = (world.peer(BullMq::V5, "video"), world.peer(BullMq::V6, "video"));
    let (mut five, mut six) = tokio::join!(Producer::start(&peer_five), Producer::start(&peer_six));

    // Each of the 50 names is asked for ten times: five over HTTP, five from Node.
    let name = |n: usize| format!("Name {}", n % NAMES);
    let job = |n: usize| json!({"data": {"name": name(n), "gender": "girl", "userId": format!("n{n}"), "chatId": n}});
    let jobs: Vec<Value> = (0..250).map(job).collect();
    five.give(&jobs[..125]);
    six.give(&jobs[125..]);
    let asks = (0..250).map(|n| {
        let server = &servers[n % servers.len()];
        let body = json!({"name": name(n), "gender": "girl", "user": format!("h{n}")});
        async move { server.post("/v1/videos", body).await }
    });
    for answer in futures::future::join_all(asks).await {
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }
    for producer in [&mut five, &mut six] {
        let Ok(outcomes) = tokio::time::timeout(PATIENCE / 2, producer.ended()).await else {
            panic!("Node jobs did not end: {}", standing(&world).await);
        };
        assert_eq!(outcomes.len(), 125);
        for outcome in outcomes {
            assert!(outcome.ok, "{outcome:?}");
            assert_eq!(outcome.value, Some(json!({"made": true})));
        }
    }
    until_settled(&world.store).await;

    let mut runs = making.runs();
    assert_eq!(runs.len(), NAMES, "each name was made once");
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), NAMES);
    let count = async |sql: &str| world.store.numbers(sql).await[0];
    assert_eq!(count("select count(*) from mailbox").await, 500, "each asker was given it");
    assert_eq!(count("select count(distinct owner) from mailbox").await, 500, "and none twice");
    // A job that came when the result was there already ended at once; all others were delivered to.
    let followers = count("select count(*) from subscriptions where channel = 'follower'").await;
    assert_eq!(count("select count(*) from deliveries where channel = 'follower'").await, followers);
    assert_eq!(count("select count(*) from deliveries where state <> 'delivered'").await, 0);
}

/// Where everything stands, for a test that waits in vain.
async fn standing(world: &World) -> String {
    let flights = "select state || ' ' || count(*) from flights group by state";
    let deliveries = "select channel || ' ' || state || ' ' || count(*) from deliveries group by channel, state";
    let mut lines = world.store.texts(flights).await;
    lines.extend(world.store.texts(deliveries).await);
    for queue in ["video", "video-work", "onetake-delivery"] {
        for (command, state) in [
            ("llen", "wait"),
            ("llen", "active"),
            ("zcard", "delayed"),
            ("zcard", "waiting-children"),
            ("zcard", "failed"),
        ] {
            let count = world.redis.ask(&[command, &format!("bull:{queue}:{state}")]).await;
            lines.push(format!("{queue} {state} {count:?}"));
        }
    }
    lines.join("; ")
}
