//! Adding a job.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::options::{BackoffWish, Options};
use crate::catalog::{Entry, Kind};
use crate::dedupe::KeyParts;
use crate::delivery::webhook::UrlError;
use crate::http::AppState;
use crate::http::auth::{Caller, Enqueue};
use crate::http::idempotency::{Answer, Asked, named_once};
use crate::http::input::{Json, Path, object, object_if_any};
use crate::http::problem::Problem;
use crate::http::queues::find;
use crate::http::submit::{Name, milliseconds, submit};
use crate::http::view::RequestBody;
use crate::id;
use crate::intake::{Deliver, Submit, SubscriberSpec};
use crate::json::readable;
use crate::processor::{Trace, given};
use crate::queue::{Add, Queue};

const LONGEST_KEY: usize = 512;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJob)]
pub(in crate::http) struct Wish {
    /// The queue's name, if it is not given.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    name: Option<Name>,
    /// Any JSON; `{}` if it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "object")]
    options: Options,
    #[serde(default, deserialize_with = "object_if_any")]
    dedupe: Option<Dedupe>,
    #[serde(default, deserialize_with = "object_if_any")]
    subscriber: Option<Subscriber>,
    /// Of the headers.
    #[serde(skip)]
    trace: Option<Trace>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewJobDedupe)]
struct Dedupe {
    /// The key in one piece.
    key: Option<String>,
    /// Or the fields of the data that make it.
    fields: Option<Vec<String>>,
    /// The result may be this old, in seconds.
    max_age: Option<u64>,
    refresh: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJobSubscriber)]
struct Subscriber {
    #[schema(value_type = crate::id::TextOrInteger)]
    id: Name,
    #[serde(default)]
    deliver: How,
    /// For `webhook`.
    url: Option<String>,
    /// For `telegram`.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    chat: Option<Name>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Deliver)]
enum How {
    #[default]
    Poll,
    Webhook,
    Telegram,
}

/// Adds a job. With a dedupe key (its own, or the queue's) it is a wish for a result: 200 if that is ready, 202 if it is
/// being made. Without one it is a plain job: 201.
#[utoipa::path(post, path = "/v1/queues/{queue}/jobs", tag = "jobs", request_body = Wish,
    params(("queue" = String, Path), ("Idempotency-Key" = Option<String>, Header),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; kept with a plain job"),
        ("tracestate" = Option<String>, Header)),
    responses((status = 200, body = RequestBody), (status = 201, body = serde_json::Value),
        (status = 202, body = RequestBody), (status = 404), (status = 422)),
    security(("bearer" = ["enqueue"])))]
pub(in crate::http) async fn create(
    caller: Caller<Enqueue>,
    asked: Asked,
    headers: HeaderMap,
    State(state): State<AppState>,
    Path(queue): Path<String>,
    Json { value: mut wish, raw }: Json<Wish>,
) -> Result<Response, Problem> {
    let (queue, kind) = find(&state, &queue)?;
    let entry = state.intake.catalog().get(queue.name().as_str());
    wish.options.check(entry)?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    wish.trace = header("traceparent").and_then(|parent| Trace::parse(parent, header("tracestate")));
    match kind {
        Kind::Work | Kind::Delivery => {
            Err(Problem::field("queue", "Onetake alone adds jobs to this queue; add them to the declared one"))
        }
        Kind::Plain if wish.dedupe.is_none() => {
            if wish.subscriber.is_some() {
                return Err(Problem::field("subscriber", "a plain job has no subscriber; give it a dedupe key"));
            }
            add_plain(&state, caller, asked, &raw, queue, entry, wish).await
        }
        Kind::Plain | Kind::Intake => {
            let entry = entry.ok_or_else(|| {
                let detail = "equal jobs coalesce only in a queue that is declared with `dedupe` in the configuration";
                Problem::field("dedupe", detail)
            })?;
            let wish = wish.submit(&state, entry)?;
            // No server would take its runs: they would stay open, and their askers wait, for ever.
            if entry.settings.processor.is_none() || entry.settings.is_pulled() {
                let detail = "runs are made by Onetake, and this queue has no processor of its own: declare one";
                return Err(Problem::field("dedupe", detail));
            }
            let repeatable = asked.begin(&state, &caller.principal, &raw)?;
            submit(&state, wish, repeatable).await
        }
    }
}

async fn add_plain(
    state: &AppState,
    caller: Caller<Enqueue>,
    asked: Asked,
    raw: &[u8],
    queue: Queue,
    entry: Option<&Entry>,
    wish: Wish,
) -> Result<Response, Problem> {
    if wish.options.group.is_some() && entry.is_none() {
        // Its servers would not know that there are groups to tend.
        return Err(Problem::field("options.group", "only a queue that is declared in the configuration has groups"));
    }
    let own_id = wish.options.job_id.clone();
    let mut options = wish.options.for_queue(entry);
    if let Some(trace) = wish.trace {
        options.extra.insert("tm".to_owned(), trace.metadata().into());
    }
    let job = Add {
        id: own_id,
        name: wish.name.map_or_else(|| queue.name().to_string(), |name| name.0),
        data: data_or_empty(wish.data),
        options,
    };
    let (now_ms, base) = (state.intake.flights().store().clock().now_ms(), state.base.clone());
    let producer = state.producer.clone();
    named_once(state, &caller.principal, asked, raw, async move |stem| {
        // The job of an idempotency key has an id of its own, so that adding it again after a crash adds nothing. It begins
        // with a letter: BullMQ takes digits for a number of its own.
        let job = Add { id: job.id.or(stem.map(|stem| format!("k-{stem}"))), ..job };
        let id = producer.add(&queue, job, now_ms).await?.id;
        let name = queue.name().as_str();
        let location = format!("{base}{}", path_of(name, &id));
        let body = json!({"job": {"id": id, "queue": name}}).to_string();
        Ok(Answer { status: StatusCode::CREATED, body, location: Some(location), kept: None })
    })
    .await
}

