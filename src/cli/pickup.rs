//! `pickup`: the orders of a pickup point.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::client::{Answer, Call};
use super::output::Column;
use super::request::Page;

#[derive(Subcommand)]
pub(super) enum Command {
    /// The orders of a user that are here.
    Ls {
        user: String,
        #[command(flatten)]
        page: Page,
    },
    /// What happened to a user's orders, also to those that are gone.
    History {
        user: String,
        #[command(flatten)]
        page: Page,
    },
    /// One order with its history.
    Show { order: String },
    /// Take an order in from the courier.
    #[command(after_help = "Example:\n  onetake pickup accept 17 --user olga --until 2027-01-31T20:00:00Z")]
    Accept {
        order: String,
        #[arg(long)]
        user: String,
        /// Until when it may be issued: RFC 3339.
        #[arg(long, value_name = "TIME")]
        until: jiff::Timestamp,
    },
    /// Hand orders over to their client.
    Issue(Several),
    /// Take orders back from their client, within 48 hours.
    TakeBack(Several),
    /// Give an order that came back to the courier, after two weeks.
    ReturnToCourier { order: String },
}

#[derive(Args)]
pub(super) struct Several {
    #[arg(required = true, value_name = "ORDER")]
    orders: Vec<String>,
    #[arg(long)]
    user: String,
}

const ORDERS: &[Column] = &[
    ("ORDER", "/order"),
    ("STATE", "/state"),
    ("STORED UNTIL", "/storage_until"),
    ("ISSUED", "/issued_at"),
    ("RETURNED", "/returned_at"),
];
const HISTORY: &[Column] = &[("AT", "/at"), ("ORDER", "/order"), ("EVENT", "/event")];
const OUTCOMES: &[Column] = &[("ORDER", "/order"), ("STATE", "/state"), ("REFUSED", "/code"), ("WHY", "/message/en")];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { user, page } => {
                let call = page.of(Call::get(&["v1", "pickup", "orders"])).query("user", Some(user));
                output.list(&client.send(call).await?, ORDERS)
            }
            Self::History { user, page } => {
                let call = page.of(Call::get(&["v1", "pickup", "history"])).query("user", Some(user));
                output.list(&client.send(call).await?, HISTORY)
            }
            Self::Show { order } => output.details(&client.send(Call::get(&["v1", "pickup", "orders", &order])).await?),
            Self::Accept { order, user, until } => {
                let body = json!({"order": order, "user": user, "storage_until": until});
                let answer = client.send(Call::post(&["v1", "pickup", "accept"], &body)).await?;
                output.done(&answer, &format!("accepted order {order} of {user}"))
            }
            Self::Issue(several) => several.act("issue", context).await,
            Self::TakeBack(several) => several.act("take-back", context).await,
            Self::ReturnToCourier { order } => {
                let call = Call::post(&["v1", "pickup", "return-to-courier"], &json!({"order": order}));
                output.done(&client.send(call).await?, &format!("returned order {order} to the courier"))
            }
        }
    }
}

impl Several {
    /// Shows the outcomes as a list; a refusal among them is told by the exit code as well.
    async fn act(self, act: &str, context: &Context) -> anyhow::Result<()> {
        let body = json!({"user": self.user, "orders": self.orders});
        let Answer { text, value } = context.client.send(Call::post(&["v1", "pickup", act], &body)).await?;
        let refused = value["orders"].as_array().into_iter().flatten().filter(|order| order["ok"] == false).count();
        context.output.list(&Answer { text, value: json!({"items": value["orders"]}) }, OUTCOMES)?;
        anyhow::ensure!(refused == 0, "{refused} of {} were refused", value["orders"].as_array().map_or(0, Vec::len));
        Ok(())
    }
}
