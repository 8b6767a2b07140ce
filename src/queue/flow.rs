//! Flows: trees of jobs over several queues, in which each parent runs after its children.
//!
//! A flow is added as a whole or not at all, in one script call. In a cluster its queues must share a hash tag.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::add::Add;
use super::keys::check_id;
use super::{AddError, Error, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::id::QueueName;
use crate::redis::{Error as RedisError, Reply};

/// So many are some milliseconds of work for Redis, in which others wait.
pub const MOST_JOBS: usize = 1_000;
pub const DEEPEST: usize = 32;

/// A job with those that must end before it.
#[derive(Clone)]
pub struct Flow {
    pub queue: Queue,
    pub job: Add,
    /// Of the root it has no meaning.
    pub on_failure: OnFailure,
    pub children: Vec<Flow>,
}

/// What a child's failure means for its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It waits until somebody retries or removes the child.
    #[default]
    Wait,
    /// It fails as well.
    FailParent,
    /// It runs at once, whatever the other children do.
    ContinueParent,
    /// It runs after the other children, and may read why this one failed.
    IgnoreDependency,
    /// It runs after the other children, as if this one had not been.
    RemoveDependency,
}

impl OnFailure {
    /// The name in a job's options, and in what its hash says of its parent.
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Wait => None,
            Self::FailParent => Some("fpof"),
            Self::ContinueParent => Some("cpof"),
            Self::IgnoreDependency => Some("idof"),
            Self::RemoveDependency => Some("rdof"),
        }
    }
}

/// A flow that is there, the root first, each parent before its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedFlow {
    pub jobs: Vec<(QueueName, String)>,
    /// False: a job of the root's id was there, and nothing was changed.
    pub is_new: bool,
}

/// Where in a flow: the places of the children on the way from the root.
pub type Path = Vec<usize>;

/// Nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error(transparent)]
    Queue(#[from] Error),
    #[error("a job of the flow cannot be added")]
    Job { at: Path, source: AddError },
    #[error("two jobs of the flow have the same id in the same queue")]
    Twice { at: Path },
    #[error("a job with children cannot deduplicate, nor can one with a parent")]
    Deduplication { at: Path },
    #[error("a flow has {MOST_JOBS} jobs at most, {DEEPEST} deep")]
    TooLarge,
    #[error("a job of this id is there already, and cannot be given children")]
    ParentExists { at: Path },
    #[error("a job of this id is there already, and is another one's child")]
    OtherParent { at: Path },
    /// In a cluster.
    #[error("the flow's queues do not share a hash tag")]
    Apart,
}

/// As the script wants it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    queue: usize,
    id: &'a str,
    name: &'a str,
    data: &'a str,
    options: String,
    timestamp: Millis,
    delay_ms: Millis,
    priority: u32,
    lifo: bool,
    has_children: bool,
    parent: usize,
    parent_record: Option<String>,
}

/// A job of the tree with its way from the root and its parent's place in the list.
struct Placed<'a> {
    flow: &'a Flow,
    id: String,
    at: Path,
    parent: Option<usize>,
}

impl Flow {
    /// A job without children.
    pub fn new(queue: Queue, job: Add) -> Self {
        Self { queue, job, on_failure: OnFailure::Wait, children: Vec::new() }
    }

    /// Adds the flow. Jobs without an id of their own get one that begins with `stem`; with the same stem the flow may be
    /// added again after an unknown outcome, and is then found to be there.
    ///
    /// A leaf whose id is there already becomes a child as it is, finished or not.
    ///
    /// # Errors
    /// As their names say; `Queue` where Redis did not answer, and the outcome is unknown.
    pub async fn add(&self, stem: &str, now: Millis) -> Result<AddedFlow, FlowError> {
        let placed = self.place(stem)?;
        check(&placed, now)?;
        let mut bases: Vec<String> = Vec::new();
        let mut packed = Vec::with_capacity(placed.len());
        for job in &placed {
            let base = job.flow.queue.keys().base();
            let queue = bases.iter().position(|known| known == base).unwrap_or_else(|| {
                bases.push(base.to_owned());
                bases.len() - 1
            });
            packed.push(job.packed(&placed, queue + 1, now));
        }
        let reply = self.queue.redis().run(&scripts::ADD_FLOW, bases, vec![plain(now), pack(&packed)]).await;
        let (code, place) = match reply {
            Ok(reply) => outcome(&reply).map_err(Error::from)?,
            Err(RedisError::Refused { message }) if message.contains("CROSSSLOT") => return Err(FlowError::Apart),
            Err(error) => return Err(Error::from(error).into()),
        };
        let at = || place.checked_sub(1).and_then(|i| placed.get(i)).map(|job| job.at.clone()).unwrap_or_default();
        match code {
            2 => return Err(FlowError::ParentExists { at: at() }),
            3 => return Err(FlowError::OtherParent { at: at() }),
            _ => {}
        }
        let jobs = placed.iter().map(|job| (job.flow.queue.name().clone(), job.id.clone())).collect();
        Ok(AddedFlow { jobs, is_new: code == 0 })
    }

