//! Processes that are stopped (SIGSTOP) in the middle of what they hold, for longer than every time to live.
//!
//! The workers are this very test program, started again: see [`worker`].

use std::io::Read;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use nix::sys::signal::Signal;
use onetake::lock::{Acquired, Guarded, Locks, Owned, check};
use onetake::store::{Error, query};

use super::bench::{Bench, LONG, Server, name, wanted};
use crate::support::process::{Launch, Process};
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};

const WORKER: &str = "ONETAKE_TEST_LOCK_WORKER";
/// Longer than a place at the gate is kept, and than the leases of these tests.
const LONGER: Duration = Duration::from_millis(5_500);
const TTL: Duration = Duration::from_millis(800);

/// Another process that counts up until its stdin ends, and says so each time.
struct Worker {
    process: Process,
    commits: i64,
    tokens: Vec<i64>,
}

impl Worker {
    fn start(bench: &Bench, kind: &str) -> Self {
        let this = std::env::current_exe().expect("we run from a file").display().to_string();
        let process = Launch::new("worker", this)
            .args(["--exact", "locks::frozen::worker", "--nocapture"])
            .env(WORKER, format!("{kind} {} {}", bench.store.url(), bench.redis.url()))
            .talks()
            .spawn();
        Self { process, commits: 0, tokens: Vec::new() }
    }

    /// Hears what has been said, after a moment if that is nothing yet.
    async fn hear(&mut self) -> i64 {
        if let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(20), self.process.read()).await {
            self.note(&line);
        }
        while let Some(Some(line)) = self.process.read().now_or_never() {
            self.note(&line);
        }
        self.commits
    }

    fn note(&mut self, line: &str) {
        if let Some(token) = line.strip_prefix("done ") {
            self.commits += 1;
            self.tokens.push(token.parse().expect("a number"));
        }
    }

    /// Waits for so many more commits.
    async fn more(&mut self, commits: i64) {
        let (goal, deadline) = (self.commits + commits, Instant::now() + 2 * PATIENCE);
        while self.hear().await < goal {
            assert!(Instant::now() < deadline, "waited in vain for {commits} more commits");
        }
    }

    async fn end(mut self) -> (i64, Vec<i64>) {
        self.process.close();
        while let Some(line) = self.process.read().await {
            self.note(&line);
        }
        assert_eq!(self.process.wait_exit(PATIENCE).await.code(), Some(0));
        (self.commits, self.tokens)
    }
}

/// What a worker does. As a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() {
    let Ok(order) = std::env::var(WORKER) else { return };
    let mut words = order.split(' ');
    let mut word = || words.next().expect("kind, store and Redis");
    let (kind, store, redis) = (word(), word(), word());
    let server = Server::start(store, redis).await;
    let (told, stop) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.send_replace(true);
    });
    // The harness has begun a line that says which test this is.
    println!();
    while !*stop.borrow() {
        let done = match kind {
            "unit" => match server.count_up(&name("hot"), LONG, Duration::from_millis(3)).await {
                Ok(Guarded::Done(n)) => Some(n),
                Ok(Guarded::Busy) => None,
                Err(error) if was_stopped_asking(&error) => None,
                // Its transaction was ended while it was stopped, and the next tries failed as well.
                Err(error) => panic!("{error:?}"),
            },
            _ => fenced_round(&server.locks).await,
        };
        if let Some(n) = done {
            println!("done {n}");
        }
    }
}

/// It was stopped while it asked for a connection, and found its patience over: nothing was begun.
fn was_stopped_asking(error: &dyn std::error::Error) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.to_string().contains("pool timed out"))
}

