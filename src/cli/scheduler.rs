//! `scheduler`: list, show, set, remove.

use clap::{Args, Subcommand};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Context;
use super::client::Call;
use super::output::Column;
use crate::clock::millis;
use crate::config::Span;

#[derive(Subcommand)]
pub(super) enum Command {
    /// The schedulers of a queue, the one that is due first at the front.
    #[command(visible_alias = "ls")]
    List {
        queue: String,
        /// How many to pass over.
        #[arg(long)]
        start: Option<u64>,
        /// How many to show.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// One scheduler with its present run and the template of its runs.
    Show { queue: String, id: String },
    /// Set a scheduler up, or anew.
    Set(Box<Set>),
    /// End a schedule. A run that waits or is under way is its last.
    #[command(visible_alias = "rm")]
    Remove { queue: String, id: String },
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake scheduler set mail digest --pattern '0 8 * * mon-fri' --tz Europe/Berlin --data '{\"kind\": \"digest\"}'
  onetake scheduler set mail poll --every 30s --limit 100")]
pub(super) struct Set {
    queue: String,
    id: String,
    /// The interval, such as 500ms, 30s, 2h.
    #[arg(long, value_name = "SPAN", required_unless_present = "pattern", conflicts_with = "pattern")]
    every: Option<Span>,
    /// How much later than the multiples of the interval.
    #[arg(long, value_name = "SPAN", conflicts_with = "pattern")]
    offset: Option<Span>,
    /// A cron pattern of 5 fields, or 6 with the seconds at the front.
    #[arg(long)]
    pattern: Option<String>,
    /// The zone that the pattern is meant in.
    #[arg(long, value_name = "ZONE", conflicts_with = "every")]
    tz: Option<String>,
    /// At most so many runs from now on.
    #[arg(long)]
    limit: Option<u32>,
    /// No run before: RFC 3339, such as 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "immediately")]
    start: Option<jiff::Timestamp>,
    /// No next run after.
    #[arg(long, value_name = "TIME")]
    end: Option<jiff::Timestamp>,
    /// The first run of a pattern is now.
    #[arg(long)]
    immediately: bool,
    /// The name of the runs, as workers see it.
    #[arg(long)]
    name: Option<String>,
    /// The data of the runs; `-` reads it from stdin.
    #[arg(long, value_name = "JSON", value_parser = super::job::data)]
    data: Option<Box<RawValue>>,
    /// 1 comes first; jobs without a priority come before all that have one.
    #[arg(long)]
    priority: Option<u32>,
    /// How often a run may be tried.
    #[arg(long)]
    attempts: Option<u32>,
    /// The wait between attempts.
    #[arg(long, value_name = "fixed:SPAN|exponential:SPAN|NAME", value_parser = super::job::backoff)]
    backoff: Option<Value>,
    /// Leave no trace of a run when it has completed.
    #[arg(long)]
    remove_on_complete: bool,
    /// Leave no trace of a run when it has failed.
    #[arg(long)]
    remove_on_fail: bool,
    /// Repeating a command with this key sets nothing up twice.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("EVERY (MS)", "/every"),
    ("PATTERN", "/pattern"),
    ("ZONE", "/tz"),
    ("LIMIT", "/limit"),
    ("RUNS", "/iterations"),
    ("NEXT (MS)", "/next"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::List { queue, start, limit } => {
                let call = Call::get(&["v1", "queues", &queue, "schedulers"]);
                output.list(&client.send(call.query("start", start).query("limit", limit)).await?, COLUMNS)
            }
            Self::Show { queue, id } => {
                output.details(&client.send(Call::get(&["v1", "queues", &queue, "schedulers", &id])).await?)
            }
            Self::Set(set) => {
                let Set { queue, id, .. } = &*set;
                let call = Call::put(&["v1", "queues", queue, "schedulers", id], &set.body());
                let answer = client.send(call.idempotency_key(set.idempotency_key.as_deref())).await?;
                output.done(&answer, &format!("set scheduler {id} of {queue}"))
            }
            Self::Remove { queue, id } => {
                let answer = client.send(Call::delete(&["v1", "queues", &queue, "schedulers", &id])).await?;
                output.done(&answer, &format!("removed scheduler {id} of {queue}"))
            }
        }
    }
}

#[derive(serde::Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    rule: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Value::is_null")]
    options: Value,
}

impl Set {
    fn body(&self) -> Body<'_> {
        let span = |span: Option<Span>| span.map(|span| Value::from(millis(span.0)));
        let time = |time: Option<jiff::Timestamp>| time.map(|time| Value::from(time.as_millisecond()));
        let rule = super::job::filled([
            ("every", span(self.every)),
            ("offset", span(self.offset)),
            ("pattern", self.pattern.clone().map(Value::from)),
            ("tz", self.tz.clone().map(Value::from)),
            ("limit", self.limit.map(Value::from)),
            ("start_date", time(self.start)),
            ("end_date", time(self.end)),
            ("immediately", self.immediately.then_some(Value::Bool(true))),
        ]);
        let options = super::job::filled([
            ("priority", self.priority.map(Value::from)),
            ("attempts", self.attempts.map(Value::from)),
            ("backoff", self.backoff.clone()),
            ("removeOnComplete", self.remove_on_complete.then_some(Value::Bool(true))),
            ("removeOnFail", self.remove_on_fail.then_some(Value::Bool(true))),
        ]);
        Body { rule, name: self.name.as_deref(), data: self.data.as_deref(), options }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn body(line: &[&str]) -> String {
        let set =
            Line::try_parse_from([&["set"], line].concat()).map(|line| line.set).unwrap_or_else(|e| panic!("{e}"));
        serde_json::to_string(&set.body()).unwrap()
    }

    #[test]
    fn a_scheduler_says_no_more_than_was_given() {
        let interval = body(&["mail", "poll", "--every", "30s", "--limit", "5", "--priority", "2"]);
        let expected = json!({"every": 30_000, "limit": 5, "options": {"priority": 2}});
        assert_eq!(serde_json::from_str::<Value>(&interval).unwrap(), expected);
        let line = ["mail", "d", "--pattern", "0 8 * * *", "--tz", "Europe/Berlin", "--start", "2026-12-24T18:00:00Z"];
        let expected = json!({"pattern": "0 8 * * *", "tz": "Europe/Berlin", "start_date": 1_798_135_200_000_i64});
        assert_eq!(serde_json::from_str::<Value>(&body(&line)).unwrap(), expected);
    }

    #[test]
    fn data_is_passed_on_as_it_is_written() {
        let text = body(&["mail", "poll", "--every", "1s", "--data", "{\"n\": 12345678901234567890123}"]);
        assert_eq!(text, "{\"every\":1000,\"data\":{\"n\": 12345678901234567890123}}");
    }
}
