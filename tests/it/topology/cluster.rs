//! A cluster of three masters: with hash tags all works as on one server, without them nothing starts.

use std::collections::BTreeSet;

use serde_json::json;

use crate::loss::{Gate, all_served, ask_many, until_redis_is};
use crate::support::cluster::Cluster;
use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::redis::RedisServer;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::verbs::{Names, work_through};
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

use super::redis_finding;

on_each_store!(with_a_hash_tag_in_the_prefix_everything_works, a_master_that_dies_loses_nothing_that_was_acknowledged);

/// A world on a new cluster. Its own Redis stands beside it and is used by nobody.
async fn world(kind: StoreKind) -> (Cluster, World) {
    let (cluster, beside) = tokio::join!(Cluster::start(), RedisServer::start());
    let url = cluster.url();
    (cluster, World::on(kind, beside, &url).await)
}

async fn with_a_hash_tag_in_the_prefix_everything_works(kind: StoreKind) {
    let making = Making::new();
    let (cluster, mut world) = world(kind).await;
    let config = format!("{}{}", making.quick(), Names::PLAIN.config());
    world.setup = world.setup.config(&config).env("ONETAKE_REDIS__PREFIX", "{bull}");
    let server = world.server().await;
    for user in ["olga", "ivan"] {
        ask(&server, "Anna", user).await;
    }
    for user in ["olga", "ivan"] {
        until_delivered(&server, user, 1).await;
    }
    until_settled(&world.store).await;
    assert_eq!(making.runs(), ["Anna"]);
    // By Redis, and not past it: the run's job, its mirror, and the deliveries.
    assert_eq!(cluster.ask(&["ZCARD", "{bull}:video-work:completed"]).await.number(), 1);
    let key = r#"onetake:{bull}:dedupe:video:["anna","neutral","default"]"#;
    wait::until_true("the mirror", PATIENCE, async || {
        cluster.ask(&["HGET", key, "state"]).await.text() == Some("succeeded")
    })
    .await;
    assert_eq!(cluster.ask(&["ZCARD", "{bull}:onetake-delivery:completed"]).await.number(), 2);

    work_through(&server, &Names::PLAIN).await;
    // Scripts that are forgotten are told again, at each master.
    for node in &cluster.nodes {
        node.ask(&["SCRIPT", "FLUSH"]).await;
    }
    ask(&server, "Boris", "vera").await;
    until_delivered(&server, "vera", 1).await;
    // Another server finds the same, and a run of its own wakes who waits at the first one.
    if kind == StoreKind::Postgres {
        let other = world.server().await;
        let waiting = server.with("prefer", "wait=20");
        let wish = json!({"name": "Clara", "user": "vera"});
        ask(&other, "Clara", "olga").await;
        let told = waiting.post("/v1/videos", wish).await.json();
        assert!(["ready", "subscribed"].contains(&told["status"].as_str().unwrap()), "{told}");
        until_delivered(&server, "vera", 2).await;
    }
    assert_eq!(redis_finding(&world.setup).0, "ok");
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_hash_tags_in_the_queues_names_they_lie_on_several_masters() {
    let (cluster, mut world) = world(StoreKind::Sqlite).await;
    let config = format!(
        "[queues]\nonly = [\"{{echo}}\", \"{{held}}\", \"{{a}}\", \"{{b}}\", \"{{c}}\"]\n{}\
         [queues.\"{{a}}\"]\n[queues.\"{{b}}\"]\n[queues.\"{{c}}\"]\n[delivery]\nqueue = \"{{onetake-delivery}}\"\n",
        Names::TAGGED.config()
    );
    world.setup = world.setup.config(&config);
    let server = world.server().await;
    work_through(&server, &Names::TAGGED).await;
    let mut owners = BTreeSet::new();
    for queue in ["a", "b", "c"] {
        server.post(&format!("/v1/queues/{{{queue}}}/jobs"), json!({"data": {}})).await.expect(201);
        for (place, node) in cluster.nodes.iter().enumerate() {
            if node.ask(&["LLEN", &format!("bull:{{{queue}}}:wait")]).await == crate::support::resp::Reply::Number(1) {
                owners.insert(place);
            }
        }
    }
    assert!(owners.len() > 1, "{owners:?} own all three queues");
    // A parent and its children lie together, or nothing is added.
    let under = |queue: &str| json!({"queue": queue, "parent": {"queue": "{a}", "id": "1"}, "options": {"jobId": "c"}});
    let apart = server.post("/v1/flows", under("{b}")).await.expect(422);
    assert_eq!((&apart["code"], &apart["field"]), (&json!("invalid_field"), &json!("parent.queue")));
    server.get("/v1/queues/{b}/jobs/c").await.expect(404);
    server.post("/v1/flows", under("{a}")).await.expect(201);
    assert_eq!(server.get("/v1/queues/{a}/jobs/1").await.expect(200)["children"]["unprocessed"], 1);
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn without_hash_tags_it_does_not_start_and_says_what_to_do() {
    let (cluster, world) = world(StoreKind::Sqlite).await;
    let process = Onetake::spawn(&world.setup);
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(2));
    let log = process.log().join("\n");
    for told in ["queues.video needs a hash tag on a cluster", "redis.prefix = \"{bull}\"", "delivery.queue needs"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    // A node's own address, as if it were the only server.
    let setup = world.setup.clone().env("REDIS_URL", cluster.nodes[0].url());
    let process = Onetake::spawn(&setup);
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(1));
    let log = process.log().join("\n");
    assert!(log.contains("a node of a cluster") && log.contains("redis-cluster://"), "{log}");
    assert!(redis_finding(&setup).1.contains("redis-cluster://"));
    assert_eq!(cluster.sizes().await, [0, 0, 0], "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_stops_its_queue_and_loses_no_job() {
    let (cluster, mut world) = world(StoreKind::Sqlite).await;
    world.setup = world.setup.config(&Names::PLAIN.config()).env("ONETAKE_REDIS__PREFIX", "{bull}");
    let server = world.server().await;
    let slot = cluster.ask(&["CLUSTER", "KEYSLOT", "{bull}"]).await.number().to_string();
    let from = &cluster.nodes[cluster.owner("{bull}").await];
    let to = cluster.nodes.iter().find(|node| node.port() != from.port()).expect("there are three");
    let id = async |node: &RedisServer| node.ask(&["CLUSTER", "MYID"]).await.text().unwrap().to_owned();
    let (from_id, to_id) = (id(from).await, id(to).await);

    let add = async || server.post("/v1/queues/held/jobs", json!({"data": {}})).await.status;
    assert_eq!(add().await, 201);
    to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
    from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    // Half of a queue is no queue: nobody works on it while it moves, on neither side.
    assert_eq!(add().await, 503);
    let port = to.port().to_string();
    while let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await
        && !keys.texts().is_empty()
    {
        let move_keys = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        let answer = from.ask(&[&move_keys[..], &keys.texts()].concat()).await;
        assert_eq!(answer.text(), Some("OK"), "nobody has written the same key on the other side");
        assert_eq!(add().await, 503);
    }
    for node in [to, from, &cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]] {
        node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    wait::until_true("the queue to be found again", PATIENCE, async || add().await == 201).await;
    assert_eq!(cluster.ask(&["LLEN", "{bull}:held:wait"]).await.number(), 2);
    work_through(&server, &Names::PLAIN).await;
}

async fn a_master_that_dies_loses_nothing_that_was_acknowledged(kind: StoreKind) {
    let gate = Gate::new();
    let (mut cluster, mut world) = world(kind).await;
    let place = cluster.owner("{bull}").await;
    let replica = cluster.replica_of(place).await;
    let mail = "[queues.mail]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    world.setup = world.setup.config(&format!("{}{mail}", gate.config(""))).env("ONETAKE_REDIS__PREFIX", "{bull}");
    let server = world.server().await;
    until_redis_is(&server, "up").await;

    let mut requests = ask_many(&server, "before", 10, 3).await;
    gate.until_begun(1).await;
    // A plain job is as durable as Redis: one that the replica has, it keeps.
    let later = json!({"data": {"n": 1}, "options": {"delay": 20_000}});
    let plain = server.post("/v1/queues/mail/jobs", later).await.expect(201)["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(cluster.nodes[place].ask(&["WAIT", "1", "30000"]).await.number(), 1, "the replica has it");

    cluster.nodes[place].kill();
    requests += ask_many(&server, "during", 10, 3).await;
    assert_eq!(requests, 60, "accepting goes on");
    gate.open();
    replica.until_master().await;
    requests += ask_many(&server, "after", 5, 2).await;
    all_served(&world, gate.making(), requests, 25).await;
    assert_eq!(gate.making().runs().len(), 25, "nothing that was made is made again");

    wait::until_true("the plain job to be done by the new master", 2 * PATIENCE, async || {
        server.get(&format!("/v1/queues/mail/jobs/{plain}")).await.json()["state"] == "completed"
    })
    .await;
    // Woken by the new master: only a run that began with a job shows its progress on it.
    ask(&server, "later", "vera").await;
    until_delivered(&server, "vera", 1).await;
    let flight = world.store.texts("select id from flights where key like '%later%'").await.remove(0);
    let leader = format!("{{bull}}:video-work:{flight}-1-1");
    assert_eq!(replica.redis.ask(&["HGET", &leader, "progress"]).await.text(), Some("0"));
}

mod node {
    use super::*;
    use crate::support::node::{Behaviour, BullMq, Peer, Producer, Worker};

    fn peer(version: BullMq, cluster: &Cluster, queue: &str) -> Peer {
        Peer { version, redis_url: cluster.url(), prefix: "{bull}".into(), queue: queue.into() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn producers_and_workers_of_bullmq_stand_on_the_same_cluster() {
        let making = Making::new();
        let (cluster, mut world) = world(StoreKind::Sqlite).await;
        let config = format!("{}{}", making.quick(), Names::PLAIN.config());
        world.setup = world.setup.config(&config).env("ONETAKE_REDIS__PREFIX", "{bull}");
        let server = world.server().await;
        for version in [BullMq::V5, BullMq::V6] {
            // Their producers, our runners: plain jobs, and an intake queue.
            let [plain, intake] = ["echo", "video"].map(|queue| peer(version, &cluster, queue));
            let (mut plain, mut intake) = tokio::join!(Producer::start(&plain), Producer::start(&intake));
            plain.give(&[json!({"data": {"n": 1}}), json!({"data": {"n": 2}, "opts": {"delay": 100}})]);
            let name = format!("{version:?}");
            intake.give(&[
                json!({"data": {"name": name, "userId": "olga"}}),
                json!({"data": {"name": name, "userId": "ivan"}}),
            ]);
            for outcome in plain.ended().await.into_iter().chain(intake.ended().await) {
                assert!(outcome.ok, "{version:?}: {outcome:?}");
            }
            // Our jobs, their workers, beside each other.
            let worker = Worker::start(&peer(version, &cluster, "held"), Behaviour::Echo, 2).await;
            let job = server.post("/v1/queues/held/jobs", json!({"data": {"n": 3}})).await.expect(201);
            let path = format!("/v1/queues/held/jobs/{}", job["job"]["id"].as_str().unwrap());
            wait::until_true("their worker to do it", PATIENCE, async || {
                server.get(&path).await.json()["state"] == "completed"
            })
            .await;
            worker.close().await;
        }
        assert_eq!(making.runs().len(), 2, "one for each name");
    }
}
