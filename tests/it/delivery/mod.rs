//! Deliveries end to end: the real server hands results to Telegram chats, webhooks and waiting Node jobs, whose other
//! sides are played here and misbehave on demand.

mod follower;
mod telegram;
mod webhook;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use super::support::http::Api;
use super::support::server::Onetake;
use super::support::wait;

/// A delivery with its history, once it is in this state.
async fn until_state(api: &Api, id: &str, state: &str) -> Value {
    let deadline = Instant::now() + wait::PATIENCE;
    wait::until(&format!("delivery {id} to be {state}"), wait::PATIENCE, async || {
        let answer = api.get(&format!("/v1/deliveries/{id}")).await;
        let is_there = answer.status == 200 && answer.json()["state"] == state;
        // Ends with what there is instead, a moment before the wait would end without.
        assert!(is_there || Instant::now() + Duration::from_secs(1) < deadline, "not {state}: {}", answer.text);
        is_there.then(|| answer.json())
    })
    .await
}

/// What happened to a delivery, one word an event.
fn history(view: &Value) -> Vec<&str> {
    let events = view["history"].as_array().expect("a single delivery is shown with its history");
    events.iter().map(|event| event["event"].as_str().expect("an event has a name")).collect()
}

/// Runs a command of the command line against a server; its exit must be 0.
async fn cli(server: &Onetake, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_onetake"))
        .args(args)
        .args(["--server", server.base_url()])
        .env_remove("ONETAKE_API_KEY")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("answers are UTF-8")
}
