//! `slot`: interview slots, who has them, and an administrator's new list.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Call;
use super::output::Column;
use super::request::Page;
use super::{Context, Misused};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Slots by their time.
    Ls {
        /// Only those that can be booked now.
        #[arg(long)]
        free: bool,
        #[command(flatten)]
        page: Page,
    },
    /// The bookings of a user.
    Bookings {
        user: String,
        #[command(flatten)]
        page: Page,
    },
    /// Book a slot for a user.
    Book(Ask),
    /// Give a user's booking back.
    Cancel(Ask),
    /// Make the list of slots as a file says: {"slots": [{"id", "starts_at", "title"}]}. What is booked stays.
    #[command(after_help = "Example:\n  onetake slot sync monday.json")]
    Sync { file: PathBuf },
}

#[derive(Args)]
pub(super) struct Ask {
    slot: String,
    #[arg(long)]
    user: String,
}

const SLOTS: &[Column] = &[("ID", "/id"), ("STARTS", "/starts_at"), ("TITLE", "/title"), ("BOOKED", "/booked")];
const BOOKINGS: &[Column] = &[
    ("SLOT", "/slot"),
    ("STARTS", "/starts_at"),
    ("STATE", "/state"),
    ("BOOKED", "/booked_at"),
    ("CANCELLED", "/cancelled_at"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { free, page } => {
                let call = page.of(Call::get(&["v1", "slots"])).query("free", free.then_some(true));
                output.list(&client.send(call).await?, SLOTS)
            }
            Self::Bookings { user, page } => {
                let call = page.of(Call::get(&["v1", "bookings"])).query("user", Some(user));
                output.list(&client.send(call).await?, BOOKINGS)
            }
            Self::Book(ask) => {
                let answer = client.send(ask.call("book")).await?;
                output.done(&answer, &format!("booked slot {} for {}", ask.slot, ask.user))
            }
            Self::Cancel(ask) => {
                let answer = client.send(ask.call("cancel")).await?;
                output.done(&answer, &format!("gave slot {} of {} back", ask.slot, ask.user))
            }
            Self::Sync { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                let list: Value = serde_json::from_str(&text)
                    .map_err(|error| Misused(format!("{} is not JSON: {error}", file.display())))?;
                output.details(&client.send(Call::post(&["v1", "slots", "sync"], &list)).await?)
            }
        }
    }
}

impl Ask {
    fn call(&self, verb: &str) -> Call {
        Call::post(&["v1", "slots", verb], &json!({"slot": self.slot, "user": self.user}))
    }
}
