//! Loss: whatever dies, hangs or forgets, what was acknowledged ends delivered, and what was made is not made again.

mod processes;
mod redis_away;
mod redis_forgets;
mod sql_away;

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::making::{Making, until_settled};
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

/// A processor whose runs last until the test lets them go on.
///
/// It is known who makes them: each run appends the server's process id to `holders` and waits for the file `go`, or for
/// the one of its own server, `go-PID`. Its own process id is in `program`.
pub struct Gate {
    making: Making,
}

impl Gate {
    pub fn new() -> Self {
        Self { making: Making::new() }
    }

    pub fn making(&self) -> &Making {
        &self.making
    }

    /// A configuration of the queue `video`; `more` is TOML for its table.
    pub fn config(&self, more: &str) -> String {
        let [go, holders, program] =
            ["go", "holders", "program"].map(|name| self.making.file(name).display().to_string());
        let wait = format!("while [ ! -e {go} ] && [ ! -e {go}-$PPID ]; do sleep 0.02; done");
        let result = r#"echo "{\"made\":$PPID}""#;
        self.making.config(&format!("echo $$ > {program}; echo $PPID >> {holders}; {wait}; {result}"), more)
    }

    /// The process ids of the servers that began runs, one entry a run.
    pub fn holders(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.making.file("holders")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The process id of the program that began last.
    pub fn program(&self) -> i32 {
        let text = std::fs::read_to_string(self.making.file("program")).expect("a run has begun");
        text.trim().parse().expect("a process id")
    }

    pub async fn until_begun(&self, count: usize) -> Vec<i32> {
        wait::until(&format!("{count} runs to begin"), PATIENCE, async || {
            Some(self.holders()).filter(|holders| holders.len() >= count)
        })
        .await
    }

    /// All runs go on, and those to come do not wait.
    pub fn open(&self) {
        std::fs::write(self.making.file("go"), "").expect("our folder can be written");
    }

    /// The runs of one server go on.
    pub fn open_for(&self, server: i32) {
        std::fs::write(self.making.file(&format!("go-{server}")), "").expect("our folder can be written");
    }
}

/// Whether a process is gone. One that nobody has buried yet is.
pub fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Asks for `names` names, `each` users a name, and says how many were acknowledged. Nobody else asks for names with this
/// `prefix`. What is not acknowledged must be refused as it should: 503 while the store is away.
pub async fn ask_many(server: &Api, prefix: &str, names: usize, each: usize) -> usize {
    let asks = (0..names * each).map(|n| {
        let body = json!({"name": format!("{prefix} {}", n % names), "user": format!("{prefix}-{n}")});
        async move { server.post("/v1/videos", body).await }
    });
    let answers = futures::future::join_all(asks).await;
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 202 | 503), "{answer:?}");
    }
    answers.iter().filter(|answer| answer.status != 503).count()
}

/// Waits until nothing is under way; then each acknowledged request was delivered, none twice, and each of `names` was made
/// by one accepted run, with no more renders than attempts that were written down.
pub async fn all_served(world: &World, making: &Making, requests: usize, names: usize) {
    until_settled(&world.store).await;
    let count = async |sql: &str| usize::try_from(world.store.numbers(sql).await[0]).expect("a count");
    assert_eq!(count("select count(*) from subscriptions").await, requests, "requests");
    assert_eq!(count("select count(*) from mailbox").await, requests, "everyone was given it");
    assert_eq!(count("select count(distinct owner) from mailbox").await, requests, "nobody twice");
    assert_eq!(count("select count(*) from deliveries where state <> 'delivered'").await, 0, "deliveries left");
    let failed = world.store.texts("select coalesce(error, state) from runs where state <> 'succeeded'").await;
    assert_eq!(failed, [""; 0], "runs without a result");
    assert_eq!(count("select count(*) from runs").await, names, "one run a name");
    let attempts = count("select cast(sum(attempts) as bigint) from runs").await;
    let renders = making.runs().len();
    assert!((names..=attempts).contains(&renders), "{renders} renders of {names} names in {attempts} attempts");
}

/// Waits until the server says that it has (or has not) its Redis.
pub async fn until_redis_is(server: &Api, word: &str) {
    wait::until_true(&format!("Redis to be {word}"), PATIENCE, async || checks(server).await["redis"] == word).await;
}

pub async fn checks(server: &Api) -> Value {
    server.with("accept", "application/json").get("/readyz").await.json()["checks"].clone()
}
