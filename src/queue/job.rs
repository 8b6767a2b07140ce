//! A job as it stands in Redis: read from its hash, whoever wrote it.

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

    /// From `HGETALL`, field and value in turn; of a field named twice the last counts.
    pub(super) fn read(id: String, flat: Vec<Reply>) -> Result<Self, Error> {
        let mut fields = Fields(Vec::with_capacity(flat.len() / 2));
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            fields.0.push((name.text()?, value));
        }
        Ok(match read(id.clone(), fields) {
            Ok(job) => Self::Job(Box::new(job)),
            Err(reason) => Self::Unreadable { id, reason },
        })
    }
}

/// What is left to read of a hash.
struct Fields(Vec<(String, Reply)>);

impl Fields {
    fn text(&mut self, name: &str) -> Option<String> {
        self.reply(name).and_then(|value| value.text().ok())
    }

    fn number(&mut self, name: &str) -> Option<i64> {
        // A producer may have written a fraction.
        self.text(name).and_then(|text| text.parse::<f64>().ok()).map(|n| n as i64)
    }

    fn count(&mut self, name: &str) -> Option<u32> {
        self.number(name).and_then(|n| u32::try_from(n).ok())
    }

    /// JSON that may be missing and may be broken: then it counts as missing.
    fn optional_json(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.text(name).and_then(|text| RawValue::from_string(text).ok())
    }

    /// JSON that must be sound if it is there.
    fn json(&mut self, name: &str) -> Result<Box<RawValue>, String> {
        let Some(value) = self.reply(name) else { return Ok(raw("{}")) };
        let bytes = value.bytes().map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("the job's {name} is not UTF-8"))?;
        RawValue::from_string(text.to_owned()).map_err(|error| format!("the job's {name} is not JSON: {error}"))
    }

    /// The last of that name, as Redis answers it or as the script added to it.
    fn reply(&mut self, name: &str) -> Option<Reply> {
        let mut last = None;
        self.0.retain_mut(|(field, value)| {
            let matches = field == name;
            if matches {
                last = Some(std::mem::replace(value, Reply::Nil));
            }
            !matches
        });
        last
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("a literal of ours is JSON")
}

fn read(id: String, mut fields: Fields) -> Result<Job, String> {
    let data = fields.json("data")?;
    let options_text = fields.json("opts")?;
    let options: Value = serde_json::from_str(options_text.get()).map_err(|error| error.to_string())?;
    let made = fields.count("atm");
    // The parent's address is for scripts; its key is enough here.
    fields.reply("parent");
    Ok(Job {
        id,
        name: fields.text("name").unwrap_or_default(),
        data,
        options: JobOptions::read(&options),
        options_text,
        timestamp: fields.number("timestamp").unwrap_or(0),
        delay_ms: fields.number("delay").unwrap_or(0),
        priority: fields.count("priority").unwrap_or(0),
        // The older spelling counts before the newer one, as in BullMQ.
        attempts_made: fields.count("attemptsMade").or(made).unwrap_or(0),
        attempts_started: fields.count("ats").unwrap_or(0),
        stalled_counter: fields.count("stc").unwrap_or(0),
        processed_on: fields.number("processedOn"),
        finished_on: fields.number("finishedOn"),
        progress: fields.optional_json("progress"),
        return_value: fields.optional_json("returnvalue"),
        failed_reason: fields.text("failedReason"),
        stacktrace: fields.text("stacktrace").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        deferred_failure: fields.text("defa"),
        parent_key: fields.text("parentKey"),
        scheduler: fields.text("rjk"),
        deduplication_id: fields.text("deid"),
        processed_by: fields.text("pb"),
        group: fields.text("onetake:group"),
        extra: fields.0.into_iter().filter_map(|(name, value)| Some((name, value.text().ok()?))).collect(),
    })
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
