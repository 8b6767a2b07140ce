//! `group`: list, show, set, pause, resume.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::client::Call;
use super::output::Column;
use crate::clock::millis;
use crate::config::Span;

#[derive(Subcommand)]
pub(super) enum Command {
    /// The groups of a queue that have jobs or limits of their own.
    #[command(visible_alias = "ls")]
    List {
        queue: String,
        /// The page that begins there.
        #[arg(long)]
        cursor: Option<String>,
        /// How many to show.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// One group.
    Show { queue: String, group: String },
    /// Set the limits of a group: all of them, those that are not given are the queue's.
    Set(Set),
    /// Let no more jobs of a group be taken; those that run go on.
    Pause { queue: String, group: String },
    /// Let jobs of a group be taken again.
    Resume { queue: String, group: String },
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake group set mail customer-7 --concurrency 2 --max 100 --per 1m
  onetake group set mail customer-7 --unlimited
  onetake group set mail customer-7 --clear")]
pub(super) struct Set {
    queue: String,
    group: String,
    /// How many of its jobs may run at once; 0 for any number.
    #[arg(long, required_unless_present_any = ["max", "unlimited", "clear"])]
    concurrency: Option<u32>,
    /// How many of its jobs may start in a span of time.
    #[arg(long, requires = "per")]
    max: Option<u32>,
    #[arg(long, value_name = "SPAN", requires = "max")]
    per: Option<Span>,
    /// Any number of its jobs may start and run, whatever holds for the queue's groups.
    #[arg(long, conflicts_with_all = ["concurrency", "max", "clear"])]
    unlimited: bool,
    /// Forget what was set for it, and that it is paused.
    #[arg(long, conflicts_with_all = ["concurrency", "max"])]
    clear: bool,
}

const COLUMNS: &[Column] = &[
    ("GROUP", "/id"),
    ("PAUSED", "/paused"),
    ("WAITING", "/waiting"),
    ("RELEASED", "/released"),
    ("CONCURRENCY", "/concurrency"),
    ("MAX", "/rate_limit/max"),
    ("PER (MS)", "/rate_limit/duration"),
    ("HELD UNTIL (MS)", "/held_until"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        let act = async |queue: &str, group: &str, verb: &str, done: &str| {
            let answer = client.send(Call::post(&["v1", "queues", queue, "groups", group, verb], &json!({}))).await?;
            output.done(&answer, &format!("{done} group {group} of {queue}"))
        };
        match self {
            Self::List { queue, cursor, limit } => {
                let call = Call::get(&["v1", "queues", &queue, "groups"]);
                output.list(&client.send(call.query("cursor", cursor).query("limit", limit)).await?, COLUMNS)
            }
            Self::Show { queue, group } => {
                output.details(&client.send(Call::get(&["v1", "queues", &queue, "groups", &group])).await?)
            }
            Self::Set(set) => set.run(context).await,
            Self::Pause { queue, group } => act(&queue, &group, "pause", "paused").await,
            Self::Resume { queue, group } => act(&queue, &group, "resume", "resumed").await,
        }
    }
}

impl Set {
    async fn run(self, Context { client, output }: &Context) -> anyhow::Result<()> {
        let path = ["v1", "queues", &self.queue, "groups", &self.group];
        if self.clear {
            let answer = client.send(Call::delete(&path)).await?;
            return output.done(&answer, &format!("group {} of {} is as the others are", self.group, self.queue));
        }
        let answer = client.send(Call::put(&path, &self.body())).await?;
        output.done(&answer, &format!("set the limits of group {} of {}", self.group, self.queue))
    }

    fn body(&self) -> Value {
        if self.unlimited {
            return json!({"concurrency": 0, "rate_limit": {"max": 0, "duration": 0}});
        }
        let rate = self.max.zip(self.per).map(|(max, per)| json!({"max": max, "duration": millis(per.0)}));
        super::job::filled([("concurrency", self.concurrency.map(Value::from)), ("rate_limit", rate)])
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    #[test]
    fn limits_are_said_as_they_were_given() {
        let body = |line: &[&str]| {
            let line = [&["set", "mail", "a"], line].concat();
            Line::try_parse_from(line).map(|line| line.set.body()).map_err(|error| error.to_string())
        };
        assert_eq!(body(&["--concurrency", "2"]), Ok(json!({"concurrency": 2})));
        let rate = json!({"rate_limit": {"max": 9, "duration": 60_000}});
        assert_eq!(body(&["--max", "9", "--per", "1m"]), Ok(rate));
        let none = json!({"concurrency": 0, "rate_limit": {"max": 0, "duration": 0}});
        assert_eq!(body(&["--unlimited"]), Ok(none));
        for wrong in [&[][..], &["--max", "9"], &["--unlimited", "--concurrency", "1"]] {
            assert!(body(wrong).is_err(), "{wrong:?}");
        }
    }
}
