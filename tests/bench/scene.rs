//! A server to measure: the binary as it is distributed, with its production settings, a durable Redis and a durable store.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::load::{Body, Load, Until, post, run};
use crate::support::postgres::PostgresServer;
use crate::support::process::{Launch, Process};
use crate::support::redis::RedisServer;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait;

/// How much is measured.
pub struct Pace {
    pub rounds: usize,
    pub warm_up: Duration,
    /// One side of one round.
    pub measured: Duration,
    pub idle: Duration,
    /// Keys of which each is asked for less than once a second.
    pub cold_keys: u64,
    pub plain_jobs: u64,
    pub durable_runs: u64,
}

impl Pace {
    pub const FULL: Self = Self {
        rounds: 5,
        warm_up: Duration::from_millis(500),
        measured: Duration::from_secs(3),
        idle: Duration::from_secs(10),
        cold_keys: 40_000,
        plain_jobs: 20_000,
        durable_runs: 5_000,
    };
    pub const QUICK: Self = Self {
        rounds: 1,
        warm_up: Duration::from_millis(300),
        measured: Duration::from_secs(1),
        idle: Duration::from_secs(5),
        cold_keys: 20_000,
        plain_jobs: 5_000,
        durable_runs: 2_000,
    };

    pub fn until(&self) -> Until {
        Until::Time { warm_up: self.warm_up, measured: self.measured }
    }
}

/// The queues that are declared: 50 jobs at once each.
const QUEUES: &str = r#"
[queues.echo]
processor = { kind = "builtin", name = "echo" }
concurrency = 50
[queues.echo.dedupe]
fields = ["name"]

[queues.noop]
processor = { kind = "builtin", name = "noop" }
concurrency = 50
[queues.noop.dedupe]
fields = ["name"]

[queues.plain]
processor = { kind = "builtin", name = "noop" }
concurrency = 50
"#;

/// A server, and what it stands on.
pub struct Scene {
    pub address: SocketAddr,
    pub server: Process,
    pub redis: RedisServer,
    pub store: TestStore,
    pub kind: StoreKind,
    _folder: TempDir,
}

impl Scene {
    pub async fn start(kind: StoreKind) -> Self {
        Self::start_as(kind, "all").await
    }

    /// A server that only accepts: the queue of runs is paused. On Postgres it has no other role; the file of SQLite
    /// belongs to one process, which has all.
    pub async fn start_accepting(kind: StoreKind) -> Self {
        let scene = Self::start_as(kind, if kind == StoreKind::Postgres { "http" } else { "all" }).await;
        scene.pause("noop-work").await;
        scene
    }

    async fn start_as(kind: StoreKind, role: &str) -> Self {
        let folder = TempDir::with_prefix("onetake-bench-").expect("the temporary folder can be written");
        std::fs::write(folder.path().join("onetake.toml"), QUEUES).expect("our folder can be written");
        let redis = RedisServer::start_durable().await;
        let store = match kind {
            StoreKind::Sqlite => TestStore::start(kind).await,
            StoreKind::Postgres => TestStore::Postgres(PostgresServer::start_as(true).await),
        };
        let server = Launch::new("onetake", env!("CARGO_BIN_EXE_onetake"))
            .args(["serve", "--bind", "127.0.0.1:0", "--role", role])
            .without("ONETAKE_")
            .without("TELEGRAM_")
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", store.url())
            .env("ONETAKE_FILES_DIR", folder.path().join("files").display().to_string())
            .env("NO_COLOR", "1")
            .folder(folder.path())
            .spawn();
        let address = server.find_in_log(|line| line.split_once("listening on http://")?.1.trim().parse().ok()).await;
        let address = address.unwrap_or_else(|| panic!("the server does not start: {:?}", server.log()));
        Self { address, server, redis, store, kind, _folder: folder }
    }

    /// A load on this server that asks for results of `queue`.
    pub fn wishes(&self, queue: &str, connections: usize, until: Until) -> Load {
        Load {
            address: self.address,
            path: format!("/v1/queues/{queue}/jobs"),
            connections,
            body: Body::Wish,
            first_key: 0,
            keys: u64::MAX,
            askers: 0,
            until,
            status: 202,
            says: String::new(),
        }
    }

    /// Has the results of the keys `0..count` of the queue `echo` made.
    pub async fn make_results(&self, count: u64) {
        run(&self.wishes("echo", 100, Until::Requests(count))).await;
        self.until_settled(Duration::from_secs(300)).await;
        // A look at each brings what Redis may have missed there.
        let look = self.wishes("echo", 100, Until::Requests(count));
        run(&Load { status: 200, says: r#""status":"ready""#.into(), ..look }).await;
    }

    pub async fn pause(&self, queue: &str) {
        post(self.address, &format!("/v1/queues/{queue}/pause"), "").await;
    }

    pub async fn resume(&self, queue: &str) {
        post(self.address, &format!("/v1/queues/{queue}/resume"), "").await;
    }

    /// Waits until no run is open.
    pub async fn until_settled(&self, patience: Duration) {
        wait::until_true("all runs made", patience, async || {
            let open = "select count(*) from (select 1 from flights where state in ('pending', 'running') limit 1) o";
            self.store.numbers(open).await == [0]
        })
        .await;
    }

    pub fn store_name(&self) -> &'static str {
        name_of(self.kind)
    }

    /// The server's resident memory, in bytes.
    pub fn memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
        kib * 1024.0
    }

    /// The processor time that the server has used, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // The second field is the program's name in parentheses, which may hold blanks.
        let after_name = stat.rsplit_once(')').expect("the name ends with a parenthesis").1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("it is a number")).sum();
        // USER_HZ, which Linux has fixed at 100 for programs.
        ticks / 100.0
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.server.pid())).expect("the server runs")
    }

    /// Stops the server before what it stands on.
    pub async fn end(mut self) {
        self.server.end(Signal::SIGTERM, Duration::from_secs(20));
    }
}

pub fn name_of(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Sqlite => "SQLite",
        StoreKind::Postgres => "Postgres",
    }
}
