//! Work over all jobs of a state: the server does a bounded part of it per call, and is called until it is done.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Context;
use super::client::{Call, Client};

/// A verb of a queue, and how many jobs it may be about at most, if that is known.
pub(super) struct Bulk<'a> {
    pub queue: &'a str,
    pub verb: &'a str,
    pub body: Value,
    pub total: Option<u64>,
}

impl Bulk<'_> {
    /// Calls until it is done, and says how many it was: `done` of them.
    pub async fn run(self, context: &Context, done: &str) -> anyhow::Result<()> {
        let queue = self.queue;
        let processed = self.send(&context.client).await?;
        if context.output.is_json() {
            return context.output.text(&json!({"done": true, "processed": processed}).to_string());
        }
        context.output.text(&format!("{done} {processed} of {queue}"))
    }

    async fn send(mut self, client: &Client) -> anyhow::Result<u64> {
        let bar = bar(self.total);
        let mut processed = 0;
        loop {
            let call = Call::post(&["v1", "queues", self.queue, self.verb], &self.body);
            let answer = client.send(call).await.with_context(|| match processed {
                0 => "nothing was done".to_owned(),
                _ => format!("stopped after {processed}; run it again to go on"),
            });
            let value = answer.inspect_err(|_| bar.finish_and_clear())?.value;
            let step = value["processed"].as_u64().unwrap_or(0);
            processed += step;
            bar.inc(step);
            let limit = self.body["limit"].as_u64().map(|limit| limit.saturating_sub(step));
            if value["done"] != json!(false) || limit == Some(0) {
                bar.finish_and_clear();
                return Ok(processed);
            }
            if let Some(limit) = limit {
                self.body["limit"] = limit.into();
            }
            for place in ["next", "until"] {
                if let Some(value) = value.get(place) {
                    self.body[place] = value.clone();
                }
            }
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {pos}/{len} {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {per_sec}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::http::StatusCode;
    use axum::routing::post;
    use axum::{Json, Router};

    use super::*;
    use crate::cli::client::testing::client;

    fn clean(body: Value) -> Bulk<'static> {
        Bulk { queue: "mail", verb: "clean", body, total: None }
    }

    #[tokio::test]
    async fn the_server_is_called_until_it_is_done_and_told_where_to_go_on() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let step = async move |Json(body): Json<Value>| {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let expected = match n {
                0 => json!({"state": "failed", "limit": 250}),
                n => json!({"state": "failed", "limit": 250 - 100 * n, "next": n, "until": 7}),
            };
            assert_eq!(body, expected);
            Json(json!({"done": n == 2, "processed": if n == 2 { 50 } else { 100 }, "next": n + 1, "until": 7}))
        };
        let client = client(Router::new().route("/v1/queues/mail/clean", post(step))).await;
        assert_eq!(clean(json!({"state": "failed", "limit": 250})).send(&client).await.unwrap(), 250);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_refused_step_says_how_far_it_came() {
        let refuse = async || {
            let problem = json!({"title": "Redis unavailable", "status": 503, "code": "redis_unavailable"});
            (StatusCode::SERVICE_UNAVAILABLE, Json(problem))
        };
        let client = client(Router::new().route("/v1/queues/mail/clean", post(refuse))).await;
        let error = format!("{:#}", clean(json!({})).send(&client).await.unwrap_err());
        assert_eq!(error, "nothing was done: Redis unavailable (503, redis_unavailable)");
    }
}
