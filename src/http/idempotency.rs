//! `Idempotency-Key`: the first answer to a write is kept, and given again to whoever repeats it.
//!
//! A key belongs to its caller (the API key's id) and to one method, path with its query, and body, by their SHA-256.
//! Wishes for results and new API keys store their answer in the very transaction that accepts them, and so do the
//! workloads' writes ([`write`]), refusals included. Other writes go through [`once`]: claim the key, do, store the answer.
//! Those are harmless to do twice, or name what they make after the claim ([`named_once`]), so that a crash between doing and
//! storing costs a second answer at most; only their answers of success are kept. A key stays claimed for its body all the
//! same: who was refused and asks for something else takes another key.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex};

use axum::extract::FromRequestParts;
use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::AppState;
use super::problem::{Code, Problem};
use crate::access::Principal;
use crate::idempotency::{self, Answered, Before, Claimed, KEY_REUSED, Key, StoredAnswer};
use crate::store;
use crate::text::hex;

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const LONGEST_KEY: usize = 255;

/// The keys whose first request this process is working on.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<Name>>>);

/// Caller and key.
type Name = (Arc<str>, String);

/// What a request says about being repeated.
pub struct Asked(Option<Box<(String, Method, String)>>);

/// A write under an idempotency key, being worked on.
pub struct Repeatable {
    pub name: Name,
    /// Over method, path and body.
    pub fingerprint: String,
    in_flight: InFlight,
}

/// An answer to a write.
pub struct Answer {
    pub status: StatusCode,
    /// JSON.
    pub body: String,
    pub location: Option<String>,
    /// The body that is kept for repetitions, where it is another one.
    pub kept: Option<String>,
}

impl FromRequestParts<AppState> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(&KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(Problem::field("Idempotency-Key", "a request has one"));
        }
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = format!("an idempotency key has 1 to {LONGEST_KEY} visible ASCII characters");
            return Err(Problem::field("Idempotency-Key", detail));
        }
        let path = parts.uri.path_and_query().map_or(parts.uri.path(), |path| path.as_str());
        Ok(Self(Some(Box::new((key.to_owned(), parts.method.clone(), path.to_owned())))))
    }
}

impl Asked {
    #[cfg(test)]
    pub fn under(key: &str, method: Method, path: &str) -> Self {
        Self(Some(Box::new((key.to_owned(), method, path.to_owned()))))
    }

    pub fn key(&self) -> Option<&str> {
        self.0.as_ref().map(|asked| asked.0.as_str())
    }

    /// The key as the store knows it; nothing if the request has none.
    pub fn stored_key(&self, caller: &Principal, body: &[u8]) -> Option<Key> {
        let (key, ..) = &**self.0.as_ref()?;
        let fingerprint = self.fingerprint(body)?;
        Some(Key { principal: caller.id.to_string(), key: key.clone(), fingerprint })
    }

    /// Over method, path and body.
    fn fingerprint(&self, body: &[u8]) -> Option<String> {
        let (_, method, path) = &**self.0.as_ref()?;
        let mut digest = Sha256::new();
        for part in [method.as_str(), path.as_str()] {
            digest.update(part);
            digest.update([0]);
        }
        digest.update(body);
        Some(hex(&digest.finalize()))
    }

    /// Begins the work on a write; nothing if it has no key.
    ///
    /// # Errors
    /// The same key is being worked on.
    pub fn begin(self, state: &AppState, caller: &Principal, body: &[u8]) -> Result<Option<Repeatable>, Problem> {
        let Some(Key { key, fingerprint, .. }) = self.stored_key(caller, body) else { return Ok(None) };
        let name = (caller.id.clone(), key);
        let in_flight = state.in_flight.clone();
        if !in_flight.0.lock().expect("no user panics inside").insert(name.clone()) {
            let detail = "the first request with this key has not been answered yet";
            return Err(Problem::new(Code::IdempotencyKeyInFlight, detail));
        }
        Ok(Some(Repeatable { name, fingerprint, in_flight }))
    }
}

