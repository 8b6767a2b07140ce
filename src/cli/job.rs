//! `job` and `enqueue`: list, show, add, change, remove.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Context;
use super::client::Call;
use super::output::Column;
use super::request::Page;
use crate::config::Span;

#[derive(Subcommand)]
pub(super) enum Command {
    /// The jobs of a queue.
    #[command(after_help = "Example:\n  onetake job ls video --state failed")]
    Ls {
        queue: String,
        /// Only those in this state: waiting, active, delayed, prioritized, waiting-children, completed or failed.
        #[arg(long)]
        state: Option<String>,
        /// How many to pass over.
        #[arg(long)]
        start: Option<u64>,
        /// How many to show.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// One job with its data and result.
    Show { queue: String, id: String },
    /// Add a job.
    Add(Box<Add>),
    /// Let a finished job wait again.
    Retry {
        queue: String,
        id: String,
        /// Only if it ended so.
        #[arg(long, value_parser = PossibleValuesParser::new(["failed", "completed"]))]
        state: Option<String>,
        /// Count its attempts from 0 again.
        #[arg(long)]
        reset_attempts: bool,
    },
    /// Let a delayed job wait.
    Promote { queue: String, id: String },
    /// Let a delayed job be due this long from now.
    Delay {
        queue: String,
        id: String,
        #[arg(value_name = "SPAN")]
        delay: Span,
    },
    /// Give a job another priority: 1 comes first; jobs without one (0) come before all that have one.
    Priority {
        queue: String,
        id: String,
        priority: u32,
        /// Before all others of that priority.
        #[arg(long)]
        lifo: bool,
    },
    /// Replace a job's data; `-` reads it from stdin.
    Data {
        queue: String,
        id: String,
        #[arg(value_name = "JSON", value_parser = data)]
        data: Box<RawValue>,
    },
    /// End a job as failed, for good: one that waits at once, one that runs as soon as its worker has stopped it.
    Cancel {
        queue: String,
        id: String,
        /// Why; the job's failure says so.
        #[arg(long, default_value = "cancelled")]
        reason: String,
    },
    /// Remove a job that nobody runs.
    Remove {
        queue: String,
        id: String,
        /// Its children and theirs as well.
        #[arg(long)]
        children: bool,
    },
    /// The children of a job.
    Children {
        queue: String,
        id: String,
        /// Only those of this kind: unprocessed, processed, ignored or failed.
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// The lines of a job's log, the oldest first.
    Logs {
        queue: String,
        id: String,
        /// How many to pass over.
        #[arg(long)]
        start: Option<u64>,
        /// How many to show.
        #[arg(long)]
        limit: Option<u64>,
    },
}

/// Add a job to a queue.
#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake job add mail --name welcome --data '{\"to\": \"ann\"}' --delay 5s --attempts 3 --backoff exponential:1s
  onetake job add report --data '{\"day\": \"2026-01-31\"}' --dedupe-field day --max-age 1h
  jq -c . job.json | onetake enqueue mail --data -")]
pub(super) struct Add {
    queue: String,
    /// The job's name, as workers see it.
    #[arg(long)]
    name: Option<String>,
    /// The job's data; `-` reads it from stdin. Passed on as it is written, no number rounded.
    #[arg(long, value_name = "JSON", value_parser = data)]
    data: Option<Box<RawValue>>,
    /// Not before this long from now, such as 500ms, 30s, 2h.
    #[arg(long, value_name = "SPAN")]
    delay: Option<Span>,
    /// 1 comes first; jobs without a priority come before all that have one.
    #[arg(long)]
    priority: Option<u32>,
    /// How often it may be tried.
    #[arg(long)]
    attempts: Option<u32>,
    /// The wait between attempts.
    #[arg(long, value_name = "fixed:SPAN|exponential:SPAN|NAME", value_parser = backoff)]
    backoff: Option<Value>,
    /// Put it in front of the jobs that wait.
    #[arg(long)]
    lifo: bool,
    /// Serve it in turn with the jobs of other groups.
    #[arg(long, value_name = "GROUP", conflicts_with = "lifo")]
    group: Option<String>,
    /// How long an attempt may take, if that is less than the queue allows.
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Span>,
    /// An id of your own. A job with this id that exists is not added again.
    #[arg(long, conflicts_with_all = ["dedupe_key", "dedupe_field"])]
    id: Option<String>,
    /// Leave no trace in the queue when it has completed.
    #[arg(long)]
    remove_on_complete: bool,
    /// Leave no trace in the queue when it has failed.
    #[arg(long)]
    remove_on_fail: bool,
    /// Jobs with an equal key are made once.
    #[arg(long, value_name = "KEY", conflicts_with = "dedupe_field")]
    dedupe_key: Option<String>,
    /// Jobs with equal fields of their data are made once. May be repeated.
    #[arg(long, value_name = "FIELD")]
    dedupe_field: Vec<String>,
    /// An older result is not good enough.
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,
    /// Make it anew even if a fresh result exists.
    #[arg(long)]
    refresh: bool,
    /// Who asks, for requests with a dedupe key.
    #[arg(long, value_name = "ID", default_value = "cli")]
    subscriber: String,
    /// Deliver the result to this address.
    #[arg(long, value_name = "URL", conflicts_with = "chat")]
    webhook: Option<String>,
    /// Deliver the result to this Telegram chat.
    #[arg(long, value_name = "CHAT", allow_hyphen_values = true)]
    chat: Option<String>,
    /// Repeating a command with this key adds nothing twice.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Value::is_null")]
    options: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    dedupe: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    subscriber: Value,
}

/// Other data for a job, no number rounded.
#[derive(Serialize)]
struct Data<'a> {
    data: &'a RawValue,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("ATTEMPTS", "/attempts_made"),
    ("PROGRESS", "/progress"),
    ("DATA", "/data"),
    ("REASON", "/failed_reason"),
];

const CHILDREN: &[Column] = &[("KEY", "/key"), ("KIND", "/kind"), ("RESULT", "/result"), ("REASON", "/failed_reason")];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        let act = async |queue: &str, id: &str, verb: &str, body: Value, done: &str| {
            let answer = client.send(Call::post(&["v1", "queues", queue, "jobs", id, verb], &body)).await?;
            output.done(&answer, &format!("job {id} of {queue} {done}"))
        };
        match self {
            Self::Ls { queue, state, start, limit } => {
                let call = Call::get(&["v1", "queues", &queue, "jobs"]);
                let call = call.query("state", state).query("start", start).query("limit", limit);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { queue, id } => {
                output.details(&client.send(Call::get(&["v1", "queues", &queue, "jobs", &id])).await?)
            }
            Self::Add(add) => add.run(context).await,
            Self::Retry { queue, id, state, reset_attempts } => {
                let body = json!({"state": state, "reset_attempts": reset_attempts});
                act(&queue, &id, "retry", body, "waits again").await
            }
            Self::Promote { queue, id } => act(&queue, &id, "promote", json!({}), "waits").await,
            Self::Delay { queue, id, delay } => {
                let body = json!({"delay": crate::clock::millis(delay.0)});
                act(&queue, &id, "delay", body, &format!("is due in {delay}")).await
            }
            Self::Priority { queue, id, priority, lifo } => {
                let body = json!({"priority": priority, "lifo": lifo});
                act(&queue, &id, "priority", body, &format!("has the priority {priority}")).await
            }
            Self::Data { queue, id, data } => {
                let call = Call::post(&["v1", "queues", &queue, "jobs", &id, "data"], &Data { data: &data });
                output.done(&client.send(call).await?, &format!("job {id} of {queue} has other data"))
            }
            Self::Cancel { queue, id, reason } => {
                let call = Call::post(&["v1", "queues", &queue, "jobs", &id, "cancel"], &json!({"reason": reason}));
                let answer = client.send(call).await?;
                let done = if answer.value["state"] == "failed" { "has failed" } else { "is being stopped" };
                output.done(&answer, &format!("job {id} of {queue} {done}"))
            }
            Self::Remove { queue, id, children } => {
                let call = Call::delete(&["v1", "queues", &queue, "jobs", &id]);
                let answer = client.send(call.query("children", children.then_some(true))).await?;
                output.done(&answer, &format!("removed job {id} of {queue}"))
            }
            Self::Children { queue, id, kind, page } => {
                let call = page.of(Call::get(&["v1", "queues", &queue, "jobs", &id, "children"])).query("kind", kind);
                output.list(&client.send(call).await?, CHILDREN)
            }
            Self::Logs { queue, id, start, limit } => {
                let call = Call::get(&["v1", "queues", &queue, "jobs", &id, "logs"]);
                output.lines(&client.send(call.query("start", start).query("limit", limit)).await?)
            }
        }
    }
}

