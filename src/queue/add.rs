//! Putting jobs into a queue.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::keys::check_id;
use super::{AddError, Error, JobOptions, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::redis::{Error as RedisError, Reply};

/// Jobs per script call: what Redis does in a millisecond or two, so that others need not wait.
const BATCH: usize = 200;

/// A job to be.
#[derive(Clone, Debug)]
pub struct Add {
    /// The producer's own id, or the queue's counter.
    pub id: Option<String>,
    pub name: String,
    pub data: Box<RawValue>,
    pub options: JobOptions,
}

/// What became of an [`Add`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The id in effect: of the new job, of the one that was there, or of the one that stands for it.
    pub id: String,
    pub outcome: AddOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    Added,
    /// A job of that id exists, perhaps finished; nothing was changed.
    Duplicate,
    /// BullMQ's deduplication let another job stand for it.
    Deduplicated,
}

/// What became of an ensured job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    pub id: String,
    pub outcome: EnsureOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnsureOutcome {
    /// It waits, runs or is parked already.
    Present,
    /// It was delayed for longer than is wanted now.
    Hastened,
    Added,
    /// A finished or lost job of that id was removed first.
    AddedAnew,
}

/// As the scripts want it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    id: Option<&'a str>,
    name: &'a str,
    data: &'a str,
    options: String,
    timestamp: Millis,
    delay_ms: Millis,
    priority: u32,
    lifo: bool,
    deduplication: Option<PackedDeduplication<'a>>,
    group: Option<&'a str>,
}

/// An array as well.
#[derive(Serialize)]
struct PackedDeduplication<'a> {
    id: &'a str,
    ttl_ms: Option<i64>,
    extend: bool,
    replace: bool,
    keep_last_if_active: bool,
    reschedule: bool,
}

impl Queue {
    /// Adds `jobs` in their order. Batches are atomic, a list longer than a batch (200) is not.
    ///
    /// # Errors
    /// `Add` before anything was written; `Redis`: then those without an id of their own must not simply be repeated.
    pub async fn add(&self, jobs: Vec<Add>, now: Millis) -> Result<Vec<Added>, Error> {
        check(&jobs, now, false)?;
        let mut added = Vec::with_capacity(jobs.len());
        let mut batches = jobs.chunks(BATCH);
        let mut next = batches.next().map(|batch| (batch, packed(batch, now)));
        while let Some((batch, args)) = next {
            // Redis is busy with one batch while the next is made ready: its call is sent when the line is yielded.
            let make_next = async {
                tokio::task::yield_now().await;
                batches.next().map(|batch| (batch, packed(batch, now)))
            };
            let (reply, following) = tokio::join!(self.run(&scripts::ADD, args), make_next);
            added.extend(outcomes(batch, reply?)?);
            next = following;
        }
        Ok(added)
    }

    /// Sees to it that a job of each id is there to be run: unlike [`Queue::add`], also if one has finished before.
    ///
    /// May be repeated at will. A job that waits in a list longer than the script looks through is taken to be present.
    ///
    /// # Errors
    /// `Add` before anything was written, also for a job without an id; `Redis`.
    pub async fn ensure(&self, jobs: Vec<Add>, now: Millis) -> Result<Vec<Ensured>, Error> {
        check(&jobs, now, true)?;
        let mut ensured = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            let reply = self.run(&scripts::ENSURE, packed(batch, now)).await?;
            for (id, code) in reply.items()?.into_iter().map(id_and_code).collect::<Result<Vec<_>, _>>()? {
                let outcome = match code {
                    0 => EnsureOutcome::Present,
                    1 => EnsureOutcome::Hastened,
                    2 => EnsureOutcome::Added,
                    3 => EnsureOutcome::AddedAnew,
                    other => return Err(RedisError::protocol(format!("no outcome of ensure: {other}")).into()),
                };
                ensured.push(Ensured { id, outcome });
            }
        }
        Ok(ensured)
    }
}

impl Add {
    /// A job without options.
    pub fn new(name: impl Into<String>, data: Box<RawValue>) -> Self {
        Self { id: None, name: name.into(), data, options: JobOptions::default() }
    }

    fn packed(&self, now: Millis) -> Packed<'_> {
        let mut options = self.options.write();
        if let Some(id) = &self.id {
            options["jobId"] = id.as_str().into();
        }
        Packed {
            id: self.id.as_deref(),
            name: &self.name,
            data: self.data.get(),
            options: options.to_string(),
            timestamp: self.options.timestamp.unwrap_or(now),
            delay_ms: self.options.delay_ms,
            priority: self.options.priority,
            lifo: self.options.lifo,
            deduplication: self.options.deduplication.as_ref().map(|deduplication| PackedDeduplication {
                id: &deduplication.id,
                ttl_ms: deduplication.ttl_ms,
                extend: deduplication.extend,
                replace: deduplication.replace,
                keep_last_if_active: deduplication.keep_last_if_active,
                reschedule: deduplication.reschedule,
            }),
            group: self.options.group.as_deref(),
        }
    }
}

pub(super) fn check(jobs: &[Add], now: Millis, id_needed: bool) -> Result<(), Error> {
    for (index, job) in jobs.iter().enumerate() {
        let id = match &job.id {
            _ if id_needed && job.options.group.is_some() => Err(AddError::GroupTogether("a job that is ensured")),
            Some(id) => check_id(id),
            None if id_needed => Err(AddError::MissingId),
            None => Ok(()),
        };
        id.and_then(|()| job.options.check(now)).map_err(|source| Error::Add { index, source })?;
    }
    Ok(())
}

/// The arguments of the scripts.
fn packed(batch: &[Add], now: Millis) -> Vec<Bytes> {
    let jobs: Vec<Packed<'_>> = batch.iter().map(|job| job.packed(now)).collect();
    vec![plain(now), pack(&jobs)]
}

/// Of add.lua.
fn outcomes(batch: &[Add], reply: Reply) -> Result<Vec<Added>, Error> {
    let unreadable = |what: String| Error::from(RedisError::protocol(what));
    let Ok([before, outcomes]) = <[Reply; 2]>::try_from(reply.items()?) else {
        return Err(unreadable("add answers two things".into()));
    };
    let (mut counter, outcomes) = (before.int()?, outcomes.items()?);
    if outcomes.len() != batch.len() {
        return Err(unreadable(format!("{} outcomes of {} adds", outcomes.len(), batch.len())));
    }
    let of_one = |(job, outcome): (&Add, Reply)| {
        counter += 1;
        if matches!(outcome, Reply::Int(0)) {
            let id = job.id.clone().unwrap_or_else(|| counter.to_string());
            return Ok(Added { id, outcome: AddOutcome::Added });
        }
        match id_and_code(outcome)? {
            (id, 1) => Ok(Added { id, outcome: AddOutcome::Duplicate }),
            (id, 2) => Ok(Added { id, outcome: AddOutcome::Deduplicated }),
            (_, other) => Err(unreadable(format!("no outcome of add: {other}"))),
        }
    };
    batch.iter().zip(outcomes).map(of_one).collect()
}

fn id_and_code(reply: Reply) -> Result<(String, i64), Error> {
    match reply.items()?.as_slice() {
        [id, code] => Ok((id.text()?, code.int()?)),
        _ => Err(RedisError::protocol("an outcome is an id and a code").into()),
    }
}
