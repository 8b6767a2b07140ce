//! The options of a new job, in BullMQ's names.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::catalog::Entry;
use crate::config::Span;
use crate::http::input::{object, object_if_any};
use crate::http::problem::Problem;
use crate::queue::{JobBackoff, JobOptions, Keep, LOWEST_PRIORITY};
use crate::retry::Backoff;

const LONGEST_DELAY_MS: u64 = 366 * 86_400_000;
const MOST_ATTEMPTS: u32 = 1_000;

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = NewJobOptions)]
pub(in crate::http) struct Options {
    /// In milliseconds.
    #[serde(default)]
    pub(super) delay: u64,
    /// 1 is the most urgent; 0, for none, comes before all.
    #[serde(default)]
    pub(super) priority: u32,
    pub(super) attempts: Option<u32>,
    pub(super) backoff: Option<BackoffWish>,
    #[serde(default)]
    pub(super) lifo: bool,
    pub(super) job_id: Option<String>,
    /// How long an attempt may take, in milliseconds, if that is less than the queue allows.
    #[schema(value_type = Option<u64>)]
    pub(super) timeout: Option<NonZeroU64>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub(super) remove_on_complete: Option<KeepWish>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub(super) remove_on_fail: Option<KeepWish>,
    /// The job is served in turn with those of the queue's other groups. Its priority counts among those of its group.
    #[serde(default, deserialize_with = "object_if_any")]
    pub(super) group: Option<GroupWish>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJobGroup)]
pub(super) struct GroupWish {
    /// 1 to 128 characters.
    pub(super) id: String,
}

/// Milliseconds, or by its parts.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected milliseconds, or an object of \"type\", \"delay\" and \"jitter\"")]
#[schema(as = NewJobBackoff)]
pub(super) enum BackoffWish {
    Delay(u64),
    Parts(#[serde(deserialize_with = "object")] BackoffParts),
}

#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJobBackoffParts)]
pub(super) struct BackoffParts {
    /// `fixed`; `exponential`; or the name of a table of waits (`backoffs` of the queue), which has neither delay nor jitter.
    r#type: String,
    /// In milliseconds.
    #[serde(default)]
    delay: u64,
    /// Between 0 and 1: 0.3 takes up to 30 % off.
    #[serde(default)]
    jitter: f64,
}

/// True: none is kept; a number: the newest so many.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a number, or an object of \"count\", \"age\" and \"limit\"")]
pub(super) enum KeepWish {
    Remove(bool),
    Newest(u64),
    By(#[serde(deserialize_with = "object")] KeepParts),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepParts {
    count: Option<u64>,
    /// In seconds.
    age: Option<u64>,
    limit: Option<u64>,
}

impl Options {
    /// # Errors
    /// The first that no job can have.
    pub(in crate::http) fn check(&self, entry: Option<&Entry>) -> Result<(), Problem> {
        if matches!(self.job_id.as_deref(), Some("." | "..")) {
            return Err(Problem::field("options.jobId", "no address can hold it: it means a folder there"));
        }
        if self.delay > LONGEST_DELAY_MS {
            return Err(Problem::field("options.delay", "a delay is a year at most"));
        }
        if self.priority > LOWEST_PRIORITY {
            return Err(Problem::field("options.priority", format!("a priority is {LOWEST_PRIORITY} at most")));
        }
        if self.attempts.is_some_and(|attempts| attempts > MOST_ATTEMPTS) {
            return Err(Problem::field("options.attempts", format!("there are {MOST_ATTEMPTS} attempts at most")));
        }
        match &self.backoff {
            Some(BackoffWish::Delay(ms)) if *ms > LONGEST_DELAY_MS => {
                return Err(Problem::field("options.backoff", "a backoff is a year at most"));
            }
            Some(BackoffWish::Parts(parts)) => parts.check(entry)?,
            _ => {}
        }
        if self.timeout.is_some_and(|timeout| timeout.get() > LONGEST_DELAY_MS) {
            return Err(Problem::field("options.timeout", "a timeout is a year at most"));
        }
        Ok(())
    }

