//! Acquiring locks: one, or several of which all are granted or none.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::body::{GrantBody, GrantsBody, SeveralWish, Wish, fast_body, grant_body};
use super::{busy, check_key, lost, parse};
use crate::config::Span;
use crate::http::AppState;
use crate::http::auth::{Caller, Enqueue};
use crate::http::idempotency::{Answer, Asked};
use crate::http::input::{Json, Path};
use crate::http::problem::Problem;
use crate::http::view::to_json;
use crate::id;
use crate::lock::{Acquired, Fast, FastWanted, Grant, Holder, LockName, Wanted};

const LONGEST_NOTE: usize = 200;
const LONGEST_REQUEST_ID: usize = 255;
/// Each is locked in the one transaction that grants them.
const MOST_NAMES: usize = 32;

/// Acquires a lock, waiting for it if asked to. 409 `lock_busy`: somebody else has it, or had it until the wait was over;
/// `lock_lost`: this request was granted before, and that grant has ended (told until somebody else has had the lock). 422 `idempotency_key_reused`: the key was first sent
/// with another wish (a fast lock asks Redis alone, and takes the key for a name only).
#[utoipa::path(post, path = "/v1/locks/{name}", tag = "locks", request_body = Wish,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GrantBody), (status = 409), (status = 422)), security(("bearer" = ["enqueue"])))]
pub(in crate::http) async fn acquire(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: wish, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    let Wish { ttl, wait, note, request_id, fast } = wish;
    let (wanted, is_of_key) = wanted(&state, &caller, &asked, vec![name.clone()], (ttl, wait, note, request_id))?;
    if fast {
        let Wanted { ttl, wait, principal, request, note, .. } = wanted;
        let wanted = FastWanted { name: name.clone(), ttl, wait, principal, request, note };
        return match state.locks.take_fast(wanted).await? {
            Fast::Taken { owner, left, .. } => Ok(fast_body(&state, &name, Some(&owner), left).into_response()),
            Fast::Busy { principal, note, left } => Err(busy(&name, &principal, &note, left)),
        };
    }
    let grants = grant(&state, &caller, &asked, &raw, wanted, is_of_key).await?;
    Ok(grant_body(&grants[0], true).into_response())
}

/// Acquires several locks: all of them or none. Whoever asks, they are taken in one order, so that nobody waits in a circle.
/// Each is renewed and released by its own name, with its own `owner_token`. The answers are those of one lock.
#[utoipa::path(post, path = "/v1/locks", tag = "locks", request_body = SeveralWish,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GrantsBody), (status = 409), (status = 422)), security(("bearer" = ["enqueue"])))]
pub(in crate::http) async fn acquire_several(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: wish, raw }: Json<SeveralWish>,
) -> Result<Response, Problem> {
    let SeveralWish { names, ttl, wait, note, request_id } = wish;
    if !(1..=MOST_NAMES).contains(&names.len()) {
        return Err(Problem::field("names", format!("from 1 to {MOST_NAMES} locks are taken together")));
    }
    let read = |(at, name): (usize, &String)| {
        LockName::parse(name).map_err(|error| Problem::field(format!("names[{at}]"), error.to_string()))
    };
    let names = names.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let (wanted, is_of_key) = wanted(&state, &caller, &asked, names, (ttl, wait, note, request_id))?;
    let grants = grant(&state, &caller, &asked, &raw, wanted, is_of_key).await?;
    Ok(Answer::ok(to_json(&GrantsBody::of(&grants))).into_response())
}

/// Time to live, wait, note and request id.
type Terms = (Span, Option<Span>, Option<String>, Option<String>);

/// The wish, and whether its request is named by its idempotency key.
fn wanted(
    state: &AppState,
    caller: &Caller<Enqueue>,
    asked: &Asked,
    names: Vec<LockName>,
    (ttl, wait, note, request_id): Terms,
) -> Result<(Wanted, bool), Problem> {
    let longest = state.settings.http.max_wait;
    let wait = wait.unwrap_or(Span(Duration::ZERO));
    if wait > longest {
        return Err(Problem::field("wait", format!("a call waits {longest} at most; ask again then")));
    }
    let note = note.unwrap_or_default();
    if note.chars().count() > LONGEST_NOTE || note.contains(char::is_control) {
        return Err(Problem::field("note", format!("a note has at most {LONGEST_NOTE} characters, on one line")));
    }
    let is_of_key = request_id.is_none() && asked.key().is_some();
    let request = request_id.or_else(|| asked.key().map(str::to_owned)).unwrap_or_else(id::new_id);
    let is_fit = (1..=LONGEST_REQUEST_ID).contains(&request.len()) && request.bytes().all(|b| b.is_ascii_graphic());
    if !is_fit {
        let detail = format!("a request id has 1 to {LONGEST_REQUEST_ID} visible ASCII characters");
        return Err(Problem::field("request_id", detail));
    }
    let principal = caller.principal.id.to_string();
    Ok((Wanted { names, ttl: ttl.0, wait: wait.0, principal, request, note }, is_of_key))
}

/// In the order of their names; one at least.
async fn grant(
    state: &AppState,
    caller: &Caller<Enqueue>,
    asked: &Asked,
    raw: &[u8],
    wanted: Wanted,
    is_of_key: bool,
) -> Result<Vec<Grant>, Problem> {
    // Of the body's own request id nothing more is asked: whoever sends it says what it stands for.
    if is_of_key {
        check_key(state, caller, asked, raw).await?;
    }
    match state.locks.acquire(wanted).await? {
        Acquired::Granted(grants) => Ok(grants),
        Acquired::Busy(Holder { name, principal, note, left, .. }) => Err(busy(&name, &principal, &note, left)),
        Acquired::Over(name) => Err(lost(&name)),
    }
}
