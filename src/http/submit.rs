//! Handing a wish to intake, and its answer to the asker.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};

use super::AppState;
use super::idempotency::{Answer, Repeatable, replay, reused};
use super::problem::Problem;
use super::view::{RequestBody, request_path};
use crate::flight::{Accepted, Idempotency, Status, StoredAnswer};
use crate::intake::{Submit, Submitted};
use crate::text::is_invisible;

const LONGEST_NAME: usize = 100;

/// Who or what somebody is elsewhere: a text, or an integer that is kept as one.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Name;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a text of 1 to {LONGEST_NAME} visible characters, or an integer")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
                let text = text.trim();
                let is_fit = !text.is_empty()
                    && text.chars().count() <= LONGEST_NAME
                    && !text.chars().any(|c| c.is_control() || is_invisible(c));
                if is_fit { Ok(Name(text.to_owned())) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }

            fn visit_i64<E>(self, number: i64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }
        }
        deserializer.deserialize_any(Words).map_err(D::Error::custom)
    }
}

/// # Errors
/// What intake refuses, or that it cannot be reached.
pub async fn submit(state: &AppState, wish: Submit, repeatable: Option<Repeatable>) -> Result<Response, Problem> {
    let queue = wish.scope.clone();
    let idempotency = repeatable.as_ref().map(|repeatable| {
        let base = state.base.clone();
        Idempotency {
            principal: repeatable.name.0.to_string(),
            key: repeatable.name.1.clone(),
            fingerprint: repeatable.fingerprint.clone(),
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
