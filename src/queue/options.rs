//! A job's options, as BullMQ stores them: JSON with a few compact names, written by many versions of many clients.
//!
//! Reading is tolerant: what has an unexpected shape counts as not given. Unknown names are kept.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::AddError;
use crate::clock::Millis;
use crate::config::Span;
use crate::retry::Backoff;

/// The highest priority number that BullMQ can order, which is the least urgent.
pub const LOWEST_PRIORITY: u32 = 2_097_151;
/// A delayed job's score is its time * 4096, exact up to 2^53.
const LAST_DUE_MS: Millis = 2_199_023_255_551;
/// Of a group's id, in characters.
const LONGEST_GROUP: usize = 128;

/// What a producer may ask of a job. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobOptions {
    /// How often it may be tried in all; 0 and 1 both mean once.
    pub attempts: u32,
    pub backoff: Option<JobBackoff>,
    pub delay_ms: Millis,
    /// 0: before all that have one; then the lower the sooner.
    pub priority: u32,
    /// To be taken before those that wait already.
    pub lifo: bool,
    pub remove_on_complete: Option<Keep>,
    pub remove_on_fail: Option<Keep>,
    pub stack_trace_limit: Option<u32>,
    pub keep_logs: Option<u32>,
    /// When it was asked for, if not now.
    pub timestamp: Option<Millis>,
    pub deduplication: Option<Deduplication>,
    /// The group that it is served with, in turn with the others of the queue. Its priority counts in there.
    pub group: Option<String>,
    /// Everything else, as it was written.
    pub extra: Map<String, Value>,
}

/// How long to wait between attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum JobBackoff {
    Known(Backoff),
    /// A type that only the code of the producer's own workers knows.
    Custom(String),
}

/// How many finished jobs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many; `None` for all.
    pub count: Option<u64>,
    /// None older than this, in seconds.
    pub age_s: Option<u64>,
    /// At most so many are removed for their age at once.
    pub limit: Option<u64>,
}

impl Keep {
    pub const ALL: Self = Self { count: None, age_s: None, limit: None };
    pub const NONE: Self = Self { count: Some(0), age_s: None, limit: None };

    pub fn last(count: u64) -> Self {
        Self { count: Some(count), ..Self::ALL }
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(true) => Some(Self::NONE),
            Value::Bool(false) => Some(Self::ALL),
            Value::Number(_) => Some(Self { count: whole(value), ..Self::ALL }),
            Value::Object(fields) => {
                let field = |name| fields.get(name).and_then(whole);
                Some(Self { count: field("count"), age_s: field("age"), limit: field("limit") })
            }
            _ => None,
        }
    }

    fn write(self) -> Value {
        match self {
            Self::ALL => json!(false),
            Self::NONE => json!(true),
            Self { count: Some(count), age_s: None, limit: None } => json!(count),
            Self { count, age_s, limit } => {
                let fields = [("count", count), ("age", age_s), ("limit", limit)];
                fields.into_iter().filter_map(|(name, n)| Some((name.to_owned(), json!(n?)))).collect()
            }
        }
    }

    /// `[count, -1 for all; age; limit]`, as the scripts want it.
    pub(super) fn packed(self) -> (i64, Option<u64>, Option<u64>) {
        (self.count.map_or(-1, |count| i64::try_from(count).unwrap_or(-1)), self.age_s, self.limit)
    }
}

/// BullMQ's own deduplication: one job per id at a time, or per time span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deduplication {
    pub id: String,
    pub ttl_ms: Option<i64>,
    /// Each further add begins the time span anew.
    pub extend: bool,
    /// A further add replaces a delayed job.
    pub replace: bool,
    /// The last add while the job runs becomes the next job.
    pub keep_last_if_active: bool,
    /// A further add gives a delayed job its delay, and is dropped otherwise. BullMQ 5 knows nothing of this.
    pub reschedule: bool,
}

impl JobOptions {
    /// From stored JSON. What is no object has no options.
    pub fn read(stored: &Value) -> Self {
        let Value::Object(mut fields) = stored.clone() else { return Self::default() };
        let mut take = |name: &str| fields.remove(name);
        let small = |value: Option<Value>| value.as_ref().and_then(whole).and_then(|n| u32::try_from(n).ok());
        Self {
            attempts: take("attempts").as_ref().map_or(0, read_attempts),
            backoff: take("backoff").as_ref().and_then(read_backoff),
            delay_ms: take("delay").as_ref().and_then(whole).and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
            priority: small(take("priority")).unwrap_or(0),
            lifo: take("lifo") == Some(Value::Bool(true)),
            remove_on_complete: take("removeOnComplete").as_ref().and_then(Keep::read),
            remove_on_fail: take("removeOnFail").as_ref().and_then(Keep::read),
            stack_trace_limit: small(take("stackTraceLimit")),
            keep_logs: small(take("kl")),
            timestamp: take("timestamp").as_ref().and_then(whole).and_then(|n| i64::try_from(n).ok()),
            deduplication: take("de").as_ref().and_then(read_deduplication),
            group: take("group").as_ref().and_then(|group| Some(group.get("id")?.as_str()?.to_owned())),
            extra: fields,
        }
    }

