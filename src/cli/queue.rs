//! `queue`: list, show, pause, resume.

use clap::Subcommand;
use serde_json::json;

use super::Context;
use super::client::Call;
use super::output::Column;

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
}

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
        match self {
            Self::Ls => output.list(&client.send(Call::get(&["v1", "queues"])).await?, COLUMNS),
            Self::Show { queue } => output.details(&client.send(Call::get(&["v1", "queues", &queue])).await?),
            Self::Pause { queue } => act(&queue, "pause", "paused").await,
            Self::Resume { queue } => act(&queue, "resume", "resumed").await,
        }
    }
}
