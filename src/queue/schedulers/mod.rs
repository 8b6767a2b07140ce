//! Job schedulers, in BullMQ's layout: each has one run at a time that waits to be taken, and taking it makes the next.
//!
//! A scheduler is a member of the sorted set `repeat`, scored by the time of its present run, and a hash
//! `repeat:<id>` with its rule and the template of its runs; the run's id is `repeat:<id>:<time>`. So the score tells
//! which run counts, whoever sets the scheduler up, takes the run or makes the next one, here or in Node.

mod cron;
mod next;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{AddError, Error, JobOptions, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

pub use cron::{Cron, CronError};
pub use next::Next;

/// A delayed job's score is its time * 4096, exact up to 2^53.
const LAST_DUE_MS: Millis = 2_199_023_255_551;
const LONGEST_ID: usize = 256;
/// The most schedulers that one call lists.
const LONGEST_PAGE: u32 = 1_000;
/// How many times in a row may belong to jobs that have ended.
const TRIES: usize = 32;

/// When runs are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// At multiples of `every_ms` (since 1970), `offset_ms` later. Without an offset, from the first run on.
    Every { every_ms: i64, offset_ms: Option<i64> },
    /// By a cron pattern, in a zone of the IANA database, or else in that of the machine that takes a run.
    Pattern { pattern: String, tz: Option<String> },
}

/// A scheduler to be.
#[derive(Clone, Debug)]
pub struct Upsert {
    pub id: String,
    pub rule: Rule,
    /// At most so many runs, counted anew from each upsert.
    pub limit: Option<u32>,
    /// No run before.
    pub start_ms: Option<Millis>,
    /// No next run after.
    pub end_ms: Option<Millis>,
    /// The first run of a pattern is now. That of an interval is now in any case.
    pub immediately: bool,
    /// The name of the runs, or the scheduler's id.
    pub name: Option<String>,
    pub data: Box<RawValue>,
    /// Of the runs. A delay or timestamp in it counts for nothing.
    pub options: JobOptions,
}

/// What became of an [`Upsert`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upserted {
    pub is_new: bool,
    pub run_id: String,
    pub due_ms: Millis,
}

/// A scheduler as it stands in Redis.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pub id: String,
    pub name: String,
    pub every_ms: Option<u64>,
    pub pattern: Option<String>,
    pub tz: Option<String>,
    pub offset_ms: Option<u64>,
    pub limit: Option<u64>,
    pub start_ms: Option<u64>,
    pub end_ms: Option<u64>,
    /// Runs made since it first existed; `None` for a repeatable of BullMQ 5.
    pub iterations: Option<u64>,
    /// When its present run is due; that of the last one when it has ended.
    pub next_ms: Millis,
    pub data: Option<Box<RawValue>>,
    pub options: Option<Box<RawValue>>,
}

/// Why a scheduler cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    #[error("a scheduler id has 1 to {LONGEST_ID} bytes")]
    IdLength,
    #[error("a scheduler id has at most three colons, and does not end with one and a number: that is a run's id")]
    IdShape,
    #[error("an interval is at least 1 ms")]
    Every,
    #[error("an offset is not negative, and smaller than the interval")]
    Offset,
    #[error("{0}")]
    Pattern(String),
    #[error("{0}")]
    TimeZone(String),
    #[error("a limit is at least 1")]
    Limit,
    #[error("the end is in the past")]
    EndPast,
    #[error("the end is before the start")]
    EndBeforeStart,
    #[error("a scheduler begins either immediately or at its start")]
    ImmediatelyAndStart,
    #[error("there would be no run: the pattern names no time before the end")]
    NoRun,
    #[error("the first run would be after the year 2038")]
    TooLate,
    #[error(transparent)]
    Options(#[from] AddError),
    #[error("jobs that have ended stand where its next runs would be")]
    RunExists,
}

impl From<CronError> for SchedulerError {
    fn from(error: CronError) -> Self {
        let reason = error.to_string();
        match error {
            CronError::Pattern(_) => Self::Pattern(reason),
            CronError::TimeZone(_) => Self::TimeZone(reason),
        }
    }
}

/// As the script wants it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    id: &'a str,
    fields: std::collections::BTreeMap<&'a str, String>,
    every: Option<i64>,
    offset: Option<i64>,
    start: Option<Millis>,
    due: Option<Millis>,
    options: String,
    priority: u32,
    lifo: bool,
    name: &'a str,
    data: &'a str,
    is_cron: bool,
}

