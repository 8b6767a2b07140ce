//! Handing a wish to intake, and its answer to the asker.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::idempotency::{Answer, Repeatable, replay, reused};
use super::problem::Problem;
use super::view::{RequestBody, request_path};
use crate::flight::{Accepted, Idempotency, Status};
pub use crate::id::Name;
use crate::idempotency::StoredAnswer;
use crate::intake::{Submit, Submitted};

/// # Errors
/// What intake refuses, or that it cannot be reached.
pub async fn submit(state: &AppState, wish: Submit, repeatable: Option<Repeatable>) -> Result<Response, Problem> {
    let queue = wish.scope.clone();
    let idempotency = repeatable.as_ref().map(|repeatable| {
        let base = state.base.clone();
        Idempotency {
            key: repeatable.key(),
            render: Arc::new(move |accepted| {
                let Answer { status, body, location, .. } = answer(accepted, &base);
                StoredAnswer { status: status.as_u16(), body, location }
            }),
        }
    });
    match state.intake.submit(Submit { idempotency, ..wish }).await? {
        Submitted::Accepted(accepted) => Ok(answer(&accepted, &state.base).into_response()),
        Submitted::Ready { key, generation, result, made_at_ms } => {
            let body = RequestBody::ready(queue.as_str(), &key, generation, &result, made_at_ms).to_json();
            Ok(Answer::ok(body).into_response())
        }
        Submitted::Replayed(stored) => Ok(replay(stored)),
        Submitted::KeyReused => Err(reused()),
    }
}

fn answer(accepted: &Accepted, base: &str) -> Answer {
    let status = match accepted.status {
        Status::Ready | Status::Failed => StatusCode::OK,
        Status::Subscribed | Status::Queued => StatusCode::ACCEPTED,
    };
    let location = accepted.requests.first().map(|id| request_path(base, id));
    Answer { status, body: RequestBody::accepted(accepted, base).to_json(), location, kept: None }
}

/// A span that a caller gave in seconds.
pub fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}
