//! Flows: jobs that wait for their children, over several queues; and the tree of a job that is there.

mod wish;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Enqueue, Read};
use super::idempotency::{Answer, Asked, named_once};
use super::input::{Json, Path, Query};
use super::jobs::{path_of, unknown};
use super::problem::{Code, Problem};
use super::queues::{find, now};
use super::view::to_json;
use crate::fault;
use crate::id::{self, QueueName};
use crate::queue::{
    self, AddedFlow, Branch, ChildKind, ChildrenCounts, Extent, Flow, FlowError, Found, Job, Record, State as JobState,
};

pub use wish::read;
pub(super) use wish::{Wish, flows_of};

/// Jobs of a tree in one answer.
const MOST_SHOWN: usize = 500;
const DEEPEST_SHOWN: u32 = 20;
const WIDEST_SHOWN: u32 = 200;

/// A flow as it was added.
#[derive(Serialize, ToSchema)]
#[schema(as = Flow)]
pub(super) struct FlowBody {
    id: String,
    queue: String,
    #[schema(no_recursion)]
    children: Vec<FlowBody>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Shown {
    /// Generations below the job: 10 if it is not given, at most 20.
    #[serde(default = "ten")]
    #[param(value_type = Option<u32>)]
    depth: u32,
    /// Children of one job: 20 if it is not given, at most 200. The rest of them is found by `/children`, page by page.
    #[serde(default = "twenty")]
    #[param(value_type = Option<u32>)]
    width: u32,
}

fn ten() -> u32 {
    10
}

fn twenty() -> u32 {
    20
}

/// A job with its children and theirs: at most 500 in all.
#[derive(Serialize, ToSchema)]
#[schema(as = Tree)]
pub(super) struct TreeBody {
    /// `<prefix>:<queue>:<id>`
    key: String,
    /// Nothing, as all that follows, for a job that was removed or whose queue is not known here.
    id: Option<String>,
    queue: Option<String>,
    name: Option<String>,
    state: Option<&'static str>,
    attempts_made: Option<u32>,
    #[schema(value_type = Option<serde_json::Value>)]
    progress: Option<Box<RawValue>>,
    /// What became of it for its parent: `unprocessed`, `processed`, `ignored` or `failed`; nothing for the first.
    kind: Option<&'static str>,
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    failed_reason: Option<String>,
    /// How many children there are, by what became of them.
    #[schema(value_type = Option<std::collections::BTreeMap<String, u64>>)]
    counts: Option<ChildrenCounts>,
    #[schema(no_recursion)]
    children: Vec<TreeBody>,
    /// There are children that are not told here.
    more: bool,
}

/// Adds a job with its children and theirs: all of them, or none. Each parent runs after its children.
///
/// With `parent`, under a job that is there. That job cannot complete before its new child. Is it running, let it wait for its
/// children when it has added them; one that has ended takes none (409 `job_wrong_state`).
///
/// Where a job of the root's id is there already, under the same parent if it has one, nothing new is added (200). A child
/// whose id is there already becomes one as it is, finished or not. So whoever may have to add children again gives them ids
/// of their own, or an `Idempotency-Key`: otherwise they are there twice.
#[utoipa::path(post, path = "/v1/flows", tag = "jobs", operation_id = "create_flow", request_body = Wish,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = FlowBody), (status = 201, body = FlowBody), (status = 404), (status = 409),
        (status = 422), (status = 503)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn create(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: wish, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let (flow, parent) = wish.root(state.intake.publisher().queues())?;
    let (now_ms, base) = (now(&state), state.base.clone());
    named_once(&state, &caller.principal, asked, &raw, async move |stem| {
        // The jobs of an idempotency key have ids of their own, so that adding them again after a crash adds nothing.
        let stem = format!("f-{}", stem.unwrap_or_else(id::new_id));
        let AddedFlow { jobs, is_new } = match &parent {
            Some((queue, id)) => flow.add_under(queue, id, &stem, now_ms).await?,
            None => flow.add(&stem, now_ms).await?,
        };
        fault::point("flow.added");
        let mut bodies = told(&flow, &jobs);
        let root = bodies.pop().ok_or_else(|| Problem::new(Code::Internal, "a flow has a root"))?;
        let location = format!("{base}{}", path_of(&root.queue, &root.id));
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer { status, body: to_json(&root), location: Some(location), kept: None })
    })
    .await
}

/// A job with its children and theirs, as far as `depth` and `width` say.
#[utoipa::path(get, path = "/v1/queues/{queue}/jobs/{id}/tree", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path), Shown),
    responses((status = 200, body = TreeBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["read"])))]
pub(super) async fn tree(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Query(Shown { depth, width }): Query<Shown>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    if depth > DEEPEST_SHOWN {
        return Err(Problem::field("depth", format!("a tree is shown {DEEPEST_SHOWN} deep at most")));
    }
    if !(1..=WIDEST_SHOWN).contains(&width) {
        return Err(Problem::field("width", format!("from 1 to {WIDEST_SHOWN} children of a job are shown")));
    }
    let queues = state.intake.publisher().queues();
    let tree = queue.tree(&id, Extent { depth, width, jobs: MOST_SHOWN }, |name| queues.get(name)).await?;
    Ok(Answer::ok(to_json(&TreeBody::of(tree.ok_or_else(unknown)?))).into_response())
}

