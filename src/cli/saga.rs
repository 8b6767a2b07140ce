//! `saga`: effects outside, and a person's word about those that nobody knows the end of.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::Context;
use super::client::Call;
use super::output::Column;
use super::request::Page;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Effects outside, the newest first.
    #[command(after_help = "Example:\n  onetake saga ls --state parked")]
    Ls {
        /// Only those in this state: due, calling, unknown, asking, confirmed, compensated or parked.
        #[arg(long)]
        state: Option<String>,
        /// Only this effect, such as order_refund.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One effect with its history.
    Show { id: String },
    /// Say what became of a parked effect, after looking at the other side.
    #[command(after_help = "Example:\n  onetake saga resolve ID done --reason \"seen in the provider's pages\"")]
    Resolve {
        id: String,
        outcome: Outcome,
        /// How that was found; it goes into the history.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Outcome {
    Done,
    NotDone,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("SUBJECT", "/subject"),
    ("STATE", "/state"),
    ("CALLS", "/calls"),
    ("ASKS", "/asks"),
    ("NEXT", "/next_at"),
    ("ERROR", "/error"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { state, name, page } => {
                let call = page.of(Call::get(&["v1", "sagas"])).query("state", state).query("name", name);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { id } => output.details(&client.send(Call::get(&["v1", "sagas", &id])).await?),
            Self::Resolve { id, outcome, reason } => {
                let outcome = match outcome {
                    Outcome::Done => "done",
                    Outcome::NotDone => "not_done",
                };
                let body = json!({"outcome": outcome, "reason": reason});
                let answer = client.send(Call::post(&["v1", "sagas", &id, "resolve"], &body)).await?;
                output.done(&answer, &format!("effect {id} is settled"))
            }
        }
    }
}
