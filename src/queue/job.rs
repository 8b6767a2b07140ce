//! A job as it stands in Redis: read from its hash, whoever wrote it.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::JobOptions;
use super::settle::STEP;
use crate::clock::Millis;
use crate::redis::{Error, Reply};

/// What the hash of a job says. Missing fields have BullMQ's defaults.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: String,
    pub name: String,
    /// As the producer wrote it.
    pub data: Box<RawValue>,
    pub options: JobOptions,
    /// The options as they are stored.
    pub options_text: Box<RawValue>,
    pub timestamp: Millis,
    pub delay_ms: Millis,
    pub priority: u32,
    /// How often an attempt ended, by success, final failure or retry.
    pub attempts_made: u32,
    /// How often it was taken.
    pub attempts_started: u32,
    /// How often it was found without a living worker.
    pub stalled_counter: u32,
    pub processed_on: Option<Millis>,
    pub finished_on: Option<Millis>,
    pub progress: Option<Box<RawValue>>,
    pub return_value: Option<Box<RawValue>>,
    pub failed_reason: Option<String>,
    pub stacktrace: Vec<String>,
    /// If there is one, whoever takes the job must fail it with this reason instead of running it.
    pub deferred_failure: Option<String>,
    /// The parent's key, `<prefix>:<queue>:<id>`.
    pub parent_key: Option<String>,
    /// The scheduler whose run this is.
    pub scheduler: Option<String>,
    pub deduplication_id: Option<String>,
    pub processed_by: Option<String>,
    /// The group that it is served with.
    pub group: Option<String>,
    /// Fields that BullMQ does not know, such as the mark of a parked follower.
    pub extra: Vec<(String, String)>,
}

/// A job's hash, which may hold anything.
#[derive(Clone, Debug)]
pub enum Record {
    Job(Box<Job>),
    /// Its data or options are no JSON. Nobody can run it; fail it with this reason.
    Unreadable {
        id: String,
        reason: String,
    },
}

impl Job {
    /// How many of its steps are done: how often its processor has put it off for another.
    pub fn step(&self) -> u32 {
        let step = self.extra.iter().find(|(name, _)| name == STEP);
        step.and_then(|(_, step)| step.parse().ok()).unwrap_or(0)
    }
}

impl Record {
    pub fn id(&self) -> &str {
        match self {
            Self::Job(job) => &job.id,
            Self::Unreadable { id, .. } => id,
        }
    }

    /// As it is since a worker of that name took it.
    pub(super) fn started(mut self, worker: Option<&str>, now: Millis) -> Self {
        if let Self::Job(job) = &mut self {
            job.attempts_started = job.attempts_started.saturating_add(1);
            job.processed_on = Some(now);
            job.processed_by = worker.map(str::to_owned).or(job.processed_by.take());
        }
        self
    }

    /// From `HGETALL`, field and value in turn; of a field named twice the last counts.
    pub(super) fn read(id: String, flat: Vec<Reply>) -> Result<Self, Error> {
        let mut fields = Vec::with_capacity(flat.len() / 2);
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            fields.push((name.bytes()?, value));
        }
        Ok(match read(id.clone(), fields) {
            Ok(job) => Self::Job(Box::new(job)),
            Err(reason) => Self::Unreadable { id, reason },
        })
    }
}

