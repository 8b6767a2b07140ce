//! A processor that counts: how often was what made?

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Api;
use super::store::TestStore;
use super::wait;
use super::world::World;

/// Counts the runs of the queue `video`. Cheap to clone.
#[derive(Clone)]
pub struct Making {
    folder: Arc<TempDir>,
}

impl Making {
    pub fn new() -> Self {
        Self { folder: Arc::new(TempDir::with_prefix("onetake-making-").expect("the temporary folder can be written")) }
    }

    /// A configuration in which each run of `video` writes one line and runs `then`, a shell command whose output is the
    /// result. `more` is TOML for the queue's table.
    pub fn config(&self, then: &str, more: &str) -> String {
        let script = format!("job=$(cat); echo \"$job\" >> {}; {then}", self.runs_file().display());
        let script = serde_json::to_string(&script).expect("a text is JSON");
        format!(
            "[queues.video]\nprocessor = {{ kind = \"command\", program = \"sh\", args = [\"-c\", {script}] }}\n\
             concurrency = 8\n{more}\n"
        )
    }

    /// Makes a small result.
    pub fn quick(&self) -> String {
        self.config(r#"echo '{"made":true}'"#, "backoff = { kind = \"fixed\", delay = \"50ms\" }")
    }

    /// The names that runs were begun for, one entry a run; empty for one whose server died before it had said the name.
    pub fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.runs_file()).unwrap_or_default();
        text.lines()
            .map(|line| {
                let job: Value = serde_json::from_str(line).unwrap_or_default();
                job["data"]["name"].as_str().unwrap_or_default().to_owned()
            })
            .collect()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runs_file(&self) -> PathBuf {
        self.file("runs")
    }
}

/// Asks for a video over HTTP.
pub async fn ask(api: &Api, name: &str, user: &str) -> Value {
    let answer = api.post("/v1/videos", json!({"name": name, "user": user})).await;
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    answer.json()
}

/// What is in a user's mailbox.
pub async fn mailbox(api: &Api, user: &str) -> Vec<Value> {
    let page = api.get(&format!("/v1/mailbox/{user}?limit=100")).await.expect(200);
    page["items"].as_array().expect("a page has items").clone()
}

/// Waits until a user's mailbox holds `count` items.
pub async fn until_delivered(api: &Api, user: &str, count: usize) -> Vec<Value> {
    wait::until(&format!("{count} items in the mailbox of {user}"), wait::PATIENCE, async || {
        Some(mailbox(api, user).await).filter(|items| items.len() >= count)
    })
    .await
}

/// Waits until nothing is under way: no open run, no delivery that waits.
pub async fn until_settled(store: &TestStore) {
    wait::until_true("everything settled", wait::PATIENCE, async || {
        let open = store.numbers("select count(*) from flights where state in ('pending', 'running')").await;
        let waiting = store.numbers("select count(*) from deliveries where state in ('queued', 'leased')").await;
        open[0] == 0 && waiting[0] == 0
    })
    .await;
}

impl World {
    /// Servers of this world count what they make.
    pub fn making(mut self, making: &Making) -> Self {
        self.setup = self.setup.config(&making.quick());
        self
    }
}
