//! `order`: who ordered what, how it was paid, and giving money back.

use clap::Subcommand;
use serde_json::json;

use super::Context;
use super::client::Call;
use super::output::Column;
use super::request::Page;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Orders, the newest first.
    #[command(after_help = "Example:\n  onetake order ls --state paid")]
    Ls {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// Only those in this state: awaiting_payment, paid, fulfilled, cancelled, expired or refunded.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One order with its payments and its history.
    Show { id: String },
    /// Cancel an order that nobody has paid yet.
    Cancel {
        id: String,
        /// In whose name; without it, as an operator.
        #[arg(long)]
        user: Option<String>,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Give the money of an order back. It is refunded once the provider has done so.
    Refund {
        id: String,
        /// Goes into the history.
        #[arg(long)]
        reason: String,
    },
    /// Payments: above all those that are stuck, or of no order of ours.
    #[command(after_help = "Example:\n  onetake order payments --state unknown")]
    Payments {
        /// Only those in this state: applied, returning, returned, stuck or unknown.
        #[arg(long)]
        state: Option<String>,
        /// Go on after this number.
        #[arg(long)]
        after: Option<String>,
        #[arg(long)]
        limit: Option<u64>,
    },
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("USER", "/user"),
    ("NAME", "/name"),
    ("AMOUNT", "/amount"),
    ("CURRENCY", "/currency"),
    ("STATE", "/state"),
    ("EXPIRES", "/expires_at"),
];

const PAYMENTS: &[Column] = &[
    ("TRANSACTION", "/transaction"),
    ("ORDER", "/order"),
    ("INVOICE", "/invoice"),
    ("AMOUNT", "/amount"),
    ("CURRENCY", "/currency"),
    ("STATE", "/state"),
    ("REASON", "/reason"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { user, state, page } => {
                let call = page.of(Call::get(&["v1", "orders"])).query("user", user).query("state", state);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { id } => output.details(&client.send(Call::get(&["v1", "orders", &id])).await?),
            Self::Cancel { id, user, reason } => {
                let body = json!({"user": user, "reason": reason});
                let answer = client.send(Call::post(&["v1", "orders", &id, "cancel"], &body)).await?;
                output.done(&answer, &format!("order {id} is cancelled"))
            }
            Self::Refund { id, reason } => {
                let body = json!({ "reason": reason });
                let answer = client.send(Call::post(&["v1", "orders", &id, "refund"], &body)).await?;
                output.done(&answer, &format!("the money of order {id} is on its way back"))
            }
            Self::Payments { state, after, limit } => {
                let call = Call::get(&["v1", "payments"]).query("state", state);
                let answer = client.send(call.query("after", after).query("limit", limit)).await?;
                output.list_on_with("--after", &answer, PAYMENTS)
            }
        }
    }
}
