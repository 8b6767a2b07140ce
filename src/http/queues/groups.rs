//! Groups of jobs that are served in turn: how they stand, and what holds for one of them.

use std::num::NonZeroU32;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{find, now};
use crate::catalog::Kind;
use crate::http::AppState;
use crate::http::auth::{Caller, Operate, Read};
use crate::http::idempotency::{Answer, Asked, once};
use crate::http::input::{Json, Path, Query, Raw, object_if_any};
use crate::http::page::{Limit, Page};
use crate::http::problem::Problem;
use crate::http::view::to_json;
use crate::queue::{Group, GroupChange, GroupRate, Queue, RateLimit};

/// A group of jobs.
#[derive(Serialize, ToSchema)]
#[schema(as = Group)]
pub(in crate::http) struct GroupBody {
    id: String,
    queue: String,
    paused: bool,
    /// Its own limit, 0 for none; null: as the queue's groups have it.
    concurrency: Option<u32>,
    /// Its own limit, with zeros for none; null: as the queue's groups have it.
    rate_limit: Option<GroupRateBody>,
    /// Jobs in its line.
    waiting: u64,
    /// Jobs that are out of the line and have not ended: these count against its concurrency.
    released: u64,
    /// Of those: not taken yet.
    ready: u64,
    /// In milliseconds since 1970: by its rate, nothing more comes out before.
    held_until: Option<i64>,
}

/// At most `max` jobs come out of the line in each `duration`, in milliseconds. Both 0: any number.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupRateLimit)]
pub(in crate::http) struct GroupRateBody {
    max: u32,
    duration: u32,
}

/// What holds for the group from now on. What is not given is as the queue's groups have it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupSettings)]
pub(in crate::http) struct GroupWish {
    /// How many of its jobs may run at once; 0 for any number.
    concurrency: Option<u32>,
    #[serde(default, deserialize_with = "object_if_any")]
    rate_limit: Option<GroupRateBody>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct GroupFilter {
    /// The `next` of the page before.
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

impl GroupBody {
    fn of(queue: &Queue, group: Group) -> Self {
        let rate_limit = group.rate.map(|rate| match rate {
            GroupRate::None => GroupRateBody { max: 0, duration: 0 },
            GroupRate::Limit(RateLimit { max, duration }) => GroupRateBody { max: max.get(), duration: duration.get() },
        });
        Self {
            id: group.id,
            queue: queue.name().to_string(),
            paused: group.is_paused,
            concurrency: group.concurrency,
            rate_limit,
            waiting: group.waiting,
            released: group.released,
            ready: group.ready,
            held_until: group.held_until,
        }
    }
}

impl GroupWish {
    fn change(&self) -> Result<GroupChange, Problem> {
        let rate = match self.rate_limit {
            None => None,
            Some(GroupRateBody { max, duration }) => match (NonZeroU32::new(max), NonZeroU32::new(duration)) {
                (None, None) => Some(GroupRate::None),
                (Some(max), Some(duration)) => Some(GroupRate::Limit(RateLimit { max, duration })),
                (Some(_), None) => {
                    return Err(Problem::field("rate_limit.duration", "a span of time is a millisecond at least"));
                }
                (None, Some(_)) => {
                    return Err(Problem::field("rate_limit.max", "to let none out, pause the group"));
                }
            },
        };
        Ok(GroupChange { paused: None, concurrency: Some(self.concurrency), rate: Some(rate) })
    }
}

/// A plain queue that is declared here: others have no groups, and nobody would tend them.
fn find_grouped(state: &AppState, name: &str) -> Result<Queue, Problem> {
    let (queue, kind) = find(state, name)?;
    if kind != Kind::Plain || state.intake.catalog().get(queue.name().as_str()).is_none() {
        return Err(Problem::field("queue", "only a plain queue that is declared in the configuration has groups"));
    }
    Ok(queue)
}

/// The groups that have jobs or settings of their own, by their ids.
#[utoipa::path(get, path = "/v1/queues/{queue}/groups", tag = "queues", params(("queue" = String, Path), GroupFilter),
    responses((status = 200, body = Page<GroupBody>), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["read"])))]
pub(in crate::http) async fn list_groups(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(filter): Query<GroupFilter>,
) -> Result<Response, Problem> {
    let queue = find_grouped(&state, &name)?;
    let after = match filter.cursor.as_str() {
        "" => None,
        cursor => {
            let read = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|id| String::from_utf8(id).ok());
            Some(read.ok_or_else(|| Problem::field("cursor", "this is no cursor of ours"))?)
        }
    };
    let groups = queue.groups(after.as_deref(), filter.limit.0).await?;
    let is_full = groups.len() == usize::try_from(filter.limit.0).unwrap_or(usize::MAX);
    let next = groups.last().filter(|_| is_full).map(|last| URL_SAFE_NO_PAD.encode(&last.id));
    let items = groups.into_iter().map(|group| GroupBody::of(&queue, group)).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// One group. Every name has one, which may be empty.
#[utoipa::path(get, path = "/v1/queues/{queue}/groups/{group}", tag = "queues",
    params(("queue" = String, Path), ("group" = String, Path)),
    responses((status = 200, body = GroupBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["read"])))]
pub(in crate::http) async fn show_group(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path((name, group)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let queue = find_grouped(&state, &name)?;
    let group = queue.group(&group).await?;
    Ok(Answer::ok(to_json(&GroupBody::of(&queue, group))).into_response())
}

/// Changes a group, which is shown as it stands afterwards.
async fn change(
    state: &AppState,
    (caller, asked, raw): (Caller<Operate>, Asked, Bytes),
    (name, group): (String, String),
    change: GroupChange,
) -> Result<Response, Problem> {
    let (queue, now) = (find_grouped(state, &name)?, now(state));
    // Before the key of the request counts as used.
    queue.group(&group).await?;
    once(state, &caller.principal, asked, &raw, async move {
        queue.set_group(&group, change, now).await?;
        Ok(Answer::ok(to_json(&GroupBody::of(&queue, queue.group(&group).await?))))
    })
    .await
}

/// Sets the limits of a group.
#[utoipa::path(put, path = "/v1/queues/{queue}/groups/{group}", tag = "queues", request_body = GroupWish,
    params(("queue" = String, Path), ("group" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GroupBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn set_group(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Json { value: wish, raw }: Json<GroupWish>,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, wish.change()?).await
}

/// Forgets all that was set for a group: it is as the queue's groups are, and not paused.
#[utoipa::path(delete, path = "/v1/queues/{queue}/groups/{group}", tag = "queues",
    params(("queue" = String, Path), ("group" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GroupBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn forget_group(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, GroupChange::FORGET).await
}

/// Lets no job of the group out of its line; those that run go on.
#[utoipa::path(post, path = "/v1/queues/{queue}/groups/{group}/pause", tag = "queues",
    params(("queue" = String, Path), ("group" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GroupBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn pause_group(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, GroupChange { paused: Some(true), ..GroupChange::default() }).await
}

#[utoipa::path(post, path = "/v1/queues/{queue}/groups/{group}/resume", tag = "queues",
    params(("queue" = String, Path), ("group" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GroupBody), (status = 404), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn resume_group(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(path): Path<(String, String)>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    change(&state, (caller, asked, raw), path, GroupChange { paused: Some(false), ..GroupChange::default() }).await
}