    /// The tree as a list, each parent before its children.
    fn place(&self, stem: &str) -> Result<Vec<Placed<'_>>, FlowError> {
        let mut placed = vec![Placed { flow: self, id: String::new(), at: Vec::new(), parent: None }];
        let mut next = 0;
        while let Some(job) = placed.get(next) {
            let (flow, at) = (job.flow, job.at.clone());
            if placed.len() + flow.children.len() > MOST_JOBS || at.len() >= DEEPEST {
                return Err(FlowError::TooLarge);
            }
            for (place, child) in flow.children.iter().enumerate() {
                let at = at.iter().copied().chain([place]).collect();
                placed.push(Placed { flow: child, id: String::new(), at, parent: Some(next) });
            }
            next += 1;
        }
        for (place, job) in placed.iter_mut().enumerate() {
            job.id = job.flow.job.id.clone().unwrap_or_else(|| format!("{stem}-{place}"));
        }
        Ok(placed)
    }
}

impl Placed<'_> {
    fn packed(&self, all: &[Placed<'_>], queue: usize, now: Millis) -> Packed<'_> {
        let Self { flow, id, parent, .. } = self;
        let (job, parent) = (&flow.job, parent.map(|place| (place, &all[place])));
        let mut options = job.options.write();
        options["jobId"] = id.as_str().into();
        let mut record = None;
        if let Some((_, parent)) = parent {
            let queue_key = parent.flow.queue.keys().base().trim_end_matches(':');
            options["parent"] = json!({"id": parent.id, "queue": queue_key});
            let mut told = json!({"id": parent.id, "queueKey": queue_key});
            if let Some(flag) = flow.on_failure.flag() {
                told[flag] = Value::Bool(true);
                options[flag] = Value::Bool(true);
            }
            record = Some(told.to_string());
        }
        Packed {
            queue,
            id,
            name: &job.name,
            data: job.data.get(),
            options: options.to_string(),
            timestamp: job.options.timestamp.unwrap_or(now),
            delay_ms: job.options.delay_ms,
            priority: job.options.priority,
            lifo: job.options.lifo,
            has_children: !flow.children.is_empty(),
            parent: parent.map_or(0, |(place, _)| place + 1),
            parent_record: record,
        }
    }
}

fn check(placed: &[Placed<'_>], now: Millis) -> Result<(), FlowError> {
    let mut seen = HashSet::new();
    for Placed { flow, id, at, .. } in placed {
        let fit = check_id(id).and_then(|()| flow.job.options.check(now));
        fit.map_err(|source| FlowError::Job { at: at.clone(), source })?;
        if flow.job.options.deduplication.is_some() {
            return Err(FlowError::Deduplication { at: at.clone() });
        }
        if flow.job.options.group.is_some() {
            // A parent leaves its children's states, not a line of its own, when they are done.
            let source = AddError::GroupTogether("a job of a flow");
            return Err(FlowError::Job { at: at.clone(), source });
        }
        if !seen.insert((flow.queue.keys().base(), id)) {
            return Err(FlowError::Twice { at: at.clone() });
        }
    }
    Ok(())
}

fn outcome(reply: &Reply) -> Result<(i64, usize), RedisError> {
    match reply.clone().items()?.as_slice() {
        [code, place] => Ok((code.int()?, usize::try_from(place.int()?).unwrap_or(0))),
        _ => Err(RedisError::protocol("a flow's outcome is a code and a place")),
    }
}
