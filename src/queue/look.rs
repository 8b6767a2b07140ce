//! Looking at a queue without changing it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;

use super::{Error, Queue, Record, plain, scripts};
use crate::redis::{Error as RedisError, MarkerWatch, Reply};

/// The most ids that one call lists.
const LONGEST_PAGE: u32 = 1_000;

/// Where a job is, by BullMQ's public names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Waiting,
    Active,
    Delayed,
    Prioritized,
    WaitingChildren,
    Completed,
    Failed,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Active,
        Self::Delayed,
        Self::Prioritized,
        Self::WaitingChildren,
        Self::Completed,
        Self::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Delayed => "delayed",
            Self::Prioritized => "prioritized",
            Self::WaitingChildren => "waiting-children",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    pub waiting: u64,
    pub active: u64,
    pub delayed: u64,
    pub prioritized: u64,
    pub waiting_children: u64,
    pub completed: u64,
    pub failed: u64,
}

/// Every method's error is `Redis`.
impl Queue {
    pub async fn counts(&self) -> Result<Counts, Error> {
        let reply = self.run(&scripts::COUNTS, Vec::new()).await?;
        let counts: Vec<u64> = reply
            .items()?
            .iter()
            .map(|count| count.int().map(|n| u64::try_from(n).unwrap_or(0)))
            .collect::<Result<_, _>>()?;
        let [waiting, active, delayed, prioritized, waiting_children, completed, failed] = counts[..] else {
            return Err(RedisError::protocol("there are seven counts").into());
        };
        Ok(Counts { waiting, active, delayed, prioritized, waiting_children, completed, failed })
    }

    /// Ids in the order in which they will run; finished ones from the newest; at most 1,000.
    pub async fn ids(&self, state: State, start: u64, limit: u32) -> Result<Vec<String>, Error> {
        let args = vec![plain(state), plain(start), plain(limit.min(LONGEST_PAGE))];
        Ok(self.run(&scripts::IDS, args).await?.texts()?)
    }

    pub async fn job(&self, id: &str) -> Result<Option<Record>, Error> {
        let fields = self.redis().hgetall(&self.keys().job(id)).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let flat = fields.into_iter().flat_map(|(name, value)| [Reply::Text(Bytes::from(name)), Reply::Text(value)]);
        Ok(Some(Record::read(id.to_owned(), flat.collect())?))
    }

    /// `None` if the job does not exist or is nowhere. Behind very many waiting jobs, a job that is in no other state
    /// counts as waiting.
    pub async fn state(&self, id: &str) -> Result<Option<State>, Error> {
        let reply = self.run(&scripts::STATE, vec![Bytes::copy_from_slice(id.as_bytes())]).await?;
        Ok(reply.option(|name| name.text())?.and_then(|name| name.parse().ok()))
    }

    /// How many jobs will be taken before this one; `None` if it does not wait, or waits behind 10,000 others.
    pub async fn position(&self, id: &str) -> Result<Option<u64>, Error> {
        let reply = self.run(&scripts::POSITION, vec![Bytes::copy_from_slice(id.as_bytes())]).await?;
        Ok(u64::try_from(reply.int()?).ok())
    }

    /// The names of the workers that are connected, ours and others'; an unnamed one is "".
    pub async fn workers(&self) -> Result<BTreeSet<String>, Error> {
        let clients = self.redis().client_names().await?;
        Ok(clients.iter().filter_map(|name| self.keys().worker_of_client(name)).map(str::to_owned).collect())
    }

    /// Watches for jobs to take, on a connection that [`Queue::workers`] lists under `worker_name`.
    pub fn watch(&self, worker_name: &str) -> MarkerWatch {
        MarkerWatch::start(self.redis(), self.keys().marker(), self.keys().worker_client(worker_name))
    }
}
