//! Unmodified npm `bullmq` peers: the scripts in `tests/node`, one process each, talked to in JSON lines.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::{Launch, Process};
use super::redis::RedisServer;
use super::wait::PATIENCE;

/// Which release of `bullmq` a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BullMq {
    V5,
    V6,
}

/// A queue as its peers see it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub version: BullMq,
    pub redis_url: String,
    pub prefix: String,
    pub queue: String,
}

impl Peer {
    /// With BullMQ's default prefix.
    pub fn new(version: BullMq, redis: &RedisServer, queue: &str) -> Self {
        Self { version, redis_url: redis.url(), prefix: "bull".into(), queue: queue.into() }
    }

    pub(super) fn launch(&self, script: &str) -> Launch {
        let version = if self.version == BullMq::V5 { "5" } else { "6" };
        Launch::new("node", "node")
            .args([format!("{}/tests/node/{script}", env!("CARGO_MANIFEST_DIR"))])
            .env("VERSION", version)
            .env("REDIS_URL", &self.redis_url)
            .env("PREFIX", &self.prefix)
            .env("QUEUE", &self.queue)
            .talks()
    }
}

/// Whatever a script says.
pub(super) struct Talk(Process);

impl Talk {
    /// Starts a script and waits until it is connected.
    pub(super) async fn start(launch: Launch) -> Self {
        let mut talk = Self(launch.spawn());
        talk.hear(|line| (line["event"] == "ready").then_some(())).await;
        talk
    }

    pub(super) fn write(&mut self, command: &Value) {
        self.0.write(&command.to_string());
    }

    /// Passes over lines until `pick` picks one.
    ///
    /// # Panics
    /// If the script ends, or picks nothing within [`PATIENCE`].
    async fn hear<T>(&mut self, pick: impl FnMut(&Value) -> Option<T>) -> T {
        self.hear_within(PATIENCE, pick).await
    }

    pub(super) async fn hear_within<T>(&mut self, patience: Duration, mut pick: impl FnMut(&Value) -> Option<T>) -> T {
        let heard = async {
            loop {
                let line = self.0.read().await.expect("the script still runs");
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
                if let Some(picked) = pick(&line) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(patience, heard).await.expect("the script says something in time")
    }
}

/// How a job ended in the eyes of its producer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Outcome {
    /// Counts the jobs of this producer, from 0 in the order given.
    pub index: usize,
    pub id: Option<String>,
    pub ok: bool,
    pub value: Option<Value>,
    pub error: Option<String>,
}

/// Adds jobs and waits for their ends (`waitUntilFinished`).
pub struct Producer {
    talk: Talk,
    given: usize,
    added: BTreeMap<usize, String>,
    ended: BTreeMap<usize, Outcome>,
}

impl Producer {
    pub async fn start(peer: &Peer) -> Self {
        let talk = Talk::start(peer.launch("producer.mjs")).await;
        Self { talk, given: 0, added: BTreeMap::new(), ended: BTreeMap::new() }
    }

    /// Adds jobs `{name?, data, opts?}` all at once; does not wait for anything.
    pub fn give(&mut self, jobs: &[Value]) {
        self.given += jobs.len();
        self.talk.0.write(&json!(jobs).to_string());
    }

    /// Waits until every given job is in Redis; their ids in the order given.
    pub async fn added(&mut self) -> Vec<String> {
        while self.added.len() < self.given {
            self.hear_one().await;
        }
        self.added.values().cloned().collect()
    }

    /// Waits until the producer has seen the end of every given job; in the order given.
    pub async fn ended(&mut self) -> Vec<Outcome> {
        while self.ended.len() < self.given {
            self.hear_one().await;
        }
        self.ended.values().cloned().collect()
    }

    /// How many jobs the producer has seen ending, of those it told so far.
    pub fn ended_so_far(&self) -> usize {
        self.ended.len()
    }

