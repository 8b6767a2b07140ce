//! `key`: who may do what over HTTP.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::Context;
use super::client::Call;
use super::output::Column;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a key and show it, this once.
    #[command(after_help = "\
Examples:
  onetake key create --name bot --scope enqueue
  export ONETAKE_API_KEY=$(onetake key create --name admin --scope admin --json | jq -r .key)")]
    Create {
        /// For whom it is.
        #[arg(long)]
        name: String,
        /// What it may do. May be repeated; admin may do everything, the others may read too.
        #[arg(long = "scope", required = true, value_parser = PossibleValuesParser::new(["read", "enqueue", "work", "operate", "admin"]))]
        scopes: Vec<String>,
    },
    /// All keys, without their secret part.
    Ls,
    /// Make a key useless from now on.
    Revoke { id: String },
}

const COLUMNS: &[Column] =
    &[("ID", "/id"), ("NAME", "/name"), ("SCOPES", "/scopes"), ("CREATED", "/created_at"), ("REVOKED", "/revoked_at")];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Create { name, scopes } => {
                let body = json!({"name": name, "scopes": scopes});
                let answer = client.send(Call::post(&["v1", "keys"], &body)).await?;
                let key = answer.value["key"].as_str().unwrap_or_default();
                output.done(&answer, &format!("{key}\nKeep it: it cannot be shown again."))
            }
            Self::Ls => output.list(&client.send(Call::get(&["v1", "keys"])).await?, COLUMNS),
            Self::Revoke { id } => {
                let answer = client.send(Call::delete(&["v1", "keys", &id])).await?;
                output.done(&answer, &format!("revoked key {id}"))
            }
        }
    }
}
