//! A claimed job that waits for its children, perhaps for new ones.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{end, held, lost};
use crate::access::Scope;
use crate::http::AppState;
use crate::http::auth::{Caller, Work, need};
use crate::http::claims::body::EndedBody;
use crate::http::flows::{Wish, flows_of, in_list};
use crate::http::idempotency::{Asked, once};
use crate::http::input::{Json, Path, objects};
use crate::http::problem::Problem;
use crate::http::queues::now;
use crate::id;
use crate::processor::given;
use crate::queue::{Ended, How, Move, Plan, Record};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WaitForChildren)]
pub(in crate::http) struct Children {
    /// Of the claim.
    token: String,
    /// Children that the job is given in the same step, all of them or none: 1,000 jobs at most. Needs the scope `enqueue`,
    /// too.
    #[serde(default, deserialize_with = "objects")]
    add: Vec<Wish>,
    /// The job's data from now on, any JSON; as it was if it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

/// Lets a job wait until its children are done; it comes back at once if none is pending. It does not use up an attempt.
/// Whoever claims it then finds what they left under `/v1/queues/{queue}/jobs/{id}/children`.
#[utoipa::path(post, path = "/v1/queues/{queue}/claims/{id}/children", tag = "claims", request_body = Children,
    params(("queue" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = EndedBody), (status = 404), (status = 409), (status = 422), (status = 503)),
    security(("bearer" = ["work"])))]
pub(in crate::http) async fn children(
    caller: Caller<Work>,
    asked: Asked,
    State(state): State<AppState>,
    Path((name, id)): Path<(String, String)>,
    Json { value: Children { token, add, data }, raw }: Json<Children>,
) -> Result<Response, Problem> {
    let (queue, token) = held(&state, &name, &id, token)?;
    if !add.is_empty() {
        need(&caller.principal, Scope::Enqueue)?; // they may go into any queue
    }
    let flows = flows_of(state.intake.publisher().queues(), add)?;
    let new = match flows.as_slice() {
        [] => None,
        flows => {
            let stem = format!("f-{}", id::new_id());
            Some(Plan::of_children(&queue, &id, flows, &stem, now(&state)).map_err(in_list)?)
        }
    };
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        // Whoever holds the lock alone changes what is read here, so that it is still true when the job is settled.
        let Some(Record::Job(job)) = queue.job(&id).await? else { return Err(lost(&id)) };
        let step = job.step().saturating_add(1);
        let how = match new {
            Some(children) => How::Branch { children, data, step },
            None => How::Move { to: Move::Children, data, step },
        };
        end(&server, &queue, Ended { id, token, how }).await
    })
    .await
}