impl Queue {
    /// Sets a scheduler up with its first run, or anew: then the run that waits is replaced. One of the same interval
    /// goes on at its time.
    ///
    /// # Errors
    /// `Scheduler`: then nothing was written; `Redis`.
    pub async fn upsert_scheduler(&self, upsert: &Upsert, now: Millis) -> Result<Upserted, Error> {
        let first = upsert.first_run(now)?;
        let packed = upsert.packed(first);
        let reply = self.run(&scripts::UPSERT_SCHEDULER, vec![plain(now), pack(&packed)]).await?.items()?;
        let code = reply.first().map_or(Ok(-1), Reply::int)?;
        match (code, &reply[..]) {
            (0 | 1, [_, id, due]) => Ok(Upserted { is_new: code == 0, run_id: id.text()?, due_ms: due.int()? }),
            (2, _) => Err(SchedulerError::RunExists.into()),
            _ => Err(RedisError::protocol(format!("no outcome of upsert_scheduler: {code}")).into()),
        }
    }

    /// Ends a schedule, with the run that is not due yet. `false` if there was none.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn remove_scheduler(&self, id: &str) -> Result<bool, Error> {
        Ok(self.run(&scripts::REMOVE_SCHEDULER, vec![Bytes::copy_from_slice(id.as_bytes())]).await?.int()? == 0)
    }

    /// # Errors
    /// `Redis`.
    pub async fn scheduler(&self, id: &str) -> Result<Option<Scheduler>, Error> {
        let (all, hash) = (self.keys().schedulers(), self.keys().scheduler(id));
        let (score, fields) = tokio::try_join!(self.redis().zscore(&all, id), self.redis().hgetall(&hash))?;
        let Some(score) = score.filter(|_| !fields.is_empty()) else { return Ok(None) };
        let flat = fields.into_iter().flat_map(|(name, value)| [Reply::Text(Bytes::from(name)), Reply::Text(value)]);
        Ok(Some(Scheduler::read(id.to_owned(), score as Millis, flat.collect())?))
    }

    /// A page of the schedulers, the one that is due first at the front, and how many there are in all.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn schedulers(&self, start: u64, limit: u32) -> Result<(Vec<Scheduler>, u64), Error> {
        let args = vec![plain(start), plain(limit.min(LONGEST_PAGE))];
        let Ok([total, page]) = <[Reply; 2]>::try_from(self.run(&scripts::SCHEDULERS, args).await?.items()?) else {
            return Err(RedisError::protocol("a page of schedulers is a number and a list").into());
        };
        let read = |entry: Reply| match <[Reply; 3]>::try_from(entry.items()?) {
            Ok([id, due, fields]) => Scheduler::read(id.text()?, due.int()?, fields.items()?),
            Err(_) => Err(RedisError::protocol("a scheduler is its id, its time and its fields")),
        };
        let schedulers = page.items()?.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok((schedulers, u64::try_from(total.int()?).unwrap_or(0)))
    }
}

impl Upsert {
    /// Checks all of it. When the first run of a pattern is due; that of an interval is for the script to say.
    fn first_run(&self, now: Millis) -> Result<Option<Millis>, SchedulerError> {
        check_id(&self.id)?;
        if self.limit == Some(0) {
            return Err(SchedulerError::Limit);
        } else if self.end_ms.is_some_and(|end| end <= now) {
            return Err(SchedulerError::EndPast);
        } else if self.start_ms.zip(self.end_ms).is_some_and(|(start, end)| end < start) {
            return Err(SchedulerError::EndBeforeStart);
        } else if self.immediately && self.start_ms.is_some() {
            return Err(SchedulerError::ImmediatelyAndStart);
        }
        self.options.check(now)?;
        if self.options.group.is_some() {
            return Err(AddError::GroupTogether("the run of a scheduler").into());
        }
        let latest = self.start_ms.unwrap_or(now).max(now);
        match &self.rule {
            Rule::Every { every_ms, offset_ms } => {
                if *every_ms < 1 {
                    return Err(SchedulerError::Every);
                } else if offset_ms.is_some_and(|offset| !(0..*every_ms).contains(&offset)) {
                    return Err(SchedulerError::Offset);
                } else if latest.checked_add(every_ms.saturating_mul(2)).is_none_or(|due| due > LAST_DUE_MS) {
                    return Err(SchedulerError::TooLate);
                }
                Ok(None)
            }
            Rule::Pattern { pattern, tz } => {
                let cron = Cron::parse(pattern, tz.as_deref())?;
                let next = cron.next_after(latest).filter(|due| self.end_ms.is_none_or(|end| *due <= end));
                match if self.immediately { Some(now) } else { next } {
                    None => Err(SchedulerError::NoRun),
                    Some(due) if due > LAST_DUE_MS => Err(SchedulerError::TooLate),
                    due => Ok(due),
                }
            }
        }
    }

