//! API keys.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{Admin, Caller};
use super::idempotency::{Answer, Asked, once, replay, reused};
use super::input::{Json, Path, Raw};
use super::page::Page;
use super::problem::{Code, Problem};
use super::submit::Name;
use super::view::{rfc3339, to_json};
use crate::access::{NewKey, Scope};
use crate::id::is_id;
use crate::idempotency::Before;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
pub(super) struct Wish {
    #[schema(value_type = crate::id::TextOrInteger)]
    name: Name,
    /// `read`; `enqueue`, `work` and `operate`, which may all read, too; `admin` (all).
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CreatedKey)]
pub(super) struct CreatedBody<'a> {
    id: &'a str,
    name: &'a str,
    #[schema(value_type = Vec<String>)]
    scopes: &'a [Scope],
    /// Shown this once: a repetition under the same `Idempotency-Key` gets null here.
    key: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyBody {
    id: String,
    name: String,
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    created_at: String,
    revoked_at: Option<String>,
}

/// Makes a key. The first one closes a server that was open.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = Wish,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = CreatedBody), (status = 422)), security(("bearer" = ["admin"])))]
pub(super) async fn create(
    caller: Caller<Admin>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: Wish { name: Name(name), mut scopes }, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    if scopes.is_empty() {
        return Err(Problem::field("scopes", "a key needs one of the scopes read, enqueue, work, operate, admin"));
    }
    scopes.sort_by_key(|scope| *scope as u8);
    scopes.dedup();
    let new = NewKey::make(name, scopes);
    let text = new.text();
    let body = CreatedBody { id: &new.id, name: &new.name, scopes: &new.scopes, key: Some(&text) };
    let answer = Answer {
        status: StatusCode::CREATED,
        body: to_json(&body),
        location: Some(format!("{}/v1/keys/{}", state.base, new.id)),
        kept: Some(to_json(&CreatedBody { key: None, ..body })),
    };
    let repeatable = asked.begin(&state, &caller.principal, &raw)?;
    let stored = repeatable.as_ref().map(|repeatable| (repeatable.key(), answer.stored()));
    Ok(match state.access.create(&new, stored).await? {
        None => answer.into_response(),
        Some(Before::Same(stored)) => replay(stored),
        Some(Before::Reused | Before::Unanswered { .. }) => return Err(reused()),
    })
}

/// All keys, without their secrets.
#[utoipa::path(get, path = "/v1/keys", tag = "keys",
    responses((status = 200, body = Page<KeyBody>)), security(("bearer" = ["admin"])))]
pub(super) async fn list(_: Caller<Admin>, State(state): State<AppState>) -> Result<Response, Problem> {
    let items = state.access.list().await?;
    let items = items
        .into_iter()
        .map(|key| KeyBody {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_at: rfc3339(key.created_at_ms),
            revoked_at: key.revoked_at_ms.map(rfc3339),
        })
        .collect();
    Ok(Answer::ok(to_json(&Page { items, next: None })).into_response())
}

/// Revokes a key: here at once, on other servers within seconds.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200), (status = 404)), security(("bearer" = ["admin"])))]
pub(super) async fn revoke(
    caller: Caller<Admin>,
    asked: Asked,
    State(state): State<AppState>,
    Path(id): Path<String>,
    Raw(raw): Raw,
) -> Result<Response, Problem> {
    let server = state.clone();
    once(&state, &caller.principal, asked, &raw, async move {
        if !is_id(&id) || !server.access.revoke(&id).await? {
            return Err(Problem::new(Code::KeyUnknown, "no key in force has this id"));
        }
        Ok(Answer::ok(to_json(&serde_json::json!({"id": id, "revoked": true}))))
    })
    .await
}
