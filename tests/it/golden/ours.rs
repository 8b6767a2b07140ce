//! The same scenes, played by our engine: the queue's verbs, and the runner's decisions about a job that it took.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use onetake::clock::Clock;
use onetake::config;
use onetake::id::QueueName;
use onetake::processor::{Failure, Processor, Progress, ReturnValue, Work};
use onetake::queue::{
    Add, Bulk, Change, Ended, Error, Finished, Flow, FlowError, How, Job, JobOptions, OnFailure, Queue, RateLimit,
    Record, Removal, Retry, Rule, Settlement, State, Take, Taken, Upsert,
};
use onetake::redis::Redis;
use onetake::runner::{self, Handler, Hold, PlainJobs};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{BEGIN_MS, Keys, Left, Step, dump, is_given, theirs, time_after};
use crate::support::redis::RedisServer;

/// As the Node worker has it.
const TOKEN: &str = "t";
const LEASE_MS: i64 = 600_000;

/// A Redis on which scene after scene is played.
pub struct Stage {
    server: RedisServer,
    redis: Redis,
}

/// One scene.
struct Play<'s> {
    stage: &'s Stage,
    now: i64,
    /// Jobs in hand, by queue and id.
    held: HashMap<(String, String), Job>,
}

impl Stage {
    pub async fn new() -> Self {
        let server = RedisServer::start().await;
        let settings = config::Redis {
            url: server.url().into(),
            prefix: "bull".into(),
            namespace: "onetake".into(),
            command_timeout: config::Span(Duration::from_secs(30)),
            eviction: config::Eviction::Refuse,
            tls: config::Tls::default(),
        };
        let redis = Redis::connect(&settings).await.expect("Redis was just started");
        Self { server, redis }
    }

    /// What each step leaves. `theirs` says what those leave that are given.
    pub async fn play(&self, steps: &[Step], theirs: &[Left]) -> Vec<Left> {
        self.server.ask(&["FLUSHALL"]).await;
        let mut play = Play { stage: self, now: BEGIN_MS, held: HashMap::new() };
        let (mut before, mut all) = (Keys::new(), Vec::new());
        for (step, their) in steps.iter().zip(theirs) {
            play.now = time_after(play.now, step);
            let said = if is_given(step) {
                dump::restore(&self.server, &their.keys).await;
                their.said.clone()
            } else {
                play.act(step).await
            };
            let (after, events) = dump::look(&self.server).await;
            if step["do"] != "redis" {
                assert_marked(&after, steps, step);
            }
            all.push(dump::left(said, events, &before, &after));
            before = after;
        }
        all
    }
}

/// Whoever is idle is told of work that it may take: what differences in the marker may not hide.
fn assert_marked(keys: &Keys, steps: &[Step], step: &Step) {
    let marker_was_removed = steps.iter().any(|step| step.to_string().contains(":marker"));
    let count = |key: &str| keys.get(key).map_or(0, |key| key["list"].as_array().map_or(1, Vec::len));
    let meta = &keys.get("q:meta").cloned().unwrap_or_default()["hash"];
    let limit = meta["concurrency"].as_str().and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let can_be_taken = count("q:wait") + count("q:prioritized") > 0
        && meta["paused"].is_null()
        && count("q:active") < limit
        && keys.get("q:limiter").is_none();
    let is_marked = keys.get("q:marker").is_some_and(|marker| marker["zset"]["0"] == "0");
    assert!(!can_be_taken || is_marked || marker_was_removed, "nobody is told after {step}: {keys:#?}");
}

