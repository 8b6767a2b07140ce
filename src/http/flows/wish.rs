//! How callers, and processors for their own jobs, say which jobs are to wait for which.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::catalog::Kind;
use crate::http::input::{self, object, object_if_any, objects};
use crate::http::jobs::{Options, data_or_empty};
use crate::http::problem::Problem;
use crate::http::queues::look_up;
use crate::http::submit::Name;
use crate::processor::given;
use crate::publish::Queues;
use crate::queue::{Add, Flow, OnFailure, Queue};

/// A job, and those that must end before it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFlow)]
pub(in crate::http) struct Wish {
    queue: String,
    /// The queue's name, if it is not given.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    name: Option<Name>,
    /// Any JSON; `{}` if it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "object")]
    options: Options,
    /// Of a child: what its failure means for its parent. Not given: the parent waits until the child is retried or removed.
    on_failure: Option<Policy>,
    #[serde(default, deserialize_with = "objects")]
    #[schema(no_recursion)]
    children: Vec<Wish>,
    /// Of the root: a job that is there, and becomes its parent.
    #[serde(default, deserialize_with = "object_if_any")]
    parent: Option<Parent>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FlowParent)]
struct Parent {
    queue: String,
    id: String,
}

/// BullMQ's options of these names: `fail_parent`: the parent fails as well; `continue_parent`: it runs at once;
/// `ignore_dependency`: it runs after the others, and may read why this one failed; `remove_dependency`: it runs after the
/// others, as if this one had not been.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OnFailure)]
enum Policy {
    FailParent,
    ContinueParent,
    IgnoreDependency,
    RemoveDependency,
}

/// What a processor gives its job as children.
#[derive(Deserialize)]
struct Children {
    #[serde(deserialize_with = "objects")]
    add: Vec<Wish>,
}

/// The flows of a JSON list, each as `POST /v1/flows` takes it, that a processor wants to be children of its job.
///
/// # Errors
/// What is wrong with them, for people; a place in the list is called `add[0]`.
pub fn read(queues: &Queues, list: &str, deepest: usize) -> Result<Vec<Flow>, String> {
    let told = |problem: Problem| match problem.field {
        Some(field) => format!("{field}: {}", problem.detail),
        None => problem.detail.into_owned(),
    };
    let Children { add } = input::parse(format!("{{\"add\":{list}}}").as_bytes(), deepest).map_err(told)?;
    flows_of(queues, add).map_err(told)
}

/// The flows of a list `add`.
pub(in crate::http) fn flows_of(queues: &Queues, add: Vec<Wish>) -> Result<Vec<Flow>, Problem> {
    add.into_iter().enumerate().map(|(i, wish)| wish.flow(queues, &format!("add[{i}]."))).collect()
}

impl Wish {
    /// The flow, and the queue and id of the job that it is added under.
    pub(in crate::http) fn root(mut self, queues: &Queues) -> Result<(Flow, Option<(Queue, String)>), Problem> {
        let parent = match self.parent.take() {
            Some(Parent { queue, id }) => {
                Some((plain(queues, &queue).map_err(|problem| problem.within("parent."))?, id))
            }
            None if self.on_failure.is_some() => {
                let detail = "a root without a parent has nobody to whom its failure could mean something";
                return Err(Problem::field("on_failure", detail));
            }
            None => None,
        };
        Ok((self.flow(queues, "")?, parent))
    }

    /// `at`: the way to it from the root, such as `children[0].`.
    fn flow(self, queues: &Queues, at: &str) -> Result<Flow, Problem> {
        let within = |problem: Problem| problem.within(at);
        if self.parent.is_some() {
            return Err(within(Problem::field("parent", "its parent is the job that it stands under; leave this out")));
        }
        let queue = plain(queues, &self.queue).map_err(within)?;
        let entry = queues.catalog().get(queue.name().as_str());
        self.options.check(entry).map_err(within)?;
        let job = Add {
            id: self.options.job_id().map(str::to_owned),
            name: self.name.map_or_else(|| queue.name().to_string(), |name| name.0),
            data: data_or_empty(self.data),
            options: self.options.for_queue(entry),
        };
        let on_failure = match self.on_failure {
            None => OnFailure::Wait,
            Some(Policy::FailParent) => OnFailure::FailParent,
            Some(Policy::ContinueParent) => OnFailure::ContinueParent,
            Some(Policy::IgnoreDependency) => OnFailure::IgnoreDependency,
            Some(Policy::RemoveDependency) => OnFailure::RemoveDependency,
        };
        let children = self.children.into_iter().enumerate();
        let children = children.map(|(i, child)| child.flow(queues, &format!("{at}children[{i}].")));
        Ok(Flow { queue, job, on_failure, children: children.collect::<Result<_, _>>()? })
    }
}

/// A queue whose jobs can be parents and children.
fn plain(queues: &Queues, name: &str) -> Result<Queue, Problem> {
    match look_up(queues, name) {
        Ok((queue, Kind::Plain)) => Ok(queue),
        Ok(_) => {
            let detail = "jobs of this queue are not the work itself, and cannot wait for others; use a plain queue";
            Err(Problem::field("queue", detail))
        }
        Err(mut problem) => {
            problem.field.get_or_insert_with(|| "queue".to_owned());
            Err(problem)
        }
    }
}