fn read(id: String, fields: Vec<(Bytes, Reply)>) -> Result<Job, String> {
    let mut job = Job {
        id,
        name: String::new(),
        data: raw("{}"),
        options: JobOptions::default(),
        options_text: raw("{}"),
        timestamp: 0,
        delay_ms: 0,
        priority: 0,
        attempts_made: 0,
        attempts_started: 0,
        stalled_counter: 0,
        processed_on: None,
        finished_on: None,
        progress: None,
        return_value: None,
        failed_reason: None,
        stacktrace: Vec::new(),
        deferred_failure: None,
        parent_key: None,
        scheduler: None,
        deduplication_id: None,
        processed_by: None,
        group: None,
        extra: Vec::new(),
    };
    let mut older_attempts_made = None;
    for (field, value) in fields {
        match &*field {
            b"name" => job.name = text(&value).unwrap_or_default(),
            b"data" => job.data = json("data", value)?,
            b"opts" => job.options_text = json("opts", value)?,
            b"timestamp" => job.timestamp = number(&value).unwrap_or(0),
            b"delay" => job.delay_ms = number(&value).unwrap_or(0),
            b"priority" => job.priority = count(&value).unwrap_or(0),
            b"atm" => job.attempts_made = count(&value).unwrap_or(0),
            b"attemptsMade" => older_attempts_made = count(&value),
            b"ats" => job.attempts_started = count(&value).unwrap_or(0),
            b"stc" => job.stalled_counter = count(&value).unwrap_or(0),
            b"processedOn" => job.processed_on = number(&value),
            b"finishedOn" => job.finished_on = number(&value),
            b"progress" => job.progress = optional_json(&value),
            b"returnvalue" => job.return_value = optional_json(&value),
            b"failedReason" => job.failed_reason = text(&value),
            b"stacktrace" => {
                let stacks = text(&value).and_then(|stacks| serde_json::from_str(&stacks).ok());
                job.stacktrace = stacks.unwrap_or_default();
            }
            b"defa" => job.deferred_failure = text(&value),
            b"parentKey" => job.parent_key = text(&value),
            // The parent's address is for scripts; its key is enough here.
            b"parent" => {}
            b"rjk" => job.scheduler = text(&value),
            b"deid" => job.deduplication_id = text(&value),
            b"pb" => job.processed_by = text(&value),
            b"onetake:group" => job.group = text(&value),
            other => job.extra.extend(text(&value).map(|value| (String::from_utf8_lossy(other).into_owned(), value))),
        }
    }
    // The older spelling counts before the newer one, as in BullMQ.
    job.attempts_made = older_attempts_made.unwrap_or(job.attempts_made);
    let options: Value = serde_json::from_str(job.options_text.get()).map_err(|error| error.to_string())?;
    job.options = JobOptions::read(&options);
    Ok(job)
}

fn text(value: &Reply) -> Option<String> {
    value.text().ok()
}

fn number(value: &Reply) -> Option<i64> {
    // A producer may have written a fraction.
    value.int().ok().or_else(|| text(value)?.parse::<f64>().ok().map(|n| n as i64))
}

fn count(value: &Reply) -> Option<u32> {
    number(value).and_then(|n| u32::try_from(n).ok())
}

/// JSON that may be missing and may be broken: then it counts as missing.
fn optional_json(value: &Reply) -> Option<Box<RawValue>> {
    text(value).and_then(|text| RawValue::from_string(text).ok())
}

/// JSON that must be sound if it is there.
fn json(name: &str, value: Reply) -> Result<Box<RawValue>, String> {
    let bytes = value.bytes().map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("the job's {name} is not UTF-8"))?;
    RawValue::from_string(text.to_owned()).map_err(|error| format!("the job's {name} is not JSON: {error}"))
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("a literal of ours is JSON")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(fields: &[(&str, &str)]) -> Record {
        let text = |t: &str| Reply::Text(Bytes::copy_from_slice(t.as_bytes()));
        let flat = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        Record::read("1".to_owned(), flat).unwrap()
    }

    #[test]
    fn a_record_with_only_a_name_is_a_job() {
        let Record::Job(job) = record(&[("name", "n")]) else { panic!("unreadable") };
        assert_eq!((job.name.as_str(), job.data.get(), job.attempts_made), ("n", "{}", 0));
    }

    #[test]
    fn big_numbers_in_data_are_not_rounded() {
        let Record::Job(job) = record(&[("data", "{\"n\":123456789012345678901}")]) else { panic!("unreadable") };
        assert_eq!(job.data.get(), "{\"n\":123456789012345678901}");
    }

    #[test]
    fn broken_data_or_options_are_told_and_broken_progress_is_left_out() {
        for field in ["data", "opts"] {
            assert!(matches!(record(&[(field, "{nope")]), Record::Unreadable { .. }), "{field}");
        }
        let Record::Job(job) = record(&[("progress", "{nope"), ("stacktrace", "x"), ("ot:mark", "f1")]) else {
            panic!("unreadable")
        };
        assert!(job.progress.is_none() && job.stacktrace.is_empty());
        assert_eq!(job.extra, [("ot:mark".to_owned(), "f1".to_owned())]);
    }
}
