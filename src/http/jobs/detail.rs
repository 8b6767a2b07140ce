//! What hangs on a job: its children and its log.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::unknown;
use crate::http::AppState;
use crate::http::auth::{Caller, Read};
use crate::http::idempotency::Answer;
use crate::http::input::{Path, Query};
use crate::http::page::{Limit, Page, Start};
use crate::http::problem::Problem;
use crate::http::queues::find;
use crate::http::view::to_json;
use crate::queue::{Child, ChildKind};

const KINDS: [ChildKind; 4] = [ChildKind::Unprocessed, ChildKind::Processed, ChildKind::Ignored, ChildKind::Failed];

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ChildFilter {
    /// `unprocessed`, `processed`, `ignored` or `failed`; all of them if it is not given.
    #[serde(default)]
    kind: String,
    /// The `next` of the page before.
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// A child of a job, perhaps of another queue, perhaps removed meanwhile.
#[derive(Serialize, ToSchema)]
#[schema(as = ChildJob)]
pub(in crate::http) struct ChildBody {
    /// `<prefix>:<queue>:<id>`
    key: String,
    /// `unprocessed`; `processed`; `ignored`: it failed, and its parent goes on; `failed`: its parent fails with it.
    kind: &'static str,
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    failed_reason: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LogFilter {
    /// How many lines to leave out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    start: Start,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Serialize, ToSchema)]
#[schema(as = JobLog)]
pub(in crate::http) struct LogBody {
    /// The oldest first.
    items: Vec<String>,
    /// The `start` of the next page.
    next: Option<u64>,
    /// Lines in all.
    count: u64,
}

impl ChildBody {
    fn of(kind: ChildKind, Child { key, told }: Child) -> Self {
        let (result, failed_reason) = match kind {
            ChildKind::Processed => (told.and_then(|text| RawValue::from_string(text).ok()), None),
            _ => (None, told),
        };
        Self { key, kind: kind.as_str(), result, failed_reason }
    }
}

/// The children of a job, in no particular order. Few of them come all at once.
#[utoipa::path(get, path = "/v1/queues/{queue}/jobs/{id}/children", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path), ChildFilter),
    responses((status = 200, body = Page<ChildBody>), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(in crate::http) async fn children(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Query(filter): Query<ChildFilter>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    if queue.state(&id).await?.is_none() || !queue.keys().is_job(&id) {
        return Err(unknown());
    }
    let kinds: Vec<ChildKind> =
        KINDS.into_iter().filter(|kind| filter.kind.is_empty() || kind.as_str() == filter.kind).collect();
    if kinds.is_empty() {
        let names = KINDS.map(ChildKind::as_str).join(", ");
        return Err(Problem::field("kind", format!("the kinds are {names}")));
    }
    let (mut at, mut cursor) = place(&filter.cursor, &kinds)?;
    let mut items = Vec::new();
    let mut next = None;
    while let Some(kind) = kinds.get(at) {
        let room = filter.limit.0.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        if room == 0 {
            next = Some(format!("{}-{}", kind.as_str(), cursor.unwrap_or(0)));
            break;
        }
        let (page, rest) = queue.children(&id, *kind, cursor, room).await?;
        items.extend(page.into_iter().map(|child| ChildBody::of(*kind, child)));
        cursor = rest;
        at += usize::from(rest.is_none());
    }
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// The kind and the position in it that a cursor names: `<kind>-<position>`.
fn place(cursor: &str, kinds: &[ChildKind]) -> Result<(usize, Option<u64>), Problem> {
    if cursor.is_empty() {
        return Ok((0, None));
    }
    let found = cursor.split_once('-').and_then(|(name, position)| {
        Some((kinds.iter().position(|kind| kind.as_str() == name)?, Some(position.parse().ok()?)))
    });
    found.ok_or_else(|| Problem::field("cursor", "this is no cursor of ours"))
}

/// The lines of a job's log, the oldest first.
#[utoipa::path(get, path = "/v1/queues/{queue}/jobs/{id}/logs", tag = "jobs",
    params(("queue" = String, Path), ("id" = String, Path), LogFilter),
    responses((status = 200, body = LogBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(in crate::http) async fn logs(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Query(filter): Query<LogFilter>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    let (items, count) = queue.logs(&id, filter.start.0, filter.limit.0).await?.ok_or_else(unknown)?;
    let end = filter.start.0.saturating_add(items.len() as u64);
    let next = (end < count && !items.is_empty()).then_some(end);
    Ok(Answer::ok(to_json(&LogBody { items, next, count })).into_response())
}