    /// How long an attempt may take, as the producer wants it: its option `timeout`, in milliseconds. BullMQ passes it on
    /// without knowing it.
    pub fn timeout(&self) -> Option<Duration> {
        self.extra.get("timeout").and_then(whole).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// As stored: only what is asked for. Node writes an `attempts` of 0, too, which is what its absence means to everybody; in
    /// a queue of millions it is memory for nothing.
    pub fn write(&self) -> Value {
        let mut fields = self.extra.clone();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        put("attempts", (self.attempts > 0).then(|| json!(self.attempts)));
        put("backoff", self.backoff.as_ref().map(write_backoff));
        put("delay", (self.delay_ms > 0).then(|| json!(self.delay_ms)));
        put("priority", (self.priority > 0).then(|| json!(self.priority)));
        put("lifo", self.lifo.then_some(Value::Bool(true)));
        put("removeOnComplete", self.remove_on_complete.map(Keep::write));
        put("removeOnFail", self.remove_on_fail.map(Keep::write));
        put("stackTraceLimit", self.stack_trace_limit.map(|n| json!(n)));
        put("kl", self.keep_logs.map(|n| json!(n)));
        put("timestamp", self.timestamp.map(|n| json!(n)));
        put("de", self.deduplication.as_ref().map(write_deduplication));
        put("group", self.group.as_ref().map(|id| json!({ "id": id })));
        Value::Object(fields)
    }

    /// # Errors
    /// The first thing in them that no producer may ask for.
    pub(super) fn check(&self, now: Millis) -> Result<(), AddError> {
        if self.priority > LOWEST_PRIORITY {
            return Err(AddError::Priority);
        }
        let due = self.timestamp.unwrap_or(now).checked_add(self.delay_ms);
        if self.delay_ms < 0 || due.is_none_or(|due| due > LAST_DUE_MS) {
            return Err(AddError::Delay);
        }
        if self.deduplication.as_ref().is_some_and(|deduplication| deduplication.id.is_empty()) {
            return Err(AddError::EmptyDeduplicationId);
        }
        if let Some(group) = &self.group {
            check_group(group)?;
            // The line of a group has an order of its own, and a deduplication id would have to look for its owner there.
            if self.lifo {
                return Err(AddError::GroupTogether("a job with \"lifo\""));
            } else if self.deduplication.is_some() {
                return Err(AddError::GroupTogether("a job with a deduplication id"));
            } else if self.extra.contains_key("parent") {
                return Err(AddError::GroupTogether("a child of another job"));
            }
        }
        Ok(())
    }
}

/// # Errors
/// `id` cannot name a group.
pub(super) fn check_group(id: &str) -> Result<(), AddError> {
    let is_fit = !id.is_empty() && id.chars().count() <= LONGEST_GROUP && !id.chars().any(char::is_control);
    if is_fit { Ok(()) } else { Err(AddError::GroupId(LONGEST_GROUP)) }
}

/// A number that is whole and not negative, also one written as `3.0` or `1e3`.
fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| *n >= 0.0 && *n < 9e15).map(|n| n as u64);
    value.as_u64().or_else(float)
}

/// As JavaScript compares them: also a text that is a number, and more than anybody will live to see.
fn read_attempts(value: &Value) -> u32 {
    let number = match value {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        value => value.as_f64(),
    };
    // Rounds up, and what is out of range becomes the nearest that is not.
    number.map_or(0, |attempts| attempts.ceil() as u32)
}

fn read_backoff(value: &Value) -> Option<JobBackoff> {
    let span = |value: &Value| whole(value).map(|ms| Span(Duration::from_millis(ms)));
    let Some(kind) = value.get("type").and_then(Value::as_str) else {
        // A bare number, as the first run of a scheduler has it.
        return Some(JobBackoff::Known(Backoff::Fixed { delay: span(value)?, jitter: 0.0 }));
    };
    let delay = value.get("delay").and_then(span).unwrap_or(Span(Duration::ZERO));
    let jitter = value.get("jitter").and_then(Value::as_f64).filter(|j| (0.0..=1.0).contains(j)).unwrap_or(0.0);
    Some(match kind {
        "fixed" => JobBackoff::Known(Backoff::Fixed { delay, jitter }),
        "exponential" => JobBackoff::Known(Backoff::Exponential { delay, jitter }),
        other => JobBackoff::Custom(other.to_owned()),
    })
}

fn write_backoff(backoff: &JobBackoff) -> Value {
    let known = |kind: &str, delay: Span, jitter: f64| {
        let mut value = json!({ "type": kind, "delay": delay.0.as_millis() as u64 });
        if jitter > 0.0 {
            value["jitter"] = json!(jitter);
        }
        value
    };
    match backoff {
        JobBackoff::Known(Backoff::Fixed { delay, jitter }) => known("fixed", *delay, *jitter),
        JobBackoff::Known(Backoff::Exponential { delay, jitter }) => known("exponential", *delay, *jitter),
        JobBackoff::Custom(kind) => json!({ "type": kind }),
    }
}

