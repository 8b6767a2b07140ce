//! Flows: trees of jobs over several queues, in which each parent runs after its children.
//!
//! A flow is added as a whole or not at all, in one script call; perhaps under a job that is there already. In a cluster
//! its queues must share a hash tag.

mod plan;

use super::add::Add;
use super::{AddError, Error, Queue, pack, plain, scripts};
use crate::clock::Millis;
use crate::id::QueueName;
use crate::redis::{Error as RedisError, Reply};

pub(super) use plan::Packed;
pub use plan::Plan;

/// So many are some milliseconds of work for Redis, in which others wait.
pub const MOST_JOBS: usize = 1_000;
pub const DEEPEST: usize = 32;

/// A job with those that must end before it.
#[derive(Clone)]
pub struct Flow {
    pub queue: Queue,
    pub job: Add,
    /// Of a root without a parent it has no meaning.
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
    /// False: the root was there, under the same parent if it has one, and nothing new was added.
    pub is_new: bool,
}

/// Where in a flow: the places of the children on the way from the root. In a list of flows, the place in it comes first.
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
    #[error("a job of this id is there already, and waits for the parent: both would wait for ever")]
    Circle { at: Path },
    #[error("there is no such job to be the parent")]
    NoParent,
    /// BullMQ takes it. But it never runs again, so that nobody would wait for its new children or read their results:
    /// whoever asks for that is too late, and had better be told.
    #[error("the parent has ended, and cannot wait for children any more")]
    ParentEnded,
    #[error("something that is no job stands in the place of one")]
    Unreadable,
    /// In a cluster.
    #[error("the flow's queues do not share a hash tag")]
    Apart,
    /// In a cluster.
    #[error("the flow's queues do not share the hash tag of the parent's queue")]
    ParentApart,
}

impl FlowError {
    /// Which job is to blame; of a list of flows, or of one.
    pub fn at(&self) -> Option<&Path> {
        match self {
            Self::Job { at, .. }
            | Self::Twice { at }
            | Self::Deduplication { at }
            | Self::ParentExists { at }
            | Self::OtherParent { at }
            | Self::Circle { at } => Some(at),
            Self::Queue(_)
            | Self::TooLarge
            | Self::NoParent
            | Self::ParentEnded
            | Self::Unreadable
            | Self::Apart
            | Self::ParentApart => None,
        }
    }

    /// For people, in one line: which job of a list, by the list's name, and what is wrong with it.
    pub fn told(&self, list: &str) -> String {
        let why = match self {
            Self::Job { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        match self.at().map(Vec::as_slice) {
            Some([top, below @ ..]) => {
                let below: String = below.iter().map(|child| format!(".children[{child}]")).collect();
                format!("{list}[{top}]{below}: {why}")
            }
            _ => format!("{list}: {why}"),
        }
    }
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
        run(&Plan::of_flow(self, stem, now)?, now).await
    }

    /// As [`Flow::add`], with the root as a child of the job `parent` of `queue`, whatever that does now. It cannot complete
    /// before its new child; to be run after it, it must wait for its children, or move there ([`super::Move::Children`]).
    ///
    /// # Errors
    /// As of [`Flow::add`]; `NoParent` and `ParentEnded`.
    pub async fn add_under(
        &self,
        queue: &Queue,
        parent: &str,
        stem: &str,
        now: Millis,
    ) -> Result<AddedFlow, FlowError> {
        run(&Plan::of_child(queue, parent, self, stem, now)?, now).await
    }
}

async fn run(plan: &Plan, now: Millis) -> Result<AddedFlow, FlowError> {
    let over = plan.over().unwrap_or_default().to_owned();
    let reply = plan
        .queue()
        .redis()
        .run(&scripts::ADD_FLOW, plan.keys(), vec![plain(now), pack(plan.jobs()), over.into()])
        .await;
    let (code, place) = match reply {
        Ok(reply) => outcome(&reply).map_err(Error::from)?,
        Err(RedisError::Refused { message }) if message.contains("CROSSSLOT") => return Err(FlowError::Apart),
        Err(error) => return Err(Error::from(error).into()),
    };
    match plan.refusal(code, place) {
        Some(error) => Err(error),
        None => Ok(AddedFlow { jobs: plan.names(), is_new: code == 0 }),
    }
}

/// A code and a place in the list, from 1.
pub(super) fn outcome(reply: &Reply) -> Result<(i64, usize), RedisError> {
    match reply.clone().items()?.as_slice() {
        [code, place] => Ok((code.int()?, usize::try_from(place.int()?).unwrap_or(0))),
        _ => Err(RedisError::protocol("a flow's outcome is a code and a place")),
    }
}
