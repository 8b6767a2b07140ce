//! `dedupe`: what is being made or kept under which key, for whom, and how to let go of it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::client::Call;
use super::output::Column;
use super::request::Page;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Dedupe keys with their state.
    Ls {
        /// Only those of this scope (for videos: "video").
        #[arg(long)]
        scope: Option<String>,
        /// Only those in this state: pending, running, succeeded, failed, cancelled or empty.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One key with its run, result and subscribers.
    #[command(after_help = KEYS)]
    Show(Key),
    /// Cancel the run of a key (its subscribers are told) and forget its result.
    #[command(after_help = KEYS)]
    Release {
        #[command(flatten)]
        key: Key,
        /// What the subscribers and the history are told.
        #[arg(long)]
        reason: Option<String>,
    },
}

const KEYS: &str = "\
Examples of keys:
  onetake dedupe show report 2026-01-31
  onetake dedupe show video anna girl default
  onetake dedupe show video '[\"anna\",\"girl\",\"default\"]'";

#[derive(Args)]
pub(super) struct Key {
    scope: String,
    /// The parts of the key, or all of them as one JSON array.
    #[arg(required = true, value_name = "KEY")]
    parts: Vec<String>,
}

const COLUMNS: &[Column] = &[
    ("SCOPE", "/scope"),
    ("KEY", "/key"),
    ("STATE", "/state"),
    ("GENERATION", "/generation"),
    ("ATTEMPT", "/attempt"),
    ("SUBSCRIBERS", "/subscribers"),
    ("MADE", "/made_at"),
    ("ERROR", "/error"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { scope, state, page } => {
                let call = page.of(Call::get(&["v1", "dedupe"])).query("scope", scope).query("state", state);
                output.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show(key) => {
                output.details(&client.send(Call::get(&["v1", "dedupe", &key.scope, &key.text()])).await?)
            }
            Self::Release { key, reason } => {
                let text = key.text();
                let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
                let call = Call::post(&["v1", "dedupe", &key.scope, &text, "release"], &body);
                output.done(&client.send(call).await?, &format!("released {text} of {}", key.scope))
            }
        }
    }
}

impl Key {
    /// As the server writes it: a JSON array without blanks.
    fn text(&self) -> String {
        if let [one] = self.parts.as_slice()
            && let Ok(array @ Value::Array(_)) = serde_json::from_str(one)
        {
            return array.to_string();
        }
        json!(self.parts).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_written_as_array_as_part_or_as_parts() {
        let text = |parts: &[&str]| {
            Key { scope: "video".to_owned(), parts: parts.iter().map(|&part| part.to_owned()).collect() }.text()
        };
        assert_eq!(text(&["[\"anna\", 7]"]), "[\"anna\",7]");
        assert_eq!(text(&["anna"]), "[\"anna\"]");
        assert_eq!(text(&["anna", "girl"]), "[\"anna\",\"girl\"]");
        assert_eq!(text(&["7"]), "[\"7\"]");
        assert_eq!(text(&["[odd"]), "[\"[odd\"]");
    }
}
