//! Who works a queue off, and how many jobs at once this server does.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::find;
use crate::catalog::Kind;
use crate::http::AppState;
use crate::http::auth::{Caller, Operate, Read};
use crate::http::idempotency::{Answer, Asked, once};
use crate::http::input::{Json, Path};
use crate::http::problem::{Code, Problem};
use crate::http::view::to_json;
use crate::queue::Queue;

/// Far more than a process can keep busy.
const MOST: u32 = 10_000;

#[derive(Serialize, ToSchema)]
#[schema(as = Workers)]
pub(in crate::http) struct WorkersBody {
    queue: String,
    /// The names of all that are connected, Onetake's (`onetake-...`) and Node's; "" for those without one.
    workers: BTreeSet<String>,
    /// How many jobs the server that answers runs at once; nothing if it runs none of this queue.
    concurrency: Option<usize>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetWorkers)]
pub(in crate::http) struct WorkersWish {
    /// How many jobs the server that answers runs at once, until it ends. With less than run now, those go on.
    #[schema(value_type = u32)]
    concurrency: NonZeroU32,
}

async fn read(queue: &Queue, concurrency: Option<usize>) -> Result<WorkersBody, Problem> {
    Ok(WorkersBody { queue: queue.name().to_string(), workers: queue.workers().await?, concurrency })
}

/// The workers of a queue, as BullMQ's `getWorkers()` lists them.
#[utoipa::path(get, path = "/v1/queues/{queue}/workers", tag = "queues", params(("queue" = String, Path)),
    responses((status = 200, body = WorkersBody), (status = 404), (status = 503)), security(("bearer" = ["read"])))]
pub(in crate::http) async fn workers(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let (queue, _) = find(&state, &name)?;
    let concurrency = state.controls.get(&name).map(crate::runner::Control::concurrency);
    Ok(Answer::ok(to_json(&read(&queue, concurrency).await?)).into_response())
}

/// Lets this server run more or fewer jobs of a queue at once, until it ends.
#[utoipa::path(post, path = "/v1/queues/{queue}/workers", tag = "queues", request_body = WorkersWish,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = WorkersBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["operate"])))]
pub(in crate::http) async fn set_workers(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: WorkersWish { concurrency }, raw }: Json<WorkersWish>,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &name)?;
    if kind == Kind::Intake {
        let work = queue.name().work();
        return Err(Problem::field("queue", format!("its jobs only wait for their runs: those are in \"{work}\"")));
    }
    if concurrency.get() > MOST {
        return Err(Problem::field("concurrency", format!("a server runs {MOST} jobs at once at most")));
    }
    let control = state.controls.get(&name).cloned();
    let control = control.ok_or_else(|| Problem::new(Code::NotRunHere, "ask a server that runs its jobs"))?;
    once(&state, &caller.principal, asked, &raw, async move {
        let most = usize::try_from(concurrency.get()).unwrap_or(usize::MAX);
        control.set_concurrency(most);
        Ok(Answer::ok(to_json(&read(&queue, Some(most)).await?)))
    })
    .await
}