    pub(in crate::http) fn job_id(&self) -> Option<&str> {
        self.job_id.as_deref()
    }

    /// The first that is given of those that belong to one job, not to a template of many.
    pub(in crate::http) fn of_one_job(&self) -> Option<&'static str> {
        if self.delay > 0 {
            return Some("options.delay");
        }
        if self.group.is_some() {
            return Some("options.group");
        }
        self.job_id.is_some().then_some("options.jobId")
    }

    /// As the queue stores them; what is not given is as the queue is declared.
    pub(in crate::http) fn for_queue(self, entry: Option<&Entry>) -> JobOptions {
        let declared = entry.map(|entry| (entry.settings.attempts, entry.settings.backoff));
        let backoff = match self.backoff {
            Some(wish) => Some(wish.of_job()),
            None => declared.map(|(_, backoff)| JobBackoff::Known(backoff)),
        };
        let timeout = self.timeout.map(|timeout| ("timeout".to_owned(), timeout.get().into()));
        JobOptions {
            attempts: self.attempts.or(declared.map(|(attempts, _)| attempts)).unwrap_or(0),
            backoff: backoff.filter(|backoff| *backoff != JobBackoff::Known(Backoff::NONE)),
            delay_ms: i64::try_from(self.delay).unwrap_or(0),
            priority: self.priority,
            lifo: self.lifo,
            remove_on_complete: self.remove_on_complete.map(Keep::from),
            remove_on_fail: self.remove_on_fail.map(Keep::from),
            group: self.group.map(|group| group.id),
            extra: timeout.into_iter().collect(),
            ..JobOptions::default()
        }
    }
}

impl BackoffWish {
    fn of_job(self) -> JobBackoff {
        match self {
            Self::Delay(ms) => JobBackoff::Known(Backoff::Fixed { delay: span(ms), jitter: 0.0 }),
            Self::Parts(parts) => parts.formula().map_or(JobBackoff::Custom(parts.r#type), JobBackoff::Known),
        }
    }

    /// # Errors
    /// A run waits by a formula: it has no name.
    pub(super) fn of_run(&self) -> Result<Backoff, Problem> {
        match self.clone().of_job() {
            JobBackoff::Known(backoff) => Ok(backoff),
            JobBackoff::Custom(_) => {
                Err(Problem::field("options.backoff", "the backoff of a run is fixed or exponential"))
            }
        }
    }
}

impl BackoffParts {
    /// None for a name.
    fn formula(&self) -> Option<Backoff> {
        let (delay, jitter) = (span(self.delay), self.jitter);
        match self.r#type.as_str() {
            "fixed" => Some(Backoff::Fixed { delay, jitter }),
            "exponential" => Some(Backoff::Exponential { delay, jitter }),
            _ => None,
        }
    }

    fn check(&self, entry: Option<&Entry>) -> Result<(), Problem> {
        if self.delay > LONGEST_DELAY_MS {
            return Err(Problem::field("options.backoff.delay", "a backoff is a year at most"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Problem::field("options.backoff.jitter", "a jitter is between 0 and 1"));
        }
        if self.formula().is_some() {
            return Ok(());
        }
        if !entry.is_some_and(|entry| entry.settings.backoffs.contains_key(&self.r#type)) {
            let detail = "a backoff is fixed, exponential, or one of the queue's own `backoffs`";
            return Err(Problem::field("options.backoff", detail));
        }
        if self.delay > 0 || self.jitter > 0.0 {
            return Err(Problem::field("options.backoff", "a table of waits has neither delay nor jitter"));
        }
        Ok(())
    }
}

fn span(ms: u64) -> Span {
    Span(Duration::from_millis(ms))
}

impl From<KeepWish> for Keep {
    fn from(wish: KeepWish) -> Self {
        match wish {
            KeepWish::Remove(true) => Self::NONE,
            KeepWish::Remove(false) => Self::ALL,
            KeepWish::Newest(count) => Self::last(count),
            KeepWish::By(KeepParts { count, age, limit }) => Self { count, age_s: age, limit },
        }
    }
}