impl Add {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let call = Call::post(&["v1", "queues", &self.queue, "jobs"], &self.body());
        let answer = context.client.send(call.idempotency_key(self.idempotency_key.as_deref())).await?;
        match answer.value.pointer("/job/id").and_then(Value::as_str) {
            Some(id) => context.output.done(&answer, &format!("added job {id} to {}", self.queue)),
            None => context.output.details(&answer),
        }
    }

    fn body(&self) -> Body<'_> {
        let options = filled([
            ("delay", self.delay.map(|span| json!(crate::clock::millis(span.0)))),
            ("priority", self.priority.map(Value::from)),
            ("attempts", self.attempts.map(Value::from)),
            ("backoff", self.backoff.clone()),
            ("lifo", self.lifo.then_some(Value::Bool(true))),
            ("group", self.group.as_ref().map(|id| json!({"id": id}))),
            ("timeout", self.timeout.map(|span| json!(crate::clock::millis(span.0)))),
            ("jobId", self.id.clone().map(Value::from)),
            ("removeOnComplete", self.remove_on_complete.then_some(Value::Bool(true))),
            ("removeOnFail", self.remove_on_fail.then_some(Value::Bool(true))),
        ]);
        let dedupe = filled([
            ("key", self.dedupe_key.clone().map(Value::from)),
            ("fields", (!self.dedupe_field.is_empty()).then(|| json!(self.dedupe_field))),
            ("max_age", self.max_age.map(|age| json!(age.0.as_secs()))),
            ("refresh", self.refresh.then_some(Value::Bool(true))),
        ]);
        let deliver = match (&self.webhook, &self.chat) {
            (Some(_), _) => "webhook",
            (None, Some(_)) => "telegram",
            (None, None) => "poll",
        };
        let subscriber = filled([
            ("id", Some(json!(self.subscriber))),
            ("deliver", Some(json!(deliver))),
            ("url", self.webhook.clone().map(Value::from)),
            ("chat", self.chat.clone().map(Value::from)),
        ]);
        // A plain job has nobody who waits for its delivery.
        let is_request = !dedupe.is_null() || deliver != "poll" || self.subscriber != "cli";
        let subscriber = if is_request { subscriber } else { Value::Null };
        Body { name: self.name.as_deref(), data: self.data.as_deref(), options, dedupe, subscriber }
    }
}

