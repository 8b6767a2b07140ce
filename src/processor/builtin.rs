//! Processors that are Rust code in this binary, by name. Workloads add theirs to the same table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Failure, Processor, Progress, ReturnValue, Work};
use crate::text::in_plain_words;

/// Processors by the name that the configuration calls them.
pub type Builtins = BTreeMap<&'static str, Arc<dyn Processor>>;

/// The ones that need nothing: for trying things out, for tests and for benchmarks.
///
/// `noop` returns null, `echo` returns the job's data, `sleep` takes `{"ms": n}` and reports its progress in percent,
/// `fail` fails with `{"reason": "..."}` and may be repeated, unless `{"final": true}` says otherwise.
pub fn standard() -> Builtins {
    BTreeMap::from([
        ("noop", Arc::new(Noop) as Arc<dyn Processor>),
        ("echo", Arc::new(Echo)),
        ("sleep", Arc::new(Sleep)),
        ("fail", Arc::new(Fail)),
    ])
}

struct Noop;

#[async_trait]
impl Processor for Noop {
    async fn process(&self, _work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        Ok(ReturnValue::null())
    }
}

struct Echo;

#[async_trait]
impl Processor for Echo {
    async fn process(&self, work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        Ok(work.data.into())
    }
}

struct Sleep;

#[derive(Deserialize)]
struct SleepData {
    ms: u64,
}

#[async_trait]
impl Processor for Sleep {
    async fn process(&self, work: Work, progress: Progress) -> Result<ReturnValue, Failure> {
        const STEPS: u32 = 10;
        let SleepData { ms } = data(&work)?;
        let (started, step) = (Instant::now(), Duration::from_millis(ms) / STEPS);
        for done in 1..=STEPS {
            // A sleep that is over before tokio's clock can count it ends like any other.
            sleep_until(started + step * done).await;
            progress(json!(done * 100 / STEPS));
        }
        Ok(ReturnValue::null())
    }
}

struct Fail;

#[derive(Default, Deserialize)]
struct FailData {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    r#final: bool,
}

#[async_trait]
impl Processor for Fail {
    async fn process(&self, work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        let FailData { reason, r#final } = data(&work).unwrap_or_default();
        let reason = reason.unwrap_or_else(|| "failed as it was told".into());
        Err(if r#final { Failure::fatal(reason) } else { Failure::retry(reason) })
    }
}

fn data<'a, T: Deserialize<'a>>(work: &'a Work) -> Result<T, Failure> {
    let unfit = |error: serde_json::Error| format!("the job's data: {}", in_plain_words(&error.to_string()));
    serde_json::from_str(work.data.get()).map_err(|error| Failure::fatal(unfit(error)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;

    use super::*;

    async fn run(name: &str, data: Value) -> (Result<Value, Failure>, Vec<Value>) {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let seen = reported.clone();
        let work = Work {
            id: "1".into(),
            identity: "1@1".into(),
            queue: "q".into(),
            name: "n".into(),
            data: serde_json::value::to_raw_value(&data).unwrap(),
            attempt: 1,
            step: 0,
            children: None,
            trace: None,
            scratch: "/nonexistent".into(),
        };
        let ended = standard()[name].process(work, Arc::new(move |value| seen.lock().unwrap().push(value))).await;
        let reported = reported.lock().unwrap().clone();
        (ended.map(|returned| returned.to_value()), reported)
    }

    #[tokio::test]
    async fn each_does_what_its_name_says() {
        assert_eq!(run("noop", json!(1)).await.0, Ok(Value::Null));
        assert_eq!(run("echo", json!({"a": [1]})).await.0, Ok(json!({"a": [1]})));
        assert_eq!(run("fail", json!({"reason": "no"})).await.0, Err(Failure::retry("no")));
        assert_eq!(run("fail", json!({"reason": "never", "final": true})).await.0, Err(Failure::fatal("never")));
        assert_eq!(run("fail", json!(null)).await.0, Err(Failure::retry("failed as it was told")));
        assert!(matches!(run("sleep", json!({})).await.0, Err(Failure::Final { .. })));
    }

    #[tokio::test]
    async fn sleep_reports_its_progress() {
        let (ended, reported) = run("sleep", json!({"ms": 10})).await;
        assert_eq!(ended, Ok(Value::Null));
        assert_eq!(reported, (1..=10).map(|n| json!(n * 10)).collect::<Vec<_>>());
    }
}