    async fn hear_one(&mut self) {
        let Self { talk, added, ended, .. } = self;
        talk.hear(|line| {
            let index = usize::try_from(line["index"].as_u64()?).ok()?;
            if line["event"] == "added" {
                added.insert(index, line["id"].as_str()?.to_owned());
            } else {
                ended.insert(index, Outcome::deserialize(line).expect("an outcome"));
            }
            Some(())
        })
        .await;
    }
}

/// What a Node worker does with each job.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// The job's data is its value.
    Echo,
    /// Every attempt fails.
    Fail,
    /// The first attempt fails for good.
    Unrecoverable,
    /// No job ever ends.
    Hang,
    /// The job's data is its value, after 30 ms.
    Nap,
}

/// A plain BullMQ worker.
pub struct Worker {
    talk: Talk,
}

impl Worker {
    pub async fn start(peer: &Peer, behaviour: Behaviour, concurrency: usize) -> Self {
        Self::start_with(peer, behaviour, concurrency, &json!({})).await
    }

    /// With more of BullMQ's worker options.
    pub async fn start_with(peer: &Peer, behaviour: Behaviour, concurrency: usize, options: &Value) -> Self {
        let launch = Self::launch(peer, behaviour, concurrency).env("OPTIONS", options.to_string());
        Self { talk: Talk::start(launch).await }
    }

    /// One whose jobs are found soon after it died, and that soon finds those of others.
    pub async fn start_quick(peer: &Peer, behaviour: Behaviour, concurrency: usize) -> Self {
        let launch = Self::launch(peer, behaviour, concurrency).env("LEASE", "2000");
        Self { talk: Talk::start(launch).await }
    }

    /// The same, listed and noted in its jobs under `name`.
    pub async fn start_hasty(peer: &Peer, behaviour: Behaviour, concurrency: usize, name: &str) -> Self {
        let launch = Self::launch(peer, behaviour, concurrency).env("NAME", name).env("LEASE", "2000");
        Self { talk: Talk::start(launch).await }
    }

    fn launch(peer: &Peer, behaviour: Behaviour, concurrency: usize) -> Launch {
        peer.launch("worker.mjs")
            .env("BEHAVIOUR", format!("{behaviour:?}").to_lowercase())
            .env("CONCURRENCY", concurrency.to_string())
    }

    /// It hangs, until [`Worker::thaw`].
    pub fn freeze(&self) {
        self.talk.0.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.talk.0.signal(Signal::SIGCONT);
    }

    /// The id of the next job that it took.
    pub async fn taken(&mut self) -> String {
        self.talk.hear(|line| (line["event"] == "taken").then(|| line["id"].as_str().map(str::to_owned))?).await
    }

    /// Dies with its jobs in hand.
    pub fn kill(&mut self) {
        self.talk.0.kill();
    }

    /// Finishes its jobs and stops.
    pub async fn close(mut self) {
        self.talk.0.write(r#"{"stop":true}"#);
        self.talk.hear(|line| (line["event"] == "closed").then_some(())).await;
    }
}

/// Looks at a queue with BullMQ's own getters and hears its events.
pub struct Observer {
    talk: Talk,
    asked: u64,
    events: Vec<(String, Value)>,
}

impl Observer {
    pub async fn start(peer: &Peer) -> Self {
        Self { talk: Talk::start(peer.launch("observer.mjs")).await, asked: 0, events: Vec::new() }
    }

    /// Calls a method of `Queue`: `observer.queue("getJobCounts", json!([]))`.
    ///
    /// # Panics
    /// If the method throws.
    pub async fn queue(&mut self, method: &str, args: Value) -> Value {
        self.ask(json!({ "call": method, "args": args })).await
    }

    /// Calls a method of a job; null if there is no such job.
    ///
    /// # Panics
    /// If the method throws.
    pub async fn call(&mut self, job: &str, method: &str, args: Value) -> Value {
        self.ask(json!({ "job": job, "call": method, "args": args })).await
    }

    /// Adds a flow, as FlowProducer takes it.
    ///
    /// # Panics
    /// If it cannot be added.
    pub async fn flow(&mut self, flow: Value) -> Value {
        self.ask(json!({ "flow": flow })).await
    }

    /// A flow as FlowProducer gets it: `{id, queue, children}`.
    ///
    /// # Panics
    /// If there is none.
    pub async fn tree(&mut self, queue: &str, id: &str) -> Value {
        self.ask(json!({ "tree": { "queueName": queue, "id": id } })).await
    }

