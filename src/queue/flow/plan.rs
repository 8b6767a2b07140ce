//! Flows as the scripts want them: one list of jobs, each parent before its children, checked before anything is sent.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{DEEPEST, Flow, FlowError, MOST_JOBS, Path};
use crate::clock::Millis;
use crate::id::QueueName;
use crate::queue::keys::check_id;
use crate::queue::{AddError, Queue};

/// Jobs that are to be added, in no queue yet. Cheap to clone.
#[derive(Clone)]
pub struct Plan(Arc<Inner>);

struct Inner {
    /// Of the job that they are added under, else of the root.
    queue: Queue,
    over: Option<String>,
    /// The bases of the queues; the first is that of `queue`.
    bases: Vec<String>,
    jobs: Vec<Packed>,
    names: Vec<(QueueName, String)>,
    at: Vec<Path>,
}

/// As the script wants it: an array.
#[derive(Serialize)]
pub struct Packed {
    queue: usize,
    id: String,
    name: String,
    data: String,
    options: String,
    timestamp: Millis,
    delay_ms: Millis,
    priority: u32,
    lifo: bool,
    has_children: bool,
    parent: usize,
    parent_record: Option<String>,
}

/// A job of a tree with its way from the root and its parent's place in the list.
struct Placed<'a> {
    flow: &'a Flow,
    id: String,
    at: Path,
    parent: Option<usize>,
}

impl Plan {
    pub(super) fn of_flow(flow: &Flow, stem: &str, now: Millis) -> Result<Self, FlowError> {
        Self::make(&flow.queue, None, vec![(flow, Vec::new())], stem, now)
    }

    pub(super) fn of_child(
        queue: &Queue,
        parent: &str,
        flow: &Flow,
        stem: &str,
        now: Millis,
    ) -> Result<Self, FlowError> {
        Self::make(queue, Some(parent), vec![(flow, Vec::new())], stem, now)
    }

    /// Flows that become children of the job `parent` of `queue`, all of them or none. Of jobs without an id of their own
    /// the ids begin with `stem`.
    ///
    /// # Errors
    /// Why there can be no such children, as far as that can be told without asking Redis.
    pub fn of_children(
        queue: &Queue,
        parent: &str,
        flows: &[Flow],
        stem: &str,
        now: Millis,
    ) -> Result<Self, FlowError> {
        let tops = flows.iter().enumerate().map(|(place, flow)| (flow, vec![place])).collect();
        Self::make(queue, Some(parent), tops, stem, now)
    }

    fn make(
        queue: &Queue,
        over: Option<&str>,
        tops: Vec<(&Flow, Path)>,
        stem: &str,
        now: Millis,
    ) -> Result<Self, FlowError> {
        if over.is_some_and(|id| !queue.keys().is_job(id)) {
            return Err(FlowError::NoParent);
        }
        let placed = place(tops, stem)?;
        check(&placed, now)?;
        let mut bases = vec![queue.keys().base().to_owned()];
        let mut jobs = Vec::with_capacity(placed.len());
        for job in &placed {
            let base = job.flow.queue.keys().base();
            let place = bases.iter().position(|known| known == base).unwrap_or_else(|| {
                bases.push(base.to_owned());
                bases.len() - 1
            });
            let parent = match job.parent {
                Some(parent) => Some((&placed[parent].flow.queue, placed[parent].id.as_str())),
                None => over.map(|id| (queue, id)),
            };
            jobs.push(job.packed(parent, place + 1, now));
        }
        // A script that is sent for one slot must not meet keys of another half way.
        if over.is_some() && !queue.redis().is_one_slot(&bases) {
            return Err(FlowError::ParentApart);
        }
        let names = placed.iter().map(|job| (job.flow.queue.name().clone(), job.id.clone())).collect();
        let at = placed.into_iter().map(|job| job.at).collect();
        Ok(Self(Arc::new(Inner { queue: queue.clone(), over: over.map(str::to_owned), bases, jobs, names, at })))
    }

    /// How many jobs there are.
    pub fn size(&self) -> usize {
        self.0.jobs.len()
    }

    /// The queue on which the script is run.
    pub(super) fn queue(&self) -> &Queue {
        &self.0.queue
    }

    pub(super) fn over(&self) -> Option<&str> {
        self.0.over.as_deref()
    }

    /// The keys of the script that adds them.
    pub(super) fn keys(&self) -> Vec<String> {
        let keys = self.0.queue.keys();
        let own = [keys.base().to_owned(), keys.groups().to_owned()];
        own.into_iter().chain(self.other_bases().iter().cloned()).collect()
    }

    /// Of queues that the script's own keys do not name.
    pub(in crate::queue) fn other_bases(&self) -> &[String] {
        &self.0.bases[1..]
    }

    pub(in crate::queue) fn jobs(&self) -> &[Packed] {
        &self.0.jobs
    }

    /// The queues and ids of the jobs, in the order of the list.
    pub(super) fn names(&self) -> Vec<(QueueName, String)> {
        self.0.names.clone()
    }

    /// What a code of the script means that refuses the list because of the job at `place`, from 1; nothing for a code
    /// that does not refuse it.
    pub fn refusal(&self, code: i64, place: usize) -> Option<FlowError> {
        let at = place.checked_sub(1).and_then(|i| self.0.at.get(i)).cloned().unwrap_or_default();
        match code {
            2 => Some(FlowError::ParentExists { at }),
            3 => Some(FlowError::OtherParent { at }),
            4 => Some(FlowError::NoParent),
            5 => Some(FlowError::ParentEnded),
            6 => Some(FlowError::Circle { at }),
            7 => Some(FlowError::Unreadable),
            _ => None,
        }
    }
}

/// Without what is in the jobs: that is nobody's business in a log.
impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("over", &self.0.over).field("jobs", &self.0.names).finish()
    }
}

/// Trees as a list, each parent before its children.
fn place<'a>(tops: Vec<(&'a Flow, Path)>, stem: &str) -> Result<Vec<Placed<'a>>, FlowError> {
    let above = tops.first().map_or(0, |(_, at)| at.len());
    let top = |(flow, at)| Placed { flow, id: String::new(), at, parent: None };
    let mut placed: Vec<_> = tops.into_iter().map(top).collect();
    let mut next = 0;
    while let Some(job) = placed.get(next) {
        let (flow, at) = (job.flow, job.at.clone());
        if placed.len() + flow.children.len() > MOST_JOBS || at.len() - above >= DEEPEST {
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

impl Placed<'_> {
    fn packed(&self, parent: Option<(&Queue, &str)>, queue: usize, now: Millis) -> Packed {
        let Self { flow, id, .. } = self;
        let job = &flow.job;
        let mut options = job.options.write();
        options["jobId"] = id.as_str().into();
        let mut record = None;
        if let Some((queue, parent)) = parent {
            let queue_key = queue.keys().base().trim_end_matches(':');
            options["parent"] = json!({"id": parent, "queue": queue_key});
            let mut told = json!({"id": parent, "queueKey": queue_key});
            if let Some(flag) = flow.on_failure.flag() {
                told[flag] = Value::Bool(true);
                options[flag] = Value::Bool(true);
            }
            record = Some(told.to_string());
        }
        Packed {
            queue,
            id: id.clone(),
            name: job.name.clone(),
            data: job.data.get().to_owned(),
            options: options.to_string(),
            timestamp: job.options.timestamp.unwrap_or(now),
            delay_ms: job.options.delay_ms,
            priority: job.options.priority,
            lifo: job.options.lifo,
            has_children: !flow.children.is_empty(),
            parent: self.parent.map_or(0, |place| place + 1),
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