fn read_deduplication(value: &Value) -> Option<Deduplication> {
    let flag = |name: &str| value.get(name) == Some(&Value::Bool(true));
    Some(Deduplication {
        id: value.get("id")?.as_str()?.to_owned(),
        ttl_ms: value.get("ttl").and_then(whole).and_then(|n| i64::try_from(n).ok()).filter(|ttl| *ttl > 0),
        extend: flag("extend"),
        replace: flag("replace"),
        keep_last_if_active: flag("keepLastIfActive"),
        reschedule: flag("reschedule"),
    })
}

fn write_deduplication(deduplication: &Deduplication) -> Value {
    let Deduplication { id, ttl_ms, extend, replace, keep_last_if_active, reschedule } = deduplication;
    let mut value = json!({ "id": id });
    if let Some(ttl_ms) = ttl_ms {
        value["ttl"] = json!(ttl_ms);
    }
    for (name, flag) in [
        ("extend", extend),
        ("replace", replace),
        ("keepLastIfActive", keep_last_if_active),
        ("reschedule", reschedule),
    ] {
        if *flag {
            value[name] = json!(true);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_they_are_read() {
        let stored = json!({
            "attempts": 3, "backoff": {"type": "exponential", "delay": 200, "jitter": 0.5}, "delay": 10, "priority": 5,
            "lifo": true, "removeOnComplete": {"age": 60, "count": 5}, "removeOnFail": true, "stackTraceLimit": 2,
            "kl": 9, "de": {"id": "k", "ttl": 5, "extend": true}, "group": {"id": "g"}, "timestamp": 1795169113796_i64, "jobId": "x", "tm": "{}"
        });
        assert_eq!(JobOptions::read(&stored).write(), stored);
    }

    #[test]
    fn odd_shapes_count_as_not_given() {
        let odd = json!({"attempts": "often", "backoff": true, "delay": -5, "priority": null, "removeOnComplete": "x", "de": {}});
        assert_eq!(JobOptions::read(&odd), JobOptions::default());
        assert_eq!(JobOptions::read(&json!(7)), JobOptions::default());
        let fixed = JobOptions::read(&json!({"backoff": 250})).backoff;
        assert_eq!(
            fixed,
            Some(JobBackoff::Known(Backoff::Fixed { delay: Span(Duration::from_millis(250)), jitter: 0.0 }))
        );
        assert_eq!(JobOptions::read(&json!({"removeOnFail": 1e2})).remove_on_fail, Some(Keep::last(100)));
        assert_eq!(JobOptions::read(&json!({"removeOnFail": -1})).remove_on_fail, Some(Keep::ALL));
    }

    /// JavaScript compares them so, and its workers go by it.
    #[test]
    fn attempts_are_read_as_a_worker_of_node_reads_them() {
        let attempts = |stored: &str| JobOptions::read(&serde_json::from_str(stored).unwrap()).attempts;
        assert_eq!(attempts(r#"{"attempts":"3"}"#), 3);
        assert_eq!(attempts(r#"{"attempts":2.5}"#), 3);
        for endless in ["5e9", "9007199254740991", "9.007199254741e+15", "1e300"] {
            assert_eq!(attempts(&format!(r#"{{"attempts":{endless}}}"#)), u32::MAX, "{endless}");
        }
        for none in ["-1", "null", "\"\"", "true", "[]"] {
            assert_eq!(attempts(&format!(r#"{{"attempts":{none}}}"#)), 0, "{none}");
        }
    }

    #[test]
    fn what_no_producer_may_ask_for_is_refused() {
        let check = |options: JobOptions| options.check(0);
        assert_eq!(check(JobOptions { priority: 2_097_151, ..Default::default() }), Ok(()));
        assert_eq!(check(JobOptions { priority: 2_097_152, ..Default::default() }), Err(AddError::Priority));
        assert_eq!(check(JobOptions { delay_ms: -1, ..Default::default() }), Err(AddError::Delay));
        assert_eq!(check(JobOptions { delay_ms: i64::MAX, ..Default::default() }), Err(AddError::Delay));
        let group = |id: &str| JobOptions { group: Some(id.to_owned()), ..Default::default() };
        for good in ["a", "7", "a:b {c} д", &"x".repeat(128)] {
            assert_eq!(check(group(good)), Ok(()), "{good}");
        }
        for bad in ["", "a\nb", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(check(group(bad)), Err(AddError::GroupId(128)), "{bad}");
        }
        let deduplication = Some(Deduplication { id: "k".to_owned(), ..Default::default() });
        for bad in [JobOptions { lifo: true, ..group("a") }, JobOptions { deduplication, ..group("a") }] {
            assert!(matches!(check(bad), Err(AddError::GroupTogether(_))));
        }
    }
}
