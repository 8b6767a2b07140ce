//! What hangs on a job: its children and its log.

use bytes::Bytes;
use serde::Serialize;

use super::keys::is_job_id;
use super::{Error, Queue, plain, scripts};
use crate::redis::Error as RedisError;

/// The most that one call lists.
const LONGEST_PAGE: u32 = 1_000;
/// What all children of a job may have left, in bytes, for it to be read at once.
const MOST_BYTES: u32 = 16 * 1024 * 1024;

/// What became of a child, by BullMQ's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// It has not finished, or failed without saying what that means for its parent.
    Unprocessed,
    Processed,
    /// It failed, and its parent goes on without it.
    Ignored,
    /// It failed, and its parent fails with it.
    Failed,
}

impl ChildKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unprocessed => "unprocessed",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }
}

/// A child, perhaps of another queue, perhaps removed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// `<prefix>:<queue>:<id>`
    pub key: String,
    /// Of a processed one: its result, JSON text. Of an ignored one: why it failed.
    pub told: Option<String>,
}

/// How many children a job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChildrenCounts {
    pub unprocessed: u64,
    pub processed: u64,
    pub ignored: u64,
    pub failed: u64,
}

/// Every method's error is `Redis`.
impl Queue {
    pub async fn children_counts(&self, id: &str) -> Result<ChildrenCounts, Error> {
        let reply = self.run(&scripts::CHILDREN_COUNTS, vec![Bytes::copy_from_slice(id.as_bytes())]).await?;
        let count = |reply: &crate::redis::Reply| reply.int().map(|n| u64::try_from(n).unwrap_or(0));
        let counts: Vec<u64> = reply.items()?.iter().map(count).collect::<Result<_, _>>()?;
        let [unprocessed, processed, ignored, failed] = counts[..] else {
            return Err(RedisError::protocol("there are four counts").into());
        };
        Ok(ChildrenCounts { unprocessed, processed, ignored, failed })
    }

    /// A page of a job's children in no particular order, and where the next one begins. A page holds about `limit`;
    /// few children come all at once, and one that moves meanwhile may come twice or not at all.
    pub async fn children(
        &self,
        id: &str,
        kind: ChildKind,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<(Vec<Child>, Option<u64>), Error> {
        let args = vec![
            Bytes::copy_from_slice(id.as_bytes()),
            plain(kind.as_str()),
            plain(cursor.unwrap_or(0)),
            plain(limit.clamp(1, LONGEST_PAGE)),
        ];
        let Ok([next, flat]) = <[_; 2]>::try_from(self.run(&scripts::CHILDREN, args).await?.items()?) else {
            return Err(RedisError::protocol("a page of children is a cursor and children").into());
        };
        let flat = flat.texts()?;
        let child = |pair: &[String]| match pair {
            [key, told] => Some(Child { key: key.clone(), told: (!told.is_empty()).then(|| told.clone()) }),
            _ => None,
        };
        let next = next.text()?.parse().ok().filter(|next| *next != 0);
        Ok((flat.chunks(2).filter_map(child).collect(), next))
    }

    /// What the children of a job left for it, those that have ended; `None` if that is more than 1,000 children or 16 MiB.
    pub async fn children_results(&self, id: &str) -> Result<Option<Vec<(ChildKind, Child)>>, Error> {
        let args = vec![Bytes::copy_from_slice(id.as_bytes()), plain(LONGEST_PAGE), plain(MOST_BYTES)];
        let reply = self.run(&scripts::RESULTS, args).await?;
        if reply.is_nil() {
            return Ok(None);
        }
        let Ok([processed, ignored]) = <[_; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("children's results are two lists").into());
        };
        let mut found = Vec::new();
        for (kind, flat) in [(ChildKind::Processed, processed), (ChildKind::Ignored, ignored)] {
            let mut flat = flat.texts()?.into_iter();
            while let (Some(key), Some(told)) = (flat.next(), flat.next()) {
                found.push((kind, Child { key, told: Some(told) }));
            }
        }
        found.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        Ok(Some(found))
    }

    /// Lines of a job's log from the oldest, at most 1,000, and how many there are in all. `None` without such a job.
    pub async fn logs(&self, id: &str, start: u64, limit: u32) -> Result<Option<(Vec<String>, u64)>, Error> {
        if !is_job_id(id) {
            return Ok(None);
        }
        let args = vec![Bytes::copy_from_slice(id.as_bytes()), plain(start), plain(limit.min(LONGEST_PAGE))];
        let reply = self.run(&scripts::LOGS, args).await?;
        if reply.is_nil() {
            return Ok(None);
        }
        let Ok([lines, count]) = <[_; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("logs are lines and a count").into());
        };
        Ok(Some((lines.texts()?, u64::try_from(count.int()?).unwrap_or(0))))
    }
}
