//! `queue`: list, show, pause, resume, limit, and work over all jobs of a state.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::bulk::Bulk;
use super::client::{Call, Client};
use super::output::Column;
use crate::clock::millis;
use crate::config::Span;

#[derive(Subcommand)]
pub(super) enum Command {
    /// All queues with their counts.
    Ls,
    /// One queue.
    Show { queue: String },
    /// Take no more jobs from a queue; those that run go on.
    Pause { queue: String },
    /// Take jobs again.
    Resume { queue: String },
    /// Let all failed jobs wait again.
    Retry {
        queue: String,
        /// Those that ended so.
        #[arg(long, default_value = "failed", value_parser = PossibleValuesParser::new(["failed", "completed"]))]
        state: String,
    },
    /// Let all delayed jobs wait.
    Promote { queue: String },
    /// Remove all jobs that wait.
    Drain {
        queue: String,
        /// Delayed jobs as well.
        #[arg(long)]
        delayed: bool,
    },
    /// Remove jobs of one state that are old enough.
    #[command(after_help = "Example:\n  onetake queue clean mail --state completed --grace 24h --limit 100000")]
    Clean {
        queue: String,
        /// Of the active only those whose worker has lost them are removed.
        #[arg(long, value_parser = PossibleValuesParser::new(CLEANED))]
        state: String,
        /// Younger ones stay.
        #[arg(long, value_name = "SPAN", default_value = "0s")]
        grace: Span,
        /// At most so many.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Remove a paused queue with everything that is in it.
    Obliterate {
        queue: String,
        /// Also while jobs are active.
        #[arg(long)]
        force: bool,
    },
    /// Remove all but about so many of the newest events.
    TrimEvents {
        queue: String,
        #[arg(long)]
        keep: u32,
    },
    /// Let at most so many jobs be active in the whole queue.
    Concurrency(Concurrency),
    /// Let at most so many jobs be taken in a span of time in the whole queue.
    RateLimit(RateLimit),
    /// The workers of a queue, and how many jobs the server that answers runs at once.
    #[command(after_help = "Example:\n  onetake queue workers mail --concurrency 20")]
    Workers {
        queue: String,
        /// Let that server run so many, until it ends; the configuration stays as it is.
        #[arg(long)]
        concurrency: Option<u32>,
    },
}

#[derive(Args)]
pub(super) struct Concurrency {
    queue: String,
    #[arg(required_unless_present = "clear")]
    limit: Option<u32>,
    /// Any number.
    #[arg(long, conflicts_with = "limit")]
    clear: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake queue rate-limit mail --max 100 --per 1s
  onetake queue rate-limit mail --lift")]
pub(super) struct RateLimit {
    queue: String,
    #[arg(long, requires = "per", required_unless_present_any = ["clear", "lift"])]
    max: Option<u32>,
    #[arg(long, value_name = "SPAN", requires = "max")]
    per: Option<Span>,
    /// As fast as they can.
    #[arg(long, conflicts_with_all = ["max", "lift"])]
    clear: bool,
    /// End the present wait, also one that a worker asked for; the limit itself stays.
    #[arg(long, conflicts_with = "max")]
    lift: bool,
}

const CLEANED: [&str; 6] = ["waiting", "active", "delayed", "prioritized", "completed", "failed"];

const COLUMNS: &[Column] = &[
    ("QUEUE", "/name"),
    ("KIND", "/kind"),
    ("PAUSED", "/paused"),
    ("WAITING", "/counts/waiting"),
    ("ACTIVE", "/counts/active"),
    ("DELAYED", "/counts/delayed"),
    ("PRIORITIZED", "/counts/prioritized"),
    ("CHILDREN", "/counts/waiting-children"),
    ("COMPLETED", "/counts/completed"),
    ("FAILED", "/counts/failed"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        let act = async |queue: &str, verb: &str, done: &str| {
            let answer = client.send(Call::post(&["v1", "queues", queue, verb], &json!({}))).await?;
            output.done(&answer, &format!("{done} {queue}"))
        };
        let all = async |queue: &str, verb: &str, body: Value, states: &[&str], done: &str| {
            let total = count(client, queue, states).await?;
            Bulk { queue, verb, body, total }.run(context, done).await
        };
        match self {
            Self::Ls => output.list(&client.send(Call::get(&["v1", "queues"])).await?, COLUMNS),
            Self::Show { queue } => output.details(&client.send(Call::get(&["v1", "queues", &queue])).await?),
            Self::Pause { queue } => act(&queue, "pause", "paused").await,
            Self::Resume { queue } => act(&queue, "resume", "resumed").await,
            Self::Retry { queue, state } => {
                all(&queue, "retry", json!({"state": state}), &[state.as_str()], "retried").await
            }
            Self::Promote { queue } => all(&queue, "promote", json!({}), &["delayed"], "promoted").await,
            Self::Drain { queue, delayed } => {
                let states: &[_] =
                    if delayed { &["waiting", "prioritized", "delayed"] } else { &["waiting", "prioritized"] };
                all(&queue, "drain", json!({"delayed": delayed}), states, "removed").await
            }
            Self::Clean { queue, state, grace, limit } => {
                let mut body = json!({"state": state, "grace": millis(grace.0)});
                if let Some(limit) = limit {
                    body["limit"] = limit.into();
                }
                all(&queue, "clean", body, &[state.as_str()], "removed").await
            }
            Self::Obliterate { queue, force } => {
                let states = [CLEANED.as_slice(), &["waiting-children"]].concat();
                all(&queue, "obliterate", json!({"force": force}), &states, "removed").await
            }
            Self::TrimEvents { queue, keep } => {
                all(&queue, "trim-events", json!({"keep": keep}), &[], "removed events:").await
            }
            Self::Concurrency(concurrency) => concurrency.run(context).await,
            Self::RateLimit(limit) => limit.run(context).await,
            Self::Workers { queue, concurrency: None } => {
                output.details(&client.send(Call::get(&["v1", "queues", &queue, "workers"])).await?)
            }
            Self::Workers { queue, concurrency: Some(most) } => {
                let call = Call::post(&["v1", "queues", &queue, "workers"], &json!({"concurrency": most}));
                output.done(&client.send(call).await?, &format!("runs up to {most} jobs of {queue} at once"))
            }
        }
    }
}

/// How many jobs are in these states; of no state, nobody knows.
async fn count(client: &Client, queue: &str, states: &[&str]) -> anyhow::Result<Option<u64>> {
    if states.is_empty() {
        return Ok(None);
    }
    let shown = client.send(Call::get(&["v1", "queues", queue])).await?;
    Ok(Some(states.iter().filter_map(|state| shown.value["counts"][state].as_u64()).sum()))
}

impl Concurrency {
    async fn run(self, Context { client, output }: &Context) -> anyhow::Result<()> {
        let path = ["v1", "queues", &self.queue, "concurrency"];
        match self.limit {
            Some(limit) => {
                let answer = client.send(Call::post(&path, &json!({"limit": limit}))).await?;
                output.done(&answer, &format!("at most {limit} jobs of {} are active at once", self.queue))
            }
            None => {
                let answer = client.send(Call::delete(&path)).await?;
                output.done(&answer, &format!("any number of jobs of {} may be active", self.queue))
            }
        }
    }
}

impl RateLimit {
    async fn run(self, Context { client, output }: &Context) -> anyhow::Result<()> {
        let path = ["v1", "queues", &self.queue, if self.lift { "limiter" } else { "rate-limit" }];
        match (self.max, self.per) {
            (Some(max), Some(per)) => {
                let answer = client.send(Call::post(&path, &json!({"max": max, "duration": millis(per.0)}))).await?;
                output.done(&answer, &format!("at most {max} jobs of {} are taken in {per}", self.queue))
            }
            _ => {
                let answer = client.send(Call::delete(&path)).await?;
                let done = if self.lift { "lifted the present limit of" } else { "cleared the rate limit of" };
                output.done(&answer, &format!("{done} {}", self.queue))
            }
        }
    }
}
