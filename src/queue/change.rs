//! Changing one job from outside: what dashboards and operators do to it.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::keys::is_job_id;
use super::{AddError, Error, JobOptions, Queue, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Script};

/// What became of a change. One that was not made has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Made,
    /// There is no job of that id.
    Absent,
    /// It is in a state that the verb does not know.
    WrongState,
}

/// The states in which a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    Completed,
    Failed,
}

impl Finished {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// How to retry a job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retry {
    /// Only if it ended so; otherwise however it ended.
    pub from: Option<Finished>,
    /// Its attempts are counted from 0 again.
    pub anew: bool,
}

/// Every method may be repeated. Its errors are `Redis`, and where a number is given, `Unfit` before anything was
/// written.
impl Queue {
    /// Lets a finished job wait again, by its priority. A parent that still counts its children counts on it again.
    pub async fn retry(&self, id: &str, retry: Retry) -> Result<Change, Error> {
        let from = retry.from.map_or("", Finished::as_str);
        self.change(&scripts::RETRY, id, vec![text(id), text(from), flag(retry.anew)]).await
    }

    /// Lets a delayed job wait, by its priority.
    pub async fn promote(&self, id: &str) -> Result<Change, Error> {
        self.change(&scripts::PROMOTE, id, vec![text(id)]).await
    }

    /// Lets a delayed job be due in `delay_ms` from now.
    pub async fn change_delay(&self, id: &str, delay_ms: Millis, now: Millis) -> Result<Change, Error> {
        JobOptions { delay_ms, ..JobOptions::default() }.check(now)?;
        self.change(&scripts::CHANGE_DELAY, id, vec![plain(now), text(id), plain(delay_ms)]).await
    }

    /// Gives a job another priority, in whatever state: it counts when the job waits. With `lifo` it goes before all
    /// others of that priority.
    pub async fn change_priority(&self, id: &str, priority: u32, lifo: bool) -> Result<Change, Error> {
        JobOptions { priority, ..JobOptions::default() }.check(0)?;
        self.change(&scripts::CHANGE_PRIORITY, id, vec![text(id), plain(priority), flag(lifo)]).await
    }

    /// Replaces a job's data, in whatever state; an attempt that is under way has the old.
    pub async fn update_data(&self, id: &str, data: &RawValue) -> Result<Change, Error> {
        self.change(&scripts::UPDATE_DATA, id, vec![text(id), text(data.get())]).await
    }

    async fn change(&self, script: &Script, id: &str, args: Vec<Bytes>) -> Result<Change, Error> {
        if !is_job_id(id) {
            return Ok(Change::Absent);
        }
        Ok(match self.run(script, args).await?.int()? {
            0 => Change::Made,
            1 => Change::Absent,
            2 => Change::WrongState,
            other => return Err(RedisError::protocol(format!("no outcome of {}: {other}", script.name())).into()),
        })
    }
}

impl From<AddError> for Error {
    fn from(unfit: AddError) -> Self {
        Self::Unfit(unfit)
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn flag(flag: bool) -> Bytes {
    plain(u8::from(flag))
}
