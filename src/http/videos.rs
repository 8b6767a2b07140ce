//! Personal videos: asking for one, and bringing in those that were made elsewhere.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{Caller, Enqueue, Operate};
use super::idempotency::{Asked, write};
use super::input::{Json, objects};
use super::problem::Problem;
use super::submit::{Name, milliseconds, submit};
use super::view::RequestBody;
use crate::catalog::Entry;
use crate::dedupe::KeyParts;
use crate::intake::{Submit, SubscriberSpec};
use crate::workloads::videos::import::{self, Item};
use crate::workloads::videos::wish::{self, QUEUE};

const LONGEST_FILE_ID: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VideoWish)]
pub(super) struct Wish {
    /// At most 100 characters.
    name: String,
    gender: Option<String>,
    template: Option<String>,
    /// Who asks: a text or an integer.
    #[schema(value_type = crate::id::TextOrInteger)]
    user: Name,
    /// The Telegram chat that is to get the video; else it goes to the user's mailbox.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    chat: Option<Name>,
    /// Make it anew even if there is one.
    #[serde(default)]
    refresh: bool,
    /// In seconds: an older one is made anew. The queue's own limit holds as well.
    max_age: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VideoImport)]
pub(super) struct Import {
    #[serde(deserialize_with = "objects")]
    items: Vec<ImportItem>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VideoImportItem)]
pub(super) struct ImportItem {
    name: String,
    gender: Option<String>,
    template: Option<String>,
    /// Of the bot whose token is configured.
    file_id: String,
    /// RFC 3339; now, if it is not given.
    #[schema(value_type = Option<String>)]
    made_at: Option<Timestamp>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = VideoImported)]
pub(super) struct ImportedBody {
    imported: usize,
    /// There was one already, or one is being made.
    skipped: usize,
}

/// Asks for a video: 200 if it is ready, 202 if it is being made.
#[utoipa::path(post, path = "/v1/videos", tag = "videos", request_body = Wish,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = RequestBody), (status = 202, body = RequestBody), (status = 422)),
    security(("bearer" = ["enqueue"])))]
pub(super) async fn create(
    caller: Caller<Enqueue>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: wished, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let entry = state.intake.catalog().get(QUEUE).ok_or_else(Problem::queue_unknown)?;
    let data = check(&state, "", &wished.name, wished.gender.as_deref(), wished.template.as_deref())?;
    let key = key_of(entry, &data)?;
    let repeatable = asked.begin(&state, &caller.principal, &raw)?;
    let deliver = state.intake.push_target(wished.chat.map(|chat| chat.0));
    let wish = Submit {
        scope: entry.scope.clone(),
        key,
        name: QUEUE.to_owned(),
        data: data.to_string(),
        delay_ms: 0,
        priority: 0,
        attempts: None,
        backoff: None,
        max_age_ms: wished.max_age.map(milliseconds),
        refresh: wished.refresh,
        subscriber: SubscriberSpec { id: wished.user.0, deliver },
        idempotency: None,
    };
    submit(&state, wish, repeatable).await
}

/// Brings in videos that Telegram has already. Those that are there, or are being made, stay as they are.
#[utoipa::path(post, path = "/v1/videos/import", tag = "videos", request_body = Import,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ImportedBody), (status = 422)), security(("bearer" = ["operate"])))]
pub(super) async fn import(
    caller: Caller<Operate>,
    asked: Asked,
    State(state): State<AppState>,
    Json { value: Import { items }, raw }: Json<Import>,
) -> Result<Response, Problem> {
    let entry = state.intake.catalog().get(QUEUE).ok_or_else(Problem::queue_unknown)?;
    let read = |(index, item)| read_item(&state, entry, index, item);
    let items = items.into_iter().enumerate().map(read).collect::<Result<Vec<_>, Problem>>()?;
    let (store, scope, bot) = (state.intake.flights().store(), &entry.scope, state.bot.as_deref());
    write(&state, &caller.principal, asked, &raw, |key| import::import(store, scope, bot, items, key)).await
}

fn read_item(state: &AppState, entry: &Entry, index: usize, item: ImportItem) -> Result<Item, Problem> {
    let at = format!("items[{index}].");
    let data = check(state, &at, &item.name, item.gender.as_deref(), item.template.as_deref())?;
    let id = &item.file_id;
    if id.is_empty() || id.len() > LONGEST_FILE_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("a file_id has 1 to {LONGEST_FILE_ID} visible ASCII characters");
        return Err(Problem::field(format!("{at}file_id"), detail));
    }
    let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
    Ok(Item {
        key: key_of(entry, &data)?,
        name: text("name"),
        gender: text("gender"),
        template: text("template"),
        file_id: item.file_id,
        made_at_ms: item.made_at.map(Timestamp::as_millisecond),
    })
}

/// The data of the run that makes the video; `at` leads to the fields.
fn check(
    state: &AppState,
    at: &str,
    name: &str,
    gender: Option<&str>,
    template: Option<&str>,
) -> Result<Value, Problem> {
    let read = wish::read(name, gender, template, &state.settings);
    read.map_err(|wrong| Problem::field(format!("{at}{}", wrong.field), wrong.reason))
}

fn key_of(entry: &Entry, data: &Value) -> Result<String, Problem> {
    let Some(dedupe) = &entry.settings.dedupe else { return Err(Problem::queue_unknown()) };
    let parts = KeyParts::from_fields(data, dedupe.fields.iter().map(String::as_str), &dedupe.defaults);
    parts.map(|parts| parts.to_key()).map_err(Problem::missing)
}