impl Play<'_> {
    fn queue(&self, step: &Step) -> Queue {
        let name = step["queue"].as_str().unwrap_or("q");
        Queue::new(self.stage.redis.clone(), "bull", QueueName::parse(name).expect("a plain name"))
    }

    async fn act(&mut self, step: &Step) -> Value {
        let (queue, now) = (self.queue(step), self.now);
        let id = step["id"].as_str().unwrap_or_default();
        let ms = step["ms"].as_i64().unwrap_or_default();
        match step["do"].as_str().expect("each step does something") {
            "redis" => theirs::by_hand(&self.stage.server, step).await,
            "clock" => json!("done"),
            "add" if step["opts"]["parent"].is_object() => self.flow(self.tree(&queue, step), step).await,
            "add" => json!(self.add(&queue, std::slice::from_ref(step)).await[0]),
            "flow" => match self.flow(self.tree(&queue, &step["flow"]), &step["flow"]).await {
                said if said == "refused" => said,
                _ => json!("done"),
            },
            "addBulk" => json!(self.add(&queue, step["jobs"].as_array().expect("a list")).await),
            "take" => {
                let taken = queue.take(&take(), now).await.expect("Redis is up");
                self.keep(&queue, taken).await
            }
            "complete" => self.end(&queue, step, Ok(step["value"].clone())).await,
            "fail" => {
                let reason = step["reason"].as_str().expect("a reason");
                let is_final = step["final"] == true;
                let failure = if is_final { Failure::fatal(reason) } else { Failure::retry(reason) };
                self.end(&queue, step, Err(failure)).await
            }
            "delay" => {
                let delay = Duration::from_millis(ms.unsigned_abs());
                self.end(&queue, step, Err(Failure::Later { delay, reason: "not now".into() })).await
            }
            "wait" => self.settle(&queue, step, How::Wait).await,
            "extend" => {
                let held = [(id.to_owned(), token(step))];
                done(queue.extend(&held, ms).await.expect("Redis is up").is_empty())
            }
            "scan" => {
                queue.recover_stalled(now, LEASE_MS, 1).await.expect("Redis is up");
                json!("done")
            }
            "progress" => done(queue.progress(id, &raw(&step["value"])).await.expect("Redis is up")),
            "log" => {
                let keep = step["keep"].as_u64().and_then(|keep| u32::try_from(keep).ok());
                let line = step["line"].as_str().expect("a line");
                done(queue.log(id, line, keep).await.expect("Redis is up").is_some())
            }
            "updateData" => changed(queue.update_data(id, &raw(&step["data"])).await),
            "promote" => changed(queue.promote(id).await),
            "changeDelay" => changed(queue.change_delay(id, ms, now).await),
            "changePriority" => {
                let priority = u32::try_from(step["priority"].as_u64().expect("a number")).expect("a small one");
                changed(queue.change_priority(id, priority, step["lifo"] == true).await)
            }
            "retry" => {
                let retry = Retry { from: Some(finished(step)), anew: step["anew"] == true };
                changed(queue.retry(id, retry).await)
            }
            "remove" => {
                let removal = match step["children"] == true {
                    true => queue.remove_with_children(id, now).await,
                    false => queue.remove(id, now).await,
                };
                // BullMQ does not tell what was removed from what was not there.
                done(matches!(removal.expect("Redis is up"), Removal::Removed | Removal::Absent))
            }
            "pause" => done(queue.pause().await.is_ok()),
            "resume" => done(queue.resume().await.is_ok()),
            "setConcurrency" => {
                let limit = step["limit"].as_u64().and_then(|limit| u32::try_from(limit).ok()?.try_into().ok());
                done(queue.set_concurrency(limit).await.is_ok())
            }
            "setRateLimit" => {
                let number = |name: &str| u32::try_from(step[name].as_u64()?).ok()?.try_into().ok();
                let limit = number("max").zip(number("duration")).map(|(max, duration)| RateLimit { max, duration });
                done(queue.set_rate_limit(limit).await.is_ok())
            }
            "upsertScheduler" => match queue.upsert_scheduler(&upsert(step), now).await {
                Ok(upserted) => json!(upserted.run_id),
                Err(Error::Scheduler(_)) => json!("refused"),
                Err(error) => panic!("{step}: {error}"),
            },
            "removeScheduler" => done(queue.remove_scheduler(id).await.expect("Redis is up")),
            verb => match queue.run_to_end(&bulk(verb, step, now), now).await {
                Ok(_) => json!("done"),
                Err(Error::NotPaused | Error::JobsActive) => json!("refused"),
                Err(error) => panic!("{step}: {error}"),
            },
        }
    }

    /// A flow, perhaps under a parent; the id of its root.
    async fn flow(&self, flow: Flow, root: &Value) -> Value {
        let parent = &root["opts"]["parent"];
        let added = match (parent["id"].as_str(), parent["queue"].as_str()) {
            (Some(id), Some(key)) => {
                let queue = self.queue(&json!({"queue": key.strip_prefix("bull:")}));
                flow.add_under(&queue, id, "f", self.now).await
            }
            _ => flow.add("f", self.now).await,
        };
        match added {
            Ok(added) => json!(added.jobs[0].1),
            Err(FlowError::Queue(error)) => panic!("{root}: {error}"),
            Err(_) => json!("refused"),
        }
    }

    /// As a producer tells it, in `queue` if it does not say.
    fn tree(&self, queue: &Queue, node: &Value) -> Flow {
        let queue = match &node["queueName"] {
            Value::Null => queue.clone(),
            name => self.queue(&json!({ "queue": name })),
        };
        let mut node = node.clone();
        let mut on_failure = OnFailure::Wait;
        if let Some(opts) = node["opts"].as_object_mut() {
            opts.remove("parent");
            for (name, meant) in [
                ("failParentOnFailure", OnFailure::FailParent),
                ("continueParentOnFailure", OnFailure::ContinueParent),
                ("ignoreDependencyOnFailure", OnFailure::IgnoreDependency),
                ("removeDependencyOnFailure", OnFailure::RemoveDependency),
            ] {
                if opts.remove(name).is_some() {
                    on_failure = meant;
                }
            }
        }
        let children = node["children"].as_array().into_iter().flatten();
        let children = children.map(|child| self.tree(&queue, child)).collect();
        Flow { queue, job: add(&node), on_failure, children }
    }

    async fn add(&self, queue: &Queue, jobs: &[Value]) -> Vec<String> {
        let added = queue.add(jobs.iter().map(add).collect(), self.now).await.expect("they can be added");
        added.into_iter().map(|added| added.id).collect()
    }

    /// As the runner starts what it took: a job that must not run is ended at once, and another is taken.
    async fn keep(&mut self, queue: &Queue, mut taken: Taken) -> Value {
        loop {
            let Some(record) = taken.jobs.pop() else { return Value::Null };
            let job = match runner::admit(record, queue.name(), true) {
                Ok(job) => job,
                Err(runner::Refused { id, how, .. }) => {
                    let ended = Ended { id, token: TOKEN.into(), how };
                    queue.settle(&[ended], None, self.now).await.expect("Redis is up");
                    taken = queue.take(&take(), self.now).await.expect("Redis is up");
                    continue;
                }
            };
            if job.scheduler.is_some() {
                queue.schedule_next(&job, self.now).await.expect("Redis is up");
            }
            let id = job.id.clone();
            self.held.insert((queue.name().to_string(), id.clone()), *job);
            return json!(id);
        }
    }

    /// As the runner ends an attempt.
    async fn end(&mut self, queue: &Queue, step: &Step, ended: Result<Value, Failure>) -> Value {
        let id = step["id"].as_str().expect("an id").to_owned();
        let held = self.held.get(&(queue.name().to_string(), id.clone())).cloned();
        let job = match (held, queue.job(&id).await.expect("Redis is up")) {
            (Some(job), _) => job,
            // One that was not taken, at least not here.
            (None, Some(Record::Job(job))) => *job,
            (None, _) => return json!("refused"),
        };
        let clock = Clock::manual(self.now);
        let handler = PlainJobs {
            queue: queue.clone(),
            processor: Arc::new(Scripted(Mutex::new(Some(ended)))),
            settings: Arc::new(config::Queue::default()),
            clock,
            scratch: PathBuf::new(),
            flows: Arc::new(|_: &str| Ok(Vec::new())),
        };
        let how = handler.handle(job, Hold::default()).await;
        self.settle(queue, step, how).await
    }

    async fn settle(&mut self, queue: &Queue, step: &Step, how: How) -> Value {
        let ended = Ended { id: step["id"].as_str().expect("an id").to_owned(), token: token(step), how };
        let next = (step["next"] == true).then(take);
        let (settled, taken) = queue.settle(&[ended], next.as_ref(), self.now).await.expect("Redis is up");
        match settled[0] {
            Settlement::Settled if next.is_some() => self.keep(queue, taken).await,
            settlement => done(settlement == Settlement::Settled),
        }
    }
}

