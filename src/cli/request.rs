//! `request`: who asked for what, and how it stands.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::Value;

use super::Context;
use super::client::{Answer, Call, Client};
use super::output::Column;

/// The longest that one call asks the server to wait; longer waits are several calls.
const LONGEST_WAIT: u64 = 30;

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
                let answer = outcome(client, &id, seconds).await?;
                output.details(&answer)?;
                came_to(&answer.value)
            }
            Self::Leave { id } => {
                let answer = client.send(Call::delete(&["v1", "requests", &id])).await?;
                output.done(&answer, &format!("left request {id}"))
            }
        }
    }
}

/// For who has waited: a failure, unless there is a result.
pub(super) fn came_to(request: &Value) -> anyhow::Result<()> {
    match request["state"].as_str().unwrap_or_default() {
        "ready" => Ok(()),
        "failed" => bail!("it could not be made: {}", request["error"].as_str().unwrap_or("no reason given")),
        state if is_final(request) => bail!("it was not made: the request is {state}"),
        state => bail!("it is still {state}"),
    }
}

/// The request `id` when it is over, or as it stands after `seconds`.
pub(super) async fn outcome(client: &Client, id: &str, seconds: u64) -> anyhow::Result<Answer> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let spinner = ProgressBar::new_spinner().with_message("waiting");
    spinner.enable_steady_tick(Duration::from_millis(100));
    loop {
        let asked = Instant::now();
        let left = deadline.saturating_duration_since(asked).as_secs_f64().ceil() as u64;
        let answer = client.send(Call::get(&["v1", "requests", id]).wait(left.min(LONGEST_WAIT))).await?;
        if is_final(&answer.value) || Instant::now() >= deadline {
            spinner.finish_and_clear();
            return Ok(answer);
        }
        // A server that does not wait as long as it was asked must not be hammered.
        tokio::time::sleep(Duration::from_millis(200).saturating_sub(asked.elapsed())).await;
    }
}

pub(super) fn is_final(view: &Value) -> bool {
    matches!(view["state"].as_str(), Some("ready" | "failed" | "cancelled" | "left"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_waited_for_nothing_is_told_by_the_exit_code() {
        assert!(came_to(&json!({"state": "ready"})).is_ok());
        for (state, told) in
            [("failed", "no paint"), ("cancelled", "cancelled"), ("left", "left"), ("running", "still")]
        {
            let error = came_to(&json!({"state": state, "error": "no paint"})).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
