//! Locks for other services: acquire, renew, release, look; and for operators, taking one from its holder.
//!
//! Acquiring is repeatable by its request id (or its `Idempotency-Key`, which then is one): the same again is given the
//! same grant again, and `lock_lost` once that has ended; renewing again renews again. An answer from a store would hand out
//! what has ended.

mod acquire;
mod body;

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

pub(super) use acquire::{__path_acquire, __path_acquire_several, acquire, acquire_several};
use body::{Filter, Force, GrantBody, LockBody, Release, Renewal, fast_body, grant_body};

use super::AppState;
use super::auth::{Caller, Enqueue, Operate, Read};
use super::idempotency::{Answer, Asked, once, reused};
use super::input::{Json, Path, Query};
use super::page::{Page, fill};
use super::problem::{Code, Problem};
use super::view::to_json;
use crate::config::Span;
use crate::idempotency;
use crate::lock::{self, Forced, LockName, Owned};
use crate::text::Reason;

/// Locks (leases, not fast ones) that are held or were, those granted last first.
#[utoipa::path(get, path = "/v1/locks", tag = "locks", params(Filter),
    responses((status = 200, body = Page<LockBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let is_held = match filter.state.as_str() {
        "" => None,
        "held" => Some(true),
        "free" => Some(false),
        _ => return Err(Problem::field("state", "the states are held, free")),
    };
    let (locks, prefix, principal) = (&state.locks, &filter.prefix.0, &filter.holder.0);
    let fetch = |before, limit| async move {
        locks.list(&lock::Filter { prefix: prefix.clone(), is_held, principal: principal.clone(), before, limit }).await
    };
    let (rows, next) = fill(filter.cursor, filter.limit, fetch, |row| &row.id, |_| true).await?;
    let items = rows.iter().map(|row| LockBody::of(row, None)).collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}

/// A lock with who took it from its holder.
#[utoipa::path(get, path = "/v1/locks/{name}", tag = "locks", params(("name" = String, Path)),
    responses((status = 200, body = LockBody), (status = 404)), security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    let (view, audit) = state.locks.show(&name).await?.ok_or_else(|| unknown(&name))?;
    Ok(Answer::ok(to_json(&LockBody::of(&view, Some(audit)))).into_response())
}

/// Lets a lock run on for `ttl` from now.
#[utoipa::path(post, path = "/v1/locks/{name}/renew", tag = "locks", request_body = Renewal,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GrantBody), (status = 404), (status = 409), (status = 422)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn renew(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: Renewal { owner_token, ttl, fast }, raw }: Json<Renewal>,
) -> Result<Response, Problem> {
    let (name, owner) = (parse(&name)?, owner(owner_token)?);
    check_key(&state, &caller, &asked, &raw).await?;
    if fast {
        let token = state.locks.renew_fast(&name, &owner, ttl.0).await?;
        token.ok_or_else(|| lost(&name))?;
        return Ok(fast_body(&state, &name, None, ttl.0).into_response());
    }
    match state.locks.renew(std::slice::from_ref(&name), &owner, ttl.0).await? {
        Owned::Done(grants) => Ok(grant_body(&grants[0], false).into_response()),
        Owned::Lost(name) => Err(lost(&name)),
        Owned::Unknown(name) => Err(unknown(&name)),
    }
}

/// Gives a lock back.
#[utoipa::path(post, path = "/v1/locks/{name}/release", tag = "locks", request_body = Release,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200), (status = 404), (status = 409)), security(("bearer" = ["enqueue"])))]
pub(super) async fn release(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: Release { owner_token, fast }, raw }: Json<Release>,
) -> Result<Response, Problem> {
    let (name, owner) = (parse(&name)?, owner(owner_token)?);
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        let released = if fast {
            if server.locks.release_fast(&name, &owner).await? { Owned::Done(()) } else { Owned::Lost(name.clone()) }
        } else {
            server.locks.release(std::slice::from_ref(&name), &owner).await?
        };
        match released {
            Owned::Done(()) => Ok(Answer::ok(to_json(&serde_json::json!({"name": name, "released": true})))),
            Owned::Lost(name) => Err(lost(&name)),
            Owned::Unknown(name) => Err(unknown(&name)),
        }
    })
    .await
}

/// Takes a lock from its holder, who learns it at the next renewal. Who did it and why is kept in the audit.
#[utoipa::path(post, path = "/v1/locks/{name}/force-release", tag = "locks", request_body = Force,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = LockBody), (status = 404), (status = 409), (status = 422)),
    security(("bearer" = ["operate"])))]
pub(super) async fn force_release(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json { value: Force { reason: Reason(reason) }, raw }: Json<Force>,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    let (server, by) = (state.clone(), caller.principal.id.to_string());
    once(&state, &caller.principal, asked, &raw, async move {
        match server.locks.force_release(&name, &by, &reason).await? {
            Forced::Done(view) => Ok(Answer::ok(to_json(&LockBody::of(&view, None)))),
            Forced::NotHeld => Err(Problem::new(Code::LockNotHeld, format!("nobody has the lock {name} now"))),
            Forced::Unknown => Err(unknown(&name)),
        }
    })
    .await
}

/// Refuses an idempotency key that was first sent with something else.
async fn check_key(state: &AppState, caller: &Caller<Enqueue>, asked: &Asked, raw: &[u8]) -> Result<(), Problem> {
    match asked.stored_key(&caller.principal, raw) {
        Some(key) if !idempotency::bind(state.locks.store(), &key).await? => Err(reused()),
        _ => Ok(()),
    }
}

fn parse(name: &str) -> Result<LockName, Problem> {
    LockName::parse(name).map_err(|error| Problem::field("name", error.to_string()))
}

/// No longer than any of ours, so that nothing long travels on.
fn owner(token: String) -> Result<String, Problem> {
    let is_fit = (1..=64).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_fit { Ok(token) } else { Err(Problem::field("owner_token", "this is no owner token of ours")) }
}

fn busy(name: &LockName, principal: &str, note: &str, left: Duration) -> Problem {
    let whose = match (principal, note) {
        ("", _) => "somebody else".to_owned(),
        (_, "") => principal.to_owned(),
        _ => format!("{principal} ({note})"),
    };
    let left = Span(Duration::from_millis(crate::clock::millis(left).unsigned_abs()));
    Problem::new(Code::LockBusy, format!("{name} is held by {whose}, for {left} at most unless it is renewed"))
}

fn lost(name: &LockName) -> Problem {
    Problem::new(Code::LockLost, format!("the lock {name} is not, or no longer, held under this token"))
}

fn unknown(name: &LockName) -> Problem {
    Problem::new(Code::LockUnknown, format!("nobody has had a lock {name}"))
}