    fn packed(&self, due: Option<Millis>) -> Packed<'_> {
        let (every, offset) = match &self.rule {
            Rule::Every { every_ms, offset_ms } => (Some(*every_ms), *offset_ms),
            Rule::Pattern { .. } => (None, None),
        };
        let template = self.template();
        let name = self.name.as_deref().unwrap_or(&self.id);
        let mut fields: std::collections::BTreeMap<&str, String> = [("name", name.to_owned())].into();
        let data = self.data.get();
        for (field, value) in [
            ("every", every.map(|ms| ms.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("startDate", self.start_ms.map(|ms| ms.to_string())),
            ("endDate", self.end_ms.map(|ms| ms.to_string())),
            ("data", (data != "{}").then(|| data.to_owned())),
            ("opts", (template != json!({})).then(|| template.to_string())),
        ] {
            fields.extend(value.map(|value| (field, value)));
        }
        if let Rule::Pattern { pattern, tz } = &self.rule {
            fields.insert("pattern", pattern.clone());
            fields.extend(tz.clone().map(|tz| ("tz", tz)));
        }
        let mut options = template;
        options["repeat"] = self.repeat();
        options["repeatJobKey"] = json!(self.id);
        Packed {
            id: &self.id,
            fields,
            every,
            offset,
            start: self.start_ms,
            due,
            options: options.to_string(),
            priority: self.options.priority,
            lifo: self.options.lifo,
            name,
            data,
            is_cron: every.is_none(),
        }
    }

    /// The options of the runs, less what only one job can have.
    fn template(&self) -> Value {
        JobOptions { delay_ms: 0, timestamp: None, ..self.options.clone() }.write()
    }

    /// What the first run says of its rule.
    fn repeat(&self) -> Value {
        let mut repeat = json!({ "count": 1 });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                repeat[name] = value;
            }
        };
        match &self.rule {
            Rule::Every { every_ms, offset_ms } => {
                put("every", Some(json!(every_ms)));
                put("offset", offset_ms.map(Value::from));
            }
            Rule::Pattern { pattern, tz } => {
                put("pattern", Some(json!(pattern)));
                put("tz", tz.clone().map(Value::from));
            }
        }
        put("limit", self.limit.map(Value::from));
        put("startDate", self.start_ms.map(Value::from));
        put("endDate", self.end_ms.map(Value::from));
        repeat
    }
}

impl Scheduler {
    /// From its hash, field and value in turn.
    fn read(id: String, next_ms: Millis, flat: Vec<Reply>) -> Result<Self, RedisError> {
        let mut fields = std::collections::BTreeMap::new();
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            fields.insert(name.text()?, value.text()?);
        }
        let mut take = |name: &str| fields.remove(name);
        let number = |text: Option<String>| text.and_then(|text| text.parse::<f64>().ok()).map(|n| n as u64);
        let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        Ok(Self {
            name: take("name").unwrap_or_else(|| id.clone()),
            id,
            every_ms: number(take("every")),
            pattern: take("pattern"),
            tz: take("tz"),
            offset_ms: number(take("offset")),
            limit: number(take("limit")),
            start_ms: number(take("startDate")),
            end_ms: number(take("endDate")),
            iterations: number(take("ic")),
            next_ms,
            data: raw(take("data")),
            options: raw(take("opts")),
        })
    }

    /// The id of its present run.
    pub fn run_id(&self) -> String {
        format!("repeat:{}:{}", self.id, self.next_ms)
    }
}

/// Keys of BullMQ 5's first repeatables have four colons; those of runs end with their time.
fn check_id(id: &str) -> Result<(), SchedulerError> {
    let tail = id.rsplit_once(':').map_or("", |(_, tail)| tail);
    let is_run = !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit());
    if id.is_empty() || id.len() > LONGEST_ID {
        Err(SchedulerError::IdLength)
    } else if is_run || id.matches(':').count() > 3 {
        Err(SchedulerError::IdShape)
    } else {
        Ok(())
    }
}

/// A number that is whole and not negative, as text too.
fn whole(value: &Value) -> Option<Millis> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    (0.0..9e15).contains(&number).then_some(number as Millis)
}
