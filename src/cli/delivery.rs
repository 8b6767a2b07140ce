//! `delivery`: what was handed to whom, and what could not be.

use clap::Subcommand;
use serde_json::json;

use super::Context;
use super::client::Call;
use super::output::Column;
use super::request::Page;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Deliveries, the newest first.
    #[command(after_help = "Example:\n  onetake delivery ls --state dead")]
    Ls {
        /// Only those in this state: queued, leased, delivered, suppressed or dead.
        #[arg(long)]
        state: Option<String>,
        /// Only those over this channel: poll, mailbox, telegram, webhook or follower.
        #[arg(long)]
        channel: Option<String>,
        #[arg(long)]
        queue: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One delivery with its history.
    Show { id: String },
    /// Try a dead or suppressed delivery again.
    Replay { id: String },
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("CHANNEL", "/channel"),
    ("STATE", "/state"),
    ("ATTEMPTS", "/attempts"),
    ("NEXT", "/next_at"),
    ("QUEUE", "/queue"),
    ("KEY", "/key"),
    ("ERROR", "/error"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { state, channel, queue, page } => {
                let call = page.of(Call::get(&["v1", "deliveries"]));
                let call = call.query("state", state).query("channel", channel).query("queue", queue);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { id } => output.details(&client.send(Call::get(&["v1", "deliveries", &id])).await?),
            Self::Replay { id } => {
                let answer = client.send(Call::post(&["v1", "deliveries", &id, "replay"], &json!({}))).await?;
                output.done(&answer, &format!("delivery {id} is tried again"))
            }
        }
    }
}