    /// All fields of a job; null if there is no such job.
    pub async fn job(&mut self, job: &str) -> Value {
        self.ask(json!({ "job": job })).await
    }

    /// Waits for an event of a job, of those since the start: the arguments of, say, `("completed", "17")`.
    pub async fn event(&mut self, name: &str, job: &str) -> Value {
        let wanted = |event: &(String, Value)| event.0 == name && event.1["jobId"] == job;
        if let Some((_, args)) = self.events.iter().find(|event| wanted(event)) {
            return args.clone();
        }
        let Self { talk, events, .. } = self;
        talk.hear(|line| {
            let event = event_of(line)?;
            let args = wanted(&event).then(|| event.1.clone());
            events.push(event);
            args
        })
        .await
    }

    /// The names of a job's events heard so far, in their order.
    pub fn events_of(&self, job: &str) -> Vec<&str> {
        self.events.iter().filter(|(_, args)| args["jobId"] == job).map(|(name, _)| name.as_str()).collect()
    }

    /// As [`Observer::call`]; an error is what the method throws.
    pub async fn try_call(&mut self, job: &str, method: &str, args: Value) -> Result<Value, String> {
        let answer = self.answer(json!({ "job": job, "call": method, "args": args })).await;
        match answer["ok"] == true {
            true => Ok(answer["value"].clone()),
            false => Err(answer["error"].to_string()),
        }
    }

    async fn ask(&mut self, command: Value) -> Value {
        let told = command.to_string();
        let answer = self.answer(command).await;
        assert_eq!(answer["ok"], true, "{told}: {}", answer["error"]);
        answer["value"].clone()
    }

    async fn answer(&mut self, mut command: Value) -> Value {
        self.asked += 1;
        command["ask"] = json!(self.asked);
        self.talk.0.write(&command.to_string());
        let Self { talk, asked, events } = self;
        talk.hear(|line| {
            events.extend(event_of(line));
            (line["answer"] == *asked).then(|| line.clone())
        })
        .await
    }
}

/// Does to queues what it is told, verb by verb, under a clock that stands still.
pub struct Player {
    talk: Talk,
    asked: u64,
}

impl Player {
    pub async fn start(peer: &Peer) -> Self {
        Self { talk: Talk::start(peer.launch("golden.mjs")).await, asked: 0 }
    }

    /// One verb, as `tests/node/golden.mjs` knows them; what it says.
    pub async fn act(&mut self, step: &Value, now_ms: i64) -> Value {
        self.asked += 1;
        let mut told = step.clone();
        told["ask"] = json!(self.asked);
        told["now"] = json!(now_ms);
        self.talk.0.write(&told.to_string());
        let asked = self.asked;
        self.talk.hear(|line| (line["answer"] == asked).then(|| line["said"].clone())).await
    }
}

/// The cron parsers that the two releases bring.
pub struct CronParsers {
    talk: Talk,
}

impl CronParsers {
    pub async fn start() -> Self {
        let script = format!("{}/tests/node/cron.mjs", env!("CARGO_MANIFEST_DIR"));
        Self { talk: Talk::start(Launch::new("node", "node").args([script]).talks()).await }
    }

    /// The next `count` times after `after`, in milliseconds.
    ///
    /// # Errors
    /// Why the parser refuses the pattern.
    pub async fn times(
        &mut self,
        version: BullMq,
        pattern: &str,
        zone: &str,
        after: i64,
        count: usize,
    ) -> Result<Vec<i64>, String> {
        let version = if version == BullMq::V5 { 5 } else { 6 };
        let ask = json!({ "version": version, "pattern": pattern, "tz": zone, "after": after, "count": count });
        self.talk.0.write(&ask.to_string());
        let answer = self.talk.hear(|line| (line["event"] == "cron").then(|| line.clone())).await;
        match answer["times"].as_array() {
            Some(times) => Ok(times.iter().filter_map(Value::as_i64).collect()),
            None => Err(answer["error"].as_str().unwrap_or_default().to_owned()),
        }
    }
}

fn event_of(line: &Value) -> Option<(String, Value)> {
    (line["event"] == "job").then(|| (line["name"].as_str().unwrap_or_default().to_owned(), line["args"].clone()))
}
