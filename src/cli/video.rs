//! `video`: ask for one, and bring in those that exist.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Call, Client};
use super::import::{self, Format, Item};
use super::request::{came_to, is_final, outcome};
use super::{Context, Misused};
use crate::config::Span;

/// How many items ride in one call.
const BATCH: usize = 500;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Ask for a video of a name.
    Request(Request),
    /// Import videos that Telegram has already.
    Import(Import),
}

/// Ask for a video of a name.
#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake video request Anna --gender girl --wait 60
  onetake video request Anna --user 7 --chat 7")]
pub(super) struct Request {
    name: String,
    #[arg(long)]
    gender: Option<String>,
    #[arg(long)]
    template: Option<String>,
    /// Who asks.
    #[arg(long, default_value = "cli")]
    user: String,
    /// The Telegram chat to send it to. Without one, it goes to the user's mailbox.
    #[arg(long, allow_hyphen_values = true)]
    chat: Option<String>,
    /// Wait this many seconds for the result.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Make it anew even if there is one.
    #[arg(long)]
    refresh: bool,
    /// Make it anew if the one that is there is older.
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,
    /// Repeating a command with this key asks for nothing twice.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Import videos that Telegram has already.
#[derive(Args)]
#[command(after_help = "\
A file is CSV with a heading (name,gender,template,file_id; gender, template and made_at may be left out) or JSON lines
with the same fields. A file with a bad line is not imported at all, unless you say --skip-bad. Importing a file again
is harmless: what is there already is skipped.

Examples:
  onetake video import old-videos.csv
  psql -c 'copy (select ...) to stdout csv header' | onetake video import -")]
pub(super) struct Import {
    /// The file; `-` reads stdin.
    file: PathBuf,
    /// Import the good lines of a file that has bad ones.
    #[arg(long)]
    skip_bad: bool,
    /// What the file is; seen from its first character by default.
    #[arg(long, value_name = "csv|jsonl", value_parser = import::format)]
    format: Option<Format>,
}

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Request(request) => request.run(context).await,
            Self::Import(import) => import.run(context).await,
        }
    }
}

impl Request {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        let mut body = json!({"name": self.name, "user": self.user});
        for (field, value) in [("gender", self.gender), ("template", self.template), ("chat", self.chat)] {
            if let Some(value) = value {
                body[field] = value.into();
            }
        }
        if self.refresh {
            body["refresh"] = true.into();
        }
        if let Some(age) = self.max_age {
            body["max_age"] = (age.0.as_secs_f64().ceil() as u64).into();
        }
        let call = Call::post(&["v1", "videos"], &body).idempotency_key(self.idempotency_key.as_deref());
        let mut answer = client.send(call).await?;
        let id = answer.value["id"].as_str().map(str::to_owned);
        if let (Some(seconds), Some(id), false) = (self.wait, id, is_final(&answer.value)) {
            answer = outcome(client, &id, seconds).await?;
        }
        output.details(&answer)?;
        match answer.value["state"].as_str() {
            Some("failed") => {
                bail!("the video could not be made: {}", answer.value["error"].as_str().unwrap_or("no reason given"))
            }
            _ if self.wait.is_some() => came_to(&answer.value),
            _ => Ok(()),
        }
    }
}

impl Import {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let bytes = self.read()?;
        let parsed =
            import::parse(&bytes, self.format).map_err(|e| Misused(format!("{}: {e}", self.file.display())))?;
        if !parsed.bad.is_empty() && !self.skip_bad {
            let count = parsed.bad.len();
            let lines: Vec<String> = parsed.bad.iter().take(20).map(|bad| format!("  {bad}")).collect();
            let more =
                if count > lines.len() { format!("\n  and {} more", count - lines.len()) } else { String::new() };
            let advice = "nothing was imported; mend the file, or pass --skip-bad to import the other lines";
            bail!("{count} bad lines in {}:\n{}{more}\n{advice}", self.file.display(), lines.join("\n"));
        }
        let (imported, skipped) = send(&context.client, &parsed.items).await?;
        let bad: Vec<Value> = parsed.bad.iter().map(|bad| json!({"line": bad.line, "reason": bad.reason})).collect();
        if context.output.is_json() {
            return context.output.text(&json!({"imported": imported, "skipped": skipped, "bad": bad}).to_string());
        }
        for bad in &parsed.bad {
            context.output.text(&format!("left out {bad}"))?;
        }
        context
            .output
            .text(&format!("imported {imported}, skipped {skipped} that were there, left out {} bad", bad.len()))
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        if self.file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
        std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))
    }
}

/// Sends the items in batches; says how many were new and how many were there.
async fn send(client: &Client, items: &[Item]) -> anyhow::Result<(u64, u64)> {
    let bar = ProgressBar::new(items.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}, {eta} left");
    bar.set_style(style.expect("the template is well formed"));
    let (mut imported, mut skipped, mut sent) = (0, 0, 0);
    for batch in items.chunks(BATCH) {
        let answer = client.send(Call::post(&["v1", "videos", "import"], &json!({ "items": batch }))).await;
        let answer = answer.with_context(|| {
            format!("stopped after {sent} of {} items; run it again to go on (what is there is skipped)", items.len())
        })?;
        imported += answer.value["imported"].as_u64().unwrap_or(0);
        skipped += answer.value["skipped"].as_u64().unwrap_or(0);
        sent += batch.len();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok((imported, skipped))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{get, post};
    use axum::{Json, Router};

    use super::*;
    use crate::cli::client::testing::client;

    fn items(count: usize) -> Vec<Item> {
        let text: String = (0..count).map(|n| format!("n{n},f{n}\n")).collect();
        import::parse(format!("name,file_id\n{text}").as_bytes(), None).unwrap().items
    }

    #[tokio::test]
    async fn items_are_sent_in_batches_and_counted_together() {
        let take = async |Json(body): Json<Value>| {
            let count = body["items"].as_array().unwrap().len();
            assert!(count <= BATCH);
            Json(json!({"imported": count - 1, "skipped": 1}))
        };
        let client = client(Router::new().route("/v1/videos/import", post(take))).await;
        assert_eq!(send(&client, &items(1001)).await.unwrap(), (998, 3));
    }

    #[tokio::test]
    async fn a_refused_batch_says_how_far_it_came() {
        let refuse = async || {
            let problem = json!({"title": "Store unavailable", "status": 503, "code": "store_unavailable"});
            (StatusCode::SERVICE_UNAVAILABLE, Json(problem))
        };
        let client = client(Router::new().route("/v1/videos/import", post(refuse))).await;
        let error = format!("{:#}", send(&client, &items(3)).await.unwrap_err());
        assert!(error.starts_with("stopped after 0 of 3 items"), "{error}");
        assert!(error.ends_with("Store unavailable (503, store_unavailable)"), "{error}");
    }

    #[tokio::test]
    async fn waiting_asks_again_until_the_state_is_final_and_shows_the_key() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let view = async move |headers: HeaderMap| {
            assert_eq!(headers["authorization"], "Bearer otk_one_two");
            assert!(headers["prefer"].to_str().unwrap().starts_with("wait="));
            let state = if counted.fetch_add(1, Ordering::SeqCst) < 2 { "running" } else { "ready" };
            Json(json!({"id": "r1", "state": state}))
        };
        let client = client(Router::new().route("/v1/requests/r1", get(view))).await;
        assert_eq!(outcome(&client, "r1", 30).await.unwrap().value["state"], "ready");
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }
}
