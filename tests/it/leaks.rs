//! After work of every kind, what it took is given back: tasks, connections, transactions, places in line, memory.

use std::time::Duration;

use serde_json::json;

use crate::support::http::Api;
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait;
use crate::support::world::World;

/// Askers of each kind in one run.
const CROWD: usize = 100;
/// Runs after which pools, caches and the allocator have what they keep.
const WARM_UPS: usize = 2;
const RUNS: usize = 3;
/// Connections that a pool makes or ends meanwhile, and the tasks behind them.
const SLACK: f64 = 4.0;
/// What an allocator may keep.
const MEMORY_SLACK: f64 = 32.0 * 1024.0 * 1024.0;
const PATIENCE: Duration = Duration::from_secs(30);

on_each_store!(everything_returns_to_where_it_was);

/// What a server has in hand.
#[derive(Clone, Copy, Debug)]
struct Taken {
    tasks: f64,
    files: f64,
    memory: f64,
}

impl Taken {
    async fn by(server: &Onetake) -> Self {
        // A connection of its own, that is closed when the answer is there: as many each time.
        let page = Api::new(server.base_url()).get("/metrics").await.text;
        let tasks = page.lines().find_map(|line| line.strip_prefix("onetake_runtime_tasks ")?.parse().ok());
        let proc = format!("/proc/{}", server.pid());
        let files = std::fs::read_dir(format!("{proc}/fd")).expect("the server runs").count();
        let status = std::fs::read_to_string(format!("{proc}/status")).expect("the server runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
        let kib: f64 = resident.trim().trim_end_matches("kB").trim().parse().expect("a number");
        Self { tasks: tasks.expect("the server counts its tasks"), files: files as f64, memory: kib * 1024.0 }
    }

    fn is_back_at(self, before: Self) -> bool {
        self.tasks <= before.tasks + SLACK
            && self.files <= before.files + SLACK
            && self.memory <= before.memory + MEMORY_SLACK
    }
}

async fn everything_returns_to_where_it_was(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    for run in 0..WARM_UPS {
        work(&server, run).await;
    }
    at_rest(&world).await;
    let before = Taken::by(&server).await;
    for run in 0..RUNS {
        work(&server, WARM_UPS + run).await;
        at_rest(&world).await;
        let what = format!("what run {run} took is given back; before it was {before:?}");
        wait::until_true(&what, PATIENCE, async || Taken::by(&server).await.is_back_at(before)).await;
    }
}

/// Slots that many want, lists that many read, locks that many wait for, and some of all who hang up before their answer.
async fn work(server: &Onetake, run: usize) {
    let api = Api::new(server.base_url());
    let slot = format!("slot-{run}");
    let slots = json!({"slots": [{"id": slot, "starts_at": "2099-01-01T00:00:00Z"}]});
    api.post("/v1/slots/sync", slots).await.expect(200);
    let until = "2099-01-01T00:00:00Z";
    let asks = (0..CROWD).map(|n| {
        let (api, slot) = (&api, &slot);
        async move {
            let user = format!("u{}", n % 10);
            let order = format!("{run}-{n}");
            let lock = format!("/v1/locks/hot-{}", n % 3);
            let accept = api.post("/v1/pickup/accept", json!({"order": order, "user": user, "storage_until": until}));
            let path = format!("/v1/pickup/orders?user={user}");
            let list = api.get(&path);
            let hold = async {
                let answer = api.post(&lock, json!({"ttl": "10s", "wait": "5s"})).await;
                if answer.status == 200 {
                    let mine = json!({"owner_token": answer.json()["owner_token"]});
                    api.post(&format!("{lock}/release"), mine).await.expect(200);
                }
            };
            if n % 5 == 0 {
                // Hangs up; on the way of the request, or on that of the answer.
                let patience = Duration::from_millis(n as u64 % 20);
                let _ = tokio::time::timeout(patience, api.post(&lock, json!({"ttl": "1s", "wait": "5s"}))).await;
                let _ = tokio::time::timeout(patience, accept).await;
                return;
            }
            let book = api.post("/v1/slots/book", json!({"slot": slot, "user": user}));
            let (booked, accepted, listed, ()) = tokio::join!(book, accept, list, hold);
            assert!(matches!(booked.status, 200 | 409), "{}", booked.text);
            accepted.expect(200);
            listed.expect(200);
        }
    });
    futures::future::join_all(asks).await;
}

/// Nobody is inside a transaction, holds a lock of the database, or stands in line.
async fn at_rest(world: &World) {
    let is_at_rest = async || {
        if let TestStore::Postgres(_) = &world.store {
            let inside = "select count(*) from pg_stat_activity
                where application_name = 'onetake' and state like 'idle in transaction%'";
            let locks = "select count(*) from pg_locks where locktype = 'advisory'";
            if world.store.numbers(inside).await != [0] || world.store.numbers(locks).await != [0] {
                return false;
            }
        }
        let lines = world.redis.ask(&["KEYS", "onetake:lock:*:line"]).await;
        lines.texts().is_empty()
    };
    wait::until_true("all is at rest", PATIENCE, is_at_rest).await;
}