impl Repeatable {
    pub fn key(&self) -> Key {
        let (principal, key) = &self.name;
        Key { principal: principal.to_string(), key: key.clone(), fingerprint: self.fingerprint.clone() }
    }
}

impl Drop for Repeatable {
    fn drop(&mut self) {
        self.in_flight.0.lock().expect("no user panics inside").remove(&self.name);
    }
}

/// Does a write once, and answers its repetitions with the first answer.
///
/// # Errors
/// What `act` refuses; the key is in use, or was used for something else; the store is away.
///
/// # Cancel safety
/// Under a key the work goes on in a task of its own, so that a caller who hangs up finds the answer later.
pub async fn once<A>(
    state: &AppState,
    caller: &Principal,
    asked: Asked,
    body: &[u8],
    act: A,
) -> Result<Response, Problem>
where
    A: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    named_once(state, caller, asked, body, |_| act).await
}

/// As [`once`], for a write that makes something: under a key, `act` is told after what to name it, so that doing it again
/// makes nothing new.
///
/// # Errors
/// As [`once`].
///
/// # Cancel safety
/// As [`once`].
pub async fn named_once<F, A>(
    state: &AppState,
    caller: &Principal,
    asked: Asked,
    body: &[u8],
    act: F,
) -> Result<Response, Problem>
where
    F: FnOnce(Option<String>) -> A + Send + 'static,
    A: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    let Some(repeatable) = asked.begin(state, caller, body)? else { return Ok(act(None).await?.into_response()) };
    let store = state.intake.flights().store().clone();
    let task = tokio::spawn(async move {
        let stem = match idempotency::claim(&store, &repeatable.key()).await? {
            Claimed::Ours { stem } => stem,
            Claimed::Before(Before::Same(stored)) => return Ok(replay(stored)),
            Claimed::Before(Before::Reused | Before::Unanswered { .. }) => return Err(reused()),
        };
        let answer = act(Some(stem)).await?;
        idempotency::keep(&store, &repeatable.key(), &answer.stored()).await?;
        Ok(answer.into_response())
    });
    match task.await {
        Ok(answer) => answer,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(stopped) => Err(Problem::internal(stopped)),
    }
}

/// A workload's write, whose answer is stored in its own transaction: `act` hands the key on to it.
///
/// # Errors
/// The workload's refusal; the key is in use, or was used for something else; the store is away.
///
/// # Cancel safety
/// A unit of work that has begun goes on to its end, so that a caller who hangs up finds the answer under the key later.
pub async fn write<F, A>(
    state: &AppState,
    caller: &Principal,
    asked: Asked,
    body: &[u8],
    act: F,
) -> Result<Response, Problem>
where
    F: FnOnce(Option<Key>) -> A,
    A: Future<Output = Result<Answered, store::Error>>,
{
    let repeatable = asked.begin(state, caller, body)?;
    let (told, is_again) = match act(repeatable.as_ref().map(Repeatable::key)).await? {
        Answered::First(told) => (told, false),
        Answered::Again(told) => (told, true),
        Answered::KeyReused => return Err(KEY_REUSED.into()),
    };
    let mut response = match told {
        Ok(value) => Answer::ok(value.to_string()).into_response(),
        Err(refusal) => Problem::from(refusal).into_response(),
    };
    if is_again {
        response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The first answer again.
pub fn replay(stored: StoredAnswer) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let answer = Answer { status, body: stored.body, location: stored.location, kept: None };
    let mut response = answer.into_response();
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

pub fn reused() -> Problem {
    Problem::new(Code::IdempotencyKeyReused, "this key was first sent with another method, path or body")
}

impl Answer {
    pub fn ok(body: String) -> Self {
        Self { status: StatusCode::OK, body, location: None, kept: None }
    }

    /// As it is kept for repetitions.
    pub fn stored(&self) -> StoredAnswer {
        let body = self.kept.as_ref().unwrap_or(&self.body).clone();
        StoredAnswer { status: self.status.as_u16(), body, location: self.location.clone() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(location) = self.location.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(LOCATION, location);
        }
        response
    }
}
