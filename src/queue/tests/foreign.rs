//! Foreign bytes: whatever stands in a job's hash, its options, its parent or a scheduler, nobody panics, no script stops half
//! way, and the jobs beside it end.
//!
//! Seeds are the hashes that Node left in the golden files; fields of them are replaced by what no client should write.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;
use crate::queue::{Bulk, ChildKind, Cron, Finished, JobBackoff, Removal, Retry, State};
use crate::redis::Reply;
use crate::redis::testing::raw_bytes;
use crate::retry as backoff;

type Fields = Vec<(String, Vec<u8>)>;

/// What no client should write.
const HOSTILE: &[&[u8]] = &[
    b"", b"0", b"-1", b"1.5", b"nan", b"-nan", b"inf", b"-inf", b"1e999", b"1e300", b"-1e300", b"0x10",
    b"9007199254740993", b"99999999999999999999", b"4294967295", b"null", b"true", b"[]", b"{}", b"\"text\"", b"[null]",
    b"{nope", b"\xff\xfe", b"\0", b"\xd0\x90\xd0\xbd\xd1\x8f", b"bull:q:", b"wait", b":::", b"bull:q:healthy",
    b"{\"id\":\"P\",\"queueKey\":\"bull:q\",\"fpof\":true}", b"{\"id\":5,\"queueKey\":{}}", b"{\"id\":\"a:b\",\"queueKey\":\"\"}",
    b"{\"attempts\":-3,\"backoff\":{\"type\":5},\"removeOnComplete\":1e300,\"removeOnFail\":{\"count\":0.5,\"age\":1e300}}",
    b"{\"attempts\":1e300,\"backoff\":{\"type\":\"exponential\",\"delay\":1e15,\"jitter\":9},\"stackTraceLimit\":-1}",
    b"{\"removeOnComplete\":{\"count\":\"x\",\"age\":-5,\"limit\":0.5},\"removeOnFail\":{\"age\":5,\"limit\":-7},\"lifo\":\"yes\"}",
    b"{\"removeOnComplete\":{\"count\":-0.5},\"removeOnFail\":[],\"stackTraceLimit\":\"nan\",\"attempts\":\"nan\"}",
    b"{\"de\":{\"id\":\"K\",\"ttl\":\"nan\"},\"delay\":\"nan\",\"priority\":\"inf\"}",
    b"{\"repeat\":{\"every\":1e300,\"count\":\"x\",\"limit\":-1}}", b"{\"repeat\":{\"pattern\":\"* * * * * *\",\"tz\":\"Nowhere\"}}",
    b"{\"repeat\":{\"pattern\":\"0 0 31 2 *\"}}", b"{\"repeat\":7}",
];

const NAMES: &[&str] = &[
    "name",
    "data",
    "opts",
    "timestamp",
    "delay",
    "priority",
    "parentKey",
    "parent",
    "deid",
    "rjk",
    "processedOn",
    "ats",
    "atm",
    "pb",
    "stc",
    "defa",
    "progress",
    "returnvalue",
    "failedReason",
    "stacktrace",
    "finishedOn",
    "tm",
    "nrjid",
    "attemptsMade",
    "onetake",
];