/// Takes the lease, reads, waits, and writes in a later transaction, if the lease is still its own then.
async fn fenced_round(locks: &Locks) -> Option<i64> {
    let Ok(Acquired::Granted(grants)) = locks.acquire(wanted("hot", TTL, LONG)).await else { return None };
    let fence = [(grants[0].name.clone(), grants[0].fencing_token)];
    let read = query("-- test.read\nselect n from counters where name = 'hot'");
    let n: i64 = locks.store().fetch_optional(read).await.ok()??.get("n").ok()?;
    tokio::time::sleep(Duration::from_millis(3)).await;
    let token = fence[0].1;
    let written: Result<bool, Error> = locks
        .store()
        .unit_of_work("test.fenced", move |tx| {
            let fence = fence.clone();
            Box::pin(async move {
                let is_held = check(tx, &fence).await?;
                if is_held {
                    let write = query("-- test.write\nupdate counters set n = $1, token = $2 where name = 'hot'");
                    tx.execute(write.bind(n + 1).bind(token)).await?;
                }
                Ok(is_held)
            })
        })
        .await;
    let written = match written {
        Ok(written) => written,
        // The lease ends by itself.
        Err(error) if was_stopped_asking(&error) => return None,
        Err(error) => panic!("{error:?}"),
    };
    match locks.release(&[grants[0].name.clone()], &grants[0].owner).await {
        Ok(released) => {
            assert!(written || matches!(released, Owned::Lost(_)), "who could not write had lost its lease")
        }
        Err(error) => assert!(was_stopped_asking(&error), "{error:?}"),
    }
    written.then_some(token)
}

mod on_postgres {
    use super::{Bench, Duration, Instant, LONGER, Signal, StoreKind, Worker, name, wait};

    async fn two_workers(kind: &str) -> (Bench, [Worker; 2]) {
        let bench = Bench::new(StoreKind::Postgres).await;
        bench.counters(&[name("hot")]).await;
        bench.store.change("alter table counters add column token bigint not null default 0").await;
        // Opened once, so that the workers find the schema made.
        drop(bench.server().await);
        let mut workers = [Worker::start(&bench, kind), Worker::start(&bench, kind)];
        for worker in &mut workers {
            worker.more(20).await;
        }
        (bench, workers)
    }

    /// Stops one after the other at any moment, for a moment.
    async fn stop_often(workers: &mut [Worker; 2], times: usize) {
        for n in 0..times {
            let [one, other] = workers;
            let (stopped, going) = if n % 2 == 0 { (one, other) } else { (other, one) };
            stopped.process.signal(Signal::SIGSTOP);
            // It may have been stopped inside: then the other one waits.
            let before = going.commits;
            let until = Instant::now() + Duration::from_millis(60);
            while going.hear().await < before + 3 && Instant::now() < until {}
            stopped.process.signal(Signal::SIGCONT);
            stopped.more(1).await;
        }
    }

    /// Stops one for longer than every time to live, until the other one has gone on for a while.
    async fn stop_long(workers: &mut [Worker; 2]) {
        let [stopped, going] = workers;
        stopped.process.signal(Signal::SIGSTOP);
        let at = Instant::now();
        // If it was stopped inside its transaction, Postgres ends that after half a minute.
        going.more(30).await;
        wait::until_true("every time to live to pass", 2 * LONGER, async || at.elapsed() > LONGER).await;
        going.hear().await;
        stopped.process.signal(Signal::SIGCONT);
        stopped.more(20).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_unit_that_was_stopped_for_long_loses_no_update() {
        let (bench, mut workers) = two_workers("unit").await;
        stop_often(&mut workers, 40).await;
        stop_long(&mut workers).await;
        let [one, other] = workers;
        let (commits, _) = one.end().await;
        let all = commits + other.end().await.0;
        assert_eq!(bench.count(&name("hot")).await, all, "the counter is what was committed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_holder_that_was_stopped_for_long_writes_nothing_under_its_old_token() {
        let (bench, mut workers) = two_workers("lease").await;
        stop_often(&mut workers, 10).await;
        stop_long(&mut workers).await;
        let [one, other] = workers;
        let ((mut commits, mut tokens), (others, other_tokens)) = (one.end().await, other.end().await);
        for mine in [&tokens, &other_tokens] {
            assert!(mine.is_sorted(), "tokens grow");
        }
        commits += others;
        tokens.extend(other_tokens);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len() as i64, commits, "each grant has its own token");
        assert_eq!(bench.count(&name("hot")).await, commits, "the counter is what was committed");
        let last = bench.store.numbers("select token from counters").await[0];
        assert_eq!(Some(&last), tokens.last(), "the last write is the newest token's");
    }
}