/// An object of the fields that are there; null without any.
pub(super) fn filled<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let object: serde_json::Map<_, _> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}

pub(super) fn data(text: &str) -> Result<Box<RawValue>, String> {
    let text = match text {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| e.to_string())?,
        text => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|e| format!("not JSON: {e}"))
}

pub(super) fn backoff(text: &str) -> Result<Value, String> {
    let Some((kind, delay)) = text.split_once(':') else {
        return match text {
            "" | "fixed" | "exponential" => Err(format!("expected a span, such as {text}:1s")),
            // One of the queue's own.
            name => Ok(json!({"type": name})),
        };
    };
    if !matches!(kind, "fixed" | "exponential") {
        return Err(format!("\"{kind}\" is neither fixed nor exponential"));
    }
    let delay: Span = delay.parse()?;
    Ok(json!({"type": kind, "delay": crate::clock::millis(delay.0)}))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    fn body(line: &str) -> Value {
        let add = Line::parse_from(line.split_whitespace()).add;
        serde_json::to_value(add.body()).unwrap()
    }

    #[test]
    fn a_plain_job_says_no_more_than_was_given() {
        assert_eq!(body("add mail"), json!({}));
        let options = json!({"delay": 5000, "priority": 2, "backoff": {"type": "fixed", "delay": 1000}});
        let line = "add mail --name hi --data {\"a\":1} --delay 5s --priority 2 --backoff fixed:1s";
        assert_eq!(body(line), json!({"name": "hi", "data": {"a": 1}, "options": options}));
        assert_eq!(body("add mail --backoff gentle"), json!({"options": {"backoff": {"type": "gentle"}}}));
        assert!(backoff("fixed").is_err() && backoff("").is_err());
    }

    #[test]
    fn a_deduped_job_names_its_subscriber() {
        let expected = json!({
            "dedupe": {"fields": ["day"], "max_age": 3600},
            "subscriber": {"id": "cli", "deliver": "telegram", "chat": "-100"},
        });
        assert_eq!(body("add report --dedupe-field day --max-age 1h --chat -100"), expected);
    }

    #[test]
    fn data_is_passed_on_as_it_is_written() {
        let add = Line::parse_from(["add", "a", "--data", "{\"n\": 12345678901234567890123}"]).add;
        let text = serde_json::to_string(&add.body()).unwrap();
        assert_eq!(text, "{\"data\":{\"n\": 12345678901234567890123}}");
    }
}