impl Wish {
    fn submit(self, state: &AppState, entry: &Entry) -> Result<Submit, Problem> {
        let options = &self.options;
        let meaningless = [
            ("options.jobId", options.job_id.is_some()),
            ("options.lifo", options.lifo),
            ("options.timeout", options.timeout.is_some()),
            ("options.removeOnComplete", options.remove_on_complete.is_some()),
            ("options.removeOnFail", options.remove_on_fail.is_some()),
            ("options.group", options.group.is_some()),
        ];
        if let Some((field, _)) = meaningless.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Problem::field(field, "the run of a dedupe key is not a job of one asker: leave this out"));
        }
        let data = data_or_empty(self.data);
        let dedupe = self.dedupe.unwrap_or_default();
        Ok(Submit {
            scope: entry.scope.clone(),
            key: dedupe.key(entry, &data)?,
            name: self.name.map_or_else(|| entry.name.to_string(), |name| name.0),
            data: data.get().to_owned(),
            delay_ms: i64::try_from(options.delay).unwrap_or(0),
            priority: options.priority,
            attempts: options.attempts,
            backoff: options.backoff.as_ref().map(BackoffWish::of_run).transpose()?,
            max_age_ms: dedupe.max_age.map(milliseconds),
            refresh: dedupe.refresh,
            subscriber: match self.subscriber {
                Some(subscriber) => subscriber.spec(state)?,
                None => SubscriberSpec { id: id::new_id(), deliver: Deliver::Poll },
            },
            idempotency: None,
        })
    }
}

impl Dedupe {
    /// The key in one piece, or of the fields that are named here, or of those that the queue names.
    fn key(&self, entry: &Entry, data: &RawValue) -> Result<String, Problem> {
        if let Some(key) = &self.key {
            if self.fields.is_some() {
                return Err(Problem::field("dedupe.fields", "give either the key or its fields"));
            }
            let is_fit = (1..=LONGEST_KEY).contains(&key.chars().count()) && !key.chars().any(char::is_control);
            if !is_fit || key.trim().is_empty() {
                let detail = format!("a dedupe key has 1 to {LONGEST_KEY} visible characters");
                return Err(Problem::field("dedupe.key", detail));
            }
            return Ok(KeyParts::single(key).to_key());
        }
        let configured = entry.settings.dedupe.as_ref();
        let fields = match (&self.fields, configured) {
            (Some(fields), _) if fields.is_empty() => {
                return Err(Problem::field("dedupe.fields", "a key is made of one field at least"));
            }
            (Some(fields), _) => fields,
            (None, Some(configured)) => &configured.fields,
            (None, None) => return Err(Problem::missing("dedupe.key")),
        };
        let none = std::collections::BTreeMap::new();
        let defaults = configured.map_or(&none, |configured| &configured.defaults);
        let data = readable(data).map_err(|error| Problem::field("data", error.to_string()))?;
        KeyParts::from_fields(&data, fields.iter().map(String::as_str), defaults).map(|parts| parts.to_key()).map_err(
            |field| match data.get(&field) {
                None | Some(Value::Null) => Problem::missing(format!("data.{field}")),
                Some(_) => Problem::field(
                    format!("data.{field}"),
                    "a field of a key is a text, a boolean or a number (a whole one of at most 64 bits)",
                ),
            },
        )
    }
}

impl Subscriber {
    fn spec(self, state: &AppState) -> Result<SubscriberSpec, Problem> {
        if self.url.is_some() && !matches!(self.deliver, How::Webhook) {
            return Err(Problem::field("subscriber.url", "only with \"deliver\": \"webhook\""));
        }
        if self.chat.is_some() && !matches!(self.deliver, How::Telegram) {
            return Err(Problem::field("subscriber.chat", "only with \"deliver\": \"telegram\""));
        }
        let deliver = match self.deliver {
            How::Poll => Deliver::Poll,
            How::Webhook => {
                let url = self.url.ok_or_else(|| Problem::missing("subscriber.url"))?;
                let refused = |error: UrlError| Problem::field("subscriber.url", error.to_string());
                state.webhook.check_url(&url).map_err(refused)?;
                Deliver::Webhook { url }
            }
            How::Telegram if state.bot.is_none() => {
                return Err(Problem::field("subscriber.deliver", "no Telegram bot is configured here"));
            }
            How::Telegram => {
                Deliver::Telegram { chat: self.chat.ok_or_else(|| Problem::missing("subscriber.chat"))?.0 }
            }
        };
        Ok(SubscriberSpec { id: self.id.0, deliver })
    }
}

pub(in crate::http) fn data_or_empty(data: Option<Box<RawValue>>) -> Box<RawValue> {
    data.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"))
}

/// The address of a job.
pub(in crate::http) fn path_of(queue: &str, id: &str) -> String {
    format!("/v1/queues/{}/jobs/{}", escaped(queue), escaped(id))
}

fn escaped(text: &str) -> String {
    // As a part of a path: the form encoding writes a blank as a plus.
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