/// Ends one attempt as it was told.
struct Scripted(Mutex<Option<Result<Value, Failure>>>);

#[async_trait]
impl Processor for Scripted {
    async fn process(&self, _work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        let ended = self.0.lock().expect("nobody panics inside").take().expect("one attempt is made");
        ended.map(ReturnValue::from)
    }
}

fn take() -> Take {
    Take { max: 1, ahead: 0, token: TOKEN.into(), lease_ms: LEASE_MS, worker_name: Some("w".into()) }
}

fn token(step: &Step) -> String {
    step["token"].as_str().unwrap_or(TOKEN).to_owned()
}

fn done(is_done: bool) -> Value {
    json!(if is_done { "done" } else { "refused" })
}

fn changed(change: Result<Change, Error>) -> Value {
    done(change.expect("Redis is up") == Change::Made)
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("it is JSON")
}

fn finished(step: &Step) -> Finished {
    if step["state"] == "completed" { Finished::Completed } else { Finished::Failed }
}

fn bulk(verb: &str, step: &Step, now: i64) -> Bulk {
    match verb {
        "drain" => Bulk::Drain { delayed: step["delayed"] == true },
        "clean" => {
            let state: State = step["state"].as_str().expect("a state").parse().expect("one of ours");
            let most = step["limit"].as_u64().filter(|limit| *limit > 0);
            Bulk::Clean { state, grace_ms: step["grace"].as_i64().expect("a time"), most }
        }
        "obliterate" => Bulk::Obliterate { force: step["force"] == true },
        "retryAll" => Bulk::Retry { from: finished(step), until: now },
        "promoteAll" => Bulk::Promote,
        other => panic!("there is no verb {other}"),
    }
}