/// The hashes of jobs in the golden files.
static SEEDS: LazyLock<Vec<Fields>> = LazyLock::new(|| {
    let mut seeds = Vec::new();
    for topic in ["walk", "flows", "dedupe", "schedulers", "stalled"] {
        let file = format!("{}/tests/golden/node6/{topic}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        hashes(&serde_json::from_str(&text).expect("it is JSON"), &mut seeds);
    }
    assert!(seeds.len() > 100, "only {} seeds", seeds.len());
    seeds
});

fn hashes(value: &Value, found: &mut Vec<Fields>) {
    match value {
        Value::Object(object) => match object.get("hash") {
            Some(Value::Object(hash)) if hash.contains_key("timestamp") => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                found.push(hash.iter().map(|(name, value)| (name.clone(), text(value).into_bytes())).collect());
            }
            _ => object.values().for_each(|value| hashes(value, found)),
        },
        Value::Array(items) => items.iter().for_each(|value| hashes(value, found)),
        _ => {}
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let deep = |open: &'static str| (0..3000_usize).prop_map(move |depth| open.repeat(depth).into_bytes());
    prop_oneof![
        12 => prop::sample::select(HOSTILE).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => deep("["),
        1 => deep("{\"a\":"),
        1 => "\\PC{0,30}".prop_map(String::into_bytes),
    ]
}

/// A hash of Node's, or an empty one, with some of its fields replaced.
fn fields() -> impl Strategy<Value = Fields> {
    let seed = prop_oneof![4 => (0..SEEDS.len()).prop_map(|at| SEEDS[at].clone()), 1 => Just(Fields::new())];
    let name = prop_oneof![9 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "\\PC{0,12}"];
    (seed, vec((name, hostile()), 0..6)).prop_map(|(mut fields, replaced)| {
        for (name, value) in replaced {
            fields.retain(|(there, _)| *there != name);
            fields.push((name, value));
        }
        fields
    })
}

fn runner(cases: u32) -> TestRunner {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn no_hash_makes_a_reader_panic() {
    let read = |fields: Fields| {
        let text = |bytes: Vec<u8>| Reply::Text(bytes.into());
        let flat = fields.into_iter().flat_map(|(name, value)| [text(name.into_bytes()), text(value)]).collect();
        let Record::Job(job) =
            Record::read("j".to_owned(), flat).map_err(|error| TestCaseError::fail(error.to_string()))?
        else {
            return Ok(()); // told, and failed by whoever takes it
        };
        let options = &job.options;
        prop_assert_eq!(&JobOptions::read(&options.write()), options, "written as it was read");
        if let Some(JobBackoff::Known(policy)) = options.backoff {
            backoff::delay(policy, job.attempts_made, &mut rand::rng());
        }
        Ok(())
    };
    if let Err(wrong) = runner(4000).run(&fields(), read) {
        panic!("{wrong}");
    }
}

#[test]
fn no_pattern_makes_the_cron_reader_panic_or_search_for_ever() {
    let field = || "[0-9*?/,LWH#-]{1,6}|MON|jan|1-5|31";
    let pattern = prop_oneof![
        6 => vec(field(), 5..7).prop_map(|fields| fields.join(" ")),
        1 => "@?\\PC{0,20}",
        1 => hostile().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    let zone = prop::option::of(prop_oneof![Just("Europe/Stockholm"), Just("UTC"), Just("Nowhere"), Just("")]);
    let read = |(pattern, zone): (String, Option<&str>)| {
        if let Ok(cron) = Cron::parse(&pattern, zone) {
            let next = cron.next_after(NOW);
            prop_assert!(next.is_none_or(|next| next > NOW), "{:?}", next);
        }
        Ok(())
    };
    if let Err(wrong) = runner(1500).run(&(pattern, zone), read) {
        panic!("{wrong}");
    }
}

/// A job that nobody should have written, with what hangs on it.
#[derive(Clone, Debug)]
struct Hostile {
    fields: Fields,
    /// Something else than a hash under its key.
    is_text: bool,
    at: State,
    /// Of the keys that hang on a job, on its parent and on deduplication, those that hold a mere text.
    texts: Vec<&'static str>,
    end: u8,
}

const HANGING: &[&str] = &[
    "j:dependencies",
    "j:processed",
    "j:unsuccessful",
    "j:failed",
    "j:logs",
    "P",
    "P:dependencies",
    "P:processed",
    "de:K",
    "dn:K",
    "repeat:s",
    "healthy:logs",
];

fn hostile_job() -> impl Strategy<Value = Hostile> {
    let at = prop::sample::select(State::ALL.to_vec());
    let texts = vec(prop::sample::select(HANGING), 0..3);
    (fields(), prop::bool::weighted(0.1), at, texts, 0..5_u8).prop_map(|(fields, is_text, at, texts, end)| Hostile {
        fields,
        is_text,
        at,
        texts,
        end,
    })
}

impl Hostile {
    async fn put(&self, world: &World) {
        let key = b"bull:q:j".to_vec();
        if self.is_text || self.fields.is_empty() {
            raw_bytes(&world.redis, "SET", vec![key, b"no hash".to_vec()]).await;
        } else {
            let pairs = self.fields.iter().flat_map(|(name, value)| [name.clone().into_bytes(), value.clone()]);
            raw_bytes(&world.redis, "HSET", std::iter::once(key).chain(pairs).collect()).await;
        }
        match self.at {
            State::Waiting => world.run(&["RPUSH", "bull:q:wait", "j"]).await,
            State::Active => world.run(&["LPUSH", "bull:q:active", "j"]).await,
            State::Delayed => world.run(&["ZADD", "bull:q:delayed", "5", "j"]).await,
            other => world.run(&["ZADD", &format!("bull:q:{other}"), "5", "j"]).await,
        }
        for name in &self.texts {
            world.run(&["SET", &format!("bull:q:{name}"), "no such thing"]).await;
        }
    }

    fn how(&self) -> How {
        match self.end {
            0 => complete("1"),
            1 => fail("no"),
            2 => super::retry(0),
            3 => super::retry(1),
            _ => How::Wait,
        }
    }
}

/// Works everything off as a runner would, with all that operators do in between.
async fn go_on(world: &World, hostile: &Hostile) -> Result<(), String> {
    raw(&world.redis, &["FLUSHALL"]).await;
    let queue = &world.queue;
    let mut now = NOW;
    world.add(named("healthy")).await;
    world.add(Add { id: Some("later".into()), ..job(JobOptions { delay_ms: 2, ..Default::default() }) }).await;
    hostile.put(world).await;
    world.add(Add { id: Some("prior".into()), ..job(JobOptions { priority: 9, ..Default::default() }) }).await;
    let told = |what: &str, error: crate::queue::Error| format!("{what}: {error:?}");
    for round in 0..6 {
        now += 5;
        // The hostile one may end in its own way at first; in the end everything is completed.
        let taken = queue.take(&by("t", 10), now).await.map_err(|error| told("take", error))?;
        let mut ends = Vec::new();
        for record in &taken.jobs {
            let is_hostile = record.id() == "j";
            let how = if is_hostile && round < 3 { hostile.how() } else { complete("1") };
            ends.push(ended(record.id(), how));
            if let (Record::Job(job), true) = (record, is_hostile) {
                // It may name no time, but Redis must be sound.
                let made = queue.schedule_next(job, now).await;
                if let Err(error @ crate::queue::Error::Redis(_)) = made {
                    return Err(told("schedule_next", error));
                }
            }
        }
        let held: Vec<_> = taken.jobs.iter().map(|record| (record.id().to_owned(), "t".to_owned())).collect();
        queue.extend(&held, 60_000).await.map_err(|error| told("extend", error))?;
        let (settled, _) = queue.settle(&ends, None, now).await.map_err(|error| told("settle", error))?;
        // As the runner: whoever cannot complete because of its children fails.
        let refused = |settlement: &Settlement| !matches!(settlement, Settlement::Settled | Settlement::Lost);
        let fails = settled.iter().zip(&ends).filter(|(settlement, _)| refused(settlement));
        let fails: Vec<_> = fails.map(|(_, end)| ended(&end.id, fail("children"))).collect();
        queue.settle(&fails, None, now).await.map_err(|error| told("settle again", error))?;
        raw(&world.redis, &["DEL", "bull:q:stalled-check"]).await;
        queue.recover_stalled(now, 1000, 1).await.map_err(|error| told("recover_stalled", error))?;
        queue.mend_schedulers(now).await.map_err(|error| told("mend_schedulers", error))?;
        if round == 1 {
            for bulk in [Bulk::Promote, Bulk::Retry { from: Finished::Failed, until: now }] {
                queue.run_to_end(&bulk, now).await.map_err(|error| told("bulk", error))?;
            }
        }
    }
    // Told by the events: what the hostile one asks to be kept holds for all.
    let events = world.events().await;
    for id in ["healthy", "later", "prior"] {
        let ends = events.iter().filter(|event| event.starts_with(&format!("completed jobId={id} "))).count();
        if ends != 1 {
            return Err(format!("{id} ended {ends} times"));
        }
    }
    look_at_all(world).await?;
    for state in State::ALL {
        let clean = Bulk::Clean { state, grace_ms: 0, most: None };
        queue.run_to_end(&clean, now + 1).await.map_err(|error| told("clean", error))?;
    }
    queue.run_to_end(&Bulk::Drain { delayed: true }, now).await.map_err(|error| told("drain", error))?;
    let removed = queue.remove("j", now).await.map_err(|error| told("remove", error))?;
    if removed == Removal::Locked {
        return Err("nobody holds it".into());
    }
    Ok(())
}

/// Every getter, as lists over HTTP use them.
async fn look_at_all(world: &World) -> Result<(), String> {
    let queue = &world.queue;
    let told = |error: crate::queue::Error| format!("{error:?}");
    for state in State::ALL {
        for id in queue.ids(state, 0, 100).await.map_err(told)? {
            // Under the key of one may stand no hash: that one is told as an error, the others are not.
            let _ = queue.job(&id).await;
            queue.state(&id).await.map_err(told)?;
            queue.position(&id).await.map_err(told)?;
            queue.children_counts(&id).await.map_err(told)?;
            let _ = queue.children(&id, ChildKind::Processed, None, 10).await;
            let _ = queue.logs(&id, 0, 10).await;
        }
    }
    queue.counts().await.map_err(told)?;
    queue.schedulers(0, 10).await.map_err(told)?;
    queue.retry("j", Retry::default()).await.map_err(told)?;
    queue.promote("j").await.map_err(told)?;
    queue.change_priority("j", 3, true).await.map_err(told)?;
    queue.update_data("j", &json("1")).await.map_err(told)?;
    queue.progress("j", &json("1")).await.map_err(told)?;
    Ok(())
}

#[test]
fn no_hash_stops_the_queue() {
    let runtime = Runtime::new().expect("threads can be started");
    let world = runtime.block_on(World::new());
    runtime.block_on(raw(&world.redis, &["CONFIG", "SET", "appendonly", "no"]));
    let went_on = runner(300)
        .run(&hostile_job(), |hostile| runtime.block_on(go_on(&world, &hostile)).map_err(TestCaseError::fail));
    if let Err(wrong) = went_on {
        panic!("{wrong}");
    }
}

#[tokio::test]
async fn settings_that_are_no_numbers_stop_nothing() {
    let world = World::new().await;
    for value in ["nan", "-5", "1.5", "1e300", "x", ""] {
        for field in ["concurrency", "max", "duration", "opts.maxLenEvents"] {
            world.run(&["FLUSHALL"]).await;
            world.run(&["HSET", "bull:q:meta", "max", "100", "duration", "1000", field, value]).await;
            world.queue.add(vec![plain()], NOW).await.unwrap();
            let taken = world.queue.take(&by("t", 1), NOW).await.unwrap();
            // A limit below one lets nobody in, as in BullMQ; it is only a setting, and can be set anew.
            if taken.jobs.is_empty() {
                assert!(value.starts_with('-'), "{field}={value}");
                continue;
            }
            assert_eq!(world.settle("1", complete("1")).await, Settlement::Settled, "{field}={value}");
        }
    }
}
