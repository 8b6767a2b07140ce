//! Every verb against a real server, compared with BullMQ's records: key dumps and event streams, field by field.

mod add;
mod admin;
mod bulk;
mod cancel;
mod change;
mod children;
mod family;
mod flow;
mod foreign;
mod groups;
mod invariant;
mod limits;
mod lone;
mod matrix;
mod metrics;
mod model;
mod moves;
mod parked;
mod producer;
mod schedulers;
mod settle;
mod stalled;
mod take;
mod versions;

use serde_json::value::RawValue;

use super::{Add, AddOutcome, Ended, How, Job, JobOptions, Queue, Record, Retention, Settlement, Take, Taken, Terms};
use crate::clock::Millis;
use crate::id::QueueName;
use crate::redis::Redis;
use crate::redis::testing::{Server, raw, shown};

pub(super) use model::Fault;

/// A Monday in 2026; scripts get their time from the caller, so it stands still unless a test moves it.
const NOW: Millis = 1_795_169_113_796;

/// One server, one queue `bull:q`.
struct World {
    server: Server,
    redis: Redis,
    queue: Queue,
}

impl World {
    async fn new() -> Self {
        Self::keeping(Retention::default()).await
    }

    async fn keeping(retention: Retention) -> Self {
        Self::on(Terms { retention, ..Terms::default() }).await
    }

    async fn on(terms: Terms) -> Self {
        let server = Server::start();
        let redis = server.connect().await;
        let name = QueueName::parse("q").expect("a plain name");
        let queue = Queue::on_terms(redis.clone(), "bull", name, terms);
        Self { server, redis, queue }
    }

    /// With a queue whose scripts have a fault.
    async fn broken(fault: Option<Fault>) -> Self {
        let mut world = Self::new().await;
        let inner = std::sync::Arc::get_mut(&mut world.queue.0).expect("nobody else has it yet");
        inner.fault = fault;
        world
    }

    /// Adds one job now; its id.
    async fn add(&self, add: Add) -> String {
        let added = self.queue.add(vec![add], NOW).await.expect("it can be added");
        assert_eq!(added[0].outcome, AddOutcome::Added);
        added[0].id.clone()
    }

    async fn take(&self, max: u32) -> Taken {
        self.take_at(max, NOW).await
    }

    async fn take_at(&self, max: u32, now: Millis) -> Taken {
        self.queue.take(&by("t", max), now).await.expect("the script answers")
    }

    async fn settle(&self, id: &str, how: How) -> Settlement {
        let (settlements, _) = self.queue.settle(&[ended(id, how)], None, NOW).await.expect("the script answers");
        settlements[0]
    }

    /// What a redis-cli would show.
    async fn see(&self, words: &str) -> String {
        shown(&self.redis, &words.split(' ').collect::<Vec<_>>()).await
    }

    async fn run(&self, words: &[&str]) {
        raw(&self.redis, words).await;
    }

    /// The fields of a job's hash, sorted, one per line.
    async fn hash(&self, id: &str) -> String {
        let mut fields: Vec<String> = self
            .redis
            .hgetall(&self.queue.keys().job(id))
            .await
            .expect("it is a hash or nothing")
            .into_iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(&value)))
            .collect();
        fields.sort();
        fields.join("\n")
    }

    /// The event stream without its ids: one event a line, values in BullMQ's order of fields, with the names of all
    /// but the first three.
    async fn events(&self) -> Vec<String> {
        let reply = raw(&self.redis, &["XRANGE", "bull:q:events", "-", "+"]).await;
        let entries = reply.items().expect("a stream is a list");
        entries
            .into_iter()
            .map(|entry| {
                let fields = entry.items().expect("an entry is a list").pop().expect("it has fields");
                let words = fields.texts().expect("fields are texts");
                assert_eq!(words[0], "event");
                let named: Vec<String> = words[2..].chunks(2).map(|pair| format!("{}={}", pair[0], pair[1])).collect();
                std::iter::once(words[1].clone()).chain(named).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// The events since the last look.
    async fn news(&self) -> Vec<String> {
        let events = self.events().await;
        self.run(&["XTRIM", "bull:q:events", "MAXLEN", "0"]).await;
        events
    }
}

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("the test wrote JSON")
}

fn job(options: JobOptions) -> Add {
    Add { options, ..Add::new("n", json("{}")) }
}

fn plain() -> Add {
    job(JobOptions::default())
}

fn named(id: &str) -> Add {
    Add { id: Some(id.to_owned()), ..plain() }
}

fn by(token: &str, max: u32) -> Take {
    Take { max, ahead: 0, token: token.to_owned(), lease_ms: 30_000, worker_name: Some("w one".to_owned()) }
}

/// As a worker tells what it holds.
fn known_by(ids: &[String], token: &str) -> Vec<(String, String)> {
    ids.iter().map(|id| (id.clone(), token.to_owned())).collect()
}

fn ended(id: &str, how: How) -> Ended {
    Ended { id: id.to_owned(), token: "t".to_owned(), how }
}

fn complete(value: &str) -> How {
    How::Complete { value: json(value) }
}

fn fail(reason: &str) -> How {
    How::Fail { reason: reason.to_owned(), stack: Some(format!("Error: {reason}")) }
}

fn retry(delay_ms: Millis) -> How {
    How::Retry { delay_ms, reason: "oops".to_owned(), stack: Some("Error: oops".to_owned()) }
}

fn ids(taken: &Taken) -> Vec<&str> {
    taken.jobs.iter().map(Record::id).collect()
}

fn readable(record: &Record) -> &Job {
    match record {
        Record::Job(job) => job,
        Record::Unreadable { reason, .. } => panic!("{reason}"),
    }
}
