//! Groups: jobs of one queue that are served in turn with those of other groups, however many there are of each.
//!
//! A job names its group when it is added. Of each group only the next job (or the next few, see
//! [`GroupDefaults::ahead`]) stands in `wait`, from where any worker takes it; the others stand in the group's line. A job
//! out of the line counts against its group until it ends. The scripts that take and settle let the next ones out.
//!
//! Stock workers know nothing of that. What they take and end is made good by [`Queue::tend`], told by the queue's events,
//! and by [`Queue::tend_all`], which looks at everything. Who calls them, and when, is left to the runner.

use std::num::NonZeroU32;

use bytes::Bytes;
use serde::Serialize;

use super::options::check_group;
use super::{Error, Queue, RateLimit, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// The most groups that one call lists.
const LONGEST_PAGE: u32 = 1_000;
/// Jobs or groups that one call tends at most.
const TENDED_AT_ONCE: usize = 500;

/// What holds for a group about which nobody said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDefaults {
    /// How many of its jobs may be out of the line and not ended.
    pub concurrency: Option<NonZeroU32>,
    /// How many may come out of the line in a span of time.
    pub rate: Option<RateLimit>,
    /// How many stand ready in `wait` at most. With 1 a group waits for one job of each other group, no more; with more,
    /// stock workers that have a queue to themselves wait less for the next one. A group with a rate has one.
    pub ahead: NonZeroU32,
}

impl Default for GroupDefaults {
    fn default() -> Self {
        Self { concurrency: None, rate: None, ahead: NonZeroU32::MIN }
    }
}

/// A limit of a group's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRate {
    None,
    Limit(RateLimit),
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    /// In its line.
    pub waiting: u64,
    /// Out of it and not ended: these count against its concurrency.
    pub released: u64,
    /// Of those: ready to be taken.
    pub ready: u64,
    pub is_paused: bool,
    /// Its own, if somebody set it; 0 for no limit.
    pub concurrency: Option<u32>,
    pub rate: Option<GroupRate>,
    /// By its rate, nothing more comes out before.
    pub held_until: Option<Millis>,
}

/// What to say about a group. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    pub paused: Option<bool>,
    /// `Some(None)`: as the queue's groups have it; 0 for no limit.
    pub concurrency: Option<Option<u32>>,
    /// `Some(None)`: as the queue's groups have it.
    pub rate: Option<Option<GroupRate>>,
}

impl GroupChange {
    /// Nothing is said about it any more.
    pub const FORGET: Self = Self { paused: Some(false), concurrency: Some(None), rate: Some(None) };
}

/// What tending found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Whether the queue has groups at all.
    pub has_groups: bool,
    /// When it has to be done again even if no event tells so: the first rate window ends then.
    pub again_at: Option<Millis>,
}

/// Every method may be repeated; its error is `Redis`, and where a group is named, `Unfit` before anything was written.
impl Queue {
    /// The groups that have jobs or settings, after the one named, by their ids; at most 1,000.
    pub async fn groups(&self, after: Option<&str>, limit: u32) -> Result<Vec<Group>, Error> {
        self.list_groups(after.unwrap_or(""), limit.min(LONGEST_PAGE), "").await
    }

    /// One group; it may be empty, as every name has a group.
    pub async fn group(&self, id: &str) -> Result<Group, Error> {
        check_group(id)?;
        let group = self.list_groups("", 1, id).await?.pop();
        group.ok_or_else(|| RedisError::protocol("no group where one was asked for").into())
    }

    async fn list_groups(&self, after: &str, limit: u32, only: &str) -> Result<Vec<Group>, Error> {
        let args = vec![text(after), plain(limit), text(only)];
        self.run(&scripts::GROUPS, args).await?.items()?.into_iter().map(Group::read).collect()
    }

    /// Says what holds for a group, from now on. Jobs that stand ready go back into the line if it is paused.
    pub async fn set_group(&self, id: &str, change: GroupChange, now: Millis) -> Result<(), Error> {
        check_group(id)?;
        self.run(&scripts::SET_GROUP, vec![plain(now), text(id), pack(&change.packed())]).await.map(drop)
    }

    /// Makes good what may have become of jobs of groups unseen.
    pub async fn tend(&self, ids: &[String], now: Millis) -> Result<Tended, Error> {
        let mut tended = self.tend_batch(&ids[..ids.len().min(TENDED_AT_ONCE)], &[], now).await?;
        for ids in ids.chunks(TENDED_AT_ONCE).skip(1) {
            tended = self.tend_batch(ids, &[], now).await?;
        }
        Ok(tended)
    }

