//! A list is never older than the last change that was answered, whatever happens to Redis meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::LATER;
use crate::support::http::Api;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::world::World;

const USERS: usize = 6;
const READERS_OF_EACH: usize = 3;
/// Kept below the largest page, so that one page is the whole list.
const MOST_ORDERS: usize = 180;

/// What was answered so far, by user: orders accepted, and of these, issued.
struct Answered {
    accepted: [AtomicUsize; USERS],
    issued: [AtomicUsize; USERS],
}

/// Readers and writers on all servers until it is stopped; a list that lacks what was answered before it was asked for
/// panics.
struct Checker {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Checker {
    fn start(servers: &[Onetake]) -> Self {
        let answered = Arc::new(Answered { accepted: Default::default(), issued: Default::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let apis: Arc<Vec<Api>> = Arc::new(servers.iter().map(|server| Api::new(server.base_url())).collect());
        let mut tasks = Vec::new();
        for user in 0..USERS {
            tasks.push(tokio::spawn(write(apis.clone(), user, answered.clone(), stop.clone())));
            for reader in 0..READERS_OF_EACH {
                tasks.push(tokio::spawn(read(apis.clone(), user, reader, answered.clone(), stop.clone())));
            }
        }
        Self { stop, tasks }
    }

    /// Stops, and counts what was done.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        join_all(self.tasks).await.into_iter().map(|done| done.expect("no list was old")).sum()
    }
}

async fn write(apis: Arc<Vec<Api>>, user: usize, answered: Arc<Answered>, stop: Arc<AtomicBool>) -> usize {
    let mut done = 0;
    for order in 0..MOST_ORDERS {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (accepting, issuing) = (&apis[done % apis.len()], &apis[(done + 1) % apis.len()]);
        let body = json!({"order": format!("{user}-{order}"), "user": format!("u{user}"), "storage_until": LATER});
        accepting.post("/v1/pickup/accept", body).await.expect(200);
        answered.accepted[user].store(order + 1, Ordering::SeqCst);
        let body = json!({"user": format!("u{user}"), "orders": [format!("{user}-{order}")]});
        let issued = issuing.post("/v1/pickup/issue", body).await.expect(200);
        assert_eq!(issued["orders"][0]["ok"], true, "{issued}");
        answered.issued[user].store(order + 1, Ordering::SeqCst);
        done += 2;
    }
    done
}

async fn read(
    apis: Arc<Vec<Api>>,
    user: usize,
    reader: usize,
    answered: Arc<Answered>,
    stop: Arc<AtomicBool>,
) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let api = &apis[(reader + done) % apis.len()];
        let (accepted, issued) =
            (answered.accepted[user].load(Ordering::SeqCst), answered.issued[user].load(Ordering::SeqCst));
        let page = api.get(&format!("/v1/pickup/orders?user=u{user}&limit=200")).await.expect(200);
        let items = page["items"].as_array().expect("a page has items");
        let is_issued = |order: &&Value| order["state"] == "issued";
        let seen = (items.len(), items.iter().filter(is_issued).count());
        assert!(seen.0 >= accepted && seen.1 >= issued, "an old list: {seen:?} of ({accepted}, {issued}) for u{user}");
        done += 1;
    }
    done
}

/// How often lists came out of Redis, over all servers.
async fn hits(servers: &[Onetake]) -> u64 {
    let mut hits = 0;
    for server in servers {
        let page = server.get("/metrics").await.text;
        let counted = page.lines().filter(|line| {
            line.starts_with("onetake_cache_reads_total") && line.contains("pickup-orders") && line.contains("\"hit\"")
        });
        hits += counted.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
    }
    hits
}

/// Until the checker has had the cache in use again: time for the mischief before it to show.
async fn until_hit(servers: &[Onetake]) {
    let before = hits(servers).await;
    crate::support::wait::until_true("lists to come out of Redis", Duration::from_secs(20), async || {
        hits(servers).await > before + 20
    })
    .await;
}

mod on_sqlite {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_list_is_old_while_redis_is_wiped_killed_and_frozen() {
        super::checked(super::StoreKind::Sqlite, 1).await;
    }
}

mod on_postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_list_of_two_servers_is_old_while_redis_is_wiped_killed_and_frozen() {
        super::checked(super::StoreKind::Postgres, 2).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_cut_off_from_redis_outdates_the_lists_of_the_other() {
        super::cut_off().await;
    }
}

async fn checked(kind: StoreKind, servers: usize) {
    let mut world = World::new(kind).await;
    let servers: Vec<Onetake> = join_all((0..servers).map(|_| world.server())).await;
    let checker = Checker::start(&servers);
    until_hit(&servers).await;
    for _ in 0..5 {
        world.redis.wipe().await;
        until_hit(&servers).await;
    }
    // What it had not written down yet is forgotten: older pages may be back.
    world.redis.restart().await;
    until_hit(&servers).await;
    world.redis.freeze();
    let frozen = Instant::now();
    // Longer than a read waits for Redis.
    crate::support::wait::until_true("time to pass", Duration::from_secs(5), async || {
        frozen.elapsed() > Duration::from_secs(2)
    })
    .await;
    world.redis.thaw();
    until_hit(&servers).await;
    assert!(checker.end().await > 200, "much was read and written meanwhile");
}

/// One server does not see Redis and changes; the other has the list there and must not serve it.
async fn cut_off() {
    let world = World::new(StoreKind::Postgres).await;
    let proxy = Proxy::to(world.redis.port()).await;
    let through = world.setup.clone().env("REDIS_URL", proxy.redis_url());
    let (seeing, blind) = tokio::join!(world.server(), Onetake::start(&through));
    let servers = [seeing, blind];
    let checker = Checker::start(&servers);
    until_hit(&servers).await;
    proxy.cut();
    until_hit(&servers[..1]).await;
    proxy.open();
    until_hit(&servers).await;
    proxy.clog();
    until_hit(&servers[..1]).await;
    proxy.open();
    until_hit(&servers).await;
    assert!(checker.end().await > 200, "much was read and written meanwhile");
    assert_resurrected_page_is_refused(&world.redis, &servers).await;
}

/// A page that Redis lost its knowledge about: put back by hand, as a restored backup or a failover would.
async fn assert_resurrected_page_is_refused(redis: &RedisServer, servers: &[Onetake]) {
    let key = "onetake:cache:{pickup-orders:u0}";
    let old = r#"{"items":[],"next":null}"#;
    servers[0].get("/v1/pickup/orders?user=u0&limit=200").await.expect(200);
    redis.ask(&["HSET", key, "version", "1", ":200", old]).await;
    let page = servers[0].get("/v1/pickup/orders?user=u0&limit=200").await.expect(200);
    assert_ne!(page["items"], json!([]), "a page of version 1 is old");
    // The test can tell: with the version of now, that very page is served.
    let version = redis.ask(&["HGET", key, "version"]).await.text().expect("it was filled").to_owned();
    redis.ask(&["HSET", key, "version", &version, ":200", old]).await;
    assert_eq!(servers[0].get("/v1/pickup/orders?user=u0&limit=200").await.text, old);
}