fn add(job: &Value) -> Add {
    let options = options(&job["opts"]);
    let data = raw(job.get("data").unwrap_or(&json!({})));
    let id = job["opts"]["jobId"].as_str().map(str::to_owned);
    Add { id, name: job["name"].as_str().unwrap_or("n").to_owned(), data, options }
}

/// From the names that producers use.
fn options(public: &Value) -> JobOptions {
    let mut stored = if public.is_object() { public.clone() } else { json!({}) };
    let fields = stored.as_object_mut().expect("just made");
    fields.remove("jobId");
    for (name, short) in [("deduplication", "de"), ("keepLogs", "kl")] {
        if let Some(value) = fields.remove(name) {
            fields.insert(short.to_owned(), value);
        }
    }
    JobOptions::read(&stored)
}

fn upsert(step: &Step) -> Upsert {
    let (repeat, template) = (&step["repeat"], &step["template"]);
    let rule = match repeat["pattern"].as_str() {
        Some(pattern) => Rule::Pattern { pattern: pattern.into(), tz: repeat["tz"].as_str().map(str::to_owned) },
        None => Rule::Every {
            every_ms: repeat["every"].as_i64().expect("an interval"),
            offset_ms: repeat["offset"].as_i64(),
        },
    };
    Upsert {
        id: step["id"].as_str().expect("an id").to_owned(),
        rule,
        limit: repeat["limit"].as_u64().and_then(|limit| u32::try_from(limit).ok()),
        start_ms: repeat["startDate"].as_i64(),
        end_ms: repeat["endDate"].as_i64(),
        immediately: repeat["immediately"] == true,
        name: template["name"].as_str().map(str::to_owned),
        data: raw(template.get("data").unwrap_or(&json!({}))),
        options: options(&template["opts"]),
    }
}