    /// As [`Queue::tend`], for every job out of a line and for every group: bounded calls, one after the other.
    pub async fn tend_all(&self, now: Millis) -> Result<Tended, Error> {
        let released = format!("{}released", self.keys().groups());
        let mut cursor = None;
        loop {
            let page = self.redis().hscan(&released, cursor.as_deref(), 200).await?;
            self.tend(&page.items, now).await?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.groups(after.as_deref(), 200).await?;
            let ids: Vec<&str> = page.iter().map(|group| group.id.as_str()).collect();
            let tended = self.tend_batch(&[], &ids, now).await?;
            match page.last() {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(tended),
            }
        }
    }

    async fn tend_batch(&self, ids: &[String], groups: &[&str], now: Millis) -> Result<Tended, Error> {
        let reply = self.run(&scripts::TEND, vec![plain(now), pack(ids), pack(groups)]).await?;
        let Ok([has_groups, again_at]) = <[Reply; 2]>::try_from(reply.items()?) else {
            return Err(RedisError::protocol("tending answers two things").into());
        };
        let again_at = again_at.int()?;
        Ok(Tended { has_groups: has_groups.int()? == 1, again_at: (again_at >= 0).then_some(again_at) })
    }

    /// Whether it has groups.
    pub async fn has_groups(&self) -> Result<bool, Error> {
        Ok(self.redis().exists(&format!("{}known", self.keys().groups())).await?)
    }

    /// Be the one of all servers that tends the groups, or stay it, for `lease_ms`. Two that think so do no harm.
    pub async fn lead_tending(&self, token: &str, lease_ms: i64) -> Result<bool, Error> {
        Ok(self.run(&scripts::LEAD_TENDING, vec![text(token), plain(lease_ms.max(1))]).await?.int()? == 1)
    }

    /// Lets another server tend them.
    pub async fn leave_tending(&self, token: &str) -> Result<(), Error> {
        self.run(&scripts::LEAVE_TENDING, vec![text(token)]).await.map(drop)
    }
}

impl GroupDefaults {
    /// `[concurrency, max, duration, ahead]`, 0 for no limit.
    pub(super) fn packed(&self) -> Bytes {
        let number = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
        let (max, duration) = (self.rate.map(|rate| rate.max), self.rate.map(|rate| rate.duration));
        pack(&(number(self.concurrency), number(max), number(duration), self.ahead.get()))
    }
}

/// A setting's name and value, as the script wants it.
#[derive(Serialize)]
struct Packed(&'static str, String);

impl GroupChange {
    fn packed(&self) -> Vec<Packed> {
        let mut packed = Vec::new();
        if let Some(is_paused) = self.paused {
            packed.push(Packed("paused", if is_paused { "1".to_owned() } else { String::new() }));
        }
        if let Some(concurrency) = self.concurrency {
            packed.push(Packed("concurrency", concurrency.map_or_else(String::new, |limit| limit.to_string())));
        }
        if let Some(rate) = self.rate {
            let (max, duration) = match rate {
                None => (String::new(), String::new()),
                Some(GroupRate::None) => ("0".to_owned(), "0".to_owned()),
                Some(GroupRate::Limit(RateLimit { max, duration })) => (max.to_string(), duration.to_string()),
            };
            packed.extend([Packed("max", max), Packed("duration", duration)]);
        }
        packed
    }
}

impl Group {
    fn read(reply: Reply) -> Result<Self, Error> {
        let Ok([id, waiting, released, ready, paused, concurrency, max, duration, held]) =
            <[Reply; 9]>::try_from(reply.items()?)
        else {
            return Err(RedisError::protocol("a group is told in nine parts").into());
        };
        let count = |reply: Reply| reply.int().map(|n| u64::try_from(n).unwrap_or(0));
        // What somebody else wrote there and is no number counts as not given.
        let number = |reply: Reply| reply.text().ok().and_then(|text| text.parse::<u32>().ok());
        let rate = match (number(max), number(duration)) {
            (Some(max), Some(duration)) => Some(match (NonZeroU32::new(max), NonZeroU32::new(duration)) {
                (Some(max), Some(duration)) => GroupRate::Limit(RateLimit { max, duration }),
                _ => GroupRate::None,
            }),
            _ => None,
        };
        Ok(Self {
            id: id.text()?,
            waiting: count(waiting)?,
            released: count(released)?,
            ready: count(ready)?,
            is_paused: !paused.is_nil(),
            concurrency: number(concurrency),
            rate,
            held_until: held.text().ok().and_then(|at| at.parse::<f64>().ok()).map(|at| at as Millis),
        })
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