/// The jobs of a list, generation by generation, as the tree that they are: the last one is the root.
fn told(flow: &Flow, jobs: &[(QueueName, String)]) -> Vec<FlowBody> {
    let mut flows = vec![(flow, 0)];
    let mut next = 0;
    while let Some((flow, _)) = flows.get(next).copied() {
        flows.extend(flow.children.iter().map(|child| (child, next)));
        next += 1;
    }
    let body =
        |(queue, id): &(QueueName, String)| FlowBody { id: id.clone(), queue: queue.to_string(), children: Vec::new() };
    let mut bodies: Vec<FlowBody> = jobs.iter().map(body).collect();
    while bodies.len() > 1 {
        let parent = flows[bodies.len() - 1].1;
        if let Some(child) = bodies.pop() {
            bodies[parent].children.insert(0, child);
        }
    }
    bodies
}

impl TreeBody {
    fn of(branch: Branch) -> Self {
        let Branch { key, place, job, children } = branch;
        let shown = children.len() as u64;
        let counts = job.as_ref().map(|found| found.children);
        let more = counts.is_some_and(|c| c.unprocessed + c.processed + c.ignored + c.failed > shown);
        let (queue, state) = match &job {
            Some(Found { queue, state, .. }) => (Some(queue.name().to_string()), state.map(JobState::as_str)),
            None => (None, None),
        };
        let kind = place.as_ref().map(|(kind, _)| kind.as_str());
        // A child's result outlives it where its parent has it.
        let (mut result, mut failed_reason) = match place {
            Some((ChildKind::Processed, told)) => (told.and_then(|text| RawValue::from_string(text).ok()), None),
            Some((_, told)) => (None, told.filter(|text| !text.is_empty())),
            None => (None, None),
        };
        let mut body = Self {
            key,
            id: None,
            queue,
            name: None,
            state,
            attempts_made: None,
            progress: None,
            kind,
            result: None,
            failed_reason: None,
            counts,
            children: children.into_iter().map(Self::of).collect(),
            more,
        };
        match job.map(|found| found.record) {
            Some(Record::Job(job)) => {
                let Job { id, name, progress, return_value, attempts_made, failed_reason: reason, .. } = *job;
                (body.id, body.name, body.progress) = (Some(id), Some(name), progress);
                body.attempts_made = Some(attempts_made);
                result = result.or(return_value);
                failed_reason = failed_reason.or(reason);
            }
            Some(Record::Unreadable { id, reason }) => {
                body.id = Some(id);
                failed_reason = Some(reason);
            }
            None => {}
        }
        Self { result, failed_reason, ..body }
    }
}

impl From<FlowError> for Problem {
    fn from(error: FlowError) -> Self {
        let at = error.at().map(|at| below(at)).unwrap_or_default();
        problem(error, "children").within(&at)
    }
}

/// Of flows that stand in a list `add`.
pub(super) fn in_list(error: FlowError) -> Problem {
    let at = match error.at().map(Vec::as_slice) {
        Some([top, rest @ ..]) => format!("add[{top}].{}", below(rest)),
        _ => String::new(),
    };
    problem(error, "add").within(&at)
}

fn below(at: &[usize]) -> String {
    at.iter().map(|child| format!("children[{child}].")).collect()
}

/// With the field of the job that is to blame, or `all` where all of them are too much.
fn problem(error: FlowError, all: &str) -> Problem {
    let text = error.to_string();
    let coded = |code, field: &str| {
        let mut problem = Problem::field(field, text);
        problem.code = code;
        problem
    };
    match error {
        FlowError::Queue(error) => error.into(),
        FlowError::Job { source, .. } => queue::Error::Add { index: 0, source }.into(),
        FlowError::Twice { .. } | FlowError::Deduplication { .. } => coded(Code::InvalidField, "options.jobId"),
        FlowError::TooLarge => coded(Code::InvalidField, all),
        FlowError::ParentExists { .. } | FlowError::OtherParent { .. } | FlowError::Circle { .. } => {
            coded(Code::JobExists, "options.jobId")
        }
        FlowError::NoParent => coded(Code::JobUnknown, "parent.id"),
        FlowError::ParentEnded => coded(Code::JobWrongState, "parent.id"),
        FlowError::Unreadable => Problem::internal(error),
        FlowError::ParentApart => Problem::field(
            if all == "add" { all } else { "parent.queue" },
            "in a Redis Cluster the queues of a flow and of its parent need one hash tag, as in {mail}-a, {mail}-b",
        ),
        FlowError::Apart => Problem::field(
            "queue",
            "in a Redis Cluster the queues of a flow need one hash tag, as in {mail}-a, {mail}-b",
        ),
    }
}
