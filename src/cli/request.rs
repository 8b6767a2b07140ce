//! `request`: who asked for what, and how it stands.

use clap::{Args, Subcommand};

use super::Context;
use super::client::Call;
use super::output::Column;

/// Which part of a long list.
#[derive(Args)]
pub(super) struct Page {
    /// How many to show.
    #[arg(long)]
    limit: Option<u64>,
    /// Go on from where the last list ended.
    #[arg(long)]
    cursor: Option<String>,
}

impl Page {
    pub fn of(self, call: Call) -> Call {
        call.query("limit", self.limit).query("cursor", self.cursor)
    }
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Requests, the newest first.
    Ls {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        #[arg(long)]
        queue: Option<String>,
        /// Only those in this state: waiting, running, ready, failed, cancelled or left.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One request with its result and delivery.
    Show {
        id: String,
        /// Wait this many seconds for its end.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Want it no more. If nobody else waits for the result, its run may be cancelled.
    Leave { id: String },
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("QUEUE", "/queue"),
    ("KEY", "/key"),
    ("STATE", "/state"),
    ("POSITION", "/position"),
    ("PROGRESS", "/progress"),
    ("DELIVERY", "/delivery/state"),
    ("ERROR", "/error"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { user, queue, state, page } => {
                let call = page.of(Call::get(&["v1", "requests"]));
                let call = call.query("user", user).query("queue", queue).query("state", state);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { id, wait: None } => output.details(&client.send(Call::get(&["v1", "requests", &id])).await?),
            Self::Show { id, wait: Some(seconds) } => {
                let answer = super::video::outcome(client, &id, seconds).await?;
                output.details(&answer)?;
                super::video::came_to(answer.value["state"].as_str().unwrap_or_default(), &answer.value)
            }
            Self::Leave { id } => {
                let answer = client.send(Call::delete(&["v1", "requests", &id])).await?;
                output.done(&answer, &format!("left request {id}"))
            }
        }
    }
}
