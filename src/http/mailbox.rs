//! A user's mailbox.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::auth::{Caller, Read};
use super::idempotency::Answer;
use super::input::{Path, Query, Text};
use super::page::{Cursor, Limit, Page, fill};
use super::problem::Problem;
use super::view::{rfc3339, to_json};
use crate::delivery::mailbox;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

#[derive(Serialize, ToSchema)]
#[schema(as = MailboxItem)]
pub(super) struct ItemBody<'a> {
    id: &'a str,
    user: &'a str,
    chat: Option<&'a str>,
    /// `video`, `message` or `result`.
    kind: &'a str,
    text: &'a str,
    /// Where the file can be fetched.
    video: Option<String>,
    queue: &'a str,
    key: &'a str,
    created_at: String,
}

/// What a user was given, the newest first.
#[utoipa::path(get, path = "/v1/mailbox/{user}", tag = "mailbox", params(("user" = String, Path), Paging),
    responses((status = 200, body = Page<ItemBody>)), security(("bearer" = ["read"])))]
pub(super) async fn list(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(user): Path<Text>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let (store, owner) = (state.intake.flights().store(), &user.0);
    let fetch = |before: String, limit| async move { mailbox::list(store, owner, &before, limit).await };
    let (rows, next) = fill(paging.cursor, paging.limit, fetch, |row| &row.id, |_| true).await?;
    let items = rows
        .iter()
        .map(|row| ItemBody {
            id: &row.id,
            user: &row.owner,
            chat: row.chat.as_deref(),
            kind: &row.kind,
            text: &row.text,
            video: row.file.as_ref().map(|name| format!("{}/v1/files/{name}", state.base)),
            queue: &row.scope,
            key: &row.key,
            created_at: rfc3339(row.created_at_ms),
        })
        .collect();
    Ok(Answer::ok(to_json(&Page { items, next })).into_response())
}
